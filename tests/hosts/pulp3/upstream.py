"""An upstream: an HTTP server on loopback with repositories that tests change, slow down and break."""

import gzip
import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

_RPM = "http://linux.duke.edu/metadata"


class Upstream:
    """Files by path, served until `stop` is called.

    Attributes:
        url: The server's address, without a slash at its end.
        files: The content of each file by its path, which begins with a slash.
    """

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self._open = threading.Event()
        self._open.set()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, self))
        self._server.daemon_threads = True
        self._server.block_on_close = False
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=partial(self._server.serve_forever, poll_interval=0.05), daemon=True)
        self._thread.start()

    def write(self, name: str, files: Mapping[str, str]) -> str:
        """Write the files of a file repository in place of earlier ones, and return the URL of its manifest."""
        self.files = {path: content for path, content in self.files.items() if not path.startswith(f"/{name}/")}
        self.files |= {f"/{name}/{path}": content.encode() for path, content in files.items()}
        lines = [f"{path},{_sha256(content.encode())},{len(content.encode())}\n" for path, content in files.items()]
        self.files[f"/{name}/PULP_MANIFEST"] = "".join(lines).encode()
        return f"{self.url}/{name}/PULP_MANIFEST"

    def write_rpm(self, name: str, packages: list[str]) -> str:
        """Write the metadata of an rpm repository, and return its URL; the packages themselves are not there."""
        lists = _rpm_lists(packages)
        self.files |= {f"/{name}/repodata/{kind}.xml.gz": content for kind, content in lists.items()}
        entries = "".join(
            f'<data type="{kind}"><checksum type="sha256">{_sha256(content)}</checksum>'
            f'<location href="repodata/{kind}.xml.gz"/><timestamp>1</timestamp><size>{len(content)}</size></data>'
            for kind, content in lists.items()
        )
        repomd = f'<repomd xmlns="{_RPM}/repo"><revision>{len(packages)}</revision>{entries}</repomd>'
        self.files[f"/{name}/repodata/repomd.xml"] = repomd.encode()
        return f"{self.url}/{name}/"

    def write_python(self, name: str, package: str) -> str:
        """Write an index with one Python package, and return its URL; the distribution itself is not there."""
        filename = f"{package}-1.0.tar.gz"
        distribution = {"filename": filename, "packagetype": "sdist", "size": 1, "url": f"{self.url}/{filename}"}
        distribution["digests"] = {"sha256": _sha256(package.encode())}
        metadata = {"info": {"name": package, "version": "1.0"}, "last_serial": 1, "releases": {"1.0": [distribution]}}
        self.files[f"/{name}/pypi/{package}/json"] = json.dumps(metadata).encode()
        page = f'<a href="{distribution["url"]}">{filename}</a>'
        self.files[f"/{name}/simple/{package}/"] = f"<!DOCTYPE html><html><body>{page}</body></html>".encode()
        return f"{self.url}/{name}/"

    def write_deb(self, name: str, package: str) -> str:
        """Write the distribution `stable` with one Debian package, and return its URL; the package is not there."""
        fields = {"Package": package, "Version": "1", "Architecture": "amd64", "Maintainer": "nobody"}
        fields |= {
            "Description": package,
            "Filename": f"pool/{package}.deb",
            "Size": "1",
            "SHA256": _sha256(package.encode()),
        }
        index = "".join(f"{field}: {value}\n" for field, value in fields.items()).encode()
        place = "main/binary-amd64/Packages"
        release = (
            "Suite: stable\nCodename: stable\nArchitectures: amd64\nComponents: main\n"
            f"SHA256:\n {_sha256(index)} {len(index)} {place}\n"
        )
        self.files |= {f"/{name}/dists/stable/{place}": index, f"/{name}/dists/stable/Release": release.encode()}
        return f"{self.url}/{name}/"

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Return a context manager that holds every answer back, so that a sync goes on for as long."""
        self._open.clear()
        try:
            yield
        finally:
            self._open.set()

    def stop(self) -> None:
        """Stop the server."""
        self._open.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def answer(self, path: str) -> bytes | None:
        """Return the file at a path as soon as answers are not held back, or None."""
        self._open.wait()
        return self.files.get(path)


class _Handler(BaseHTTPRequestHandler):
    def __init__(self, upstream: Upstream, *args: Any) -> None:  # noqa: ANN401 - as the base class has them
        self._upstream = upstream
        super().__init__(*args)

    def do_GET(self) -> None:
        content = self._upstream.answer(self.path)
        try:
            self.send_response(200 if content is not None else 404)
            self.send_header("Content-Type", "application/json" if self.path.endswith("/json") else "text/html")
            self.send_header(
                "X-PyPI-Last-Serial", "1"
            )  # an index without it counts as stale, and gets further requests
            self.send_header("Content-Length", str(len(content or b"")))
            self.end_headers()
            self.wfile.write(content or b"")
        except ConnectionError:
            pass  # the sync was canceled or killed

    def log_message(self, *_: object) -> None:
        pass


def _rpm_lists(packages: list[str]) -> dict[str, bytes]:
    primary = "".join(
        f'<package type="rpm"><name>{name}</name><arch>noarch</arch><version epoch="0" ver="1" rel="1"/>'
        f'<checksum type="sha256" pkgid="YES">{_sha256(name.encode())}</checksum><summary/><description/><packager/>'
        '<url/><time file="1" build="1"/><size package="1" installed="1" archive="1"/>'
        f'<location href="{name}-1-1.noarch.rpm"/><format><rpm:license>MIT</rpm:license><rpm:vendor/><rpm:group/>'
        f"<rpm:buildhost/><rpm:sourcerpm>{name}-1-1.src.rpm</rpm:sourcerpm>"
        '<rpm:header-range start="1" end="2"/></format></package>'
        for name in packages
    )
    entries = "".join(
        f'<package pkgid="{_sha256(name.encode())}" name="{name}" arch="noarch">'
        '<version epoch="0" ver="1" rel="1"/></package>'
        for name in packages
    )
    count = f'packages="{len(packages)}"'
    texts = {
        "primary": f'<metadata xmlns="{_RPM}/common" xmlns:rpm="{_RPM}/rpm" {count}>{primary}</metadata>',
        "filelists": f'<filelists xmlns="{_RPM}/filelists" {count}>{entries}</filelists>',
        "other": f'<otherdata xmlns="{_RPM}/other" {count}>{entries}</otherdata>',
    }
    return {name: gzip.compress(text.encode(), mtime=0) for name, text in texts.items()}


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
