"""The simulated servers as HTTP servers: sessions, and requests that fail."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
import urllib3

from benchmarks.simulated_pulp.__main__ import PASSWORD, USER
from benchmarks.simulated_pulp.rows import API

BASIC = urllib3.make_headers(basic_auth=f"{USER}:{PASSWORD}")

Get = Callable[[str, dict[str, str]], urllib3.BaseHTTPResponse]


@pytest.fixture
def start() -> Iterator[Callable[[str], list[str]]]:
    """Return a function that starts the servers with a share of failing requests, and returns their URLs."""
    with ExitStack() as stack:

        def started(share: str) -> list[str]:
            command = [sys.executable, "-m", "benchmarks.simulated_pulp", "11", share]
            process = stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
            stack.callback(process.kill)
            assert process.stdout is not None
            urls: list[str] = json.loads(process.stdout.readline())["urls"]
            return urls

        yield started


@pytest.fixture
def pool() -> Iterator[urllib3.PoolManager]:
    """Return an HTTP client that does not try again."""
    with urllib3.PoolManager(retries=False, timeout=10) as made:
        yield made


def test_session_of_a_server_is_valid_there_alone(start: Callable[[str], list[str]], pool: urllib3.PoolManager) -> None:
    """A login with a password opens a session; every other request needs one, except that for the status."""
    one, other = start("0")[:2]
    assert pool.request("GET", f"{one}{API}status/").json()["versions"][0]["component"] == "core"
    assert pool.request("GET", f"{one}{API}tasks/", headers=BASIC).status == 401
    assert pool.request("POST", f"{one}{API}login/").status == 401
    login = pool.request("POST", f"{one}{API}login/", headers=BASIC)
    assert login.status == 201
    session = {"Cookie": login.headers["Set-Cookie"].partition(";")[0]}
    assert session["Cookie"].startswith("sessionid=")
    query = "?q=state__in%3Drunning,canceling+OR+finished_at__gte%3D%222026-11-23T08:43:18.502557Z%22"
    answer = pool.request("GET", f"{one}{API}tasks/{query}&ordering=finished_at&limit=500", headers=session)
    assert answer.json().keys() == {"count", "next", "previous", "results"}
    assert pool.request("GET", f"{other}{API}tasks/", headers=session).status == 401
    assert pool.request("GET", f"{one}/requests").json() == {"status": 1, "tasks": 2, "login": 2}
    assert pool.request("GET", f"{other}/requests").json() == {"tasks": 1}


def test_requests_fail_in_every_way(start: Callable[[str], list[str]], pool: urllib3.PoolManager) -> None:
    """Resets, HTML from a proxy, truncated JSON, and no answer at all."""
    url = f"{start('1')[0]}{API}status/"
    seen: set[object] = set()
    while len(seen) < 4:
        try:
            answer = pool.request("GET", url, timeout=2)
        except urllib3.exceptions.HTTPError as error:
            seen.add(type(error))
        else:
            seen.add(answer.status)
            with pytest.raises(json.JSONDecodeError):
                answer.json()
    assert seen == {200, 502, urllib3.exceptions.ReadTimeoutError, urllib3.exceptions.ProtocolError}
