"""Hostile listeners: exceptions that raise or lie, delivery control in groups, changed contexts, forks."""

import contextlib
import contextvars
import decimal
import math
import sqlite3
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from pulp_hooks import DisableListener, EventError, Hooks, PermanentFailure, Report, RetryLater, hookimpl
from pulp_hooks.delivery_control import DeliveryControl, control_in

BODY = {"repo_id": "zoo"}
WORDS = ["ValueError", "RuntimeError", "SystemExit"]


def listener(name: str, function: Callable[..., object], hook: str = "repo_sync_started") -> ModuleType:
    """Return a plugin with one function."""
    plugin = ModuleType(name)
    plugin.__dict__[hook] = hookimpl(function)
    return plugin


def raising(error: type[BaseException]) -> Any:  # noqa: ANN401 - a method of anything
    """Return a method that raises."""

    def method(*_: object) -> Any:  # noqa: ANN401 - it returns nothing
        raise error

    return method


class HostileText(str):
    """A string whose methods raise."""

    __slots__ = ()
    __format__ = __len__ = __getitem__ = __bool__ = __str__ = __repr__ = isprintable = raising(RuntimeError)


def kind_of(**members: object) -> Any:  # noqa: ANN401 - an exception of any class
    """Return an exception of a class with these members."""
    return type("OddError", (Exception,), members)("odd")


def endless(_: object) -> BaseException:
    """Return another exception each time."""
    return ODD["endless context"]()


def pass_by(*_: object) -> None:
    """Do nothing."""


def _made(kind: type[BaseException]) -> BaseException:
    """Return an exception whose constructor was not called."""
    return kind.__new__(kind)


ODD: dict[str, Callable[[], BaseException]] = {
    **{
        f"{name} raises {error.__name__}": lambda name=name, error=error: kind_of(**{name: raising(error)})  # type: ignore[misc]
        for name in ("__str__", "__repr__", "__eq__", "__bool__", "__hash__", "__reduce__", "with_traceback")
        for error in (ValueError, SystemExit)
    },
    **{
        f"property {name} raises {error.__name__}": lambda name=name, error=error: kind_of(  # type: ignore[misc]
            **{name: property(raising(error))}
        )
        for name in ("__class__", "__traceback__", "__cause__", "__context__", "__notes__", "args")
        for error in (ValueError, SystemExit)
    },
    "__getattribute__ raises": lambda: kind_of(__getattribute__=raising(RuntimeError)),
    "text of a subclass": lambda: kind_of(__str__=lambda _: HostileText("odd")),
    "text that is none": lambda: kind_of(__str__=lambda _: 7),
    "lies about its class": lambda: kind_of(__class__=property(lambda _: KeyboardInterrupt)),
    "lies about its cause": lambda: kind_of(__cause__=property(lambda _: 7)),
    "endless context": lambda: kind_of(__context__=property(endless)),
    "endless cause": lambda: kind_of(__cause__=property(lambda _: ODD["endless cause"]())),
    "odd notes": lambda: kind_of(__notes__=7),
    "huge text": lambda: ValueError("x" * 10**7),
    "control that raises": lambda: type("Odd", (RetryLater,), {"with_traceback": raising(ValueError)})(after=1),
    "control that has no attributes": lambda: _made(
        type("Odd", (RetryLater,), {"__getattribute__": raising(ValueError)})
    ),
    "control whose pause raises": lambda: type("Odd", (RetryLater,), {"after": property(raising(SystemExit), pass_by)})(
        after=1
    ),
    "group of them": lambda: ExceptionGroup("odd", [kind_of(__str__=raising(ValueError)), kind_of(args=7)]),
    "group that raises": lambda: type("Odd", (ExceptionGroup,), {"exceptions": property(raising(ValueError))})(
        "odd", [ValueError()]
    ),
    "metaclass that raises": lambda: type("Meta", (type,), {"__name__": property(raising(ValueError))})(
        "OddError", (Exception,), {}
    )("odd"),
    "recursion": lambda: RecursionError("odd"),
}


@pytest.mark.parametrize("kind", ["plain", "async"])
@pytest.mark.parametrize("odd", ODD)
def test_exception_that_raises_or_lies_is_a_failure_and_later_listeners_are_called(odd: str, kind: str) -> None:
    """`fire` returns a report with a useful error text, whatever the exception does when it is shown."""
    called: list[str] = []

    def plain() -> None:
        error = ODD[odd]()
        raise error

    async def awaited() -> None:
        error = ODD[odd]()
        raise error

    hooks = Hooks([listener("a", plain if kind == "plain" else awaited), listener("b", lambda: called.append("b"))])
    report = hooks.fire("repo-sync-started", BODY)
    assert called == ["b"]
    assert report.outcomes[0].error
    assert len(report.outcomes[0].error) <= 1000
    assert type(report.outcomes[0].error) is str


@pytest.mark.parametrize("odd", ODD)
def test_exception_that_raises_or_lies_leaves_a_block_after_finished(odd: str) -> None:
    """`finished` is fired once, and the exception propagates."""
    bodies: list[dict[str, Any]] = []
    hooks = Hooks([listener("a", lambda body: bodies.append(body), "repo_sync_finished")])  # noqa: PLW0108 - its argument is named
    error, left = ODD[odd](), []
    try:
        with hooks.sync("zoo", importer_id="i", importer_type_id="t"):
            raise error  # noqa: TRY301 - the block is what is tested
    except BaseException as caught:  # noqa: BLE001 - it may be of any class
        left.append(caught)
    assert left[0] is error
    assert [body["result"] for body in bodies] == ["error"]


def test_traceback_that_cannot_be_formatted_loses_no_finished(monkeypatch: pytest.MonkeyPatch) -> None:
    """If a foreign loader fails to return source lines, `finished` is fired without a traceback."""
    monkeypatch.setattr(traceback, "format_tb", raising(RuntimeError))
    bodies: list[dict[str, Any]] = []
    hooks = Hooks([listener("a", lambda body: bodies.append(body), "repo_sync_finished")])  # noqa: PLW0108 - its argument is named
    with pytest.raises(ValueError, match="own"), hooks.sync("zoo", importer_id="i", importer_type_id="t"):
        raise ValueError("own")
    assert [(body["result"], body["error_message"], body["traceback"]) for body in bodies] == [("error", "own", None)]


@pytest.mark.parametrize("wrong", [7, "text", [1]])
@pytest.mark.parametrize("own", [None, LookupError("own")])
def test_wrong_call_report_loses_no_finished(wrong: Any, own: Exception | None) -> None:  # noqa: ANN401 - wrong on purpose
    """`finished` is fired without it; the mistake raises, unless the block raised an exception of its own."""
    results: list[str] = []
    hooks = Hooks([listener("a", lambda body: results.append(body["result"]), "repo_sync_finished")])
    with (  # noqa: PT012 - the block is what is tested
        pytest.raises(EventError if own is None else LookupError),
        hooks.sync("zoo", importer_id="i", importer_type_id="t") as sync,
    ):
        sync.call_report = wrong
        if own:
            raise own
    assert results == ["error"]


def test_deleted_report_loses_no_finished() -> None:
    """A deleted attribute is handled like one of the wrong type."""
    results: list[str] = []
    hooks = Hooks([listener("a", lambda body: results.append(body["result"]), "repo_sync_finished")])
    with pytest.raises(AttributeError), hooks.sync("zoo", importer_id="i", importer_type_id="t") as sync:
        del sync.summary
    assert results == ["error"]


def test_message_that_cannot_be_shown_marks_the_operation_as_failed() -> None:
    """`fail` and `skip` take any object, and raise nothing."""
    bodies: list[dict[str, Any]] = []
    hooks = Hooks([listener("a", lambda body: bodies.append(body), "repo_publish_finished")])  # noqa: PLW0108 - its argument is named
    odd = type("Odd", (), {"__str__": raising(ValueError)})()
    with hooks.publish("zoo", distributor_id="i", distributor_type_id="t") as publish:
        publish.skip(odd)
    with hooks.publish("zoo", distributor_id="i", distributor_type_id="t") as publish:
        publish.fail(odd)
    assert [(body["result"], body["error_message"]) for body in bodies] == [("skipped", None), ("failed", "Odd")]
    assert bodies[0]["summary"] == {"skipped": "Odd"}


# Delivery control in groups.


def group(*errors: Exception) -> ExceptionGroup[Exception]:
    """Return a group."""
    return ExceptionGroup("group", list(errors))


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (group(PermanentFailure("a")), PermanentFailure),
        (group(group(PermanentFailure("a")), PermanentFailure("b")), PermanentFailure),
        (group(PermanentFailure("a"), ValueError()), type(None)),
        (group(ValueError(), group(DisableListener("a"))), DisableListener),
        (group(RetryLater(after=1), DisableListener("a"), PermanentFailure("b")), DisableListener),
        (group(ValueError(), RetryLater(after=1), PermanentFailure("b")), RetryLater),
        (group(ValueError()), type(None)),
    ],
)
def test_delivery_control_in_a_group_counts(error: Exception, expected: type[DeliveryControl]) -> None:
    """Each member counts as if it had been raised alone."""

    def listen() -> None:
        raise error

    report = Hooks([listener("a", listen)]).fire("repo-sync-started", BODY)
    assert type(report.outcomes[0].control) is expected


@pytest.mark.parametrize(
    ("after", "state"), [(property(raising(SystemExit)), "retrying"), (10**400, "retrying"), (math.nan, "retrying")]
)
def test_control_with_an_invalid_pause_is_retried_on_the_schedule(after: object, state: str, tmp_path: Path) -> None:
    """The worker continues, and the other listeners get their deliveries."""

    class Odd(RetryLater):
        def __init__(self) -> None:
            """Set nothing."""

    Odd.after = after  # type: ignore[assignment] # odd on purpose

    def listen() -> None:
        raise Odd

    url = f"sqlite:///{tmp_path / 'journal.db'}"
    with Hooks({"a": listener("a", listen), "b": listener("b", lambda: None)}, journal=url) as hooks:
        hooks.repo_sync_started(repo_id="zoo")
        hooks.worker().run_once()
    with contextlib.closing(sqlite3.connect(tmp_path / "journal.db")) as connection:
        states = dict(connection.execute("SELECT listener, state FROM pulp_hooks_delivery"))
    assert states == {"a": state, "b": "delivered"}


def test_longest_pause_in_a_group_counts() -> None:
    """The longest of the requested pauses satisfies all of them."""
    control, is_all = control_in(group(RetryLater(after=1), RetryLater(after=60), RetryLater(after=2)))
    assert isinstance(control, RetryLater)
    assert (control.after, is_all) == (60, True)


# The context of the host.

VARIABLE = contextvars.ContextVar("variable", default="host")


def change() -> None:
    """Change every part of the context of a call."""
    VARIABLE.set("listener")
    decimal.getcontext().prec = 3


async def change_later() -> None:
    """Change the context in a coroutine."""
    change()


@pytest.mark.parametrize("is_used", [True, False], ids=["decimal used before", "not used before"])
@pytest.mark.parametrize("way", ["fire", "afire"])
@pytest.mark.parametrize("listen", [change, change_later])
def test_listener_changes_only_its_own_context(listen: Callable[..., object], way: str, is_used: bool) -> None:  # noqa: FBT001 - a parameter of the test
    """Host and listeners each have their own context variables and `decimal` precision."""
    import asyncio  # noqa: PLC0415 - used here only

    seen: list[tuple[str, int]] = []

    def see() -> None:
        seen.append((VARIABLE.get(), decimal.getcontext().prec))

    async def see_later() -> None:
        see()

    hooks = Hooks([listener("a", listen), listener("b", see), listener("c", see_later)])

    async def main() -> Report:
        report = await hooks.afire("repo-sync-started", BODY)
        see()
        return report

    def run() -> None:
        if is_used:
            decimal.getcontext().prec = 28
        report = asyncio.run(main()) if way == "afire" else hooks.fire("repo-sync-started", BODY)
        assert not report.failures
        see()

    contextvars.Context().run(run)
    assert set(seen) == {("host", 28)}


# Forks.

FORKING = """
import os, sys
from pulp_hooks import Hooks, hookimpl

class Listener:
    @hookimpl
    {define} repo_sync_started(self):
        child = os.fork()
        if child == 0:
            {ending}
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)

Hooks([Listener()]).repo_sync_started(repo_id="zoo")
print("host", flush=True)
"""


@pytest.mark.parametrize("define", ["def", "async def"])
@pytest.mark.parametrize(
    ("ending", "code"),
    [("sys.exit()", 0), ("sys.exit(3)", 3), ("sys.exit('no')", 1), ("raise ValueError", 1), ("return", 0)],
)
def test_child_that_a_listener_forks_ends_with_the_call(define: str, ending: str, code: int) -> None:
    """It does not continue as a second host."""
    script = FORKING.format(define=define, ending=ending)
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert ended.stdout == f"{code}\nhost\n"
