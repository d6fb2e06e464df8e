"""`succeed`: `finished` is committed with the host's work or fired at the end of the block, exactly once."""

import asyncio
import json
import signal
import sqlite3
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, nullcontext, suppress
from pathlib import Path
from types import FrameType
from typing import Any, cast

import pytest
from sqlalchemy import Connection, create_engine, delete, event, select, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.orm import Session

from pulp_hooks import BodyError, ClosedError, Event, EventError, Hooks, JournalError
from pulp_hooks.journal import schema
from pulp_hooks.operations import Operation, PublishOperation, SyncOperation
from pulp_hooks.testing import Recorder


def sync_of(hooks: Hooks) -> SyncOperation:
    """Return a sync."""
    return hooks.sync("zoo", importer_id="i", importer_type_id="t")


def publish_of(hooks: Hooks) -> PublishOperation:
    """Return a publish."""
    return hooks.publish("zoo", distributor_id="d", distributor_type_id="t")


both_kinds = pytest.mark.parametrize("operation_of", [sync_of, publish_of], ids=["sync", "publish"])
Kind = Callable[[Hooks], Operation]


def enforce_foreign_keys(connection: Any, _: object) -> None:  # noqa: ANN401 - of any driver
    """Make SQLite check deferred constraints, as PostgreSQL does."""
    cursor = connection.cursor()
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.close()


class Server:
    """A host with its own tables beside the journal.

    Attributes:
        url: URL of the database.
        hooks: Hooks with a journal there.
        engine: The host's own engine.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.hooks = Hooks({"Listener": Recorder()}, journal=url)
        self.engine = create_engine(url)
        if url.startswith("sqlite"):
            event.listen(self.engine, "connect", enforce_foreign_keys)
        with self.engine.begin() as connection:
            connection.exec_driver_sql("CREATE TABLE repository (name VARCHAR(20) PRIMARY KEY)")
            connection.exec_driver_sql(
                "CREATE TABLE unit (repository VARCHAR(20) REFERENCES repository DEFERRABLE INITIALLY DEFERRED)"
            )

    @asynccontextmanager
    async def async_engine(self) -> AsyncIterator[AsyncEngine]:
        """Open an asynchronous engine of the same database."""
        engine = create_async_engine(self.url.replace("sqlite:", "sqlite+aiosqlite:"))
        if self.url.startswith("sqlite"):
            event.listen(engine.sync_engine, "connect", enforce_foreign_keys)
        try:
            yield engine
        finally:
            await engine.dispose()

    @property
    def works(self) -> int:
        """The number of repositories committed by the host."""
        with self.engine.connect() as connection:
            return int(connection.exec_driver_sql("SELECT count(*) FROM repository").scalar_one())

    def finished(self) -> dict[str, Any]:
        """Return the body of the only finished event in the journal, which has a delivery of both events."""
        with self.engine.connect() as connection:
            contents = connection.execute(select(schema.event.c.content).order_by(schema.event.c.id)).scalars().all()
            queued = connection.execute(select(schema.event.c.id).join(schema.delivery)).scalars().all()
        events = [Event.from_json(content) for content in contents]
        assert [one.type.hook_name.rpartition("_")[2] for one in events] == ["started", "finished"]
        assert events[0].operation_id == events[1].operation_id
        assert sorted(queued) == [one.id for one in events]
        return cast("dict[str, Any]", events[1].body)


@pytest.fixture
def server(url: str) -> Iterator[Server]:
    """Return a host with a journal in each of the two databases."""
    server = Server(url)
    yield server
    server.hooks.close()
    server.engine.dispose()


def work(connection: Connection) -> None:
    """Do the host's work."""
    connection.exec_driver_sql("INSERT INTO repository VALUES ('zoo')")


def breach(connection: Connection) -> None:
    """Do work whose commit fails."""
    connection.exec_driver_sql("INSERT INTO unit VALUES ('nobody')")


def interrupt(_: object) -> None:
    """Press Ctrl-C."""
    signal.raise_signal(signal.SIGINT)


def fail(_: object) -> None:
    """Raise an exception of the host."""
    raise LookupError("own")


def nothing(_: object) -> None:
    """Do nothing."""


ENDINGS = pytest.mark.parametrize(
    ("within", "after", "raised", "result", "works"),
    [
        pytest.param(nothing, nothing, None, "success", 1, id="commit"),
        pytest.param(fail, nothing, LookupError, "error", 0, id="exception"),
        pytest.param(breach, nothing, IntegrityError, "error", 0, id="failed commit"),
        pytest.param(interrupt, nothing, KeyboardInterrupt, "canceled", 0, id="Ctrl-C"),
        pytest.param(nothing, fail, LookupError, "success", 1, id="exception after the commit"),
        pytest.param(nothing, interrupt, KeyboardInterrupt, "success", 1, id="Ctrl-C after the commit"),
    ],
)


@ENDINGS
@both_kinds
def test_exactly_one_finished_is_stored_however_the_transaction_ends(  # noqa: PLR0913, PLR0917 - the facts of a case
    server: Server,
    operation_of: Kind,
    within: Callable[[Connection], None],
    after: Callable[[Connection], None],
    raised: type[BaseException] | None,
    result: str,
    works: int,
) -> None:
    """The event says whether the host's work was committed, and the exception leaves the block."""
    with nullcontext() if raised is None else pytest.raises(raised), operation_of(server.hooks) as operation:
        with server.engine.begin() as connection:
            work(connection)
            operation.succeed(connection=connection)
            within(connection)
        after(connection)
    assert (server.finished()["result"], server.works) == (result, works)


@ENDINGS
@both_kinds
def test_exactly_one_finished_is_stored_on_an_asynchronous_connection(  # noqa: PLR0913, PLR0917 - the facts of a case
    server: Server,
    operation_of: Kind,
    within: Callable[[Connection], None],
    after: Callable[[Connection], None],
    raised: type[BaseException] | None,
    result: str,
    works: int,
) -> None:
    """As in synchronous code, by `asucceed` in an `async with` block."""

    async def host() -> None:
        async with server.async_engine() as engine, operation_of(server.hooks) as operation:
            async with engine.begin() as connection:
                await connection.run_sync(work)
                await operation.asucceed(connection=connection)
                await connection.run_sync(within)
                await asyncio.sleep(0)
            after(connection)  # type: ignore[arg-type] # it is not looked at
            await asyncio.sleep(0)

    with nullcontext() if raised is None else pytest.raises(raised):
        asyncio.run(host())
    assert (server.finished()["result"], server.works) == (result, works)


@pytest.mark.parametrize("when", ["within", "after"])
def test_cancellation_of_the_task_stores_exactly_one_finished(when: str, server: Server) -> None:
    """The result is `canceled` if the work was rolled back, and `success` if it was committed before."""

    async def main() -> None:
        reached = asyncio.Event()

        async def host() -> None:
            async with server.async_engine() as engine, sync_of(server.hooks) as sync:
                async with engine.begin() as connection:
                    await connection.run_sync(work)
                    await sync.asucceed(connection=connection)
                    if when == "within":
                        reached.set()
                        await asyncio.Event().wait()
                reached.set()
                await asyncio.Event().wait()

        task = asyncio.create_task(host())
        await reached.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert (server.finished()["result"], server.works) == (("canceled", 0) if when == "within" else ("success", 1))


# The thread of aiosqlite may answer a canceled call after its event loop is closed.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("steps", range(12))
def test_cancellation_at_any_await_stores_exactly_one_finished(steps: int, server: Server) -> None:
    """The event says whether the work was committed, at whichever `await` the cancellation arrives."""

    async def host() -> None:
        async with server.async_engine() as engine, sync_of(server.hooks) as sync:
            entered.set()
            async with engine.begin() as connection:
                await connection.run_sync(work)
                await sync.asucceed(connection=connection)
            await asyncio.Event().wait()

    async def main() -> None:
        task = asyncio.create_task(host())
        await entered.wait()
        for _ in range(steps * steps):
            await asyncio.sleep(0)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    entered = asyncio.Event()
    asyncio.run(main())
    assert (server.finished()["result"], server.works) in {("canceled", 0), ("success", 1)}


def test_ctrl_c_at_any_line_stores_exactly_one_finished(server: Server) -> None:
    """Ctrl-C is tried at each line of this package, from the call of `succeed` to the end of the transaction."""

    def lines(at: int) -> int:
        """Run a host interrupted at a line of this package, and return the number of lines."""
        count = 0

        def trace(frame: FrameType, what: str, _: object) -> Any:  # noqa: ANN401 - as Python has it
            nonlocal count
            if "/pulp_hooks/" not in frame.f_code.co_filename:
                return None
            if what == "line":
                count += 1
                if count == at:
                    sys.settrace(None)
                    raise KeyboardInterrupt
            return trace

        with suppress(KeyboardInterrupt), sync_of(server.hooks) as sync:
            try:
                with server.engine.begin() as connection:
                    work(connection)
                    sys.settrace(trace)
                    sync.succeed(connection=connection)
            finally:
                sys.settrace(None)
        return count

    tracing = sys.gettrace()
    at, step = 1, 2 if server.url.startswith("sqlite") else 11
    try:
        while lines(at) >= at:
            assert (server.finished()["result"], server.works) == ("canceled", 0), at
            with server.engine.begin() as connection:
                for statement in ("DELETE FROM repository", delete(schema.delivery), delete(schema.event)):
                    connection.execute(text(statement) if isinstance(statement, str) else statement)
            at += step
    finally:
        sys.settrace(tracing)
    assert (at > 50, server.finished()["result"], server.works) == (True, "success", 1)


def test_failed_commit_on_a_connection_that_stays_open_is_rolled_back(server: Server) -> None:
    """SQLite keeps such a transaction and its lock, which would block the event."""

    def host(connection: Connection) -> None:
        with sync_of(server.hooks) as sync, connection.begin():
            work(connection)
            sync.succeed(connection=connection)
            breach(connection)

    with server.engine.connect() as connection:
        with pytest.raises(IntegrityError):
            host(connection)
        assert server.finished()["result"] == "error"
    assert server.works == 0


def test_failed_commit_on_an_asynchronous_connection_that_stays_open_is_rolled_back(server: Server) -> None:
    """As in synchronous code."""

    async def host(connection: AsyncConnection) -> None:
        async with sync_of(server.hooks) as sync, connection.begin():
            await connection.run_sync(work)
            await sync.asucceed(connection=connection)
            await connection.run_sync(breach)

    async def main() -> None:
        async with server.async_engine() as engine, engine.connect() as connection:
            with pytest.raises(IntegrityError):
                await host(connection)
            assert server.finished()["result"] == "error"

    asyncio.run(main())
    assert server.works == 0


@pytest.mark.parametrize("own", [None, LookupError("own")], ids=["end", "exception"])
def test_transaction_that_is_still_open_at_the_end_of_the_block_is_rolled_back(
    own: Exception | None, server: Server
) -> None:
    """The transaction could end after the last event; without an exception, an error is raised."""

    def host() -> None:
        with server.engine.begin() as connection, sync_of(server.hooks) as sync:
            work(connection)
            sync.succeed(connection=connection)
            if own:
                raise own

    with pytest.raises(LookupError if own else ClosedError) as raised:
        host()
    assert own or "fix: begin and commit it inside the block" in str(raised.value)
    body = server.finished()
    assert (body["result"], body["exception"], server.works) == ("error", repr(raised.value), 0)


@pytest.mark.parametrize("own", [None, LookupError("own")], ids=["end", "exception"])
def test_asynchronous_transaction_that_is_still_open_is_rolled_back_too(own: Exception | None, server: Server) -> None:
    """As in synchronous code."""

    async def host() -> None:
        async with server.async_engine() as engine, engine.begin() as connection, sync_of(server.hooks) as sync:
            await connection.run_sync(work)
            await sync.asucceed(connection=connection)
            if own:
                raise own

    with pytest.raises(LookupError if own else ClosedError):
        asyncio.run(host())
    assert (server.finished()["result"], server.works) == ("error", 0)


def test_later_transaction_of_the_connection_is_left_alone(server: Server) -> None:
    """A host may read afterwards and keep that transaction open."""
    with server.engine.connect() as connection:
        with sync_of(server.hooks) as sync:
            with connection.begin():
                work(connection)
                sync.succeed(connection=connection)
            count = connection.exec_driver_sql("SELECT count(*) FROM repository").scalar()
        assert (count, connection.in_transaction()) == (1, True)
    assert server.finished()["result"] == "success"


@pytest.mark.parametrize("message", [None, "the database is busy"])
def test_rollback_without_an_exception_is_a_failure(message: str | None, server: Server) -> None:
    """Without an exception, the work is rolled back, and the host may set the reason."""
    with sync_of(server.hooks) as sync, server.engine.connect() as connection:
        work(connection)
        sync.succeed(connection=connection)
        connection.rollback()
        if message:
            sync.fail(message)
    body = server.finished()
    expected = message or "the transaction of succeed() was not committed"
    assert (body["result"], body["error_message"], server.works) == ("failed", expected, 0)


def test_savepoint_that_is_rolled_back_takes_the_event_with_it(server: Server) -> None:
    """The rest of the transaction is committed, and `finished` says that the work was not."""
    with sync_of(server.hooks) as sync, server.engine.begin() as connection:
        savepoint = connection.begin_nested()
        work(connection)
        sync.succeed(connection=connection)
        savepoint.rollback()
    assert (server.finished()["result"], server.works) == ("failed", 0)


@pytest.mark.parametrize("error", [LookupError, IntegrityError], ids=["exception", "failed commit"])
def test_host_may_retry_in_another_transaction(error: type[Exception], server: Server) -> None:
    """A host may retry after a conflict with another transaction."""
    with sync_of(server.hooks) as sync:
        for spoil in (fail if error is LookupError else breach, nothing):
            with suppress(error), server.engine.begin() as connection:
                work(connection)
                sync.succeed(connection=connection)
                spoil(connection)
    assert (server.finished()["result"], server.works) == ("success", 1)


def test_second_call_after_the_commit_changes_nothing(server: Server) -> None:
    """The journal stores an event only once."""
    with sync_of(server.hooks) as sync:
        for number in (1, 2):
            with server.engine.begin() as connection:
                sync.added_count = number
                sync.succeed(connection=connection)
    assert server.finished()["added_count"] == 1


def test_event_in_the_transaction_has_what_the_host_has_set(server: Server) -> None:
    """The event has counts, reports, times and identifiers of the operation, as at the end of a block."""
    with sync_of(server.hooks) as sync, server.engine.begin() as connection:
        sync.added_count, sync.summary, sync.call_report = 3, {"packages": 3}, {"task_id": "7d1f"}
        sync.succeed(connection=connection)
    body = server.finished()
    assert (body["added_count"], body["summary"], body["error_message"]) == (3, {"packages": 3}, None)
    with server.engine.connect() as connection:
        contents = connection.execute(select(schema.event.c.content)).scalars().all()
    (content,) = [json.loads(content) for content in contents if b"finished" in content]
    assert (content["operation_id"], content["call_report"]) == (sync.id, {"task_id": "7d1f"})


def test_skip_before_succeed_is_the_result(server: Server) -> None:
    """A skipped publish is committed as skipped."""
    with publish_of(server.hooks) as publish, server.engine.begin() as connection:
        publish.skip("nothing new")
        publish.succeed(connection=connection)
    body = server.finished()
    assert (body["result"], body["summary"]) == ("skipped", {"skipped": "nothing new"})


def test_fail_before_succeed_is_the_result(server: Server) -> None:
    """A host may commit the work of a failed operation."""
    with sync_of(server.hooks) as sync, server.engine.begin() as connection:
        sync.fail("half of it")
        sync.succeed(connection=connection)
    assert server.finished()["result"] == "failed"


def test_invalid_count_is_raised_in_the_transaction(server: Server) -> None:
    """The work is not committed with an event that contradicts it."""

    def host() -> None:
        with sync_of(server.hooks) as sync, server.engine.begin() as connection:
            work(connection)
            sync.added_count = -1
            sync.succeed(connection=connection)

    with pytest.raises(BodyError, match="added_count"):
        host()
    assert (server.finished()["result"], server.works) == ("error", 0)


def test_invalid_count_after_the_commit_is_raised_and_not_stored(server: Server) -> None:
    """The success was already committed."""

    def host() -> None:
        with sync_of(server.hooks) as sync:
            with server.engine.begin() as connection:
                sync.succeed(connection=connection)
            sync.added_count = -1

    with pytest.raises(BodyError, match="added_count"):
        host()
    assert server.finished()["result"] == "success"


@pytest.mark.parametrize("other", [object(), None, "postgresql://h/d"], ids=["object", "None", "text"])
def test_what_is_not_a_connection_is_refused_with_a_remedy(other: Any, server: Server) -> None:  # noqa: ANN401 - wrong on purpose
    """The block ends with an error, and the message says how to get a connection."""
    with pytest.raises(JournalError, match="connection must be an SQLAlchemy"), sync_of(server.hooks) as sync:
        sync.succeed(connection=other)
    assert server.finished()["result"] == "error"


def test_engine_is_refused_in_a_coroutine_with_a_remedy(server: Server) -> None:
    """`afire` needs a connection."""

    async def main() -> None:
        async with server.async_engine() as engine:
            await server.hooks.afire("repo-sync-started", {"repo_id": "zoo"}, connection=engine)  # type: ignore[arg-type]

    with pytest.raises(JournalError, match=r"AsyncConnection, not AsyncEngine; fix: .*engine\.begin"):
        asyncio.run(main())


def test_plain_connection_of_a_session_is_taken(server: Server) -> None:
    """A host with an ORM passes the connection of its session."""
    with sync_of(server.hooks) as sync, Session(server.engine) as session, session.begin():
        work(session.connection())
        sync.succeed(connection=session.connection())
    assert (server.finished()["result"], server.works) == ("success", 1)


def test_asynchronous_connection_of_a_session_is_taken(server: Server) -> None:
    """As in synchronous code."""

    async def host() -> None:
        async with server.async_engine() as engine, sync_of(server.hooks) as sync, AsyncSession(engine) as session:
            connection = await session.connection()
            await connection.run_sync(work)
            await sync.asucceed(connection=connection)
            await session.commit()

    asyncio.run(host())
    assert (server.finished()["result"], server.works) == ("success", 1)


@pytest.mark.parametrize("ending", ["commit", "rollback"])
def test_event_fired_by_a_coroutine_is_part_of_the_transaction(ending: str, server: Server) -> None:
    """`afire` stores the event on the host's own connection."""

    async def host() -> None:
        async with server.async_engine() as engine, engine.connect() as connection:
            await connection.run_sync(work)
            report = await server.hooks.afire("repo-sync-started", {"repo_id": "zoo"}, connection=connection)
            assert report.event.body == {"repo_id": "zoo"}
            await getattr(connection, ending)()

    server.hooks.fire("repo-sync-started", {"repo_id": "zoo"})
    asyncio.run(host())
    with server.engine.connect() as connection:
        stored = len(connection.execute(select(schema.event.c.id)).all())
    assert (stored, server.works) == ((2, 1) if ending == "commit" else (1, 0))


def test_without_a_journal_it_is_refused() -> None:
    """Without a journal, the event could not be committed with the host's work."""
    listener = Recorder()
    hooks, engine = Hooks([listener]), create_engine("sqlite://")
    connection = engine.connect()
    with pytest.raises(JournalError, match="there is no journal"), sync_of(hooks) as sync:
        sync.succeed(connection=connection)
    connection.close()
    listener.assert_fired("repo-sync-finished", repo_id="zoo")
    engine.dispose()


@pytest.mark.parametrize("name", ["succeed", "asucceed"])
def test_operation_that_has_not_begun_cannot_succeed(name: str, server: Server) -> None:
    """`started` must come first."""
    sync = sync_of(server.hooks)

    def host(connection: Connection) -> None:
        result = getattr(sync, name)(connection=connection)
        asyncio.run(cast("Coroutine[Any, Any, None]", result))

    with server.engine.connect() as connection, pytest.raises(ClosedError, match="outside of its block"):
        host(connection)


def test_event_that_may_be_committed_is_not_dispatched_directly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the journal fails at the end of the block, the event may be stored, and the host gets its id."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pulp-hooks.toml").write_text(
        "[journal]\nurl = 'sqlite:///journal.db'\non_error = 'dispatch'\nbusy_seconds = 0.1\n"
        "[plugins]\nblock = ['console']\n"
    )
    listener, engine = Recorder(), create_engine("sqlite:///journal.db")
    blocker = sqlite3.connect(tmp_path / "journal.db", isolation_level=None)

    def host() -> None:
        with sync_of(hooks) as sync:
            with engine.begin() as connection:
                sync.succeed(connection=connection)
            blocker.execute("BEGIN IMMEDIATE")

    with Hooks.discover(listeners={"Listener": listener}) as hooks:
        with pytest.raises(JournalError, match="lock") as raised:
            host()
        blocker.close()
        with engine.connect() as connection:
            ids = connection.execute(select(schema.event.c.id)).scalars().all()
    engine.dispose()
    assert listener.events == []
    assert raised.value.event_id in ids


def test_finished_of_an_operation_without_succeed_is_dispatched_directly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of it can be stored already."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "journal.db").write_bytes(b"this is no database" * 100)
    (tmp_path / "pulp-hooks.toml").write_text(
        "[journal]\nurl = 'sqlite:///journal.db'\non_error = 'dispatch'\n[plugins]\nblock = ['console']\n"
    )
    listener = Recorder()
    with Hooks.discover(listeners={"Listener": listener}) as hooks, sync_of(hooks):
        pass
    listener.assert_fired("repo-sync-finished", repo_id="zoo")


# Identifiers of operations.


def test_events_of_an_operation_have_its_id_and_its_cause() -> None:
    """The id pairs started with finished, and names the sync that caused a publish."""
    recorder = Recorder()
    hooks = Hooks([recorder])
    with sync_of(hooks) as sync:
        pass
    with hooks.publish("zoo", distributor_id="d", distributor_type_id="t", caused_by=sync) as publish:
        pass
    with hooks.publish("zoo", distributor_id="d", distributor_type_id="t", caused_by="task:7d1f") as another:
        pass
    assert [(one.operation_id, one.caused_by) for one in recorder.events] == [
        *[(sync.id, None)] * 2,
        *[(publish.id, sync.id)] * 2,
        *[(another.id, "task:7d1f")] * 2,
    ]
    assert len({sync.id, publish.id, another.id}) == 3


def test_events_of_an_operation_in_a_coroutine_have_its_id_too() -> None:
    """As in synchronous code."""
    recorder = Recorder()
    hooks = Hooks([recorder])

    async def host() -> str:
        async with hooks.sync("zoo", importer_id="i", importer_type_id="t", caused_by="cron") as sync:
            return sync.id

    operation_id = asyncio.run(host())
    assert [(one.operation_id, one.caused_by) for one in recorder.events] == [(operation_id, "cron")] * 2


def test_fire_accepts_the_id_of_an_operation() -> None:
    """`fire`, `afire` and the typed methods accept the id of an operation."""
    recorder = Recorder()
    hooks = Hooks([recorder])
    hooks.fire("repo-sync-started", {"repo_id": "zoo"}, operation_id="a", caused_by="b")
    asyncio.run(hooks.afire("repo-sync-started", {"repo_id": "zoo"}, operation_id="a", caused_by="b"))
    hooks.repo_sync_started(repo_id="zoo", operation_id="a", caused_by="b")
    assert [(one.operation_id, one.caused_by) for one in recorder.events] == [("a", "b")] * 3


@pytest.mark.parametrize("name", ["operation_id", "caused_by"])
@pytest.mark.parametrize("value", ["", "a b", "a/b", "ä", "a" * 129, 7, ["a"]], ids=repr)
def test_invalid_identifier_of_an_operation_is_refused(name: str, value: Any) -> None:  # noqa: ANN401 - wrong on purpose
    """Identifiers must fit into headers, keys and paths."""
    recorder = Recorder()
    hooks = Hooks([recorder])
    with pytest.raises(EventError, match=f"invalid {name} "):
        hooks.fire("repo-sync-started", {"repo_id": "zoo"}, **{name: value})
    if name == "caused_by":
        with pytest.raises(EventError, match="invalid caused_by "):
            hooks.publish("zoo", distributor_id="d", distributor_type_id="t", caused_by=value).__enter__()
    assert recorder.events == []


def test_id_of_an_operation_cannot_be_set() -> None:
    """Changing it would break the pair of started and finished."""
    with pytest.raises(AttributeError):
        setattr(sync_of(Hooks()), "id", "another")  # noqa: B010 - as an attribute a type checker refuses it
