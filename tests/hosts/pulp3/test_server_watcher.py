"""Watching one server: every task is reported once, in whatever order and however late it becomes visible."""

import copy
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, cast

import pytest

from pulp_hooks import JournalError, PulpError, PulpSettings
from pulp_hooks.errors import BodyError
from pulp_hooks.hosts.pulp3.events import PulpEvent
from pulp_hooks.hosts.pulp3.position import Position
from pulp_hooks.hosts.pulp3.server_watcher import ServerWatcher

from .scripted_server import API, ZOO, ScriptedServer, a_task, recorded, uuid

if TYPE_CHECKING:
    from pulp_hooks.hosts.pulp3.client import PulpClient

NINE = datetime(2026, 11, 23, 9, tzinfo=UTC)


class Watched:
    """A watched server, and what was fired and stored."""

    def __init__(self, server: ScriptedServer, position: Position | None = None, **settings: Any) -> None:  # noqa: ANN401 - of any type
        self.fired: list[PulpEvent] = []
        self.saved: list[Position] = []
        self.errors: list[Exception | None] = []
        self.clock = 0.0
        self.watcher = ServerWatcher(
            cast("PulpClient", server),
            PulpSettings(name="pulp", url="https://pulp.example", **settings),
            "https://pulp.example/pulp/",
            position or Position(),
            fire=self.fire,
            save=lambda position: self.saved.append(copy.deepcopy(position)),
            clock=lambda: self.clock,
        )

    def fire(self, event: PulpEvent) -> None:
        """Keep an event, or raise the next error."""
        if self.errors and (error := self.errors.pop()):
            raise error
        self.fired.append(event)

    def look(self) -> list[str]:
        """Look once, and return what was fired: type and number of the task."""
        before = len(self.fired)
        self.watcher.look()
        return [described(event) for event in self.fired[before:]]


def described(event: PulpEvent) -> str:
    """Return type and task of an event: `sync-started 1`."""
    return f"{event.event_type.value.removeprefix('repo-')} {event.operation_id[-12:].lstrip('0') or 0}"


def watched_from_nine(server: ScriptedServer, **settings: Any) -> Watched:  # noqa: ANN401 - of any type
    """Return a watched server that reports what finished at nine o'clock or later."""
    watched = Watched(server, **settings)
    watched.watcher.begin(NINE)
    return watched


def test_quick_task_is_reported_with_both_events() -> None:
    """A task that was never seen running fires started right before finished, and both only once."""
    watched = watched_from_nine(ScriptedServer(a_task(1, finished="09:00:01")))
    assert watched.look() == ["sync-started 1", "sync-finished 1"]
    assert watched.look() == []


def test_started_is_reported_when_a_task_is_seen_running() -> None:
    """Started fires while the task runs, and is not repeated when it has finished."""
    server = ScriptedServer(a_task(1, "running"))
    watched = watched_from_nine(server)
    assert watched.look() == ["sync-started 1"]
    server.tasks = [a_task(1, "canceling")]
    assert watched.look() == []
    server.tasks = [a_task(1, "canceled", finished="09:00:05")]
    assert watched.look() == ["sync-finished 1"]
    assert watched.fired[-1].body["result"] == "canceled"


def test_first_start_reports_nothing_of_the_past() -> None:
    """From now on: neither what finished before the first look, nor what the overlap would show again."""
    server = ScriptedServer(a_task(1, finished="08:59:30"), a_task(2, finished="09:00:00"))
    watched = Watched(server)
    watched.watcher.begin(None)
    assert watched.look() == []
    server.tasks.append(a_task(3, finished="08:59:58"))  # its worker's clock is late
    assert watched.look() == ["sync-started 3", "sync-finished 3"]


def test_first_start_on_a_new_server_reports_everything() -> None:
    """A server without tasks has no past; the start is stored, so that a restart does not begin anew."""
    server = ScriptedServer()
    watched = Watched(server)
    watched.watcher.begin(None)
    server.tasks.append(a_task(1, finished="09:00:01"))
    again = Watched(server, watched.saved[-1])
    assert again.look() == ["sync-started 1", "sync-finished 1"]


def test_since_reports_from_then_on() -> None:
    """`--since` is exact: what finished a moment before is left out, for good."""
    watched = watched_from_nine(ScriptedServer(a_task(1, finished="08:59:59.999999"), a_task(2, finished="09:00:00")))
    assert watched.look() == ["sync-started 2", "sync-finished 2"]
    assert watched.look() == []


def test_late_commit_is_found_by_the_overlap() -> None:
    """A task whose worker finished first and committed last is not lost behind the cursor."""
    server = ScriptedServer(a_task(2, finished="09:00:15"))
    watched = watched_from_nine(server)
    watched.look()
    server.tasks.append(a_task(1, finished="09:00:01"))
    assert watched.look() == ["sync-started 1", "sync-finished 1"]


def test_very_late_commit_is_asked_for() -> None:
    """A task that leaves the running ones is asked for by its id if it finished long before the cursor."""
    server = ScriptedServer(a_task(1, "running"), a_task(2, finished="09:30:00"))
    watched = watched_from_nine(server)
    watched.look()
    server.tasks[0] = a_task(1, finished="09:00:02")
    assert watched.look() == ["sync-finished 1"]


def test_clock_far_behind_is_found_by_the_wide_overlap() -> None:
    """Once a minute a look begins further back: a worker's clock may be wrong by more than usual."""
    server = ScriptedServer(a_task(2, finished="09:30:00"))
    watched = watched_from_nine(server)
    watched.look()
    server.tasks.append(a_task(1, finished="09:28:30"))
    assert watched.look() == []
    watched.clock += 60
    assert watched.look() == ["sync-started 1", "sync-finished 1"]


def test_clock_that_is_years_ahead_hides_nothing() -> None:
    """The cursor does not go beyond the server's own time and a minute, nor does a stored one."""
    server = ScriptedServer(a_task(1, finished="09:00:01") | {"finished_at": "2027-11-23T09:00:00Z"})
    server.time = datetime(2026, 11, 23, 9, 0, 2, tzinfo=UTC)
    watched = watched_from_nine(server)
    assert watched.look() == ["sync-started 1", "sync-finished 1"]
    server.tasks.append(a_task(2, finished="09:00:58"))
    assert watched.look() == ["sync-started 2", "sync-finished 2"]
    ahead = Watched(server, Position(datetime(2030, 1, 1, tzinfo=UTC)))
    assert "sync-finished 2" in ahead.look()


def test_row_without_href_holds_up_nothing() -> None:
    """A server or a proxy may garble one entry of a list."""
    server = ScriptedServer({**a_task(1, finished="09:00:01"), "pulp_href": None}, a_task(2, finished="09:00:02"))
    assert watched_from_nine(server).look() == ["sync-started 2", "sync-finished 2"]


def test_deleted_task_is_said(caplog: pytest.LogCaptureFixture) -> None:
    """A task that was purged while it was watched is a warning, once, and stops nothing."""
    server = ScriptedServer(a_task(1, "running"))
    watched = watched_from_nine(server)
    watched.look()
    server.tasks = [a_task(2, finished="09:00:05")]
    assert watched.look() == ["sync-started 2", "sync-finished 2"]
    watched.look()
    assert [record.getMessage() for record in caplog.records] == [
        f"pulp: task {uuid(1)} was deleted before it was seen finished"
    ]


def test_task_that_never_ran_fires_nothing() -> None:
    """Canceled while waiting: no operation took place."""
    server = ScriptedServer(a_task(1, "waiting", started_at=None))
    watched = watched_from_nine(server)
    assert watched.look() == []
    server.tasks = [a_task(1, "canceled", finished="09:00:01", started_at=None)]
    assert watched.look() == []


def test_thousands_of_tasks_are_read_page_by_page() -> None:
    """After an outage everything is reported, in order, and no task twice."""
    tasks = [a_task(number, finished=f"09:{number // 60 % 60:02}:{number % 60:02}") for number in range(1000)]
    server = ScriptedServer(*reversed(tasks))
    watched = watched_from_nine(server)
    watched.look()
    assert [described(event) for event in watched.fired] == [
        f"sync-{step} {number}" for number in range(1000) for step in ("started", "finished")
    ]
    assert watched.look() == []


def test_more_tasks_of_one_moment_than_a_page_holds() -> None:
    """Tasks that finished at the same microsecond, and as many that run, do not hold up the rest."""
    moment = [a_task(number, finished="09:00:01") for number in range(700)]
    running = [a_task(number, "running") for number in range(700, 1400)]
    watched = watched_from_nine(ScriptedServer(*moment, *running, a_task(2000, finished="09:00:02")))
    assert len(watched.look()) == 2 * 700 + 700 + 2


def test_failed_fire_is_tried_again_by_the_next_look() -> None:
    """What the journal could not take is fired by the next look, and nothing before it again."""
    server = ScriptedServer(a_task(1, finished="09:00:01"), a_task(2, finished="09:00:02"))
    watched = watched_from_nine(server)
    watched.errors = [JournalError("the disk is full")]
    with pytest.raises(JournalError):
        watched.look()
    assert watched.look() == ["sync-started 1", "sync-finished 1", "sync-started 2", "sync-finished 2"]


def test_task_that_no_event_can_be_made_of_holds_up_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """A refused body is logged with its task, and left out."""
    server = ScriptedServer(a_task(1, finished="09:00:01"), a_task(2, finished="09:00:02"))
    watched = watched_from_nine(server)
    watched.errors = [BodyError("repo-sync-started", [])]
    assert watched.look() == ["sync-finished 1", "sync-started 2", "sync-finished 2"]
    assert uuid(1) in caplog.text


def test_position_is_stored_after_the_events() -> None:
    """A restart from any stored position repeats or continues, and never skips."""
    server = ScriptedServer(*(a_task(number, finished=f"09:00:{number:02}") for number in range(1, 4)))
    watched = watched_from_nine(server)
    watched.look()
    for position in watched.saved:
        again = Watched(server, copy.deepcopy(position))
        again.watcher.look()
        reported = {uuid(number) for number in range(1, 4)} & position.reported.keys()
        assert {event.operation_id for event in again.fired} == {uuid(number) for number in range(1, 4)} - reported
    assert watched.saved[-1].cursor == datetime(2026, 11, 23, 9, 0, 3, tzinfo=UTC)


def test_position_is_stored_by_a_look_that_fails() -> None:
    """A watcher that is stopped after a failed look does not fire again what that look has fired."""
    server = ScriptedServer(*(a_task(number, finished=f"09:00:{number:02}") for number in range(1, 4)))
    watched = watched_from_nine(server)
    watched.errors = [JournalError("the disk is full"), *[None] * 3]
    with pytest.raises(JournalError):
        watched.look()
    again = Watched(server, watched.saved[-1])
    assert again.look() == ["sync-started 2", "sync-finished 2", "sync-started 3", "sync-finished 3"]


def test_position_does_not_grow() -> None:
    """Tasks that the server cannot show again are dropped."""
    server = ScriptedServer()
    watched = watched_from_nine(server)
    for minute in range(50):
        server.tasks = [a_task(minute, finished=f"09:{minute:02}:00")]
        watched.look()
    assert len(watched.saved[-1].reported) <= 5


def test_failing_server_loses_nothing() -> None:
    """A look that fails at any of its requests leaves everything for the next one."""
    server = ScriptedServer(a_task(1, finished="09:00:01"))
    watched = watched_from_nine(server)
    server.failing = ""
    with pytest.raises(PulpError):
        watched.look()
    server.failing = None
    assert watched.look() == ["sync-started 1", "sync-finished 1"]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"repositories": ["z*"]}, 2),
        ({"repositories": ["other", "yum-*"]}, 0),
        ({"labels": {"env": "prod"}}, 2),
        ({"labels": {"env": "test"}}, 0),
        ({"labels": {"env": "prod", "team": "a"}}, 0),
    ],
)
def test_only_selected_repositories_are_reported(settings: Mapping[str, Any], expected: int) -> None:
    """Names and labels select, and what is left out is not asked for again."""
    watched = watched_from_nine(ScriptedServer(a_task(1, finished="09:00:01")), **settings)
    assert len(watched.look()) == expected
    assert watched.look() == []


def test_names_of_more_tasks_can_be_added() -> None:
    """A plugin may call its functions as it likes."""
    server = ScriptedServer(
        a_task(1, finished="09:00:01", name="pulp_x.app.tasks.fetch"),
        a_task(2, finished="09:00:02", name="pulp_x.app.tasks.roll_out"),
        a_task(3, finished="09:00:03", name="pulp_x.app.tasks.other"),
    )
    watched = watched_from_nine(server, sync_tasks=["fetch"], publish_tasks=["pulp_x.app.tasks.roll_out"])
    assert watched.look() == ["sync-started 1", "sync-finished 1", "publish-started 2", "publish-finished 2"]


def test_renamed_repository_gets_its_new_name() -> None:
    """Names are asked for again after five minutes, and until then not at all."""
    server = ScriptedServer(a_task(1, finished="09:00:01"))
    watched = watched_from_nine(server)
    watched.look()
    server.objects[ZOO] = server.objects[ZOO] | {"name": "ark"}
    server.tasks = [a_task(2, finished="09:00:02")]
    watched.look()
    watched.clock += 301
    server.tasks = [a_task(3, finished="09:00:03")]
    watched.look()
    assert [event.body["repo_id"] for event in watched.fired] == ["zoo"] * 4 + ["ark"] * 2
    assert sum(path == "repositories/" for path, _ in server.requests) == 2


def test_deleted_repository_keeps_its_name() -> None:
    """A repository that was deleted is called as before; one that was never seen has its PRN."""
    server = ScriptedServer(a_task(1, finished="09:00:01"))
    watched = watched_from_nine(server)
    watched.look()
    del server.objects[ZOO]
    watched.clock += 301
    server.tasks = [a_task(2, finished="09:00:02")]
    watched.look()
    assert {event.body["repo_id"] for event in watched.fired} == {"zoo"}
    new = watched_from_nine(server)
    new.look()
    assert {event.body["repo_id"] for event in new.fired} == {f"prn:file.filerepository:{ZOO}"}


def test_one_request_for_each_look() -> None:
    """Besides look-ups, a look is one request, with nothing to do and with tasks."""
    server = ScriptedServer(a_task(1, finished="09:00:01"))
    watched = watched_from_nine(server)
    del server.requests[:]
    for _ in range(10):
        watched.look()
    assert [path for path, _ in server.requests].count("tasks/") == 10


def test_known_tasks_cost_no_second_request() -> None:
    """Hundreds of tasks that run, or are shown again because they have just finished, leave room for new ones."""
    finished = [a_task(number, finished=f"09:00:{number % 60:02}") for number in range(300)]
    server = ScriptedServer(*finished, *(a_task(number, "running") for number in range(300, 500)))
    watched = watched_from_nine(server)
    watched.look()
    for clock in (1.0, 61.0):
        watched.clock = clock
        del server.requests[:]
        assert watched.look() == []
        assert len(server.requests) == 1


def test_times_of_a_second_are_understood() -> None:
    """Pulp leaves out microseconds that are zero."""
    server = ScriptedServer(a_task(1, finished="09:00:01"), a_task(2, finished="09:00:01.000001"))
    watched = watched_from_nine(server)
    assert watched.look() == ["sync-started 1", "sync-finished 1", "sync-started 2", "sync-finished 2"]


def test_publication_within_a_sync_has_its_own_times_and_operation() -> None:
    """Autopublish: both publish events follow the sync's, with the times of the publication."""
    shown = recorded("01_sync_first_autopublish.finished")
    publication = recorded("01_sync_first_autopublish.publication")
    server = ScriptedServer(shown)
    server.objects[publication["pulp_href"].split("/")[-2]] = publication
    watched = Watched(server)
    watched.watcher.begin(datetime(2026, 11, 23, tzinfo=UTC))
    watched.look()
    sync, publish = watched.fired[1], watched.fired[3]
    assert [event.event_type.value for event in watched.fired] == [
        "repo-sync-started",
        "repo-sync-finished",
        "repo-publish-started",
        "repo-publish-finished",
    ]
    assert publish.caused_by == sync.operation_id == shown["pulp_href"].split("/")[-2]
    assert publish.operation_id == f"{sync.operation_id}:{publication['pulp_href'].split('/')[-2]}"
    assert publish.body["started"] == datetime.fromisoformat(publication["pulp_created"])
    assert publish.body["completed"] == datetime.fromisoformat(publication["pulp_last_updated"])


def test_version_is_asked_for_where_the_task_has_no_result() -> None:
    """Servers before 3.100 show the counts with the version only; a deleted version has none."""
    server = ScriptedServer(a_task(1, finished="09:00:01", result=None))
    version = recorded("03_sync_first.version")
    server.objects[version["pulp_href"]] = version
    watched = watched_from_nine(server)
    watched.look()
    assert watched.fired[1].body["added_count"] == 10
    server.objects.clear()
    server.tasks = [a_task(2, finished="09:00:02", result=None)]
    watched.look()
    assert watched.fired[3].body["added_count"] == 0


def test_version_that_cannot_be_read_leaves_no_event_alone() -> None:
    """Both events of a task wait for the counts, so that the next look does not repeat the first of them."""
    server = ScriptedServer(a_task(1, finished="09:00:01", result=None))
    server.objects[recorded("03_sync_first.version")["pulp_href"]] = recorded("03_sync_first.version")
    watched = watched_from_nine(server)
    server.failing = "/"
    with pytest.raises(PulpError):
        watched.look()
    assert watched.fired == []
    server.failing = None
    assert watched.look() == ["sync-started 1", "sync-finished 1"]


def test_hrefs_of_older_servers_are_understood() -> None:
    """Before 3.55 reserved resources are hrefs."""
    reserved = [f"{API}repositories/file/file/{ZOO}/", f"shared:{API}remotes/file/file/{uuid(7)}/"]
    watched = watched_from_nine(
        ScriptedServer(a_task(1, finished="09:00:01", reserved_resources_record=reserved, result=None))
    )
    watched.look()
    body = watched.fired[1].body
    assert (body["repo_id"], body["importer_type_id"]) == ("zoo", "file.fileremote")
