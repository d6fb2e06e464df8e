"""Appending: an event and its deliveries are stored in one transaction, the journal's own or the host's."""

import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from hashlib import blake2b
from typing import Any

from sqlalchemy import Connection

from pulp_hooks.errors import JournalError
from pulp_hooks.event import Event
from pulp_hooks.identifiers import new_id
from pulp_hooks.journal.backend import Backend, CommitLostError
from pulp_hooks.journal.schema import State

_DOING = "take the event"
"""What messages say that the journal could not do."""

_RETRY_SECONDS = 0.1
"""Pause before an event is stored again whose commit was lost."""


def append(  # noqa: PLR0913 - each is one fact about what is stored
    backend: Backend,
    event: Event,
    listeners: Iterable[str],
    connection: Connection | None,
    *,
    ordered: Collection[str],
    trace_context: str | None,
    now: float | None,
) -> bool:
    """Store an event with a delivery for each listener; see `Journal.append`."""
    repo_id = str(event.body["repo_id"]).encode()
    now = backend.stamp() if now is None else now
    listeners = tuple(dict.fromkeys(listeners))
    values = {
        "id": event.id,
        "type": event.type.value,
        "now": now,
        "repo_id": repo_id,
        "content": event.to_json().encode(),
        "trace_context": trace_context,
    }
    key = ordering_key(repo_id) if ordered else None
    deliveries = [
        {"listener": name, "ordering_key": key if name in ordered else None, "now": now} for name in listeners
    ]
    if connection is not None:
        return _append_within(backend, connection, values, deliveries)
    work = partial(_store, backend, values=values, deliveries=deliveries)
    try:
        is_new = backend.write(_DOING, work)
    except CommitLostError as error:
        is_new = bool(error.result)
        if is_new:
            _store_again(backend, work, event.id, error)
    backend.known_listeners.update(listeners)
    return is_new


def ordering_key(repo_id: bytes) -> int:
    """Return the ordering key of a repository: 64 bits of a digest of its id."""
    return int.from_bytes(blake2b(repo_id, digest_size=8).digest(), signed=True)


def check(backend: Backend) -> None:
    """Check that events can be stored and delivered; see `Journal.check`."""
    if not backend.is_there():
        backend.check_place()
        return
    name, event_id = new_id(), new_id()
    values = {"id": event_id, "type": "", "now": 0.0, "repo_id": b"", "content": b"", "trace_context": None}
    with backend.trial() as connection:

        def run(sql: str, **of: object) -> None:
            connection.exec_driver_sql(backend.sql(sql), {"listener": name, **of})

        with backend.errors("store an event"):
            number = connection.exec_driver_sql(backend.sql(_EVENT_HERE), values).scalar()
            run(_LISTENER)
            run(_DELIVERY, event=number, ordering_key=None, now=0.0)
        with backend.errors("record a delivery"):
            run("UPDATE pulp_hooks_delivery SET step = 1 WHERE event = :event AND listener = :listener", event=number)
            run(
                "INSERT INTO pulp_hooks_attempt (event, listener, number, started, seconds, status)"
                " VALUES (:event, :listener, 1, 0, 0, '')",
                event=number,
            )
        with backend.errors("change listeners"):
            run("UPDATE pulp_hooks_listener SET reason = '' WHERE name = :listener")
        with backend.errors("prune"):
            run("DELETE FROM pulp_hooks_delivery WHERE event = :event AND listener = :listener", event=number)
            run("DELETE FROM pulp_hooks_event WHERE number = :event", event=number)


def _store(
    backend: Backend,
    cursor: Any,  # noqa: ANN401 - of either driver
    *,
    values: Mapping[str, Any],
    deliveries: Sequence[dict[str, Any]],
) -> bool:
    """Store an event and its deliveries; return false when there is an event of its id."""
    cursor.execute(backend.sql(_EVENT), values)
    number = backend.stored_number(cursor)
    if number is None:
        return False
    for delivery in deliveries:
        if delivery["listener"] not in backend.known_listeners:
            cursor.execute(backend.sql(_LISTENER), {"listener": delivery["listener"]})
        cursor.execute(backend.sql(_DELIVERY), {**delivery, "event": number})
    return True


def _append_within(
    backend: Backend, connection: Connection, values: dict[str, Any], deliveries: Sequence[dict[str, Any]]
) -> bool:
    """Store an event and its deliveries in a host's transaction; return false if there is an event of its id."""
    with backend.within(connection, _DOING) as transaction:
        new = [row["listener"] for row in deliveries if row["listener"] not in backend.known_listeners]
        if new:
            with backend.beside(transaction, _DOING) as beside:
                beside.exec_driver_sql(backend.sql(_LISTENER), [{"listener": name} for name in new])
            # Where there is one writer, the host may roll them back.
            backend.known_listeners.update(new if backend.has_writers_beside else ())
        number = transaction.exec_driver_sql(
            backend.sql(backend.here(_EVENT_HERE)), values | backend.identity()
        ).scalar()
        if number is None:
            backend.check_identity(transaction)
            return False
        for delivery in deliveries:
            transaction.exec_driver_sql(backend.sql(_DELIVERY), {**delivery, "event": number})
    return True


def _store_again(backend: Backend, work: Callable[[Any], bool], event_id: str, lost: CommitLostError) -> None:
    """Store an event whose commit may or may not have reached the server; that it is there already is fine.

    The server decides: an insert waits for a transaction of the lost connection that is still open.

    Raises:
        JournalError: It is still unknown after `busy_seconds` whether the event is stored.
    """
    error: Exception = lost
    deadline = time.monotonic() + backend.busy_seconds
    while True:
        try:
            backend.write(_DOING, work)
        except JournalError as another:
            error = another
        else:
            return
        if time.monotonic() > deadline:
            break
        time.sleep(_RETRY_SECONDS)
    unknown = JournalError(
        f"the event may be stored: the connection was lost during the commit, and then {error}; "
        f"fix: fire again with event_id={event_id!r}"
    )
    unknown.event_id = event_id
    raise unknown from error


_COLUMNS = "INSERT INTO pulp_hooks_event (id, type, time, repo_id, content, trace_context)"

# No event has an earlier time than the one before: so the events of a time window are a range of numbers.
_ROW = """
    :id, :type,
    {greatest}({now}, coalesce((SELECT time FROM pulp_hooks_event ORDER BY number DESC LIMIT 1), 0)),
    :repo_id, :content, CAST(:trace_context AS TEXT)
"""

# Measured on SQLite: 11 us less than the statement below, which copies its row to a temporary table first.
_EVENT = f"{_COLUMNS} VALUES ({_ROW}) ON CONFLICT DO NOTHING {{returning}}"

_EVENT_HERE = f"{_COLUMNS} SELECT {_ROW} WHERE true ON CONFLICT DO NOTHING RETURNING number"

# A listener may be disabled meanwhile, so that the database decides at the moment of storing.
_DELIVERY = f"""
INSERT INTO pulp_hooks_delivery (event, listener, ordering_key, state, due, created)
SELECT CAST(:event AS BIGINT), CAST(:listener AS TEXT), CAST(:ordering_key AS BIGINT),
    CASE WHEN is_held THEN '{State.HELD}' ELSE '{State.PENDING}' END, CASE WHEN is_held THEN NULL ELSE at END, at
FROM (SELECT {{now}} AS at, EXISTS (
    SELECT 1 FROM pulp_hooks_listener WHERE name = :listener AND disabled_at IS NOT NULL) AS is_held) AS facts
"""

_LISTENER = "INSERT INTO pulp_hooks_listener (name) VALUES (:listener) ON CONFLICT DO NOTHING"
