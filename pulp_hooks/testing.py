"""A test kit for authors of listeners and for hosts: example events, a recorder, a temporary journal.

It needs no particular test framework. SQLAlchemy is imported only by what needs a journal.
"""

import tempfile
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pulp_hooks.bodies.examples import EXAMPLES
from pulp_hooks.bodies.serializer import BodySerializer
from pulp_hooks.errors import JournalError
from pulp_hooks.event import Event
from pulp_hooks.event_types import EventType
from pulp_hooks.hookspecs import hookimpl
from pulp_hooks.identifiers import new_id

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pulp_hooks.bodies.types import Body
    from pulp_hooks.hooks import Hooks
    from pulp_hooks.journal.journal import Journal

__all__ = ["MovableClock", "Recorder", "drain", "example_body", "example_event", "temporary_journal"]

SOURCE = "urn:pulp-hooks:example"
"""Source of the example events."""

_MOST_ROUNDS = 1000


def example_body(event_type: EventType | str, /, **changes: object) -> "Body":
    """Return a valid body of an event type, as listeners receive it.

    Args:
        event_type: The event type, by any of its names.
        changes: Fields with other values than in the example.

    Raises:
        UnknownEventTypeError: There is no such event type.
        BodyError: The changes make the body invalid.
    """
    event_type = EventType(event_type)
    return BodySerializer().serialize(event_type, {**EXAMPLES[event_type], **changes})


def example_event(event_type: EventType | str, /, **changes: object) -> Event:
    """Return an event with a new identifier and an example body.

    Args:
        event_type: The event type, by any of its names.
        changes: Fields of the body with other values than in the example.

    Raises:
        UnknownEventTypeError: There is no such event type.
        BodyError: The changes make the body invalid.
    """
    event_type = EventType(event_type)
    body = example_body(event_type, **changes)
    return Event(id=new_id(), type=event_type, time=datetime.now(UTC), source=SOURCE, body=body)


class Recorder:
    """A listener that records the events it receives.

    Attributes:
        events: The events, in the order in which they were received.

    Example:
        ```python
        recorder = Recorder()
        with Hooks({"recorder": recorder}) as hooks:
            your_host_syncs("zoo", hooks)
        recorder.assert_fired("repo-sync-finished", repo_id="zoo", result="success")
        ```
    """

    def __init__(self) -> None:
        self.events: list[Event] = []

    def assert_fired(self, event_type: EventType | str, /, **fields: object) -> Event:
        """Return the first recorded event of this type whose body has these fields.

        Raises:
            UnknownEventTypeError: There is no such event type.
            AssertionError: There is none; the message lists the recorded events.
        """
        event_type = EventType(event_type)
        for event in self.events:
            body: dict[str, Any] = {**event.body}
            if event.type is event_type and all(name in body and body[name] == value for name, value in fields.items()):
                return event
        wanted = _shown(event_type, fields)
        recorded = "".join(
            f"\n  {_shown(event.type, {'repo_id': None, **dict.fromkeys(fields)}, event)}" for event in self.events
        )
        raise AssertionError(f"no event {wanted} was recorded, but these:{recorded or ' none'}")

    @hookimpl
    def repo_sync_started(self, event: Event) -> None:
        """Record the event."""
        self.events.append(event)

    @hookimpl
    def repo_sync_finished(self, event: Event) -> None:
        """Record the event."""
        self.events.append(event)

    @hookimpl
    def repo_publish_started(self, event: Event) -> None:
        """Record the event."""
        self.events.append(event)

    @hookimpl
    def repo_publish_finished(self, event: Event) -> None:
        """Record the event."""
        self.events.append(event)


def _shown(event_type: EventType, fields: dict[str, object], event: Event | None = None) -> str:
    """Return an event type with fields, whose values are those of the event, where there is one."""
    body: dict[str, Any] = dict(fields) if event is None else {**event.body}
    return " ".join([event_type.value, *(f"{name}={body[name]!r}" for name in fields if name in body)])


class MovableClock:
    """A clock for `temporary_journal` that goes on with the machine's, and can be moved.

    Attributes:
        ahead: How far it is ahead of the machine's; seconds.
    """

    def __init__(self) -> None:
        self.ahead = 0.0

    def move(self, seconds: float) -> None:
        """Move the clock forward by so many seconds."""
        self.ahead += seconds


@contextmanager
def temporary_journal(clock: MovableClock | None = None) -> "Iterator[Journal]":
    """Yield a journal in a new SQLite file, which is deleted after the block.

    Args:
        clock: Its clock; by default that of the machine.

    Raises:
        JournalError: SQLAlchemy is not installed.
    """
    try:
        from pulp_hooks.journal.clock import SYSTEM_CLOCK, Clock  # noqa: PLC0415 - SQLAlchemy, for those with a journal
        from pulp_hooks.journal.journal import Journal  # noqa: PLC0415
    except ImportError as error:
        raise JournalError(f"{error.name} is not installed; fix: install pulp-hooks[journal]") from error
    moved = clock or MovableClock()
    ticking = Clock(lambda: SYSTEM_CLOCK.time() + moved.ahead, lambda: SYSTEM_CLOCK.elapsed() + moved.ahead)
    with tempfile.TemporaryDirectory() as folder:
        journal = Journal(f"sqlite:///{Path(folder) / 'journal.db'}", clock=ticking)
        try:
            yield journal
        finally:
            journal.close()


def drain(hooks: "Hooks") -> None:
    """Deliver everything in the journal of these `Hooks`, without waiting for the pauses between attempts.

    Afterwards every delivery is delivered, skipped, on hold or a dead letter.

    Raises:
        JournalError: There is no journal, or it failed.
        AssertionError: A listener asked to be called later again and again.
    """
    worker = hooks.worker()
    for _ in range(_MOST_ROUNDS):
        worker.run_once()
        if not worker.journal.end_pauses():
            return
    raise AssertionError(f"deliveries are still being retried after {_MOST_ROUNDS} attempts")
