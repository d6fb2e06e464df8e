"""Tests of logging that cannot fail: with filters, handlers and factories of a host that raise."""

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
DOCUMENTED = sorted(set(re.findall(r"(?m)^\| `(pulp_hooks\.[a-z_.]+)`", (ROOT / "docs" / "hosts.md").read_text())))
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
        """Count the call, and fail."""
        self.calls += 1
        raise ValueError("no")


class Raising(logging.Handler):
    """A handler that raises, as those of hosts do whose queue or disk is full."""

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
    """Break every documented logger in one of the ways in which hosts do."""
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
    """Neither at a line with a traceback, nor when it is asked whether it would log one."""
    log = import_module(module)._log
    assert log.logger.name in DOCUMENTED
    log.isEnabledFor(logging.ERROR)
    try:
        _raise()
    except RuntimeError:
        log.exception("a line of %s", module)


def test_every_logger_of_the_package_is_one_that_cannot_fail() -> None:
    """Only the command line sets up the loggers of others, in a process of its own."""
    users = {file.relative_to(PACKAGE) for file in PACKAGE.rglob("*.py") if "getLogger(" in file.read_text()}
    assert {file for file in users if file.parts[0] != "cli"} == {Path("safe_logger.py")}


@pytest.mark.usefixtures("broken")
def test_listener_that_fails_is_an_outcome_although_nobody_can_log_it() -> None:
    """Neither the host nor the next listener notices what the host's logging does."""
    first, second = Failing(), Failing()
    with Hooks([first, second], settings=Settings(dispatch=DispatchSettings(slow_seconds=0))) as hooks:
        report = hooks.repo_sync_started(repo_id="zoo")
        assert len(report.failures) == 2
        assert len(asyncio.run(hooks.afire("repo-sync-started", {"repo_id": "zoo"})).failures) == 2
    assert (first.calls, second.calls) == (2, 2)


@pytest.mark.usefixtures("broken")
def test_worker_in_a_host_goes_on_although_nobody_can_log_it(sqlite_url: str) -> None:
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
def test_event_is_dispatched_when_the_journal_fails_although_nobody_can_log_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The settings ask for that; and their problems, which are logged as well, do not stop the host."""
    settings = tmp_path / "pulp-hooks.toml"
    settings.write_text('[journal]\nurl = "sqlite:///no/folder/x.db"\non_error = "dispatch"\n[dispatch]\nunknown = 1\n')
    monkeypatch.setenv("PULP_HOOKS_BLOCK", "console,jsonl")
    listener = Failing()
    with Hooks.discover(settings, listeners={"failing": listener}) as hooks:
        assert len(hooks.repo_sync_started(repo_id="zoo").failures) == 1


@pytest.mark.usefixtures("broken")
def test_exception_of_a_block_passes_although_nobody_can_log_that_finished_was_lost() -> None:
    """Finished cannot be fired, nor can that be logged; the host's own exception is what counts."""
    hooks = Hooks({"Failing": Failing()}, journal="sqlite:///no/folder/x.db")
    operation = hooks.sync("zoo", importer_id="i", importer_type_id="i")
    operation.__exit__(KeyError, KeyError("mine"), None)


def test_handler_that_fires_events_does_not_hear_of_them_without_end() -> None:
    """Its events are fired; what is logged of them in the meantime is dropped, or each line would cause two more."""

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
    # Each event of the host is logged twice, and each of those lines fires one more.
    assert (first.calls, second.calls) == (6, 6)


@pytest.mark.parametrize("asked", ["log", "isEnabledFor"])
def test_exception_of_a_signal_handler_reaches_the_host_while_a_line_is_logged(
    monkeypatch: pytest.MonkeyPatch, asked: str
) -> None:
    """A time limit of the host is no failure of its logging, and the next line is logged as ever."""
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


def test_line_says_where_it_was_logged(caplog: pytest.LogCaptureFixture) -> None:
    """Formats with the file and the line show ours, not those of the wrapper."""
    log = safe_logger("pulp_hooks.hooks")
    log.warning("said %d", 7)
    log.error("said %d", 7)
    log.log(logging.ERROR, "said %d", 7)
    assert [record.filename for record in caplog.records] == ["test_safe_logger.py"] * 3
    assert {record.getMessage() for record in caplog.records} == {"said 7"}


def test_argument_that_cannot_be_shown_loses_the_line_only() -> None:
    """Formatting happens in the handler, which may be one that lets errors pass."""

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
    """A handler that formats the line without catching anything."""

    asked = False

    def emit(self, record: logging.LogRecord) -> None:
        """Format the line."""
        self.asked = True
        self.format(record)
