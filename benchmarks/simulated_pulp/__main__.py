"""`python -m benchmarks.simulated_pulp SEED SHARE` serves all servers on loopback, in real time, until it is ended.

SHARE of all requests fail. The servers have been busy for ten minutes. The first line of output is a JSON object with
`start`, the time of the first task in microseconds since 1970, and `urls`, one of each server. `GET /requests` counts
the requests to a server by their path.
"""

import asyncio
import base64
import json
import socket
import struct
import sys
import time
from collections import Counter
from random import Random
from urllib.parse import parse_qsl, urlsplit

from benchmarks.simulated_pulp.api import Answer, Api
from benchmarks.simulated_pulp.faults import BAD_GATEWAY, Fault, draw_fault
from benchmarks.simulated_pulp.rows import API
from benchmarks.simulated_pulp.tasks import CYCLE, SECOND, SERVERS, Fleet

USER, PASSWORD = "watcher", "watching"
_BASIC = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
_SESSION_SECONDS = 600
"""How long a session is valid at least; at most twice as long. A watcher has to log in again and again."""
_JSON = {"Content-Type": "application/json"}


class Server:
    """One simulated server, as an HTTP server.

    Args:
        api: The REST API.
        number: Number of the server.
        random: What decides which requests fail.
        share: How many of them.
    """

    def __init__(self, api: Api, number: int, random: Random, share: float) -> None:
        self._api = api
        self._number = number
        self._random = random
        self._share = share
        self._requests: Counter[str] = Counter()

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the requests of one connection."""
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
                headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])}
                await reader.readexactly(int(headers.get("content-length", "0")))
                method, target, _ = head[0].split(" ")
                await self._send(writer, self._answer(method, target, headers), target)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    def _answer(self, method: str, target: str, headers: dict[str, str]) -> Answer:
        url = urlsplit(target)
        now = time.time_ns() // 1000
        if url.path == "/requests":
            return Answer(200, _JSON, json.dumps(self._requests).encode())
        self._requests[url.path.removeprefix(API).partition("/")[0]] += 1
        period = now // (_SESSION_SECONDS * SECOND)
        session, last = (f"sessionid=server{self._number}period{number}" for number in (period, period - 1))
        if method == "POST" and url.path == f"{API}login/" and headers.get("authorization") == _BASIC:
            cookie = {"Set-Cookie": f"{session}; HttpOnly; Path=/; SameSite=Lax"}
            return Answer(201, _JSON | cookie, json.dumps({"username": USER}).encode())
        if method != "GET" or (
            url.path != f"{API}status/" and not {session, last}.intersection(headers.get("cookie", "").split("; "))
        ):
            return Answer(401, _JSON, b'{"detail": "Authentication credentials were not provided."}')
        return self._api.answer(self._number, url.path, dict(parse_qsl(url.query)), now)

    async def _send(self, writer: asyncio.StreamWriter, answer: Answer, target: str) -> None:
        status, headers, body = answer
        fault = None if target == "/requests" else draw_fault(self._random, self._share)
        match fault:
            case Fault.TIMEOUT:
                await asyncio.sleep(3600)
            case Fault.RESET:
                raw = writer.get_extra_info("socket")
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                raise ConnectionResetError
            case Fault.BAD_GATEWAY:
                status, headers, body = 502, {"Content-Type": "text/html"}, BAD_GATEWAY
            case Fault.TRUNCATED:
                body = body[: len(body) // 2]
        lines = [f"HTTP/1.1 {status} Simulated", *(f"{name}: {value}" for name, value in headers.items())]
        writer.write("\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""]).encode() + body)
        await writer.drain()


async def serve(seed: int, share: float) -> None:
    """Serve all servers, and print where."""
    fleet = Fleet(seed, time.time_ns() // 1000 - CYCLE)
    api, random = Api(fleet), Random(seed)  # noqa: S311 - a simulation
    listening = [
        await asyncio.start_server(Server(api, number, random, share).talk, "127.0.0.1", 0) for number in range(SERVERS)
    ]
    urls = [f"http://127.0.0.1:{one.sockets[0].getsockname()[1]}" for one in listening]
    print(json.dumps({"start": fleet.start, "urls": urls}), flush=True)
    await asyncio.gather(*(one.serve_forever() for one in listening))


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), float(sys.argv[2])))
