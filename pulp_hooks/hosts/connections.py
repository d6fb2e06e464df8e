"""Connections to web servers, direct or through the proxies of the environment, with a minimum speed."""

import base64
import http.client
import io
import threading
import time
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection

from pulp_hooks.errors import PulpHooksError

SPEED_SECONDS = 30.0  # span over which the minimum speed is measured

_PER_SERVER = 8  # idle connections kept for reuse


class TooSlowError(TimeoutError):
    """A server stays below the minimum speed."""


class Connections:
    """Connection pools: one without a proxy, and one for each proxy of the environment.

    Args:
        timeout: Time limits for connecting and for the wait for the next bytes.
        min_speed: Minimum speed of a response in bytes per second. 0 means no limit.
        error: The exception to raise if a proxy cannot be used.
        **tls: Options of urllib3 for TLS, such as `ca_certs` and `cert_file`.
    """

    def __init__(
        self,
        timeout: urllib3.Timeout,
        min_speed: int,
        error: type[PulpHooksError],
        **tls: str | None,
    ) -> None:
        self._options: dict[str, Any] = {"maxsize": _PER_SERVER, "timeout": timeout, "retries": False, **tls}
        self._error = error
        self._classes = _pool_classes(min_speed)
        self._proxies = getproxies()
        self._managers: dict[str | None, urllib3.PoolManager] = {}
        self._lock = threading.Lock()

    def manager(self, url: str, what: str) -> urllib3.PoolManager:
        """Return the pool for a URL.

        Raises:
            PulpHooksError: The proxy for this URL cannot be used; it is the exception that the constructor received.
        """
        proxy = self._proxy(urlsplit(url))
        with self._lock:
            if proxy not in self._managers:
                self._managers[proxy] = self._make(proxy, what)
            return self._managers[proxy]

    def clear(self) -> None:
        """Close the idle connections."""
        with self._lock:
            for manager in self._managers.values():
                manager.clear()

    def _proxy(self, url: SplitResult) -> str | None:
        host = url.netloc.rpartition("@")[2]
        if proxy_bypass(host) or proxy_bypass(url.hostname or ""):
            return None
        return self._proxies.get(url.scheme) or self._proxies.get("all") or None

    def _make(self, proxy: str | None, what: str) -> urllib3.PoolManager:
        if proxy is None:
            manager = urllib3.PoolManager(**self._options)
        else:
            address, headers = _proxy_parts(proxy, what, self._error)
            manager = urllib3.ProxyManager(address, proxy_headers=headers, **self._options)
        manager.pool_classes_by_scheme = self._classes
        return manager


def _proxy_parts(proxy: str, what: str, error: type[PulpHooksError]) -> tuple[str, dict[str, str]]:
    """Return the address of a proxy without its credentials, and the headers with these credentials."""
    # Never put the proxy's URL into a message: it may contain a password anywhere.
    try:
        parts = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
        port = parts.port  # an invalid one raises
    except ValueError:
        raise error(
            f"{what}: the proxy of the environment is not a URL; "
            "fix: set http_proxy and https_proxy to http://host:port"
        ) from None
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise error(
            f"{what}: the proxy of the environment is not an HTTP proxy (SOCKS is not supported); "
            "fix: set http_proxy and https_proxy to http://host:port, or list the host in no_proxy"
        )
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    address = f"{parts.scheme}://{host}:{port or (443 if parts.scheme == 'https' else 80)}"
    if parts.username is None:
        return address, {}
    credentials = f"{unquote(parts.username)}:{unquote(parts.password or '')}".encode()
    return address, {"Proxy-Authorization": f"Basic {base64.b64encode(credentials).decode()}"}


class _Metered(io.RawIOBase):
    """Reads a response from a socket, and raises if it arrives too slowly.

    The socket's timeout only limits the wait for the next byte. A server that sends one byte at a time never reaches
    it.
    """

    def __init__(self, raw: io.RawIOBase, min_speed: int) -> None:
        self._raw = raw
        self._enough = min_speed * SPEED_SECONDS
        self._complaint = (
            f"the server sent fewer than {min_speed} bytes per second for {SPEED_SECONDS:g} seconds; "
            "fix: try later, or lower --min-speed"
        )
        self._in_head = True
        self._waited = 0.0
        self._read = 0

    def readable(self) -> bool:
        return True

    def begin_body(self) -> None:
        self._in_head = False
        self._waited, self._read = 0.0, 0

    def readinto(self, buffer: Any) -> int | None:  # noqa: ANN401 - as in the base class
        begin = time.monotonic()
        read = self._raw.readinto(buffer)
        # Count only the time of the server, not that of a slow local disk.
        self._waited += time.monotonic() - begin
        self._read += read or 0
        if not self._in_head and self._read >= self._enough:
            self._waited, self._read = 0.0, 0
        elif read and self._waited > SPEED_SECONDS:
            raise TooSlowError(self._complaint)
        return read

    def close(self) -> None:
        self._raw.close()
        super().close()


def _pool_classes(min_speed: int) -> dict[str, type[urllib3.HTTPConnectionPool]]:
    """Return urllib3's pool classes, with connections that measure the speed of responses."""
    if min_speed <= 0:
        return {"http": urllib3.HTTPConnectionPool, "https": urllib3.HTTPSConnectionPool}

    class Response(http.client.HTTPResponse):
        def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - as in the base class
            super().__init__(*args, **kwargs)
            self._metered = _Metered(self.fp.detach(), min_speed)
            self.fp = io.BufferedReader(self._metered)

        def begin(self) -> None:
            super().begin()
            self._metered.begin_body()

    class Http(HTTPConnection):
        response_class = Response

    class Https(HTTPSConnection):
        response_class = Response

    class HttpPool(urllib3.HTTPConnectionPool):
        ConnectionCls = Http  # pyright: ignore[reportAssignmentType] - as urllib3's own class

    class HttpsPool(urllib3.HTTPSConnectionPool):
        ConnectionCls = Https  # pyright: ignore[reportAssignmentType] - as urllib3's own class

    return {"http": HttpPool, "https": HttpsPool}
