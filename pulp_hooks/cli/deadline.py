"""Ending a command in time, even if listeners have left threads behind."""

import os
import sys
import sysconfig
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from types import FrameType
from typing import NoReturn

_SAYING_SECONDS = 2.0
"""How long the last messages may take: standard error may be a pipe without a reader."""

_CLOSING = "pulp_hooks closing "
"""Names of the threads in which `Hooks.close` closes listeners begin with this."""

_STDLIB = sysconfig.get_paths()["stdlib"] + os.sep
_PACKAGES = (sysconfig.get_paths()["purelib"] + os.sep, sysconfig.get_paths()["platlib"] + os.sep)


class Deadline:
    """Ends the process when it outlives its time, and names the threads that kept it on standard error.

    Python does not end before all threads that are not daemons do: a listener may have left one, and `close()` of a
    notifier may never return. Nothing can end a thread from outside, only the whole process.

    Attributes:
        code: Exit code of a process that outlives its time.
    """

    def __init__(self, code: int = 0) -> None:
        self.code = code
        self._seconds = 0.0
        self._begun = threading.Event()
        # The thread is started here because a signal handler must not start threads.
        threading.Thread(target=self._work, name="pulp_hooks deadline", daemon=True).start()

    def begin(self, seconds: float) -> None:
        """End the process after so many seconds from now; a second call changes nothing."""
        if not self._begun.is_set():
            self._seconds = seconds
            self._begun.set()

    def _work(self) -> None:
        self._begun.wait()
        time.sleep(self._seconds)
        left = [f"{place}; the process ends without it" for place in _left_running()]
        end_at_once(self.code, [f"warning: after {self._seconds:g} s {line}" for line in left])


def end_at_once(code: int, lines: Sequence[str] = ()) -> NoReturn:
    """Print lines on standard error if possible, and end the process whatever its threads do."""

    def say() -> None:
        for line in lines:
            with suppress(OSError, ValueError, AttributeError):
                sys.stderr.write(f"{line}\n")
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError, AttributeError):
                stream.flush()

    saying = threading.Thread(target=say, daemon=True)
    saying.start()
    saying.join(_SAYING_SECONDS)
    os._exit(code)


def _left_running() -> Iterator[str]:
    """Yield the position of each thread that keeps the process from ending."""
    frames = sys._current_frames()  # noqa: SLF001 - it is documented, and there is no other way
    for thread in threading.enumerate():
        frame = frames.get(thread.ident or 0)
        is_waited_for = not thread.daemon or thread.name.startswith(_CLOSING)
        # A main thread that has only frames of the standard library waits for the other threads.
        if is_waited_for and frame is not None and (thread is not threading.main_thread() or _foreign(frame)):
            yield f"thread {thread.name!r} is still running, in {_place(frame)}"


def _place(frame: FrameType) -> str:
    """Return the position of a thread in its innermost frame outside of the standard library."""
    found = _foreign(frame) or frame
    return f"{found.f_code.co_name} ({found.f_code.co_filename}, line {found.f_lineno})"


def _foreign(frame: FrameType) -> FrameType | None:
    """Return the innermost frame that is not of the standard library."""
    found: FrameType | None = frame
    while found is not None and _is_of_stdlib(found.f_code.co_filename):
        found = found.f_back
    return found


def _is_of_stdlib(file: str) -> bool:
    return file.startswith(("<frozen", _STDLIB)) and not file.startswith(_PACKAGES)
