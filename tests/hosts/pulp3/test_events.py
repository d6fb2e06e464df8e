"""From the tasks that real servers showed to events."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

import pytest

from pulp_hooks import EventType, Hooks, PulpError
from pulp_hooks.hosts.pulp3.events import EventMaker, PulpEvent
from pulp_hooks.hosts.pulp3.lookups import Lookups
from pulp_hooks.hosts.pulp3.tasks import Kind, read_task

from .scripted_server import API, ScriptedServer, a_task, recorded, uuid

if TYPE_CHECKING:
    from pulp_hooks.hosts.pulp3.client import PulpClient

SOURCE = "https://pulp.example/pulp/"


def events_of(shown: Mapping[str, Any], source: str = SOURCE) -> list[PulpEvent]:
    """Return all events of a finished task."""
    lookups = Lookups(cast("PulpClient", ScriptedServer()))
    task = read_task(shown)
    lookups.prepare([task])
    return list(EventMaker(source, lookups).finished(task))


def finished(shown: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the body of the finished event, as listeners receive it."""
    event = next(one for one in events_of(shown) if "finished" in one.event_type)
    body: Mapping[str, Any] = Hooks().fire(event.event_type, event.body).event.body
    return body


def test_body_of_a_sync() -> None:
    """Every field of the specification comes from the task."""
    shown = recorded("03_sync_first.finished")
    body = dict(finished(shown))
    details = body.pop("details")
    assert body == {
        "_ns": "repo_sync_results",
        "id": shown["pulp_href"].split("/")[-2],
        "repo_id": "zoo",
        "importer_id": shown["reserved_resources_record"][1].split(":")[-1],
        "importer_type_id": "file.fileremote",
        "started": shown["started_at"][:19] + "Z",
        "completed": shown["finished_at"][:19] + "Z",
        "added_count": 10,
        "updated_count": 0,
        "removed_count": 0,
        "result": "success",
        "summary": {one["code"]: one["done"] for one in shown["progress_reports"]},
        "exception": None,
        "error_message": None,
        "traceback": None,
    }
    assert details == {"progress_reports": shown["progress_reports"], "created_resources": shown["created_resources"]}


def test_body_of_a_publish() -> None:
    """Pulp 3 has no distributors: the kind of publication stands for them."""
    shown = recorded("04_publish_latest.finished")
    body = finished(shown)
    assert (body["distributor_id"], body["distributor_type_id"]) == ("file.publication", "file.publication")
    assert (body["result"], body["summary"], body["error_message"]) == ("success", None, None)
    assert body["details"] == {"progress_reports": [], "created_resources": shown["created_resources"]}


def test_failed_sync_has_its_error() -> None:
    """Description and traceback of the task are those of the event."""
    shown = recorded("11_sync_fails_404.finished")
    body = finished(shown)
    assert (body["result"], body["error_message"]) == ("failed", shown["error"]["description"])
    assert body["traceback"] == shown["error"]["traceback"].splitlines()


@pytest.mark.parametrize(
    ("state", "error", "expected"),
    [
        ("completed", None, ("success", None, None, None)),
        ("canceled", None, ("canceled", None, None, None)),
        ("failed", {"description": "", "traceback": None}, ("failed", None, "", None)),
        ("failed", {"description": "d", "error_code": "PLP0003"}, ("failed", "PLP0003", "d", None)),
        ("failed", {"reason": "Killed by signal 9."}, ("error", None, "Killed by signal 9.", None)),
        ("failed", {"reason": "Worker has gone missing."}, ("error", None, "Worker has gone missing.", None)),
        ("failed", None, ("failed", None, None, None)),
        ("failed", "redacted", ("failed", None, None, None)),
        ("failed", {"description": ["odd"]}, ("failed", None, "['odd']", None)),
    ],
)
@pytest.mark.parametrize("name", ["x.synchronize", "x.publish"])
def test_result_follows_state_and_error(name: str, state: str, error: object, expected: tuple[object, ...]) -> None:
    """What a task raised is `failed`, what happened to its worker `error`."""
    body = finished(a_task(1, state, finished="09:00:01", error=error, name=name))
    assert (body["result"], body["exception"], body["error_message"], body["traceback"]) == expected


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("pulp_file.app.tasks.synchronizing.synchronize", Kind.SYNC),
        ("pulp_python.app.tasks.sync.sync", Kind.SYNC),
        ("pulp_ansible.app.tasks.collections.sync", Kind.SYNC),
        ("pulp_file.app.tasks.publishing.publish", Kind.PUBLISH),
        ("pulp_deb.app.tasks.publishing.publish_verbatim", Kind.PUBLISH),
        ("pulpcore.app.tasks.repository.add_and_remove", Kind.OTHER),
        ("pulp_x.app.tasks.publish.remove", Kind.OTHER),
        ("", Kind.OTHER),
    ],
)
def test_last_part_of_the_name_decides(name: str, kind: Kind) -> None:
    """Modules are called `synchronizing` and `publish` too."""
    assert read_task(a_task(1, name=name)).kind is kind


def test_refresh_of_an_alternate_content_source_is_no_sync() -> None:
    """It runs the function of a sync on a hidden repository."""
    reserved = [
        f"shared:prn:file.fileremote:{uuid(5)}",
        f"shared:prn:file.filealternatecontentsource:{uuid(6)}",
    ]
    assert events_of(a_task(1, finished="09:00:01", reserved_resources_record=reserved, result=None)) == []


def test_scheduled_sync_is_reported_at_its_end() -> None:
    """It reserves nothing: the repository is known from what it made."""
    shown = a_task(1, finished="09:00:01", reserved_resources_record=[])
    assert [event.event_type for event in events_of(shown)] == [
        EventType.REPO_SYNC_STARTED,
        EventType.REPO_SYNC_FINISHED,
    ]
    assert finished(shown | {"result": None})["repo_id"] == "zoo"


def test_upload_with_autopublish_is_a_publish_of_its_own() -> None:
    """Whatever made the version: a publication was made, and nothing caused it."""
    shown = recorded("01_sync_first_autopublish.finished") | {"name": "pulpcore.app.tasks.repository.add_and_remove"}
    events = events_of(shown)
    assert [event.event_type for event in events] == [
        EventType.REPO_PUBLISH_STARTED,
        EventType.REPO_PUBLISH_FINISHED,
    ]
    assert {event.caused_by for event in events} == {None}


def test_ids_derive_from_server_operation_and_type() -> None:
    """Two watchers make the same ids, and everything else has other ones."""
    shown = recorded("01_sync_first_autopublish.finished")
    ids = [event.event_id for event in events_of(shown)]
    assert ids == [event.event_id for event in events_of(shown)]
    others = [event.event_id for event in events_of(shown, "https://other.example/pulp/")]
    assert len({*ids, *others}) == 2 * len(ids) == 8


def test_call_report_is_the_task_as_shown() -> None:
    """Nothing of what the server shows is lost."""
    shown = recorded("11_sync_fails_404.finished")
    assert {id(event.call_report) for event in events_of(shown)} == {id(shown)}


ODD: list[dict[str, Any]] = [
    {"created_resources": ["<unavailable>"], "result": None},
    {"created_resources": None, "progress_reports": None},
    {"created_resources": [None, 7, {}], "progress_reports": [None, {}, {"code": None}]},
    {"progress_reports": 7, "result": 7, "error": 7},
    {"result": {"content_summary": None}},
    {"result": {"content_summary": {"added": {"x": None, "y": {"count": "many"}}, "removed": []}}},
    {"result": {"repository": 7}},
    {"created_resource_prns": 7, "parent_task": 7},
]


@pytest.mark.parametrize("changes", ODD)
def test_odd_task_has_its_events(changes: dict[str, Any]) -> None:
    """Whatever a server shows in members that may be missing, the events of the task are fired."""
    assert finished(a_task(1, finished="09:00:01", **changes))["repo_id"] == "zoo"


def test_task_without_href_is_an_error_and_no_crash() -> None:
    """A row that names no task cannot be a task."""
    with pytest.raises(PulpError):
        read_task({"name": "x.sync"})


def test_model_of_older_hrefs() -> None:
    """The names of models are the same as in the PRNs of newer servers."""
    reserved = [f"{API}repositories/deb/apt/{uuid(8)}/", f"shared:{API}remotes/deb/apt/{uuid(9)}/"]
    task = read_task(a_task(1, reserved_resources_record=reserved))
    assert task.repository is not None
    assert task.remote is not None
    assert (task.repository.model, task.remote.model) == ("deb.aptrepository", "deb.aptremote")
