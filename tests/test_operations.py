"""The `with` blocks of a sync and a publish: `started` on entry, `finished` exactly once on every exit."""

import asyncio
import contextlib
import gc
import json
import logging
import signal
import sys
import threading
import traceback
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from types import ModuleType, SimpleNamespace
from typing import Any, Self

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pulp_hooks import (
    BodyError,
    ClosedError,
    DispatchSettings,
    Event,
    EventError,
    EventType,
    Hooks,
    Settings,
    hookimpl,
    testing,
)
from pulp_hooks.bodies.serializer import MAX_BODY_BYTES
from pulp_hooks.operations import Operation, PublishOperation, SyncOperation

PATIENCE = 10
"""Seconds after which a test gives up on something that never comes."""


class Recorder(testing.Recorder):
    """A listener that records every event."""

    @property
    def hooks(self) -> list[str]:
        """The hooks of the recorded events."""
        return [event.type.hook_name for event in self.events]

    @property
    def finished(self) -> dict[str, Any]:
        """The body of the only `finished`, which followed `started`."""
        assert self.hooks in (
            ["repo_sync_started", "repo_sync_finished"],
            ["repo_publish_started", "repo_publish_finished"],
        )
        return {**self.events[-1].body}


def listener(name: str, function: Callable[..., object], hook: str = "repo_sync_finished") -> ModuleType:
    """Make a plugin of one function."""
    plugin = ModuleType(name)
    plugin.__dict__[hook] = hookimpl(function)
    return plugin


def sync_of(hooks: Hooks) -> SyncOperation:
    """Return a sync."""
    return hooks.sync("pulp-f17", importer_id="my_importer", importer_type_id="yum_importer")


def publish_of(hooks: Hooks) -> PublishOperation:
    """Return a publish."""
    return hooks.publish("pulp-f17", distributor_id="my_distributor", distributor_type_id="yum_distributor")


Block = Callable[[Any], object]
Form = Callable[[Operation, Block], None]


def with_block(operation: Operation, block: Block) -> None:
    """Run a block in `with`."""
    with operation:
        block(operation)


def async_with_block(operation: Operation, block: Block) -> None:
    """Run a block in `async with`."""

    async def main() -> None:
        async with operation:
            block(operation)

    asyncio.run(main())


NEVER: list[object] = []
"""What was noted before anything has happened."""


def nothing(_: object) -> None:
    """Do nothing."""


def raising(error: BaseException) -> Block:
    """Return a block that raises."""

    def block(_: object) -> None:
        raise error

    return block


def what_leaves(form: Form, operation: Operation, block: Block) -> BaseException | None:
    """Return the exception that leaves a block, even one that would end pytest."""
    try:
        form(operation, block)
    except BaseException as error:  # noqa: BLE001 - it is given back
        return error
    return None


both_forms = pytest.mark.parametrize("form", [with_block, async_with_block], ids=["with", "async with"])
both_kinds = pytest.mark.parametrize("operation_of", [sync_of, publish_of], ids=["sync", "publish"])
Kind = Callable[[Hooks], Operation]


# Success.


@both_forms
def test_sync_fires_started_on_entry_and_finished_with_success(form: Form) -> None:
    """`started` is fired before the block runs, and `finished` has the values set in the block."""
    recorder = Recorder()

    def block(sync: SyncOperation) -> None:
        assert recorder.hooks == ["repo_sync_started"]
        assert recorder.events[0].body == {"repo_id": "pulp-f17"}
        sync.added_count, sync.updated_count, sync.removed_count = 3, 2, None
        sync.summary = {"packages": 5}
        sync.details = ["a", {"b": 1}]

    form(sync_of(Hooks([recorder])), block)
    body = recorder.finished
    assert body == {
        "repo_id": "pulp-f17",
        "importer_id": "my_importer",
        "importer_type_id": "yum_importer",
        "started": body["started"],
        "completed": body["completed"],
        "result": "success",
        "added_count": 3,
        "updated_count": 2,
        "removed_count": None,
        "summary": {"packages": 5},
        "details": ["a", {"b": 1}],
        "error_message": None,
        "exception": None,
        "traceback": None,
        "id": body["id"],
        "_ns": "repo_sync_results",
    }


@both_forms
def test_publish_fires_started_on_entry_and_finished_with_success(form: Form) -> None:
    """Both events of a publish name the distributor, and have no counts."""
    recorder = Recorder()

    def block(publish: PublishOperation) -> None:
        assert recorder.hooks == ["repo_publish_started"]
        assert recorder.events[0].body == {"repo_id": "pulp-f17", "distributor_id": "my_distributor"}
        publish.summary = {"packages": 5}

    form(publish_of(Hooks([recorder])), block)
    body = recorder.finished
    assert body == {
        "repo_id": "pulp-f17",
        "distributor_id": "my_distributor",
        "distributor_type_id": "yum_distributor",
        "started": body["started"],
        "completed": body["completed"],
        "result": "success",
        "summary": {"packages": 5},
        "details": None,
        "error_message": None,
        "exception": None,
        "traceback": None,
        "id": body["id"],
        "_ns": "repo_publish_results",
    }


@both_forms
@both_kinds
def test_return_from_the_block_is_a_success(form: Form, operation_of: Kind) -> None:
    """Leaving the block by `return` is a success."""
    recorder = Recorder()

    def host() -> str:
        with operation_of(Hooks([recorder])):
            return "early"

    async def async_host() -> str:
        async with operation_of(Hooks([recorder])):
            return "early"

    assert (host() if form is with_block else asyncio.run(async_host())) == "early"
    assert recorder.finished["result"] == "success"


def test_counts_of_a_sync_are_zero_unless_set() -> None:
    """Counts of a sync are 0 by default."""
    recorder = Recorder()
    with_block(sync_of(Hooks([recorder])), nothing)
    assert [recorder.finished[name] for name in ("added_count", "updated_count", "removed_count")] == [0, 0, 0]


def test_subclass_that_overrides_fire_sees_both_events() -> None:
    """`finished` is fired by the public method, as `started` is."""
    seen: list[str] = []

    class Seeing(Hooks):
        def fire(self, *arguments: Any, **options: Any) -> Any:  # noqa: ANN401 - as inherited
            report = super().fire(*arguments, **options)
            seen.append(report.event.type)
            assert type(report.event.id) is str
            return report

    with sync_of(Seeing()):
        pass
    assert seen == ["repo-sync-started", "repo-sync-finished"]


def test_publish_inside_of_a_sync_fires_its_own_events() -> None:
    """Operations may be nested, as for an automatic publish."""
    recorder = Recorder()
    hooks = Hooks([recorder])
    with sync_of(hooks), publish_of(hooks):
        pass
    assert recorder.hooks == [
        "repo_sync_started",
        "repo_publish_started",
        "repo_publish_finished",
        "repo_sync_finished",
    ]


# Failures reported by the host.


@both_forms
@both_kinds
@pytest.mark.parametrize("message", ["no space left", "", "\udcff"])
def test_fail_makes_the_result_failed(form: Form, operation_of: Kind, message: str) -> None:
    """`fail` sets result and message without an exception; the block continues, and nothing is raised."""
    recorder, went_on = Recorder(), NEVER.copy()

    def block(operation: Operation) -> None:
        operation.fail(message)
        went_on.append(True)

    form(operation_of(Hooks([recorder])), block)
    assert went_on
    body = recorder.finished
    assert (body["result"], body["exception"], body["traceback"]) == ("failed", None, None)
    assert body["error_message"] == message.replace("\udcff", "\ufffd")


# Exceptions of the block.

ENDINGS: list[tuple[BaseException, str]] = [
    (ValueError("own"), "error"),
    (ExceptionGroup("own", [ValueError("inner")]), "error"),
    (SystemExit(3), "error"),
    (GeneratorExit("own"), "error"),
    (BaseException("own"), "error"),
    (RecursionError("own"), "error"),
    (MemoryError(), "error"),
    (TimeoutError("own"), "error"),
    (KeyboardInterrupt(), "canceled"),
    (asyncio.CancelledError("own"), "canceled"),
]


@both_forms
@both_kinds
@pytest.mark.parametrize(("own", "result"), ENDINGS, ids=lambda value: type(value).__name__)
def test_exception_of_the_block_propagates_and_finished_is_fired_once(
    form: Form, operation_of: Kind, own: BaseException, result: str
) -> None:
    """An exception of the block gives `error`, or `canceled` for a cancellation, and leaves the block."""
    recorder = Recorder()
    with pytest.raises(type(own)) as raised:
        form(operation_of(Hooks([recorder])), raising(own))
    # asyncio replaces the KeyboardInterrupt or CancelledError that ended its main task by a new one.
    assert raised.value is own or (form is async_with_block and result == "canceled")
    body = recorder.finished
    assert body["result"] == result
    if result == "error":
        assert (body["exception"], body["error_message"]) == (repr(own), str(own))
        assert "raising" in body["traceback"][-1] or "block" in body["traceback"][-1]
    else:
        assert type(own).__name__ in body["error_message"]
        assert (body["exception"], body["traceback"]) == (None, None)


@both_forms
def test_traceback_is_a_list_of_the_frames_of_the_block(form: Form) -> None:
    """The frames are strings as in `traceback.format_tb`, the innermost last, without the exception itself."""
    recorder = Recorder()

    def innermost() -> None:
        raise LookupError("own")

    with pytest.raises(LookupError) as raised:
        form(sync_of(Hooks([recorder])), lambda _: innermost())
    frames = traceback.format_tb(raised.value.__traceback__)
    reported = recorder.finished["traceback"]
    assert reported == frames[-len(reported) :]
    assert ", in innermost\n" in reported[-1]
    assert "LookupError: " not in reported[-1]


@both_forms
def test_exception_overrides_fail(form: Form) -> None:
    """If a block fails and then raises, the result is that of the exception."""
    recorder = Recorder()

    def block(sync: SyncOperation) -> None:
        sync.fail("told")
        raise LookupError("own")

    with pytest.raises(LookupError, match="own"):
        form(sync_of(Hooks([recorder])), block)
    body = recorder.finished
    assert (body["result"], body["error_message"]) == ("error", "own")


@both_forms
@pytest.mark.parametrize("error", [RuntimeError, SystemExit, GeneratorExit], ids=lambda error: error.__name__)
def test_exception_that_cannot_be_formatted_propagates_and_is_named_by_its_type(
    form: Form, error: type[BaseException]
) -> None:
    """If `str` and `repr` of the exception raise, `finished` is still fired, and the exception propagates."""
    recorder = Recorder()

    class SilentError(Exception):
        def __str__(self) -> str:
            raise error

        __repr__ = __str__

    own, left = SilentError(), NEVER.copy()

    # Caught inside of the loop, because asyncio would format the exception too.
    async def host() -> None:
        async with sync_of(Hooks([recorder])):
            raise own

    async def main() -> None:
        try:
            await host()
        except BaseException as leaving:  # noqa: BLE001 - it is compared below
            left.append(type(leaving))

    if form is with_block:
        left.append(type(what_leaves(form, sync_of(Hooks([recorder])), raising(own))))
    else:
        asyncio.run(main())
    assert left == [SilentError]
    body = recorder.finished
    assert (body["result"], body["exception"], body["error_message"]) == ("error", "SilentError", "SilentError")


def test_message_of_a_page_is_not_shortened() -> None:
    """Only where the report of the host is invalid as well is less of it kept."""
    recorder = Recorder()
    message = "x" * 4000
    with pytest.raises(ValueError, match=message):
        with_block(sync_of(Hooks([recorder])), raising(ValueError(message)))
    body = recorder.finished
    assert (body["error_message"], body["exception"]) == (message, f"ValueError('{message}')")


@pytest.mark.parametrize("character", ["x", "\x00", "\U0001f600", "\udcff"])
def test_huge_message_fits_the_size_limit(character: str) -> None:
    """A message of megabytes, with any characters, is shortened to the size limit."""
    recorder = Recorder()
    with pytest.raises(ValueError, match=r"."):
        with_block(sync_of(Hooks([recorder])), raising(ValueError(character * 2_000_000)))
    body = recorder.finished
    assert body["exception"].startswith("ValueError(")
    assert len(json.dumps(body, ensure_ascii=False).encode()) <= MAX_BODY_BYTES


def test_traceback_of_a_deep_recursion_keeps_the_innermost_frames_within_the_size_limit() -> None:
    """A traceback over the size limit is shortened to its innermost frames."""
    recorder = Recorder()

    def innermost() -> None:
        raise LookupError("own")

    def ping(depth: int) -> None:
        pong(depth - 1)

    def pong(depth: int) -> None:
        # Two alternating functions, because Python abbreviates the frames of a single one.
        ping(depth - 1) if depth > 0 else innermost()

    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(limit + 12_000)
    try:
        with pytest.raises(LookupError, match="own") as raised:
            with_block(sync_of(Hooks([recorder])), lambda _: ping(10_000))
    finally:
        sys.setrecursionlimit(limit)
    assert sum(map(len, traceback.format_tb(raised.value.__traceback__))) > MAX_BODY_BYTES
    body = recorder.finished
    assert body["exception"] == "LookupError('own')"
    assert ", in innermost\n" in body["traceback"][-1]
    assert len(json.dumps(body).encode()) <= MAX_BODY_BYTES


def test_endless_recursion_is_an_error_like_any_other() -> None:
    """After a `RecursionError` there is enough stack left to fire `finished`."""
    recorder = Recorder()

    def again(depth: int) -> None:
        again(depth + 1)

    with pytest.raises(RecursionError):
        with_block(sync_of(Hooks([recorder])), lambda _: again(0))
    assert recorder.finished["exception"].startswith("RecursionError(")


def test_message_is_shortened_to_a_small_size_limit() -> None:
    """Under a small limit a long message is shortened, not replaced by an error about its size."""
    recorder = Recorder()
    settings = Settings(dispatch=DispatchSettings(max_body_bytes=4000))
    with pytest.raises(LookupError):
        with_block(sync_of(Hooks([recorder], settings=settings)), raising(LookupError("own " + "x" * 10_000)))
    body = recorder.finished
    assert body["exception"].startswith("LookupError('own ")
    assert body["error_message"].startswith("own ")
    assert len(json.dumps(body).encode()) <= 4000


@given(message=st.text())
def test_any_message_of_an_exception_is_in_the_event(message: str) -> None:
    """`error_message` is the text of the exception, and `exception` is its `repr`."""
    recorder = Recorder()
    with pytest.raises(LookupError):
        with_block(sync_of(Hooks([recorder])), raising(LookupError(message)))
    assert recorder.finished["error_message"] == message
    assert recorder.finished["exception"] == repr(LookupError(message))


# Failures of an event never hide or replace the operation's own exception.


@both_forms
@pytest.mark.parametrize("kind", ["plain", "async"])
@pytest.mark.parametrize("fault", [ValueError, SystemExit, GeneratorExit, BaseException, asyncio.CancelledError])
def test_failing_listener_replaces_no_exception_and_raises_none(
    form: Form, kind: str, fault: type[BaseException]
) -> None:
    """Exceptions of listeners affect neither a block that raises nor one that does not."""

    def plain() -> None:
        raise fault

    async def awaited() -> None:
        raise fault

    recorder = Recorder()
    function = plain if kind == "plain" else awaited
    hooks = Hooks([listener("a", function, "repo_sync_started"), listener("b", function), recorder])
    with pytest.raises(LookupError, match="own"):
        form(sync_of(hooks), raising(LookupError("own")))
    assert recorder.finished["result"] == "error"
    recorder.events.clear()
    form(sync_of(hooks), nothing)
    assert recorder.finished["result"] == "success"


@both_forms
@pytest.mark.parametrize("kind", ["plain", "async"])
def test_interrupt_while_finished_is_delivered_does_not_replace_the_exception(form: Form, kind: str) -> None:
    """Even a `KeyboardInterrupt` of a listener does not hide the operation's own exception."""

    def plain() -> None:
        raise KeyboardInterrupt

    async def awaited() -> None:
        raise KeyboardInterrupt

    hooks = Hooks([listener("a", plain if kind == "plain" else awaited)])
    own = LookupError("own")
    assert what_leaves(form, sync_of(hooks), raising(own)) is own


@both_forms
@pytest.mark.parametrize("kind", ["plain", "async"])
def test_interrupt_while_finished_is_delivered_leaves_a_block_without_an_exception(form: Form, kind: str) -> None:
    """If the operation has no exception, Ctrl-C stops the host, and `finished` is not fired again."""
    recorder = Recorder()

    def plain() -> None:
        raise KeyboardInterrupt

    async def awaited() -> None:
        raise KeyboardInterrupt

    # The recorder's name sorts first, so it is called before the interrupt.
    hooks = Hooks([recorder, listener("z", plain if kind == "plain" else awaited)])
    with pytest.raises(KeyboardInterrupt):
        form(sync_of(hooks), nothing)
    results = [event.body["result"] for event in recorder.events if event.type is EventType.REPO_SYNC_FINISHED]
    # An async listener runs beside the recorder, and may interrupt the host first.
    assert results == ["success"] or (form is async_with_block and kind == "async" and not results)


@both_forms
def test_interrupt_while_started_is_delivered_cancels_the_operation(form: Form) -> None:
    """Ctrl-C in a listener of `started` skips the block, and `finished` with `canceled` is fired once."""
    recorder, ran = Recorder(), NEVER.copy()

    def interrupt() -> None:
        raise KeyboardInterrupt

    hooks = Hooks([recorder, listener("z", interrupt, "repo_sync_started")])
    with pytest.raises(KeyboardInterrupt):
        form(sync_of(hooks), ran.append)
    assert not ran
    assert recorder.finished["result"] == "canceled"


@both_forms
def test_hooks_closed_inside_of_the_block_replace_no_exception(form: Form, caplog: pytest.LogCaptureFixture) -> None:
    """The block's exception propagates and the lost `finished` is logged; without one, `ClosedError` is raised."""
    hooks = Hooks()

    def block(_: object) -> None:
        hooks.close()
        raise LookupError("own")

    with pytest.raises(LookupError, match="own"):
        form(sync_of(hooks), block)
    assert "repo-sync-finished" in caplog.text
    assert "ClosedError" in caplog.text
    hooks = Hooks()
    with pytest.raises(ClosedError):
        form(sync_of(hooks), lambda _: hooks.close())


@both_forms
@both_kinds
def test_closed_hooks_start_no_operation(form: Form, operation_of: Kind) -> None:
    """With closed hooks the block is not entered."""
    hooks, ran = Hooks(), NEVER.copy()
    hooks.close()
    with pytest.raises(ClosedError):
        form(operation_of(hooks), ran.append)
    assert not ran


WRONG_COUNTS = [-1, True, 1.5, "3", 2**63, [1]]


@both_forms
@pytest.mark.parametrize("name", ["added_count", "updated_count", "removed_count"])
@pytest.mark.parametrize("value", WRONG_COUNTS, ids=repr)
def test_wrong_count_is_fired_as_an_error_and_raised(form: Form, name: str, value: object) -> None:
    """An invalid count gives an `error` that names the field, and the host gets the same error."""
    recorder = Recorder()
    with pytest.raises(BodyError, match=name):
        form(sync_of(Hooks([recorder])), lambda sync: setattr(sync, name, value))
    body = recorder.finished
    assert (body["result"], body["added_count"], body["updated_count"], body["removed_count"]) == (
        "error",
        None,
        None,
        None,
    )
    assert body["exception"].startswith("BodyError(")
    assert name in body["error_message"]


@both_forms
@pytest.mark.parametrize(
    ("own", "result"), [(LookupError("own"), "error"), (KeyboardInterrupt(), "canceled")], ids=["error", "canceled"]
)
def test_wrong_count_replaces_no_exception(form: Form, own: BaseException, result: str) -> None:
    """The exception of a block with an invalid count propagates and is in `finished`."""
    recorder = Recorder()

    def block(sync: SyncOperation) -> None:
        sync.added_count = -1
        raise own

    with pytest.raises(type(own)):
        form(sync_of(Hooks([recorder])), block)
    body = recorder.finished
    assert body["result"] == result
    assert body["exception"] == (repr(own) if result == "error" else None)
    assert body["added_count"] is None


@dataclass
class Report:
    """A report of an importer as an object."""

    packages: int


class Hostile(Mapping[str, object]):
    """A mapping that cannot be read."""

    def __getitem__(self, key: str) -> object:
        raise RuntimeError(key)

    def __iter__(self) -> Iterator[str]:
        raise RuntimeError("no keys")

    def __len__(self) -> int:
        raise RuntimeError("no length")


@both_forms
@both_kinds
@pytest.mark.parametrize(
    "report",
    [object(), {1, 2}, b"\xff", float("nan"), Report(3), Hostile(), [[]] * 3],
    ids=lambda value: type(value).__name__,
)
def test_finished_is_fired_whatever_the_reports(form: Form, operation_of: Kind, report: object) -> None:
    """With any report, `finished` is fired as valid JSON."""
    recorder = Recorder()

    def block(operation: Operation) -> None:
        operation.summary = operation.details = report

    form(operation_of(Hooks([recorder])), block)
    assert recorder.finished["result"] == "success"
    json.dumps(recorder.finished, allow_nan=False)


# Skipped publishes.


@both_forms
def test_skip_makes_the_result_skipped_with_the_reason_in_the_summary(form: Form) -> None:
    """`skip` adds its reason to the summary."""
    recorder = Recorder()

    def block(publish: PublishOperation) -> None:
        publish.summary = {"packages": 5}
        publish.skip("nothing new")

    form(publish_of(Hooks([recorder])), block)
    body = recorder.finished
    assert body["result"] == "skipped"
    assert body["summary"] == {"packages": 5, "skipped": "nothing new"}
    assert (body["error_message"], body["exception"], body["traceback"]) == (None, None, None)


@pytest.mark.parametrize(
    "summary", [None, [1, 2], "text", Report(3), Hostile()], ids=lambda value: type(value).__name__
)
def test_reason_of_a_skip_is_kept_whatever_the_summary(summary: object) -> None:
    """The reason is in the event, whatever the summary."""
    recorder = Recorder()

    def block(publish: PublishOperation) -> None:
        publish.skip("nothing new")
        publish.summary = summary

    with_block(publish_of(Hooks([recorder])), block)
    assert recorder.finished["result"] == "skipped"
    assert recorder.finished["summary"]["skipped"] == "nothing new"


@both_forms
@pytest.mark.parametrize(
    ("own", "result"), [(LookupError("own"), "error"), (KeyboardInterrupt(), "canceled")], ids=["error", "canceled"]
)
@pytest.mark.parametrize("summary", [{}, Hostile()], ids=["plain summary", "hostile summary"])
def test_exception_overrides_skip(form: Form, own: BaseException, result: str, summary: object) -> None:
    """An exception overrides `skip` and propagates, whatever the summary."""
    recorder = Recorder()

    def block(publish: PublishOperation) -> None:
        publish.skip("nothing new")
        publish.summary = summary
        raise own

    with pytest.raises(type(own)):
        form(publish_of(Hooks([recorder])), block)
    assert recorder.finished["result"] == result


def test_fail_overrides_skip() -> None:
    """`fail` overrides `skip`, in either order."""
    for order in (1, -1):
        recorder = Recorder()
        with publish_of(Hooks([recorder])) as publish:
            for say, text in [(publish.fail, "no space"), (publish.skip, "nothing new")][::order]:
                say(text)
        assert (recorder.finished["result"], recorder.finished["error_message"]) == ("failed", "no space")


# Invalid identifiers, and order of use.

WRONG_IDS = ["", None, 7, b"pulp-f17", "\udcff"]


@both_forms
@pytest.mark.parametrize("field", ["repo_id", "importer_id", "importer_type_id"])
@pytest.mark.parametrize("value", WRONG_IDS, ids=repr)
def test_wrong_identifier_of_a_sync_is_refused_before_anything_is_fired(form: Form, field: str, value: object) -> None:
    """An invalid identifier, also one that only `finished` has, is refused before the block."""
    recorder, ran = Recorder(), NEVER.copy()
    ids: dict[str, Any] = {"repo_id": "pulp-f17", "importer_id": "i", "importer_type_id": "t"} | {field: value}
    with pytest.raises(BodyError, match=f": {field} must "):
        form(Hooks([recorder]).sync(ids.pop("repo_id"), **ids), ran.append)
    assert (ran, recorder.events) == ([], [])


@both_forms
@pytest.mark.parametrize("field", ["repo_id", "distributor_id", "distributor_type_id"])
@pytest.mark.parametrize("value", WRONG_IDS, ids=repr)
def test_wrong_identifier_of_a_publish_is_refused_before_anything_is_fired(
    form: Form, field: str, value: object
) -> None:
    """As for a sync."""
    recorder, ran = Recorder(), NEVER.copy()
    ids: dict[str, Any] = {"repo_id": "pulp-f17", "distributor_id": "d", "distributor_type_id": "t"} | {field: value}
    with pytest.raises(BodyError, match=f": {field} must "):
        form(Hooks([recorder]).publish(ids.pop("repo_id"), **ids), ran.append)
    assert (ran, recorder.events) == ([], [])


@both_forms
@both_kinds
@pytest.mark.parametrize("ending", [nothing, raising(LookupError())], ids=["success", "error"])
def test_operation_is_used_once(form: Form, operation_of: Kind, ending: Block) -> None:
    """A second block with the same object is refused before anything is fired."""
    recorder, ran = Recorder(), NEVER.copy()
    operation = operation_of(Hooks([recorder]))
    with contextlib.suppress(LookupError):
        form(operation, ending)
    recorder.events.clear()
    with pytest.raises(ClosedError, match="used already"):
        form(operation, ran.append)
    assert (ran, recorder.events) == ([], [])


def test_operation_is_not_entered_inside_of_itself() -> None:
    """A nested block with the same object is refused, and the outer one ends with that error."""
    recorder = Recorder()
    sync = sync_of(Hooks([recorder]))
    with pytest.raises(ClosedError, match="used already"):
        with_block(sync, lambda _: with_block(sync, nothing))
    assert recorder.finished["exception"].startswith("ClosedError(")


# Clocks.


def moments(body: dict[str, Any]) -> tuple[datetime, datetime]:
    """Return the times of a `finished` body."""
    return datetime.fromisoformat(body["started"]), datetime.fromisoformat(body["completed"])


def test_started_and_completed_are_the_times_of_the_block() -> None:
    """The times are those of entry and exit, in UTC and whole seconds."""
    recorder = Recorder()
    before = datetime.now(UTC).replace(microsecond=0)
    with_block(sync_of(Hooks([recorder])), nothing)
    started, completed = moments(recorder.finished)
    assert before <= started <= completed <= datetime.now(UTC) + timedelta(seconds=1)


@both_forms
def test_completed_is_not_before_started_after_the_clock_was_set_back(
    form: Form, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`completed` is never before `started`, even if the machine's clock is set back."""

    class SteppingBack(datetime):
        hours = 0

        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Self:
            cls.hours += 1
            moment = datetime(2012, 7, 6, 23, tzinfo=tz) - timedelta(hours=cls.hours)
            return cls.fromisoformat(moment.isoformat())

    monkeypatch.setattr("pulp_hooks.operations.datetime", SteppingBack)
    recorder = Recorder()
    form(sync_of(Hooks([recorder])), lambda _: SteppingBack.now(UTC))
    started, completed = moments(recorder.finished)
    assert started == datetime(2012, 7, 6, 22, tzinfo=UTC)
    assert completed - started < timedelta(seconds=PATIENCE)
    assert completed >= started


def test_duration_follows_the_monotonic_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """The duration follows the monotonic clock, whatever happens to the machine's clock."""
    readings = iter([1000.0, 1090.0])
    monkeypatch.setattr("pulp_hooks.operations.time", SimpleNamespace(monotonic=lambda: next(readings)))
    recorder = Recorder()
    with_block(sync_of(Hooks([recorder])), nothing)
    started, completed = moments(recorder.finished)
    assert completed - started == timedelta(seconds=90)


# Ctrl-C, generators, and asyncio.


@both_forms
def test_ctrl_c_in_the_block_cancels_the_operation(form: Form) -> None:
    """SIGINT gives the result `canceled` and stops the host."""
    recorder = Recorder()

    async def host() -> None:
        async with sync_of(Hooks([recorder])):
            signal.raise_signal(signal.SIGINT)
            await asyncio.sleep(PATIENCE)

    def interrupted() -> None:
        if form is with_block:
            form(sync_of(Hooks([recorder])), lambda _: signal.raise_signal(signal.SIGINT))
        else:
            asyncio.run(host())

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert recorder.finished["result"] == "canceled"


def test_second_ctrl_c_while_finished_is_delivered_leaves_the_first_in_place() -> None:
    """After a second Ctrl-C the first exception propagates, and `finished` is not fired again."""
    recorder = Recorder()
    own = KeyboardInterrupt("first")
    hooks = Hooks([recorder, listener("z", lambda: signal.raise_signal(signal.SIGINT))])
    with pytest.raises(KeyboardInterrupt) as raised:
        with_block(sync_of(hooks), raising(own))
    assert raised.value is own
    assert recorder.finished["result"] == "canceled"


def test_generator_that_is_closed_inside_of_the_block_fires_finished() -> None:
    """Closing a generator that is inside of the block ends its operation."""
    recorder = Recorder()

    def host() -> Iterator[int]:
        with sync_of(Hooks([recorder])):
            yield 1

    running = host()
    next(running)
    assert recorder.hooks == ["repo_sync_started"]
    del running
    gc.collect()
    assert (recorder.finished["result"], recorder.finished["exception"]) == ("error", "GeneratorExit()")


def test_async_generator_that_is_closed_inside_of_the_block_fires_finished() -> None:
    """As for a generator, with `aclose`."""
    recorder = Recorder()

    async def host() -> AsyncIterator[int]:
        async with sync_of(Hooks([recorder])):
            yield 1

    async def main() -> None:
        running = host()
        await anext(running)
        await running.aclose()  # type: ignore[attr-defined] # an async generator is typed by what it gives

    asyncio.run(main())
    assert (recorder.finished["result"], recorder.finished["exception"]) == ("error", "GeneratorExit()")


async def for_ever() -> None:
    """Wait until the task is canceled."""
    await asyncio.Event().wait()


def test_coroutine_closed_after_its_loop_fires_finished() -> None:
    """A coroutine closed after its event loop ends its operation, although nothing can be awaited."""
    recorder = Recorder()
    loop, entered = asyncio.new_event_loop(), asyncio.Event()

    async def host() -> None:
        async with sync_of(Hooks([recorder])):
            entered.set()
            await for_ever()

    coroutine = host()
    task = loop.create_task(coroutine)
    loop.run_until_complete(entered.wait())
    # A thread of the executor would outlive the loop.
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()
    coroutine.close()
    assert not task.done()
    assert (recorder.finished["result"], recorder.finished["exception"]) == ("error", "GeneratorExit()")


@both_kinds
def test_cancellation_of_the_task_cancels_the_operation(operation_of: Kind) -> None:
    """Canceling the task in the block fires `finished` with `canceled`, and the task ends as canceled."""
    recorder = Recorder()

    async def main() -> None:
        entered = asyncio.Event()

        async def host() -> None:
            async with operation_of(Hooks([recorder])):
                entered.set()
                await for_ever()

        task = asyncio.create_task(host())
        await entered.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert task.cancelled()

    asyncio.run(main())
    assert recorder.finished["result"] == "canceled"


def test_cancellation_inside_of_a_plain_with_block_cancels_the_operation() -> None:
    """A coroutine may also use the plain form."""
    recorder = Recorder()

    async def host() -> None:
        with sync_of(Hooks([recorder])):
            async with asyncio.timeout(0):
                await for_ever()

    async def canceled() -> None:
        async with asyncio.timeout(0.01):
            with sync_of(Hooks([recorder])):
                await for_ever()

    with pytest.raises(TimeoutError):
        asyncio.run(host())
    assert recorder.finished["exception"].startswith("TimeoutError(")
    recorder.events.clear()
    with pytest.raises(TimeoutError):
        asyncio.run(canceled())
    assert recorder.finished["result"] == "canceled"


def test_timeout_around_the_block_cancels_the_operation() -> None:
    """`asyncio.timeout` around the block gives `canceled`, and raises `TimeoutError` outside of the block."""
    recorder = Recorder()

    async def host() -> None:
        async with asyncio.timeout(0.01), sync_of(Hooks([recorder])):
            await for_ever()

    with pytest.raises(TimeoutError):
        asyncio.run(host())
    assert recorder.finished["result"] == "canceled"


def test_timeout_inside_of_the_block_is_an_error() -> None:
    """A `TimeoutError` raised in the block is an exception of the operation."""
    recorder = Recorder()

    async def host() -> None:
        async with sync_of(Hooks([recorder])), asyncio.timeout(0):
            await for_ever()

    with pytest.raises(TimeoutError):
        asyncio.run(host())
    assert (recorder.finished["result"], recorder.finished["exception"]) == ("error", "TimeoutError()")


def test_failure_of_a_sibling_in_a_task_group_cancels_the_operation() -> None:
    """If another task of its group fails, the operation is canceled, and only the other task's error is raised."""
    recorder = Recorder()

    async def host(entered: asyncio.Event) -> None:
        async with sync_of(Hooks([recorder])):
            entered.set()
            await for_ever()

    async def sibling(entered: asyncio.Event) -> None:
        await entered.wait()
        raise LookupError("sibling")

    async def main() -> None:
        entered = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            group.create_task(host(entered))
            group.create_task(sibling(entered))

    with pytest.raises(ExceptionGroup) as raised:
        asyncio.run(main())
    assert [repr(error) for error in raised.value.exceptions] == ["LookupError('sibling')"]
    assert recorder.finished["result"] == "canceled"


def test_task_group_inside_of_the_block_raises_its_group_of_errors() -> None:
    """The exception group of a task group in the block is an exception of the operation."""
    recorder = Recorder()

    async def fails() -> None:
        raise LookupError("one")

    async def host() -> None:
        async with sync_of(Hooks([recorder])), asyncio.TaskGroup() as group:
            group.create_task(fails())

    with pytest.raises(ExceptionGroup):
        asyncio.run(host())
    assert recorder.finished["result"] == "error"
    assert recorder.finished["exception"].startswith("ExceptionGroup(")


def test_cancellation_while_started_is_delivered_cancels_the_operation() -> None:
    """The block is not entered, `finished` has `canceled`, and the task ends as canceled."""
    recorder, ran = Recorder(), NEVER.copy()

    async def main() -> None:
        reached = asyncio.Event()

        async def waits() -> None:
            reached.set()
            await for_ever()

        hooks = Hooks([recorder, listener("a", waits, "repo_sync_started")])

        async def host() -> None:
            async with sync_of(hooks):
                ran.append(True)

        task = asyncio.create_task(host())
        await reached.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert not ran
    assert recorder.finished["result"] == "canceled"


@pytest.mark.parametrize("times", [1, 3])
@pytest.mark.parametrize("own", ["success", "error", "canceled"])
def test_cancellation_while_finished_is_delivered_does_not_interrupt_it(
    own: str, times: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Listeners of `finished` are awaited to their end, once, however often the task is canceled.

    The task ends as canceled afterwards, unless the operation has an exception of its own; nothing is said to be lost.
    """
    recorder, delivered = Recorder(), NEVER.copy()

    async def main() -> None:
        entered, reached, release = asyncio.Event(), asyncio.Event(), asyncio.Event()

        async def waits() -> None:
            reached.set()
            await release.wait()
            delivered.append(True)

        hooks = Hooks([recorder, listener("z", waits)])

        async def host() -> None:
            async with sync_of(hooks):
                entered.set()
                if own == "error":
                    raise LookupError("own")
                if own == "canceled":
                    await for_ever()

        task = asyncio.create_task(host())
        await entered.wait()
        if own == "canceled":
            task.cancel()
        await reached.wait()
        for _ in range(times):
            task.cancel()
            await asyncio.sleep(0)
        assert not task.done()
        release.set()
        with pytest.raises(LookupError if own == "error" else asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert delivered == [True]
    assert recorder.finished["result"] == own
    assert "could not be fired" not in caplog.text


def test_async_block_keeps_the_loop_running_while_a_plain_listener_blocks() -> None:
    """The async form does not block the loop while listeners receive `started` and `finished`."""

    async def main() -> None:
        release = threading.Event()
        loop, reached = asyncio.get_running_loop(), asyncio.Event()

        def blocks() -> None:
            loop.call_soon_threadsafe(reached.set)
            assert release.wait(PATIENCE)

        async def releases() -> None:
            await reached.wait()
            release.set()

        releasing = asyncio.create_task(releases())
        async with sync_of(Hooks([listener("a", blocks, "repo_sync_started"), listener("b", blocks)])):
            assert release.is_set()
        await releasing

    asyncio.run(main())


def test_lost_finished_is_logged_with_the_event_type(caplog: pytest.LogCaptureFixture) -> None:
    """If `finished` cannot be fired, that is logged, and the operation's own exception propagates."""
    caplog.set_level(logging.ERROR, "pulp_hooks.operations")
    hooks = Hooks()

    def block(_: object) -> None:
        hooks.close()
        raise LookupError("own")

    with pytest.raises(LookupError, match="own"):
        with_block(publish_of(hooks), block)
    (record,) = caplog.records
    assert "repo-publish-finished could not be fired: ClosedError" in record.getMessage()


@pytest.mark.parametrize("form", [with_block, async_with_block])
def test_both_events_carry_the_call_report(form: Form) -> None:
    """Listeners receive the report of the host's task with `started` and with `finished`."""
    reports: list[object] = []

    class Listener:
        @hookimpl
        def repo_sync_started(self, event: Event) -> None:
            reports.append(event.call_report)

        @hookimpl
        def repo_publish_finished(self, event: Event) -> None:
            reports.append(event.call_report)

    hooks = Hooks([Listener()])
    task = {"task_id": "7d1f", "state": "running"}
    form(hooks.sync("zoo", importer_id="i", importer_type_id="t", call_report=task), nothing)
    form(hooks.publish("zoo", distributor_id="d", distributor_type_id="t", call_report=task), nothing)
    assert reports == [task, task]


@pytest.mark.parametrize("call_report", [[1], "task", 7])
def test_call_report_that_is_not_an_object_is_refused_before_anything_is_fired(call_report: Any) -> None:  # noqa: ANN401 - wrong on purpose
    """The report of a task must be an object or null."""
    recorder = Recorder()
    hooks = Hooks([recorder])
    with (
        pytest.raises(EventError, match="call_report"),
        hooks.sync("zoo", importer_id="i", importer_type_id="t", call_report=call_report),
    ):
        NEVER.append("the block was entered")
    assert recorder.events == NEVER == []


@pytest.mark.parametrize("form", [with_block, async_with_block])
def test_misspelt_count_is_an_error_in_the_block(form: Form) -> None:
    """Setting a misspelt count raises."""
    recorder = Recorder()

    def block(sync: Any) -> None:  # noqa: ANN401 - what is wrong here is the fact
        sync.aded_count = 4

    with pytest.raises(AttributeError, match="aded_count"):
        form(sync_of(Hooks([recorder])), block)
    assert recorder.finished["result"] == "error"
