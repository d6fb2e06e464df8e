"""Deliveries on Celery: a message is a hint, the journal is the source of truth. RabbitMQ and workers are real."""

import os
import re
import signal
import time
import tomllib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from kombu import Connection  # type: ignore[attr-defined] # its lazy module tells no types

from pulp_hooks.celery.carrying import TASK, carry_deliveries
from pulp_hooks.celery.sweeper import Sweeper
from pulp_hooks.event import Event
from pulp_hooks.journal.claims import NO_LIMITS
from pulp_hooks.journal.journal import Journal
from tests.carrying.conftest import TASKS, Broker, Cluster
from tests.proofs.conftest import Server, server

__all__ = ["server"]

ROOT = Path(__file__).parents[2]
PATIENCE = 60.0


def until(holds: Callable[[], object], cluster: Cluster) -> None:
    """Wait until a condition holds; fail after a time limit."""
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < deadline, cluster.log()
        time.sleep(0.1)


def states(url: str) -> Counter[str]:
    """Return the number of deliveries by state."""
    journal = Journal(url)
    found = journal.deliveries(limit=10_000)
    journal.close()
    return Counter(delivery.state for delivery in found.items)


def test_celery_delivers_what_is_fired(cluster: Cluster, url: str) -> None:
    """Without crashes, every event reaches the listener exactly once, with the app from the documentation."""
    page = (ROOT / "docs" / "durable.md").read_text()
    (shown,) = re.findall(r"^:caption: tasks\.py\n\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    tasks = re.sub(r'"amqp://[^"]*"', '"{url}"', shown) + 'app.conf.task_default_queue = "{queue}"\n'
    cluster.configure(url, tasks=tasks)
    ids = cluster.fire(*map(str, range(20)))
    with cluster.worker():
        until(lambda: states(url) == {"delivered": 20}, cluster)
        ids += cluster.fire("later")
        until(lambda: states(url) == {"delivered": 21}, cluster)
    assert sorted(cluster.calls()) == sorted(ids)


def test_every_example_plugin_runs_on_celery(cluster: Cluster, sqlite_url: str) -> None:
    """Each gets all four events, although Celery replaces standard output by an object without `encoding`."""
    projects = [tomllib.loads(path.read_text()) for path in sorted((ROOT / "example_plugins").glob("*/pyproject.toml"))]
    names = {name for project in projects for name in project["project"]["entry-points"]["pulp_hooks"]}
    # The notifiers that need a server are run on Celery by their own tests.
    assert names == {"console", "jsonl", "amqp", "email", "http"}
    cluster.configure(sqlite_url, retry_seconds=[])
    settings = cluster.folder / "pulp-hooks.toml"
    listener = '[[listeners]]\nname = "file"\nnotifier = "jsonl"\nconfig = { path = "events.jsonl" }'
    settings.write_text(settings.read_text().replace('block = ["console", "jsonl"]', listener))
    cluster.run("""
from pulp_hooks import Hooks
from pulp_hooks.bodies.examples import EXAMPLES
from pulp_hooks.event_types import EventType
with Hooks.discover() as hooks:
    assert not hooks.problems, hooks.problems
    for event_type in EventType:
        hooks.fire(event_type, EXAMPLES[event_type])
""")
    with cluster.worker():
        until(lambda: not {"pending", "retrying"} & states(sqlite_url).keys(), cluster)
    assert states(sqlite_url) == {"delivered": 4 + 4 + 1}, cluster.log()
    assert cluster.log().count(" sync finished ") == 1
    assert len((cluster.folder / "events.jsonl").read_text().splitlines()) == 4


def test_message_carries_only_the_name_of_the_delivery(cluster: Cluster, sqlite_url: str, broker: Broker) -> None:
    """Nothing else of the event is in the broker, which stores the message on disk."""
    cluster.configure(sqlite_url)
    (event_id,) = cluster.fire("a-repository-with-a-name")
    cluster.run(
        "from tasks import app\n"
        f"app.tasks[{TASK!r}].apply_async(({event_id!r}, 'desk'))\n"
        f"assert app.tasks[{TASK!r}].acks_late and app.tasks[{TASK!r}].reject_on_worker_lost\n"
        "assert app.conf.broker_transport_options['confirm_publish']"
    )
    opened: Any = Connection
    with opened(broker.url) as connection, connection.SimpleQueue(cluster.queue) as queue:
        message = queue.get(timeout=10)
        assert message.payload[0] == [event_id, "desk"]
        assert "a-repository" not in str(message.body)
        assert message.properties["delivery_mode"] == 2
        message.ack()


def test_failed_attempt_is_retried_on_the_schedule(cluster: Cluster, sqlite_url: str) -> None:
    """The sweeper sends the next message after the pause, not earlier."""
    failing = "    if len(open('calls').readlines()) < 3: raise RuntimeError('no')\n"
    listener = cluster.folder / "desk.py"
    listener.write_text(listener.read_text() + failing)
    cluster.configure(sqlite_url, retry_seconds=[0.2, 0.2])
    (event_id,) = cluster.fire("zoo")
    with cluster.worker():
        until(lambda: states(sqlite_url) == {"delivered": 1}, cluster)
    assert cluster.calls() == [event_id] * 3


def test_lost_message_is_sent_again(cluster: Cluster, sqlite_url: str) -> None:
    """A delivery whose message was lost gets another one."""
    cluster.configure(sqlite_url, resend_seconds=1)
    ids = cluster.fire("a", "b")
    journal = Journal(sqlite_url)
    lost: list[str] = []
    sweeper = Sweeper(journal, {"desk": NO_LIMITS}, lambda event_id, _: lost.append(event_id), 1)
    assert (sweeper.sweep(), sweeper.sweep(), lost) == (2, 0, ids)
    with cluster.worker():
        until(lambda: states(sqlite_url) == {"delivered": 2}, cluster)
    journal.close()


@pytest.mark.parametrize(
    ("limit", "seconds"),
    [({"ordered": "true"}, 0.0), ({"global_concurrency": 1}, 0.0), ({"global_rate_per_second": 20}, 0.4)],
)
def test_limits_hold_and_delay_deliveries_no_longer_than_necessary(
    cluster: Cluster, url: str, limit: dict[str, Any], seconds: float
) -> None:
    """A delivery over a limit follows as soon as the limit allows, not when its message counts as lost."""
    cluster.configure(url, **limit)
    ids = cluster.fire(*["zoo"] * 30)
    with cluster.worker():
        until(cluster.calls, cluster)
        began = time.monotonic()
        until(lambda: states(url) == {"delivered": 30}, cluster)
        passed = time.monotonic() - began
    assert seconds < passed < 15
    assert (cluster.calls() if "ordered" in limit else sorted(cluster.calls())) == ids


def test_worker_without_a_journal_does_not_start(cluster: Cluster) -> None:
    """It exits with a message that names the missing setting."""
    cluster.configure("sqlite:///journal.db")
    (cluster.folder / "pulp-hooks.toml").write_text("")
    with cluster.worker() as worker:
        worker.wait(PATIENCE)
    assert "cannot carry deliveries: no journal is configured; fix: add [journal]" in cluster.log()


def test_celery_worker_prunes_the_journal(cluster: Cluster, sqlite_url: str) -> None:
    """A Celery worker prunes the journal, so that a cluster needs no other worker for that."""
    cluster.configure(sqlite_url)
    settings, tasks = cluster.folder / "pulp-hooks.toml", cluster.folder / "tasks.py"
    settings.write_text(settings.read_text().replace("[plugins]", "keep_delivered_days = 1e-6\n[plugins]"))
    hurry = "import pulp_hooks.worker.maintenance as m\nm._HOUR = 0.2\nm.random.uniform = lambda *_: 0.2\n"
    tasks.write_text(hurry + tasks.read_text())
    cluster.fire("zoo")
    with cluster.worker():
        until(lambda: cluster.calls() and not states(sqlite_url), cluster)


def test_duplicate_message_delivers_once(cluster: Cluster, sqlite_url: str) -> None:
    """The duplicate finds nothing to claim."""
    cluster.configure(sqlite_url)
    (event_id,) = cluster.fire("zoo")
    cluster.run(f"from tasks import app\nfor _ in range(5): app.tasks[{TASK!r}].apply_async(({event_id!r}, 'desk'))")
    with cluster.worker():
        until(lambda: cluster.log().count("succeeded in") >= 5, cluster)
        # The sweeper may have sent a sixth message, so the one that found the delivery need not be among these.
        until(lambda: states(sqlite_url) == {"delivered": 1}, cluster)
    assert cluster.calls() == [event_id]


def test_killed_worker_loses_no_delivery(cluster: Cluster, sqlite_url: str) -> None:
    """After its process group is killed during an attempt, the delivery is made again when its lease ends."""
    cluster.configure(sqlite_url, timeout_seconds=2)
    slack = "import pulp_hooks.worker.worker as w\nw.SLACK_SECONDS = 1\n"
    (cluster.folder / "tasks.py").write_text(slack + (cluster.folder / "tasks.py").read_text())
    ids = cluster.fire("zoo")
    with cluster.worker(SECONDS="1.5") as worker:
        until(lambda: cluster.calls() == ids, cluster)
        os.killpg(worker.pid, signal.SIGKILL)
    assert states(sqlite_url) == {"pending": 1}
    with cluster.worker():
        until(lambda: states(sqlite_url) == {"delivered": 1}, cluster)
    assert cluster.calls() == ids * 2


def test_call_over_the_time_limit_is_abandoned(cluster: Cluster, sqlite_url: str) -> None:
    """The time limit of the settings applies, and the process of Celery continues."""
    cluster.configure(sqlite_url, timeout_seconds=0.5, retry_seconds=[])
    cluster.fire("a", "b", "c")
    with cluster.worker("-c", "1", SECONDS="30"):
        until(lambda: states(sqlite_url) == {"dead": 3}, cluster)


def test_delivery_that_freezes_its_process_is_dead_and_the_others_are_made(cluster: Cluster, sqlite_url: str) -> None:
    """The pool process ends with a traceback, and Celery starts another one for the other deliveries."""
    listener = cluster.folder / "desk.py"
    freezing = "    if body['repo_id'] == 'freezes': ctypes.PyDLL(None).sleep(60)\n"
    listener.write_text("import ctypes\n" + listener.read_text() + freezing)
    cluster.configure(sqlite_url, timeout_seconds=0.5, retry_seconds=[])
    slack = "import pulp_hooks.worker.worker as w\nw.SLACK_SECONDS, w.MOST_LOST = 1.2, 1\n"
    (cluster.folder / "tasks.py").write_text(slack + (cluster.folder / "tasks.py").read_text())
    (freezes, *others) = cluster.fire("freezes", *"abcd")
    with cluster.worker():
        until(lambda: states(sqlite_url) == {"delivered": 4, "dead": 1}, cluster)
    assert cluster.calls().count(freezes) == 1 + 1
    assert set(cluster.calls()) == {freezes, *others}
    assert "Timeout (0:00:00.900000)!" in cluster.log()


def test_celery_worker_waits_for_its_journal_to_start(cluster: Cluster, server: Server) -> None:
    """It starts without its journal, logs that it retries, and delivers once the journal is available."""
    cluster.configure(server.url)
    ids = cluster.fire("a")
    server.stop()
    with cluster.worker():
        until(lambda: "retrying in" in cluster.log(), cluster)
        server.start()
        until(lambda: cluster.calls() == ids, cluster)


def test_broker_killed_under_load_loses_no_delivery(cluster: Cluster, sqlite_url: str, broker: Broker) -> None:
    """Every delivery is made although the broker is killed and restarted meanwhile."""
    cluster.configure(sqlite_url, resend_seconds=2)
    ids = cluster.fire(*map(str, range(150)))
    with cluster.worker(SECONDS="0.02"):
        until(lambda: len(cluster.calls()) > 20, cluster)
        broker.kill()
        ids += cluster.fire(*map(str, range(50)))
        time.sleep(2)
        broker.start()
        until(lambda: states(sqlite_url) == {"delivered": 200}, cluster)
    assert set(cluster.calls()) == set(ids)


def test_sweeper_resends_unconfirmed_messages(sqlite_url: str, new_event: Callable[..., Event]) -> None:
    """If the broker does not confirm a message, it and all after it count as not sent."""
    journal = Journal(sqlite_url)
    ids = [f"e-{number}" for number in range(3)]
    for event_id in ids:
        journal.append(new_event(event_id=event_id), ["desk"])
    sent: list[str] = []

    def send(event_id: str, _listener: str) -> None:
        if event_id == "e-1" and "e-1" not in failed:
            failed.append(event_id)
            raise ConnectionError("no broker")
        sent.append(event_id)

    failed: list[str] = []
    sweeper = Sweeper(journal, {"desk": NO_LIMITS}, send, 60)
    with pytest.raises(ConnectionError):
        sweeper.sweep()
    assert sweeper.sweep() == 2
    assert sorted(sent) == ids
    assert sweeper.sweep() == 0
    journal.close()


def test_options_of_the_app_are_kept() -> None:
    """The operator's options stay; publisher confirms are added."""
    app = Celery("x", broker="memory://")
    app.conf.broker_transport_options = {"visibility_timeout": 5}
    carry_deliveries(app)
    assert app.conf.broker_transport_options == {"visibility_timeout": 5, "confirm_publish": True}
    assert TASKS.count("carry_deliveries") == 2
