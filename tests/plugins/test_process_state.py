"""Global state that plugins change while they are loaded is restored, and changes are reported."""

import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pulp_hooks.plugins.listeners import State

if TYPE_CHECKING:
    from tests.plugins.conftest import Site

SOUND = "@hookimpl\ndef repo_sync_started(body): ..."
NOTIFIER = """
class Post(Notifier):
    def __init__(self, config):
        super().__init__(config)
        change()

    def notify(self, event): ...
"""

CHANGES = {
    "dictConfig": "import logging.config\nlogging.config.dictConfig({'version': 1, 'root': {}})",
    "dictConfig of our loggers": (
        "import logging.config\nlogging.config.dictConfig({'version': 1, 'loggers': {'pulp_hooks': {'level': 50}}})"
    ),
    "fileConfig": (
        "import io, logging.config\n"
        "logging.config.fileConfig(io.StringIO('[loggers]\\nkeys=root\\n[handlers]\\nkeys=\\n[formatters]\\nkeys=\\n'\n"
        "    '[logger_root]\\nhandlers=\\n'))"
    ),
    "basicConfig": "import logging\nlogging.basicConfig(force=True, level=50)",
    "disable": "import logging\nlogging.disable(50)",
    "handler of the root": "import logging\nlogging.getLogger().addHandler(logging.NullHandler())",
    "silence": "import logging\nlogging.getLogger('pulp_hooks.hooks').propagate = False",
    "record factory": "import logging\nlogging.setLogRecordFactory(lambda *args, **kwargs: None)",
    "logger class": "import logging\nlogging.setLoggerClass(type('Silent', (logging.Logger,), {}))",
    "name of a level": "import logging\nlogging.addLevelName(logging.ERROR, 'FEHLER')",
    "level of a name": "import logging\nlogging.addLevelName(1, 'ERROR')",
    "umask": "import os\nos.umask(0)",
    "excepthook": "import sys\nsys.excepthook = print",
    "excepthook of threads": "import threading\nthreading.excepthook = print",
    "unraisablehook": "import sys\nsys.unraisablehook = print",
    "signal": "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)",
    "folder": "import os\nos.chdir('/')",
    "timeout": "import socket\nsocket.setdefaulttimeout(1)",
    "stream": "import io, sys\nsys.stdout = io.StringIO()",
}


def state() -> list[Any]:
    """Return the state that a host has set up: loggers, signals, streams."""
    names = ("", "a.host", "pulp_hooks", "pulp_hooks.hooks", "pulp_hooks.dispatch")
    loggers = [logging.getLogger(name) for name in names]
    return [
        *((logger.disabled, logger.level, logger.propagate, tuple(logger.handlers)) for logger in loggers),
        logging.root.manager.disable,
        logging.getLoggerClass(),
        logging.getLogRecordFactory(),
        [(name, logging.getLevelName(name)) for name in ("ERROR", "WARN", "WARNING", "FATAL", "CRITICAL")],
        [logging.getLevelName(level) for level in (30, 40, 50)],
        umask(),
        signal.getsignal(signal.SIGTERM),
        Path.cwd(),
        socket.getdefaulttimeout(),
        sys.stdout,
        sys.stderr,
        sys.excepthook,
        sys.unraisablehook,
        threading.excepthook,
    ]


def umask() -> int:
    """Return the umask."""
    umask = os.umask(0o077)
    os.umask(umask)
    return umask


@pytest.fixture(autouse=True)
def host() -> Iterator[None]:
    """Set up a host with its own logger; changes by a test are undone, also if it fails."""
    logger = logging.getLogger("a.host")
    logger.addHandler(logging.NullHandler())
    folder, streams, handlers, mask = Path.cwd(), (sys.stdout, sys.stderr), logging.root.handlers[:], umask()
    hooks, made = (sys.excepthook, sys.unraisablehook, threading.excepthook), logging.getLoggerClass()
    factory = logging.getLogRecordFactory()
    terminated = signal.getsignal(signal.SIGTERM)
    yield
    logger.handlers.clear()
    os.chdir(folder)
    os.umask(mask)
    sys.stdout, sys.stderr = streams
    sys.excepthook, sys.unraisablehook, threading.excepthook = hooks
    logging.setLoggerClass(made)
    logging.setLogRecordFactory(factory)
    logging.addLevelName(logging.ERROR, "ERROR")
    logging.root.handlers[:] = handlers
    logging.disable(logging.NOTSET)
    socket.setdefaulttimeout(None)
    signal.signal(signal.SIGTERM, terminated)
    for named in logging.root.manager.loggerDict.values():
        if isinstance(named, logging.Logger):
            named.disabled = False


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize("ending", ["", "\nraise RuntimeError('later')"], ids=["imported", "raises"])
def test_import_that_changes_the_process_is_undone_and_reported(site: "Site", change: str, ending: str) -> None:
    """The state of the host is restored, also if the import fails after the change."""
    before = state()
    site.plugin("rude", f"{change}\n{SOUND}{ending}")
    site.plugin("sound", SOUND)
    hooks = site.discover()
    assert state() == before
    (problem, *_) = hooks.problems
    assert (problem.where, problem.distribution) == ("rude", "dist-rude 1.0")
    assert problem.cause.startswith("loading it changed global state, which was restored: ")
    assert len(hooks.problems) == (2 if ending else 1)
    expected = {"rude": State.BROKEN if ending else State.LOADED, "sound": State.LOADED}
    assert {listener.name: listener.state for listener in hooks.listeners} == expected


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_constructor_that_changes_the_process_is_undone_and_reported(site: "Site", tmp_path: Path, change: str) -> None:
    """Changes by the constructor of a notifier are undone like those of an import."""
    before = state()
    body = "".join(f"    {line}\n" for line in change.splitlines())
    site.plugin("rude", f"def change():\n{body}\n{NOTIFIER}", "Post")
    settings = tmp_path / "pulp-hooks.toml"
    settings.write_text("[[listeners]]\nname = 'desk'\nnotifier = 'rude'\n")
    hooks = site.discover(settings)
    assert state() == before
    (problem,) = hooks.problems
    assert problem.where == "desk"
    assert problem.cause.startswith("loading it changed global state, which was restored: ")
    assert [listener.name for listener in hooks.listeners if listener.state is State.LOADED] == ["desk", "rude"]


def test_events_are_still_logged_after_a_plugin_has_configured_logging(
    site: "Site", caplog: pytest.LogCaptureFixture
) -> None:
    """The failure of a listener reaches the handlers of the host."""
    site.plugin("failing", "@hookimpl\ndef repo_sync_started(body): raise ValueError('seen')")
    site.plugin("rude", f"{CHANGES['dictConfig']}\n{SOUND}")
    site.discover().repo_sync_started(repo_id="zoo")
    assert "ValueError: seen" in caplog.text


@pytest.mark.parametrize(
    "source",
    [
        "import logging\nlogging.getLogger('mod_polite').setLevel(10)",
        "import logging\nlogging.addLevelName(5, 'TRACE')",
        "import logging\nlogging.getLogger('made.at.import').disabled = True",
        "import logging\nlogging.getLogger('a.host').setLevel(30)",
        "import logging\nlogging.getLogger('a.host').addHandler(logging.NullHandler())",
        "import logging.config\nlogging.config.dictConfig({'version': 1, 'incremental': True})",
    ],
)
def test_plugin_may_configure_named_loggers(site: "Site", source: str) -> None:
    """It may configure its own loggers, and set levels and add handlers of libraries."""
    site.plugin("polite", f"{source}\n{SOUND}")
    assert site.discover().problems == ()
