"""Operations of a host, a sync or a publish, as `with` blocks that fire `started` and `finished`."""

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Mapping
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Any, ClassVar, Protocol, Self

from pulp_hooks.bodies.reported import reported_value
from pulp_hooks.bodies.serializer import reported_object
from pulp_hooks.dispatch.outcomes import Report
from pulp_hooks.errors import ClosedError
from pulp_hooks.event_loops import is_loop_running
from pulp_hooks.event_types import EventType
from pulp_hooks.safe_logger import safe_logger
from pulp_hooks.signals import raised_by_signal_handler
from pulp_hooks.text import one_line, text_of, type_name
from pulp_hooks.tracebacks import frames_of

_log = safe_logger(__name__)

_MAX_TEXT = 8192
_MAX_FRAMES = 100


class Firing(Protocol):
    """What an operation needs of the host's hooks."""

    def fire(self, event_type: EventType, body: Mapping[str, Any], *, call_report: Mapping[str, Any] | None) -> Report:
        """Fire an event."""
        ...

    def afire(
        self, event_type: EventType, body: Mapping[str, Any], *, call_report: Mapping[str, Any] | None
    ) -> Awaitable[Report]:
        """Fire an event from a coroutine."""
        ...

    def validate(self, event_type: EventType, body: Mapping[str, Any], *, partial: bool = False) -> None:
        """Raise `BodyError` for a body that `fire` would refuse."""
        ...


class Operation(ABC):
    """One sync or publish, from `started` to `finished`; used once, by `with` or `async with`.

    Attributes:
        summary: What the importer or distributor sums up; any value.
        details: What it reports in detail; any value.
        call_report: The task in which it happens, or null.
    """

    # A misspelt attribute is an error, and not a count that nobody reports.
    __slots__ = ("_begun", "_failure", "_hooks", "_ids", "_started_body", "call_report", "details", "summary")

    _started_type: ClassVar[EventType]
    _finished_type: ClassVar[EventType]

    def __init__(
        self, hooks: Firing, started: Mapping[str, str], ids: Mapping[str, str], call_report: Mapping[str, Any] | None
    ) -> None:
        self.call_report = call_report
        self.summary: Any = {}
        self.details: Any = None
        self._hooks = hooks
        self._started_body = started
        self._ids = ids
        self._failure: str | None = None
        self._begun: tuple[datetime, float] | None = None

    def fail(self, message: str) -> None:
        """Mark the operation as failed where no exception does it; the block goes on."""
        self._failure = text_of(message, fallback=type_name(message))

    def __enter__(self) -> Self:
        """Fire `started`."""
        self._begin()
        try:
            self._hooks.fire(self._started_type, self._started_body, call_report=self.call_report)
        except BaseException as error:
            if _is_interruption(error):
                self.__exit__(None, error, error.__traceback__)
            raise
        return self

    def __exit__(self, _: object, error: BaseException | None, trace: TracebackType | None) -> None:
        """Fire `finished`, whatever the way out; an exception of the block goes on."""
        body, call_report, fault = self._finish(error, trace)
        try:
            self._hooks.fire(self._finished_type, body, call_report=call_report)
        except BaseException as lost:  # noqa: BLE001 - raised again where the block has no exception of its own
            self._lost(lost, fault if error is None else error)
        if fault is not None and (error is None or raised_by_signal_handler(fault)):
            raise fault

    async def __aenter__(self) -> Self:
        """Fire `started` and await its listeners."""
        self._begin()
        try:
            await self._hooks.afire(self._started_type, self._started_body, call_report=self.call_report)
        except BaseException as error:
            if _is_interruption(error) or issubclass(type(error), asyncio.CancelledError):
                await self.__aexit__(None, error, error.__traceback__)
            raise
        return self

    async def __aexit__(self, _: object, error: BaseException | None, trace: TracebackType | None) -> None:
        """Fire `finished` and await its listeners, whatever the way out; an exception of the block goes on."""
        if not is_loop_running():
            # A coroutine that is closed after its loop: nothing can be awaited, but `finished` can be fired.
            self.__exit__(None, error, trace)
            return
        body, call_report, fault = self._finish(error, trace)
        try:
            await _to_its_end(
                self._hooks.afire(self._finished_type, body, call_report=call_report),
                raises=error is None and fault is None,
            )
        except BaseException as lost:  # noqa: BLE001 - raised again where the block has no exception of its own
            self._lost(lost, fault if error is None else error)
        if fault is not None and (error is None or raised_by_signal_handler(fault)):
            raise fault

    def _begin(self) -> None:
        if self._begun:
            raise ClosedError(f"this {type(self).__name__} was used already; make another one for the next operation")
        # What is wrong with the identifiers of `finished` is said before anything is done, not when it is too late.
        self._hooks.validate(self._finished_type, self._ids, partial=True)
        self._begun = (datetime.now(UTC), time.monotonic())

    def _finish(
        self, error: BaseException | None, trace: TracebackType | None
    ) -> tuple[dict[str, Any], Mapping[str, Any] | None, BaseException | None]:
        """Return the body and call report of `finished`, and what is wrong with what the host set on this operation.

        The body is made in steps, each of which needs less than the one before, so that there always is one.
        """
        call_report: Mapping[str, Any] | None = None
        fault: BaseException | None = None
        body: dict[str, Any] = {}

        def with_report() -> dict[str, Any]:
            reported = {"summary": self.summary, "details": self.details, **self._reported()}
            return reported | self._ending(fault if error is None else error, trace)

        def without_report() -> dict[str, Any]:
            return self._unreported() | self._ending(fault if error is None else error, None, short=True)

        def bare() -> dict[str, Any]:
            return self._unreported() | _ended("error", type_name(fault if error is None else error))

        started, clock = self._begun or (datetime.now(UTC), time.monotonic())
        # By the steady clock: the other one may have been set in the meantime.
        times = {"started": started, "completed": started + timedelta(seconds=time.monotonic() - clock)}
        try:
            call_report = reported_object(self.call_report)
        except BaseException as wrong:  # noqa: BLE001 - raised when `finished` was fired
            fault = wrong
        for step in (with_report, without_report, bare):
            try:
                body = {**self._ids, **times, **step()}
                self._hooks.validate(self._finished_type, body)
                break
            except BaseException as wrong:  # noqa: BLE001 - raised when `finished` was fired
                fault = wrong if fault is None or _is_interruption(wrong) else fault
        return body, call_report, fault

    def _ending(
        self, error: BaseException | None, trace: TracebackType | None, *, short: bool = False
    ) -> dict[str, Any]:
        if error is None:
            return _ended("success") if self._failure is None else _ended("failed", self._failure)
        if issubclass(type(error), KeyboardInterrupt | asyncio.CancelledError):
            return _ended("canceled", f"canceled by {type_name(error)}")
        return _broken_off(error, trace, short=short)

    @abstractmethod
    def _reported(self) -> dict[str, Any]:
        """Return the fields that only this kind of operation has."""

    @abstractmethod
    def _unreported(self) -> dict[str, Any]:
        """Return what stands in place of everything reported when the host has set wrong values."""

    def _lost(self, lost: BaseException, error: BaseException | None) -> None:
        if error is None or raised_by_signal_handler(lost):
            raise lost
        _log.error("%s could not be fired: %s", self._finished_type, one_line(lost))


_COUNTS = ("added_count", "updated_count", "removed_count")


class SyncOperation(Operation):
    """A sync of one repository.

    Attributes:
        added_count: Units that the sync added.
        updated_count: Units that it changed.
        removed_count: Units that it removed.
    """

    __slots__ = ("added_count", "removed_count", "updated_count")

    _started_type = EventType.REPO_SYNC_STARTED
    _finished_type = EventType.REPO_SYNC_FINISHED

    def __init__(
        self,
        hooks: Firing,
        repo_id: str,
        importer_id: str,
        importer_type_id: str,
        call_report: Mapping[str, Any] | None = None,
    ) -> None:
        ids = {"repo_id": repo_id, "importer_id": importer_id, "importer_type_id": importer_type_id}
        super().__init__(hooks, {"repo_id": repo_id}, ids, call_report)
        self.added_count: int | None = 0
        self.updated_count: int | None = 0
        self.removed_count: int | None = 0

    def _reported(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in _COUNTS}

    def _unreported(self) -> dict[str, Any]:
        return {"summary": {}, "details": None} | dict.fromkeys(_COUNTS)


class PublishOperation(Operation):
    """A publish of one repository by one distributor."""

    __slots__ = ("_skipped",)

    _started_type = EventType.REPO_PUBLISH_STARTED
    _finished_type = EventType.REPO_PUBLISH_FINISHED

    def __init__(
        self,
        hooks: Firing,
        repo_id: str,
        distributor_id: str,
        distributor_type_id: str,
        call_report: Mapping[str, Any] | None = None,
    ) -> None:
        started = {"repo_id": repo_id, "distributor_id": distributor_id}
        super().__init__(hooks, started, {**started, "distributor_type_id": distributor_type_id}, call_report)
        self._skipped: str | None = None

    def skip(self, reason: str) -> None:
        """Mark the publish as skipped; the reason stands in the summary as `skipped`."""
        self._skipped = text_of(reason, fallback=type_name(reason))

    def _reported(self) -> dict[str, Any]:
        if self._skipped is None:
            return {}
        summary = reported_value(self.summary)
        return {
            "summary": {**(summary if isinstance(summary, dict) else {"summary": summary}), "skipped": self._skipped}
        }

    def _unreported(self) -> dict[str, Any]:
        return {"summary": {}, "details": None}

    def _ending(
        self, error: BaseException | None, trace: TracebackType | None, *, short: bool = False
    ) -> dict[str, Any]:
        ending = super()._ending(error, trace, short=short)
        return _ended("skipped") if ending["result"] == "success" and self._skipped is not None else ending


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


def _is_interruption(error: BaseException) -> bool:
    """Return whether an exception was addressed to the host: Ctrl-C, or that of one of its signal handlers."""
    return issubclass(type(error), KeyboardInterrupt) or raised_by_signal_handler(error)


async def _to_its_end(firing: Awaitable[Report], *, raises: bool) -> None:
    """Await the firing; a cancellation meanwhile is passed on when it is over."""

    async def carried() -> BaseException | None:
        try:
            await firing
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
    if canceled and raises:
        raise canceled
