"""A driver for scenarios: what a user asks of a Pulp 3 server."""

import time
from typing import Any
from urllib.parse import urljoin

import urllib3

from tests.hosts.pulp3.pulp_server import PASSWORD

_TYPES = {"deb": "apt"}
"""Of remotes and repositories, where it is not the plugin's name."""

_PUBLICATIONS = {"deb": "deb/apt", "file": "file/file", "python": "python/pypi", "rpm": "rpm/rpm"}
_FINISHED = ("completed", "failed", "canceled")


class PulpApi:
    """A user of a Pulp server, with basic authentication.

    Args:
        url: The server's address.
        user: Name of the user.
        password: Password of the user.
    """

    def __init__(self, url: str, user: str = "admin", password: str = PASSWORD) -> None:
        self._root = f"{url}/pulp/api/v3/"
        headers = urllib3.make_headers(basic_auth=f"{user}:{password}")
        self._http = urllib3.PoolManager(headers=headers, retries=False)

    def get(self, path: str, **query: object) -> Any:  # noqa: ANN401 - any JSON
        """Return what is at an href, or at a path below the API's root."""
        return self._ask("GET", path, fields={name: str(value) for name, value in query.items()})

    def post(self, path: str, **body: object) -> Any:  # noqa: ANN401 - any JSON
        """Post a JSON object, and return the answer."""
        return self._ask("POST", path, json=body)

    def patch(self, path: str, **body: object) -> Any:  # noqa: ANN401 - any JSON
        """Change what is at an href, and return the answer."""
        return self._ask("PATCH", path, json=body)

    def delete(self, path: str) -> Any:  # noqa: ANN401 - any JSON
        """Delete what is at an href, and return the answer, if any."""
        return self._ask("DELETE", path)

    def create_remote(self, name: str, url: str, kind: str = "file", **fields: object) -> str:
        """Create a remote, and return its href."""
        return str(self.post(f"remotes/{kind}/{_TYPES.get(kind, kind)}/", name=name, url=url, **fields)["pulp_href"])

    def create_repository(self, name: str, kind: str = "file", **fields: object) -> str:
        """Create a repository, and return its href."""
        return str(self.post(f"repositories/{kind}/{_TYPES.get(kind, kind)}/", name=name, **fields)["pulp_href"])

    def sync(self, repository: str, **options: object) -> str:
        """Begin to sync a repository from its remote, and return the task's href."""
        return str(self.post(f"{repository}sync/", **options)["task"])

    def publish(self, repository: str, **options: object) -> str:
        """Begin to publish a repository's latest version, and return the task's href."""
        kind = repository.split("repositories/")[1].split("/", maxsplit=1)[0]
        return str(self.post(f"publications/{_PUBLICATIONS[kind]}/", repository=repository, **options)["task"])

    def modify(self, repository: str, **content: list[str]) -> str:
        """Begin to add and remove content units, and return the task's href."""
        return str(self.post(f"{repository}modify/", **content)["task"])

    def upload(self, repository: str, path: str, content: bytes) -> str:
        """Begin to upload a file to a repository, and return the task's href."""
        fields = {"repository": repository, "relative_path": path, "file": (path, content)}
        return str(self._ask("POST", "content/file/files/", fields=fields)["task"])

    def cancel(self, task: str) -> None:
        """Begin to cancel a task."""
        self.patch(task, state="canceled")

    def wait(self, task: str, *states: str, seconds: float = 120.0) -> Any:  # noqa: ANN401 - any JSON
        """Wait until a task has finished, or is in one of some states, and return it."""
        deadline = time.monotonic() + seconds
        while (found := self.get(task))["state"] not in (states or _FINISHED):
            assert found["state"] not in _FINISHED, found
            assert time.monotonic() < deadline, found
            time.sleep(0.05)
        return found

    def _ask(self, method: str, path: str, **content: Any) -> Any:  # noqa: ANN401 - as urllib3 has them
        answer = self._http.request(method, urljoin(self._root, path), **content)
        assert answer.status < 300, f"{method} {path}: {answer.status} {answer.data!r}"
        return answer.json() if answer.data else None
