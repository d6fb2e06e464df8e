"""Fixtures of the Pulp 3 watcher: a real Pulp server, a user of it, and an upstream to sync from."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.hosts.pulp3.pulp_api import PulpApi
from tests.hosts.pulp3.pulp_server import PulpServer, running_server
from tests.hosts.pulp3.upstream import Upstream


@contextmanager
def server_or_skip() -> Iterator[PulpServer]:
    """Return a context manager with a running Pulp server; skip if it cannot be installed, except in CI."""
    try:
        with running_server() as server:
            yield server
    except RuntimeError as error:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def pulp_server() -> Iterator[PulpServer]:
    """Yield a running Pulp server.

    Each process of pytest-xdist that runs such a test has a server of its own, so that tests may stop its parts.
    """
    with server_or_skip() as server:
        yield server


@pytest.fixture(scope="session")
def pulp(pulp_server: PulpServer) -> PulpApi:
    """Return the administrator of the Pulp server."""
    return PulpApi(pulp_server.url)


@pytest.fixture(scope="session")
def upstream() -> Iterator[Upstream]:
    """Yield a server to sync from."""
    upstream = Upstream()
    yield upstream
    upstream.stop()
