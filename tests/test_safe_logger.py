"""Tests of logging with filters, handlers and factories of a host that raise."""

import asyncio
import logging
import re
import signal
import time
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from pulp_hooks import DispatchSettings, Hooks, Settings, hookimpl
from pulp_hooks.safe_logger import safe_logger

ROOT = Path(__file__).parent.parent
DOCUMENTED = sorted(set(re.findall(r"(?m)^\| `(pulp_hooks\.[a-z0-9_.]+)`", (ROOT / "docs" / "hosts.md").read_text())))
PACKAGE = ROOT / "pulp_hooks"
MODULES = sorted(
    ".".join(file.relative_to(ROOT).with_suffix("").parts)
    for file in PACKAGE.rglob("*.py")
    if re.search(r"(?m)^_log = ", file.read_text())
)


class Failing:
    """A listener that fails."""

    def __init__(self) -> None:
        self.calls = 0

    @hookimpl
    def repo_sync_started(self) -> None:
        """Count the call and raise."""
        self.calls += 1
        raise ValueError("no")


class Raising(logging.Handler):
    """A handler that raises, as if its queue or disk were full."""

    def emit(self, record: logging.LogRecord) -> None:
        """Raise."""
        del record
        raise OSError(28, "No space left on device")


def _raise(*_: object, **__: object) -> Any:  # noqa: ANN401 - it returns nothing
    raise RuntimeError("a filter of the host")


def _exit(*_: object, **__: object) -> Any:  # noqa: ANN401 - it returns nothing
    raise SystemExit(3)


@pytest.fixture(params=["filter", "filter that exits", "handler", "level", "record", "factory"])
def broken(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Break every documented logger in one of the common ways."""
    loggers = [logging.getLogger(name) for name in DOCUMENTED]
    handler = Raising()
    for logger in loggers:
        monkeypatch.setattr(logger, "level", logging.DEBUG)
        monkeypatch.setattr(logger, "filters", list(logger.filters))
        monkeypatch.setattr(logger, "handlers", list(logger.handlers))
        match request.param:
            case "filter":
                logger.addFilter(_raise)
            case "filter that exits":
                logger.addFilter(_exit)
            case "handler":
                logger.addHandler(handler)
            case "level":
                monkeypatch.setattr(logger, "isEnabledFor", _raise)
            case "record":
                monkeypatch.setattr(logger, "makeRecord", _raise)
    factory = logging.getLogRecordFactory()
    if request.param == "factory":
        logging.setLogRecordFactory(_raise)
    yield
    logging.setLogRecordFactory(factory)


@pytest.mark.usefixtures("broken")
@pytest.mark.parametrize("module", MODULES)
def test_no_logger_of_the_package_raises(module: str) -> None:
    """Logging a record with a traceback does not raise, nor does asking for the level."""
    log = import_module(module)._log
    assert log.logger.name in DOCUMENTED
    log.isEnabledFor(logging.ERROR)
    try:
        _raise()
    except RuntimeError:
        log.exception("a line of %s", module)


def test_every_logger_of_the_package_is_a_safe_logger() -> None:
    """Only the command line, in its own process, configures other loggers."""
    users = {file.relative_to(PACKAGE) for file in PACKAGE.rglob("*.py") if "getLogger(" in file.read_text()}
    assert {file for file in users if file.parts[0] != "cli"} == {Path("safe_logger.py")}


@pytest.mark.usefixtures("broken")
def test_failing_listener_is_an_outcome_although_logging_fails() -> None:
    """A failure of the host's logging affects neither the host nor the next listener."""
    first, second = Failing(), Failing()
    with Hooks([first, second], settings=Settings(dispatch=DispatchSettings(slow_seconds=0))) as hooks:
        report = hooks.repo_sync_started(repo_id="zoo")
        assert len(report.failures) == 2
        assert len(asyncio.run(hooks.afire("repo-sync-started", {"repo_id": "zoo"})).failures) == 2
    assert (first.calls, second.calls) == (2, 2)


@pytest.mark.usefixtures("broken")
def test_worker_in_a_host_continues_although_logging_fails(sqlite_url: str) -> None:
    """Every event is attempted, and the attempts are recorded."""
    listener = Failing()
    with Hooks({"failing": listener}, journal=sqlite_url) as hooks, hooks.worker():
        for number in range(1, 4):
            hooks.repo_sync_started(repo_id="zoo")
            deadline = time.monotonic() + 20
            while listener.calls < number:
                assert time.monotonic() < deadline, "the worker has died"
                time.sleep(0.01)


@pytest.mark.usefixtures("broken")
def test_event_is_dispatched_when_the_journal_fails_although_logging_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As set, the event is dispatched directly, and problems with the settings do not stop the host."""
    settings = tmp_path / "pulp-hooks.toml"
    settings.write_text('[journal]\nurl = "sqlite:///no/folder/x.db"\non_error = "dispatch"\n[dispatch]\nunknown = 1\n')
    monkeypatch.setenv("PULP_HOOKS_BLOCK", "console,jsonl")
    listener = Failing()
    with Hooks.discover(settings, listeners={"failing": listener}) as hooks:
        assert len(hooks.repo_sync_started(repo_id="zoo").failures) == 1


@pytest.mark.usefixtures("broken")
def test_exception_of_a_block_propagates_although_logging_fails() -> None:
    """The host's own exception propagates, although `finished` can be neither fired nor logged."""
    hooks = Hooks({"Failing": Failing()}, journal="sqlite:///no/folder/x.db")
    operation = hooks.sync("zoo", importer_id="i", importer_type_id="i")
    operation.__exit__(KeyError, KeyError("mine"), None)


def test_handler_that_fires_events_does_not_recurse() -> None:
    """The handler's events are fired, but their records are dropped, because each would cause two more."""

    class Firing(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            del record
            hooks.repo_sync_started(repo_id="logged")

    first, second = Failing(), Failing()
    log = logging.getLogger("pulp_hooks.dispatch")
    log.addHandler(handler := Firing())
    try:
        with Hooks([first, second]) as hooks:
            for _ in range(2):
                assert len(hooks.repo_sync_started(repo_id="zoo").failures) == 2
    finally:
        log.removeHandler(handler)
    # Each event of the host has two records, and each of those fires one more event.
    assert (first.calls, second.calls) == (6, 6)


@pytest.mark.parametrize("asked", ["log", "isEnabledFor"])
def test_exception_of_a_signal_handler_during_logging_reaches_the_host(
    monkeypatch: pytest.MonkeyPatch, asked: str
) -> None:
    """A time limit of the host propagates, and the next record is logged."""
    seen: list[object] = []

    class LimitError(Exception):
        pass

    def limit(_number: int, _frame: FrameType | None) -> None:
        raise LimitError

    def interrupted(*_: object, **__: object) -> None:
        signal.raise_signal(signal.SIGUSR1)

    log = safe_logger("pulp_hooks.hooks")
    before = signal.signal(signal.SIGUSR1, limit)
    try:
        with monkeypatch.context() as patch:
            patch.setattr(log.logger, asked, interrupted)
            with pytest.raises(LimitError):
                (log.error if asked == "log" else log.isEnabledFor)(logging.ERROR)
        with monkeypatch.context() as patch:
            patch.setattr(log.logger, "handle", seen.append)
            log.error("next")
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert len(seen) == 1


def test_record_has_the_place_of_the_call(caplog: pytest.LogCaptureFixture) -> None:
    """Records have the file and line of the caller, not of the wrapper."""
    log = safe_logger("pulp_hooks.hooks")
    log.warning("said %d", 7)
    log.error("said %d", 7)
    log.log(logging.ERROR, "said %d", 7)
    assert [record.filename for record in caplog.records] == ["test_safe_logger.py"] * 3
    assert {record.getMessage() for record in caplog.records} == {"said 7"}


def test_argument_that_cannot_be_formatted_loses_only_the_record() -> None:
    """A handler that formats a record and does not catch errors loses only that record."""

    class Hostile:
        def __str__(self) -> str:
            raise RuntimeError("hostile")

    log = safe_logger("pulp_hooks.hooks")
    logging.getLogger("pulp_hooks.hooks").addHandler(handler := Formatting())
    try:
        log.error("said %s", Hostile())
    finally:
        logging.getLogger("pulp_hooks.hooks").removeHandler(handler)
    assert handler.asked


class Formatting(logging.Handler):
    """A handler that formats the record without catching anything."""

    asked = False

    def emit(self, record: logging.LogRecord) -> None:
        """Format the record."""
        self.asked = True
        self.format(record)
