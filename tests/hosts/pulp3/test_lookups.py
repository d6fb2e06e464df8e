"""Look-ups: few requests, no more objects than needed, and nothing that was read too early."""

from typing import TYPE_CHECKING, cast

from pulp_hooks.hosts.pulp3.lookups import Lookups
from pulp_hooks.hosts.pulp3.tasks import Task, read_task, time_of

from .scripted_server import API, ScriptedServer, a_task, recorded, uuid

if TYPE_CHECKING:
    from pulp_hooks.hosts.pulp3.client import PulpClient

PUBLICATION = recorded("01_sync_first_autopublish.publication")
HREF = PUBLICATION["pulp_href"]


def lookups_of(server: ScriptedServer, seconds: list[float]) -> Lookups:
    """Return look-ups whose clock is the last number of a list."""
    return Lookups(cast("PulpClient", server), lambda: seconds[-1])


def sync_of(number: int) -> Task:
    """Return a finished sync of one of many repositories."""
    prn = f"prn:file.filerepository:{uuid(number)}"
    return read_task(a_task(number, finished="09:00:01", reserved_resources_record=[prn]))


def asked(server: ScriptedServer, path: str) -> list[int]:
    """Return how many objects each request for a path asked for."""
    return [query["pulp_id__in"].count(",") + 1 for asked, query in server.requests if asked == path]


def test_publication_is_asked_for_when_its_sync_has_ended() -> None:
    """A running task names its publication before the server shows it; the times must be those of the end."""
    server = ScriptedServer()
    lookups = lookups_of(server, [0.0])
    lookups.prepare([read_task(a_task(1, "running", created_resources=[HREF]))])
    server.objects[HREF.split("/")[-2]] = PUBLICATION
    lookups.prepare([read_task(a_task(1, finished="09:00:01", created_resources=[HREF]))])
    assert time_of(lookups.publication(HREF)["pulp_created"]) is not None


def test_publication_of_a_publish_is_not_asked_for() -> None:
    """Its task has the times and the repository."""
    server = ScriptedServer()
    lookups_of(server, [0.0]).prepare([read_task(recorded("04_publish_latest.finished"))])
    assert asked(server, "publications/") == []


def test_names_are_refreshed_together() -> None:
    """One request refreshes as many of the oldest names as fit in, instead of one request for each."""
    server, seconds = ScriptedServer(), [0.0]
    server.objects = {
        uuid(number): {"pulp_href": f"{API}repositories/file/file/{uuid(number)}/", "name": f"zoo-{number}"}
        for number in range(100)
    }
    lookups, syncs = lookups_of(server, seconds), [sync_of(number) for number in range(100)]
    lookups.prepare(syncs)
    assert asked(server, "repositories/") == [60, 40]
    server.objects[uuid(3)]["name"] = "renamed"
    seconds.append(301.0)
    for sync in syncs[:50]:
        lookups.prepare([sync])
    assert asked(server, "repositories/") == [60, 40, 60]
    assert syncs[3].repository is not None
    assert lookups.name(syncs[3].repository) == "renamed"
