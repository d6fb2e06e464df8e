"""Operations of a host, a sync or a publish, as `with` blocks that fire `started` and `finished`."""

import asyncio
import sys
import time
from collections.abc import Coroutine, Mapping
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self

from pulp_hooks.bodies.reported import reported_value
from pulp_hooks.bodies.serializer import reported_object
from pulp_hooks.dispatch.copies import TrackedId
from pulp_hooks.dispatch.outcomes import Report
from pulp_hooks.errors import ClosedError, JournalError
from pulp_hooks.event_loops import is_loop_running
from pulp_hooks.event_types import EventType
from pulp_hooks.host_transaction import HostTransaction
from pulp_hooks.identifiers import new_id
from pulp_hooks.safe_logger import safe_logger
from pulp_hooks.signals import interruption_in, is_interruption, raised_by_signal_handler
from pulp_hooks.text import one_line, text_of, type_name
from pulp_hooks.tracebacks import frames_of

if TYPE_CHECKING:
    from sqlalchemy import Connection
    from sqlalchemy.ext.asyncio import AsyncConnection

_log = safe_logger(__name__)

_MAX_TEXT = 8192
_MAX_FRAMES = 100


class _Hooks(Protocol):
    """What an operation needs of the host's hooks."""

    def fire(self, *args: Any, **options: Any) -> Report: ...  # noqa: ANN401 - as `Hooks.fire`

    async def afire(self, *args: Any, **options: Any) -> Report: ...  # noqa: ANN401 - as `Hooks.afire`

    def validate(self, *args: Any, **options: Any) -> None: ...  # noqa: ANN401 - as `Hooks.validate`


class Operation:
    """One sync or publish, from `started` to `finished`; used once, by `with` or `async with`.

    Attributes:
        summary: Summary of the importer or distributor; any value.
        details: Detailed report of the importer or distributor; any value.
        call_report: The task in which the operation happens, or null.
    """

    # A misspelt attribute is an error, and not a count that nobody reports.
    __slots__ = (
        *("_begun", "_caused_by", "_event_id", "_failure", "_hooks", "_id"),
        *("_ids", "_is_over", "_is_stored", "_may_be_stored", "_skipped", "_transaction"),
        *("call_report", "details", "summary"),
    )

    _started_type: ClassVar[EventType]
    _started_fields: ClassVar[tuple[str, ...]]
    _finished_type: ClassVar[EventType]
    _counts: ClassVar[tuple[str, ...]] = ()

    def __init__(
        self,
        hooks: _Hooks,
        ids: Mapping[str, str],
        call_report: Mapping[str, Any] | None,
        caused_by: "Operation | str | None",
    ) -> None:
        self.call_report = call_report
        self.summary: Any = {}
        self.details: Any = None
        self._hooks = hooks
        self._ids = ids
        self._id = new_id()
        self._caused_by = caused_by.id if isinstance(caused_by, Operation) else caused_by
        self._failure: str | None = None
        self._skipped: str | None = None
        self._begun: tuple[datetime, float] | None = None
        # The id of `finished`; whether `succeed` has fired it, in which transaction, and whether it was stored there.
        self._event_id: str | None = None
        self._may_be_stored = False
        self._transaction: HostTransaction | None = None
        self._is_stored = False
        self._is_over = False
        for name in self._counts:
            setattr(self, name, 0)

    @property
    def id(self) -> str:
        """The `operation_id` of its events, which identifies the operation."""
        return self._id

    def fail(self, message: str) -> None:
        """Mark the operation as failed where no exception does; the block continues."""
        self._failure = text_of(message, fallback=type_name(message))

    def succeed(self, *, connection: "Connection") -> None:
        """Fire `finished` in the host's transaction, to be committed with the host's work or not at all.

        Call it last in the transaction, and end the transaction inside the block. The result is `success`, or what
        `fail` or `skip` has marked. If the transaction is not committed, the end of the block fires `finished`: with
        `error` or `canceled` for an exception, otherwise `failed`. Exactly one of the two is stored. You may call this
        again in another transaction, after a rollback.

        Args:
            connection: SQLAlchemy connection to the database of the journal.

        Raises:
            BodyError: A count is invalid; nothing was fired.
            EventError: `call_report` is neither an object nor null; nothing was fired.
            JournalError: The journal could not take the event, or there is no journal.
            ClosedError: The block was not entered, or `close` was called.
        """
        body = self._body_of_success(connection)
        try:
            options = {"event_id": self._event_id, **self._options(self.call_report)}
            self._hooks.fire(self._finished_type, body, **options, connection=connection)
            self._is_stored = True
        finally:
            self._transaction = HostTransaction(connection)

    async def asucceed(self, *, connection: "AsyncConnection") -> None:
        """Do what `succeed` does in an `async with` block, with an SQLAlchemy `AsyncConnection`."""
        body = self._body_of_success(connection)
        try:
            options = {"event_id": self._event_id, **self._options(self.call_report)}
            await self._hooks.afire(self._finished_type, body, **options, connection=connection)
            self._is_stored = True
        finally:
            self._transaction = HostTransaction(connection)

    def __enter__(self) -> Self:
        """Fire `started`."""
        self._begin()
        try:
            self._hooks.fire(self._started_type, self._started_body(), **self._options(self.call_report))
        except BaseException as error:
            if is_interruption(error):
                self.__exit__(None, error, error.__traceback__)
            raise
        return self

    def __exit__(self, _: object, error: BaseException | None, trace: TracebackType | None) -> None:
        """Fire `finished` on every way out; an exception of the block propagates."""
        self._is_over = True
        handled = sys.exc_info()[1]
        fault: BaseException | None = None
        for is_last in (False, True):
            event_id: TrackedId | None = None
            try:
                self._event_id = self._event_id or new_id()
                event_id = TrackedId(self._event_id, may_be_stored=self._may_be_stored or is_last)
                transaction = self._left_over(error)
                try:
                    is_left_open = transaction is not None and transaction.roll_back()
                    fault = _left_open() if is_left_open and fault is None else fault
                except BaseException as wrong:  # noqa: BLE001 - raised when `finished` was fired
                    fault = interruption_in(wrong, handled) or wrong
                body, options, fault = self._finish(error, trace, fault)
                self._hooks.fire(self._finished_type, body, event_id=event_id, **options)
            except BaseException as lost:  # noqa: BLE001 - raised again where the block has no exception of its own
                if not is_last and _is_to_be_fired_again(lost, event_id):
                    fault = lost
                    continue
                self._lost(lost, fault if error is None else error)
            break
        if fault is not None and (error is None or raised_by_signal_handler(fault)):
            raise fault

    async def __aenter__(self) -> Self:
        """Fire `started` and await its listeners."""
        self._begin()
        try:
            await self._hooks.afire(self._started_type, self._started_body(), **self._options(self.call_report))
        except BaseException as error:
            if is_interruption(error) or issubclass(type(error), asyncio.CancelledError):
                await self.__aexit__(None, error, error.__traceback__)
            raise
        return self

    async def __aexit__(self, _: object, error: BaseException | None, trace: TracebackType | None) -> None:
        """Fire `finished` and await its listeners on every way out; an exception of the block propagates."""
        if not is_loop_running():
            # A coroutine that is closed after its loop: nothing can be awaited, but `finished` can be fired.
            self.__exit__(None, error, trace)
            return
        canceled = await _to_its_end(self._afinish(error, trace))
        if canceled is not None and error is None:
            raise canceled

    async def _afinish(self, error: BaseException | None, trace: TracebackType | None) -> None:
        self._is_over = True
        handled = sys.exc_info()[1]
        fault: BaseException | None = None
        for is_last in (False, True):
            event_id: TrackedId | None = None
            try:
                self._event_id = self._event_id or new_id()
                event_id = TrackedId(self._event_id, may_be_stored=self._may_be_stored or is_last)
                transaction = self._left_over(error)
                try:
                    is_left_open = transaction is not None and await transaction.aroll_back()
                    fault = _left_open() if is_left_open and fault is None else fault
                except BaseException as wrong:  # noqa: BLE001 - raised when `finished` was fired
                    fault = interruption_in(wrong, handled) or wrong
                body, options, fault = self._finish(error, trace, fault)
                await self._hooks.afire(self._finished_type, body, event_id=event_id, **options)
            except BaseException as lost:  # noqa: BLE001 - raised again where the block has no exception of its own
                if not is_last and _is_to_be_fired_again(lost, event_id):
                    fault = lost
                    continue
                self._lost(lost, fault if error is None else error)
            break
        if fault is not None and (error is None or raised_by_signal_handler(fault)):
            raise fault

    def _begin(self) -> None:
        if self._begun:
            raise ClosedError(
                f"this {type(self).__name__} was used already; fix: make another one for the next operation"
            )
        # Invalid identifiers of `finished` are reported before anything is done, not when it is too late.
        self._hooks.validate(self._finished_type, self._ids, partial=True)
        self._begun = (datetime.now(UTC), time.monotonic())

    def _started_body(self) -> dict[str, str]:
        return {name: self._ids[name] for name in self._started_fields}

    def _options(self, call_report: Mapping[str, Any] | None) -> dict[str, Any]:
        return {"call_report": call_report, "operation_id": self._id, "caused_by": self._caused_by}

    def _times(self) -> dict[str, datetime]:
        started, clock = self._begun or (datetime.now(UTC), time.monotonic())
        # By the steady clock: the other one may have been set in the meantime.
        return {"started": started, "completed": started + timedelta(seconds=time.monotonic() - clock)}

    def _body(self, error: BaseException | None, trace: TracebackType | None) -> dict[str, Any]:
        reported = {"summary": self.summary, "details": self.details, **self._reported()}
        return {**self._ids, **self._times(), **reported, **self._ending(error, trace)}

    def _bare_body(self) -> dict[str, Any]:
        return {**self._ids, **self._times(), **self._unreported()}

    def _body_of_success(self, connection: object) -> dict[str, Any]:
        """Return the body for `succeed`."""
        if connection is None:
            raise JournalError("connection must be an SQLAlchemy connection, not None; fix: pass your transaction's")
        if not self._begun or self._is_over:
            raise ClosedError(
                f"succeed() of this {type(self).__name__} was called outside of its block; fix: call it inside"
            )
        self._event_id = self._event_id or new_id()
        self._may_be_stored = True
        self._is_stored = False
        return self._body(None, None)

    def _left_over(self, error: BaseException | None) -> HostTransaction | None:
        """Return the transaction that must have ended by the end of the block.

        The event that follows would wait for it, and a transaction that is committed later would add a second event.
        """
        return self._transaction if error is not None or self._is_stored else None

    def _finish(
        self, error: BaseException | None, trace: TracebackType | None, fault: BaseException | None
    ) -> tuple[dict[str, Any], dict[str, Any], BaseException | None]:
        """Return the body and the options of `finished`, and the exception for an invalid value that the host has set.

        There is always a body: each step needs less than the one before.
        """
        call_report: Mapping[str, Any] | None = None
        body: dict[str, Any] = {}

        def with_report() -> dict[str, Any]:
            return self._body(fault if error is None else error, trace)

        def without_report() -> dict[str, Any]:
            return self._bare_body() | self._ending(fault if error is None else error, None, short=True)

        def bare() -> dict[str, Any]:
            return self._bare_body() | _ended("error", type_name(fault if error is None else error))

        try:
            call_report = reported_object(self.call_report)
        except BaseException as wrong:  # noqa: BLE001 - raised when `finished` was fired
            fault = wrong
        for step in (with_report, without_report, bare):
            try:
                body = step()
                self._hooks.validate(self._finished_type, body)
                break
            except BaseException as wrong:  # noqa: BLE001 - raised when `finished` was fired
                fault = wrong if fault is None or is_interruption(wrong) else fault
        return body, self._options(call_report), fault

    def _ending(
        self, error: BaseException | None, trace: TracebackType | None, *, short: bool = False
    ) -> dict[str, Any]:
        if error is None:
            message = _ROLLED_BACK if self._failure is None and self._is_stored else self._failure
            result = "success" if self._skipped is None else "skipped"
            return _ended(result) if message is None else _ended("failed", message)
        if issubclass(type(error), KeyboardInterrupt | asyncio.CancelledError):
            return _ended("canceled", f"canceled by {type_name(error)}")
        return _broken_off(error, trace, short=short)

    def _reported(self) -> dict[str, Any]:
        """Return the fields that only this kind of operation has."""
        return {name: getattr(self, name) for name in self._counts}

    def _unreported(self) -> dict[str, Any]:
        """Return the report that replaces invalid values of the host."""
        return {"summary": {}, "details": None} | dict.fromkeys(self._counts)

    def _lost(self, lost: BaseException, error: BaseException | None) -> None:
        if error is None or raised_by_signal_handler(lost):
            raise lost
        _log.error("%s could not be fired: %s", self._finished_type, one_line(lost))


_ROLLED_BACK = "the transaction of succeed() was not committed"


class SyncOperation(Operation):
    """A sync of one repository.

    Attributes:
        added_count: Units that the sync added.
        updated_count: Units that it changed.
        removed_count: Units that it removed.
    """

    __slots__ = ("added_count", "removed_count", "updated_count")

    _started_type = EventType.REPO_SYNC_STARTED
    _started_fields = ("repo_id",)
    _finished_type = EventType.REPO_SYNC_FINISHED

    _counts = ("added_count", "updated_count", "removed_count")

    added_count: int | None
    updated_count: int | None
    removed_count: int | None


class PublishOperation(Operation):
    """A publish of one repository by one distributor."""

    __slots__ = ()

    _started_type = EventType.REPO_PUBLISH_STARTED
    _started_fields = ("repo_id", "distributor_id")
    _finished_type = EventType.REPO_PUBLISH_FINISHED

    def skip(self, reason: str) -> None:
        """Mark the publish as skipped; the reason is `skipped` in the summary."""
        self._skipped = text_of(reason, fallback=type_name(reason))

    def _reported(self) -> dict[str, Any]:
        if self._skipped is None:
            return {}
        summary = reported_value(self.summary)
        return {
            "summary": {**(summary if isinstance(summary, dict) else {"summary": summary}), "skipped": self._skipped}
        }


def _left_open() -> ClosedError:
    return ClosedError(
        "the transaction of succeed() was still open at the end of the block, and was rolled back; "
        "fix: begin and commit it inside the block"
    )


def _ended(result: str, message: str | None = None) -> dict[str, Any]:
    text = None if message is None else message[:_MAX_TEXT]
    return {"result": result, "error_message": text, "exception": None, "traceback": None}


def _broken_off(error: BaseException, trace: TracebackType | None, *, short: bool = False) -> dict[str, Any]:
    """Report an exception as Pulp 2 did: its `repr`, its message, and the frames as a list of strings."""
    limit = 200 if short else _MAX_TEXT
    return {
        "result": "error",
        "error_message": text_of(error, fallback=type_name(error))[:limit],
        "exception": text_of(error, repr, fallback=type_name(error))[:limit],
        "traceback": None if short else frames_of(trace, _MAX_FRAMES, _MAX_TEXT),
    }


def _is_to_be_fired_again(lost: BaseException, event_id: TrackedId | None) -> bool:
    """Return whether `finished` was broken off by an interruption before any listener was called.

    A journal stores an event of one id once. Where listeners are called directly, none of them is called twice.
    """
    return is_interruption(lost) and not (event_id and event_id.has_reached_listeners)


async def _to_its_end(work: Coroutine[Any, Any, None]) -> asyncio.CancelledError | None:
    """Await a coroutine whose caller may be canceled meanwhile, and return the cancellation."""

    async def carried() -> BaseException | None:
        try:
            await work
        except BaseException as error:  # noqa: BLE001 - raised below: out of a task of its own it could break the loop
            return error
        return None

    task = asyncio.ensure_future(carried())
    canceled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as cancellation:
            canceled = cancellation
    error = task.result()
    if error is not None:
        raise error
    return canceled
