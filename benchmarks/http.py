"""Webhooks through the journal to a TLS endpoint on loopback, beside the bare client that posts the same bytes."""

import logging
import resource
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import trustme
import urllib3
from pulp_hooks_http import Webhook

from benchmarks.measuring import ROUNDS, Figure, at_least, at_most
from pulp_hooks import DeliverySettings, Hooks, Settings
from pulp_hooks.formats import Format, write_message
from pulp_hooks.testing import drain, example_body, example_event, temporary_journal

_EVENTS = 400
_THREADS = 4
_LOOPBACK = ["127.0.0.0/8"]

_ENDPOINT = """
import asyncio, ssl, sys

async def answer(reader, writer):
    while True:
        try:
            head = await reader.readuntil(b"\\r\\n\\r\\n")
        except asyncio.IncompleteReadError:
            writer.close()
            return
        length = next(int(line[15:]) for line in head.lower().split(b"\\r\\n") if line.startswith(b"content-length:"))
        await reader.readexactly(length)
        writer.write(b"HTTP/1.1 204 No Content\\r\\n\\r\\n")

async def serve():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(sys.argv[1])
    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()

asyncio.run(serve())
"""


def measure() -> Iterator[Figure]:
    """Measure throughput, what a dead endpoint costs the others, and memory."""
    logging.getLogger("pulp_hooks").setLevel(logging.CRITICAL)
    with tempfile.TemporaryDirectory() as folder, _endpoint(Path(folder)) as (url, ca_path):
        config = {"url": url, "ca_path": ca_path, "allow": _LOOPBACK, "secret": "whsec_" + "A" * 32}
        rates = []
        for _ in range(ROUNDS):
            bare = _bare_seconds(url, ca_path)
            rates.append(bare / _seconds(config))
        yield at_least(
            f"http: {_THREADS} threads, through the journal / bare urllib3 posting the same bytes",
            statistics.median(rates),
            0.7,
        )
        with _hole() as dead:
            alive: dict[str, Mapping[str, object]] = {str(number): config for number in range(10)}
            one_dead: dict[str, Mapping[str, object]] = {**alive, "9": {**config, "url": dead, "timeout": 5}}
            slowdown = statistics.median(_p99(one_dead) / _p99(alive) for _ in range(3))
        yield at_most("http: p99 of nine endpoints, with a tenth that is dead / alive", slowdown, 1.2)
        yield at_most("http: memory of 100 listeners / 10", _memory(config, 100) / _memory(config, 10), 1.5)


def memory_with(config: Mapping[str, object], listeners: int) -> int:
    """Return the peak memory of this process after so many listeners have sent some events; kilobytes."""
    with temporary_journal() as journal:
        made = {str(number): Webhook.configured(**config) for number in range(listeners)}
        with Hooks(made, journal=journal) as hooks:
            for _ in range(5):
                hooks.fire("repo-sync-finished", {**example_body("repo-sync-finished")})
            drain(hooks)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _seconds(config: Mapping[str, object]) -> float:
    """Return how long a worker takes to deliver what is in a journal."""
    with temporary_journal() as journal, Hooks({"a": Webhook.configured(**config)}, journal=journal) as hooks:
        for _ in range(_EVENTS):
            hooks.fire("repo-sync-finished", {**example_body("repo-sync-finished")})
        began = time.perf_counter()
        hooks.worker(threads_per_listener=_THREADS).run_once()
        return time.perf_counter() - began


def _bare_seconds(url: str, ca_path: str) -> float:
    content = write_message(example_event("repo-sync-finished"), Format.STANDARD).content
    headers = {
        "Content-Type": "application/json",
        "webhook-id": "e1",
        "webhook-timestamp": "1",
        "webhook-signature": "v1,x",
    }
    pool = urllib3.PoolManager(maxsize=_THREADS, block=True, ca_certs=ca_path)
    began = time.perf_counter()
    with ThreadPoolExecutor(_THREADS) as threads:
        for response in threads.map(
            lambda _: pool.request("POST", url, body=content, headers=headers, retries=False), range(_EVENTS)
        ):
            assert response.status == 204  # noqa: S101, PLR2004 - the answer of the endpoint
    seconds = time.perf_counter() - began
    pool.clear()
    return seconds


def _p99(configs: Mapping[str, Mapping[str, object]]) -> float:
    """Return the 99th percentile of the seconds from fire to delivery, of the first nine listeners."""
    settings = Settings(delivery=DeliverySettings(retry_seconds=(3600,)))
    made = {name: Webhook.configured(**config) for name, config in configs.items()}
    with temporary_journal() as journal, Hooks(made, settings=settings, journal=journal) as hooks:
        with hooks.worker():
            for _ in range(100):
                hooks.fire("repo-sync-finished", {**example_body("repo-sync-finished")})
                time.sleep(0.02)
            time.sleep(1)
        page = journal.deliveries(limit=2000)
        taken = sorted(
            one.finished - one.time for one in page.items if one.listener != "9" and one.finished is not None
        )
    return taken[int(len(taken) * 0.99)]


def _memory(config: Mapping[str, object], listeners: int) -> int:
    code = f"from benchmarks.http import memory_with; print(memory_with({dict(config)!r}, {listeners}))"
    return int(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout)  # noqa: S603 - our own code


@contextmanager
def _endpoint(folder: Path) -> Iterator[tuple[str, str]]:
    """Yield the URL of an endpoint in a process of its own, and the file with its CA."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(str(folder / "server.pem"))
    command = [sys.executable, "-c", _ENDPOINT, str(folder / "server.pem")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603 - our own code
        try:
            assert process.stdout is not None  # noqa: S101 - it is a pipe
            yield f"https://localhost:{int(process.stdout.readline())}/", str(folder / "ca.pem")
        finally:
            process.kill()


@contextmanager
def _hole() -> Iterator[str]:
    """Yield the URL of an endpoint that takes connections and never says a word."""
    with ExitStack() as held:
        listening = held.enter_context(socket.create_server(("127.0.0.1", 0), backlog=1000))
        yield f"https://localhost:{listening.getsockname()[1]}/"
