"""The simulated servers of the benchmark answer as the recorded real one."""

import json
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from benchmarks.simulated_pulp.api import Api
from benchmarks.simulated_pulp.rows import API
from benchmarks.simulated_pulp.tasks import (
    INCOMPLETE,
    LIFETIME,
    SECOND,
    SKEW,
    Fleet,
    Outcome,
    Task,
    microseconds,
    timestamp,
)

RECORDED = Path(__file__).parent / "recorded"
START = microseconds("2026-11-23T08:00:00Z")
NOW = START + 900 * SECOND
FLEET = Fleet(seed=11, start=START)
SIMULATED = Api(FLEET)
UNKNOWN = "01a20792-ea22-7555-b0bc-b8743e77e60c"

CASES = [
    ("01_sync_first_autopublish.finished", "sync", Outcome.COMPLETED, True, "completed"),
    ("01_sync_first_autopublish.running", "sync", Outcome.COMPLETED, True, "running"),
    ("03_sync_first.finished", "sync", Outcome.COMPLETED, False, "completed"),
    ("02_sync_unchanged_autopublish.finished", "sync", Outcome.UNCHANGED, False, "completed"),
    ("04_publish_latest.finished", "publish", Outcome.COMPLETED, True, "completed"),
    ("04_publish_latest.running", "publish", Outcome.COMPLETED, True, "running"),
    ("11_sync_fails_404.finished", "sync", Outcome.FAILED, False, "failed"),
    ("20_sync_canceled_running.cancel_reply", "sync", Outcome.CANCELED, False, "canceling"),
    ("20_sync_canceled_running.running", "sync", Outcome.CANCELED, False, "running"),
    ("20_sync_canceled_running.finished", "sync", Outcome.CANCELED, False, "canceled"),
    ("21_sync_canceled_waiting.waiting", "sync", Outcome.NEVER_RAN, False, "waiting"),
    ("21_sync_canceled_waiting.finished", "sync", Outcome.NEVER_RAN, False, "canceled"),
    ("24_publish_fails.finished", "publish", Outcome.FAILED, False, "failed"),
]


def recorded(name: str) -> dict[str, Any]:
    """Return a recorded answer."""
    row: dict[str, Any] = json.loads((RECORDED / f"{name}.json").read_text(encoding="utf-8"))
    return row


def get(path: str, now: int = NOW, **query: str) -> dict[str, Any]:
    """Return what a simulated server answers."""
    answer = SIMULATED.answer(3, API + path, query, now)
    assert answer.status == 200, answer.body
    row: dict[str, Any] = json.loads(answer.body)
    return row


def tasks(now: int = NOW, **query: str) -> list[dict[str, Any]]:
    """Return the tasks that a query finds."""
    rows: list[dict[str, Any]] = get("tasks/", now, **{"limit": "100000", **query})["results"]
    return rows


@cache
def finished_by(now: int) -> list[Task]:
    """Return the tasks whose end is visible."""
    every = (FLEET.task(3, number) for number in range(FLEET.created_before(now + 1)))
    return [task for task in every if task.committed <= now]


def shape(value: object) -> object:
    """Reduce JSON to its keys, in order, and to the form of its values."""
    match value:
        case dict():
            return [(key, shape(one)) for key, one in value.items()]
        case list():
            return [shape(one) for one in value]
        case str():
            text = re.sub(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", "UUID", value)
            text = re.sub(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{6})?Z$", "TIME", text)
            return re.sub(r"^[0-9a-f]{32}$", "HEX", re.sub(r"/versions/\d+/", "/versions/N/", text))
        case _:
            return type(value)


def example(operation: str, outcome: Outcome, *, publishes: bool) -> Task:
    """Return a task of a kind whose end is visible."""
    return next(
        task
        for task in finished_by(NOW)
        if (task.operation, task.outcome, task.publication is not None) == (operation, outcome, publishes)
    )


def seen_as(task: Task, state: str) -> dict[str, Any]:
    """Return the row of a task at a moment when it is in a state."""
    moments = {"waiting": task.created, "running": task.started, "canceling": task.ended - 1}
    row: dict[str, Any] = get(f"tasks/{task.id}/", moments.get(state, task.committed))
    return row


@pytest.mark.parametrize(("name", "operation", "outcome", "publishes", "state"), CASES)
def test_task_has_the_shape_of_the_recorded_one(
    name: str,
    operation: str,
    outcome: Outcome,
    publishes: bool,  # noqa: FBT001 - a parameter of the test
    state: str,
) -> None:
    """A task has the same keys, in the same order, and values of the same form, in every state."""
    row = seen_as(example(operation, outcome, publishes=publishes), state)
    assert row["state"] == state
    assert shape({**row, "created_by": None}) == shape({**recorded(name), "created_by": None})


@pytest.mark.parametrize("operation", ["sync", "publish"])
@pytest.mark.parametrize("outcome", [Outcome.WORKER_LOST, Outcome.CANCELED, Outcome.NEVER_RAN])
def test_task_that_ended_early_has_the_keys_of_a_recorded_one(operation: str, outcome: Outcome) -> None:
    """States that were not recorded are shown like those that were."""
    task = example(operation, outcome, publishes=False)
    for state in ("waiting", "canceling", "ended") if outcome is not Outcome.WORKER_LOST else ("running", "ended"):
        row = seen_as(task, state)
        assert row.keys() == recorded("20_sync_canceled_running.finished").keys()
        assert (row["finished_at"] is None) == (row["state"] in INCOMPLETE)
        assert row["created_resources"] in ([], ["<unavailable>"])
    assert row["error"] == ({"reason": "Worker has gone missing."} if outcome is Outcome.WORKER_LOST else None)
    assert (row["started_at"] is None) == (outcome is Outcome.NEVER_RAN)


def test_version_and_publication_have_the_shape_of_the_recorded_ones() -> None:
    """What a task made is found by its links."""
    synced = example("sync", Outcome.COMPLETED, publishes=True)
    version, publication = seen_as(synced, "completed")["created_resources"]
    assert shape(get(version.removeprefix(API))) == shape(recorded("03_sync_first.version"))
    (found,) = get("publications/", pulp_id__in=publication[-37:-1])["results"]
    assert shape(found) == shape(recorded("01_sync_first_autopublish.publication"))
    assert found["pulp_href"] == publication


def test_repository_and_remote_of_a_task_are_found_by_their_ids() -> None:
    """Names are looked up by what a task reserved; unknown ones are left out."""
    row = seen_as(example("sync", Outcome.COMPLETED, publishes=True), "completed")
    reserved = [prn.removeprefix("shared:") for prn in row["reserved_resources_record"]]
    for folder, prn, name in (
        ("repositories/", reserved[0], "00_repository_auto"),
        ("remotes/", reserved[1], "00_remote"),
    ):
        ids = ",".join([prn[-36:], *(other[-36:] for other in reserved if other != prn), UNKNOWN])
        (found,) = get(folder, pulp_id__in=ids)["results"]
        assert found["prn"] == prn
        assert shape({**found, "name": None}) == shape({**recorded(name), "name": None})
        assert get(folder, pulp_id__in=ids, fields="pulp_href,name")["results"] == [
            {"pulp_href": found["pulp_href"], "name": found["name"]}
        ]


def test_identifiers_of_the_recorded_server_are_replaced() -> None:
    """No identifier of the recorded server is left in a task, except that of the domain."""
    everything = "".join(path.read_text(encoding="utf-8") for path in RECORDED.glob("*.json"))
    ids = set(re.findall(r"[0-9a-f-]{36}", everything)) - {recorded(CASES[0][0])["reserved_resources_record"][-1][-36:]}
    rows = [seen_as(task, state) for task in finished_by(NOW)[:500] for state in ("waiting", "running", "ended")]
    assert not ids & set(re.findall(r"[0-9a-f-]{36}", json.dumps(rows)))


def test_times_are_ordered_within_the_clock_of_their_worker() -> None:
    """What filters rely on to find tasks by their number."""
    for task in finished_by(NOW):
        assert task.created < task.started <= task.ended < task.committed <= task.created + LIFETIME
        assert abs(task.finished_at - task.ended) <= SKEW


def test_running_ones_and_those_finished_since_a_time_are_found_in_one_request() -> None:
    """The request of every tick: running ones come last, newest first."""
    since = NOW - 60 * SECOND
    rows = tasks(q=f'state__in=running,canceling OR finished_at__gte="{timestamp(since)}"', ordering="finished_at")
    finished = {task.id for task in finished_by(NOW) if task.finished_at >= since}
    running = {row["pulp_href"][-37:-1] for row in tasks(state__in="running,canceling")}
    assert {row["pulp_href"][-37:-1] for row in rows} == finished | running
    assert finished
    assert running
    ends = [row["finished_at"] for row in rows]
    assert ends[: len(finished)] == sorted(ends[: len(finished)])
    assert set(ends[len(finished) :]) == {None}
    created = [row["pulp_created"] for row in rows[len(finished) :]]
    assert created == sorted(created, reverse=True)


def test_time_that_was_answered_finds_its_own_row_again() -> None:
    """No fraction of a second is lost between an answer and the next request."""
    last = max(finished_by(NOW), key=lambda task: task.finished_at)
    time = str(timestamp(last.finished_at))
    (row,) = tasks(finished_at__gte=time)
    assert row["pulp_href"] == f"{API}tasks/{last.id}/"
    assert not tasks(finished_at__gte=str(timestamp(last.finished_at + 1)))
    assert tasks(state__in="completed,failed,canceled", ordering="-finished_at", limit="1") == [row]
    assert len(tasks(finished_at__lt=time)) == len(finished_by(NOW)) - 1


def test_tasks_are_found_by_their_ids() -> None:
    """Unknown identifiers are left out; the newest task comes first, as it does without an ordering."""
    wanted = finished_by(NOW)[100:130:10]
    rows = tasks(pulp_id__in=",".join([*(task.id for task in wanted), UNKNOWN]))
    assert [row["pulp_href"][-37:-1] for row in rows] == [task.id for task in reversed(wanted)]


def pages(**query: str) -> Iterator[Mapping[str, Any]]:
    """Yield a page, and those that follow by their links."""
    while True:
        page = get("tasks/", NOW, **query)
        yield page
        if page["next"] is None:
            return
        assert page["next"].startswith(f"http://pulp.example{API}tasks/?")
        query = dict(part.split("=") for part in page["next"].partition("?")[2].split("&"))


def test_pages_hold_every_row_once() -> None:
    """Limit, offset, count and links fit together."""
    every = list(pages(limit="1000", ordering="finished_at"))
    hrefs = [row["pulp_href"] for page in every for row in page["results"]]
    assert hrefs == [row["pulp_href"] for row in tasks(ordering="finished_at")]
    assert {page["count"] for page in every} == {len(hrefs)} == {len(set(hrefs))}
    assert [page["previous"] is None for page in every] == [True, *[False] * (len(every) - 1)]
    assert len(get("tasks/")["results"]) == 100


def test_nothing_visible_is_left_out_when_the_next_page_starts_at_the_last_row() -> None:
    """Paging by time finds every task, also where two pages overlap."""
    seen, since = set(), START - SKEW
    while True:
        rows = tasks(finished_at__gte=str(timestamp(since)), ordering="finished_at", limit="50")
        seen |= {row["pulp_href"][-37:-1] for row in rows}
        if len(rows) < 50:
            break
        since = microseconds(rows[-1]["finished_at"])
    assert seen == {task.id for task in finished_by(NOW)}


def test_end_becomes_visible_after_others_that_finished_later() -> None:
    """Ends are committed in another order than that of their times."""
    in_order_of_commit = sorted(finished_by(NOW), key=lambda task: task.committed)
    ends = [task.finished_at for task in in_order_of_commit]
    assert ends != sorted(ends)


def test_events_are_due_for_what_ran() -> None:
    """A publication of a sync is an operation of its own; a task that never ran has no events."""
    autopublished = example("sync", Outcome.COMPLETED, publishes=True)
    assert [(one.type, one.operation, one.result) for one in autopublished.due()] == [
        ("repo-sync-started", autopublished.id, ""),
        ("repo-sync-finished", autopublished.id, "success"),
        ("repo-publish-started", f"{autopublished.id}:{autopublished.publication}", ""),
        ("repo-publish-finished", f"{autopublished.id}:{autopublished.publication}", "success"),
    ]
    for outcome, result in ((Outcome.FAILED, "failed"), (Outcome.WORKER_LOST, "error"), (Outcome.CANCELED, "canceled")):
        assert [one.result for one in example("publish", outcome, publishes=False).due()] == ["", result]
    assert not list(example("sync", Outcome.NEVER_RAN, publishes=False).due())


def test_every_repository_is_synced_and_published_in_each_cycle() -> None:
    """The load is the one that is claimed."""
    cycle = [FLEET.task(3, number) for number in range(2800)]
    assert sorted((task.operation, task.repository) for task in cycle) == [
        (operation, repository) for operation in ("publish", "sync") for repository in range(1400)
    ]


@pytest.mark.parametrize(
    ("path", "query", "status"),
    [
        ("tasks/", {"finished_at__lte": "2026-11-23T08:00:00Z"}, 400),
        ("tasks/", {"q": "state__in=running AND name=x"}, 400),
        ("tasks/", {"ordering": "name"}, 400),
        ("tasks/", {"pulp_id__in": ",".join([UNKNOWN] * 120)}, 400),
        ("repositories/", {"prn__in": f"prn:file.filerepository:{UNKNOWN}"}, 400),
        (f"tasks/{UNKNOWN}/", {}, 404),
        ("nothing/", {}, 404),
    ],
)
def test_unknown_request_is_refused(path: str, query: dict[str, str], status: int) -> None:
    """A request that is not simulated fails, rather than being answered wrongly."""
    assert SIMULATED.answer(3, API + path, query, NOW).status == status


def test_answer_depends_on_its_arguments_alone() -> None:
    """Nothing is remembered between requests but what is computed again otherwise."""
    other = Api(Fleet(seed=11, start=START))
    query = {"ordering": "finished_at", "limit": "500"}
    assert other.answer(3, f"{API}tasks/", query, NOW) == SIMULATED.answer(3, f"{API}tasks/", query, NOW)
    assert other.answer(4, f"{API}tasks/", query, NOW) != SIMULATED.answer(3, f"{API}tasks/", query, NOW)
