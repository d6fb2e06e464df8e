"""For receivers: verifying that a webhook is genuine, recent and not a repetition (Standard Webhooks 1.0.0)."""

import base64
import binascii
import sqlite3
import time
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from pulp_hooks_http.keys import Key, parse_key, signed_content

_HEADERS = ("webhook-id", "webhook-timestamp", "webhook-signature")

_MOST_DIGITS = 12

_MOST_SIGNATURES = 20
"""So many signatures are looked at, so that a long header costs no time."""

_DAY = 86_400.0


class VerificationError(Exception):
    """A webhook that must not be trusted. The message says why, and has nothing secret."""


@dataclass(frozen=True, slots=True)
class Verified:
    """A webhook that is genuine.

    Attributes:
        id: Identifier of the event, the same each time it is sent.
        timestamp: When this attempt was made; seconds since 1970.
        is_duplicate: Whether `seen` has the identifier already.
    """

    id: str
    timestamp: int
    is_duplicate: bool = False


class SeenIds:
    """The identifiers of events that a receiver has processed, in a SQLite file of its own.

    Any number of threads and processes may use one file.

    Args:
        path: Path of the file; it is created if there is none.
        keep_days: How long an identifier is remembered; days. A sender retries for about three days, but may replay
            an event much later.

    Raises:
        sqlite3.Error: The file cannot be opened or is no database.
    """

    def __init__(self, path: str | Path, keep_days: float = 30.0) -> None:
        self._path = path
        self._keep_seconds = keep_days * _DAY
        with closing(self._connect()) as connection, connection:
            connection.execute("CREATE TABLE IF NOT EXISTS seen (id TEXT PRIMARY KEY, time REAL) WITHOUT ROWID")

    def __contains__(self, webhook_id: str) -> bool:
        """Return whether an event was processed."""
        with closing(self._connect()) as connection:
            return connection.execute("SELECT 1 FROM seen WHERE id = ?", [webhook_id]).fetchone() is not None

    def add(self, webhook_id: str) -> bool:
        """Remember that an event was processed; return false if that is known already.

        Call it when the work is done: an event that is remembered before would be lost with a crash in between.
        """
        now = time.time()
        with closing(self._connect()) as connection, connection:
            connection.execute("DELETE FROM seen WHERE time < ?", [now - self._keep_seconds])
            return connection.execute("INSERT OR IGNORE INTO seen VALUES (?, ?)", [webhook_id, now]).rowcount == 1

    def _connect(self) -> sqlite3.Connection:
        return sqlite3.connect(self._path, timeout=10.0)


def verify(
    content: bytes,
    headers: Mapping[str, str],
    keys: str | Iterable[str],
    *,
    tolerance_seconds: float = 300.0,
    seen: SeenIds | None = None,
) -> Verified:
    """Return what is known of a webhook, if one of the keys has signed it.

    Args:
        content: The body of the request, as it was received.
        headers: Its headers; case does not matter.
        keys: The shared secret (`whsec_`) or the sender's public key (`whpk_`); several while a key is being replaced.
        tolerance_seconds: How old a webhook may be, and how far ahead of this machine's clock; seconds.
        seen: Where the identifiers of processed events are kept.

    Raises:
        VerificationError: A header is missing or invalid, the time is too far away, no signature fits, or a key is
            invalid. Nothing else is raised, whatever the request has.
    """
    try:
        webhook_id, timestamp, signatures = _read(headers)
        moment = _check_time(timestamp, tolerance_seconds)
        signed = signed_content(webhook_id, timestamp, content)
        found = [key.verify(signed, signature) for key in _parsed(keys) for signature in _of(key, signatures)]
        if not any(found):
            raise VerificationError("no signature fits: the webhook was changed, or signed with another key")
        return Verified(webhook_id, moment, seen is not None and webhook_id in seen)
    except sqlite3.Error as error:
        raise VerificationError(f"the identifiers that were seen cannot be read: {error}") from error
    except (AttributeError, TypeError, ValueError) as error:
        # A receiver that has no key, or passes text for bytes, must not answer as if all were well.
        raise VerificationError(f"an argument is not what it should be: {error}") from error


def _read(headers: Mapping[str, str]) -> list[str]:
    """Return identifier, timestamp and signatures."""
    given = {str(name).lower(): value for name, value in headers.items()}
    for name in _HEADERS:
        value = given.get(name)
        if not isinstance(value, str) or not value:
            raise VerificationError(f"the header {name} is missing")
        if not value.isascii() or not value.isprintable():
            raise VerificationError(f"the header {name} is invalid")
    webhook_id, timestamp, signatures = (given[name] for name in _HEADERS)
    if "." in webhook_id:
        # What is signed could be read in two ways.
        raise VerificationError("the header webhook-id is invalid")
    return [webhook_id, timestamp, signatures]


def _check_time(timestamp: str, tolerance_seconds: float) -> int:
    if not timestamp.isdigit() or len(timestamp) > _MOST_DIGITS:
        raise VerificationError("the header webhook-timestamp is invalid: it must be whole seconds since 1970")
    age = time.time() - int(timestamp)
    # A tolerance that is not a number allows nothing.
    if not abs(age) <= tolerance_seconds:
        where = "old" if age > 0 else "far in the future"
        raise VerificationError(
            f"the webhook is too {where}: {abs(age):.0f} s; fix: if it is genuine, set the clock of this machine"
        )
    return int(timestamp)


def _parsed(keys: str | Iterable[str]) -> list[Key]:
    parsed = []
    for number, text in enumerate([keys] if isinstance(keys, str) else keys, 1):
        try:
            parsed.append(parse_key(text))
        except ValueError as error:
            raise VerificationError(f"key {number} {error}") from None
    return parsed


def _of(key: Key, signatures: str) -> list[bytes]:
    """Return the signatures of a key's scheme; what cannot be decoded is none."""
    found = []
    for entry in signatures.split()[:_MOST_SIGNATURES]:
        scheme, _, encoded = entry.partition(",")
        if scheme == key.scheme:
            try:
                found.append(base64.b64decode(encoded, validate=True))
            except binascii.Error:
                continue
    return found
