"""What a message says: a text for people with the event as JSON attached, or the body that Pulp 2 sent."""

import hashlib
import json
import string
from datetime import UTC, datetime
from email.header import Header
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from typing import Any

from pulp_hooks import Event
from pulp_hooks.formats import Format, write_message

PLACEHOLDERS = ("event_type", "repo_id", "result")
"""What a subject may have in braces."""

_MAX_SUBJECT = 200
_MAX_ID = 100
"""How many characters of an identifier are in a subject."""

_MAX_VALUE = 500
_MAX_ERROR_LINES = 20
_MAX_PLAIN = 60
"""How long a subject may be that needs no encoding: it fits on a line of 78 characters."""

_PULP_2_INDENT = 2

# Whatever it is made of, a message has lines of ASCII that every server takes.
_POLICY = SMTP.clone(cte_type="7bit")


class Mail:
    """The message about an event, to be addressed to one recipient after the other.

    Args:
        event: The event.
        sender: Address of the sender.
        subject: Template of the subject.
        format_: Format of the JSON.
    """

    def __init__(self, event: Event, sender: Address, subject: str, format_: Format) -> None:
        self._event = event
        self._sender = sender
        self._subject = _encoded(subject_of(event, subject))
        self._message = write_message(event, format_)
        self._is_old = format_ is Format.PULP2

    def key(self, recipient: str) -> str:
        """Return what identifies the message to this recipient, the same in every attempt."""
        return hashlib.sha256(f"{self._event.id}\n{recipient}".encode()).hexdigest()[:24]

    def message_id(self, recipient: str) -> str:
        """Return the Message-ID of the message to this recipient, by which mail systems recognize repetitions."""
        return f"<{self.key(recipient)}@{self._sender.domain}>"

    def to(self, recipient: str) -> bytes:
        """Return the message to this recipient."""
        mail = EmailMessage(_POLICY)
        mail["From"] = self._sender
        mail["To"] = Address(addr_spec=recipient)
        mail["Date"] = format_datetime(datetime.now(UTC))
        mail["Message-ID"] = self.message_id(recipient)
        mail["Auto-Submitted"] = "auto-generated"
        content = self._message.content
        if self._is_old:
            mail.set_content(json.dumps(json.loads(content), indent=_PULP_2_INDENT), charset="us-ascii")
        else:
            mail.set_content(text_of(self._event), cte="quoted-printable")
            main, _, sub = self._message.content_type.partition("/")
            mail.add_attachment(content, maintype=main, subtype=sub, filename="event.json")
        # The subject is encoded here: the header classes of `email` would decode encoded words that a repository's name
        # contains, line breaks included.
        return b"Subject: " + self._subject.encode("ascii") + b"\r\n" + mail.as_bytes()


def subject_of(event: Event, template: str) -> str:
    """Return the subject: one line of printable characters."""
    body: dict[str, Any] = {**event.body}
    values = {
        "event_type": event.type.value,
        "repo_id": shown(str(body["repo_id"]), _MAX_ID),
        "result": shown(str(body.get("result", "started")), _MAX_ID),
    }
    return shown(template.format_map(values), _MAX_SUBJECT)


def check_subject(template: str) -> str | None:
    """Return what is wrong with the template of a subject; null if nothing is."""
    known = "{event_type}, {repo_id} and {result}"
    if not template.strip() or not template.isprintable() or len(template) > _MAX_SUBJECT:
        return f"must be one line of 1 to {_MAX_SUBJECT} printable characters"
    try:
        parts = list(string.Formatter().parse(template))
    except ValueError:
        return f"has a single brace; only {known} are replaced, and {{{{ and }}}} are braces"
    for _, name, options, conversion in parts:
        if name is not None and (name not in PLACEHOLDERS or options or conversion):
            return f"has an unknown placeholder {{{name}}}; use {known}"
    return None


def text_of(event: Event) -> str:
    """Return an event as text for people; nothing in it can break a line or pass for another one."""
    body: dict[str, Any] = {**event.body}
    what, _, stage = event.type.value.removeprefix("repo-").partition("-")
    repo_id = shown(str(body["repo_id"]), _MAX_ID)
    result = body.get("result")
    headline = f"The {what} of {repo_id} has {stage}" + (f": {shown(str(result))}." if result else ".")
    facts = {
        "Repository": body["repo_id"],
        "Event": event.type.value,
        "Result": result,
        "Counts": _counts(body),
        "Started": body.get("started"),
        "Completed": body.get("completed"),
        "Duration": _duration(body.get("started"), body.get("completed")),
        "Importer": body.get("importer_id"),
        "Distributor": body.get("distributor_id"),
        "Host": event.source,
        "Fired": event.time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "Event ID": event.id,
        "Operation": event.operation_id,
    }
    width = max(map(len, facts)) + 2
    lines = [f"{name + ':':{width}}{shown(str(value))}" for name, value in facts.items() if value is not None]
    error = str(body.get("error_message") or body.get("exception") or "").strip()
    if error:
        found = error.splitlines()
        more = [f"({len(found) - _MAX_ERROR_LINES} more lines)"] if len(found) > _MAX_ERROR_LINES else []
        lines += ["", "Error:", *(f"    {shown(line)}" for line in [*found[:_MAX_ERROR_LINES], *more])]
    return "\n".join([headline, "", *lines, "", "The attached event.json has everything.", ""])


def shown(text: str, most: int = _MAX_VALUE) -> str:
    """Return a text that came from elsewhere, escaped and shortened so that it stays on its line.

    Line breaks, control characters and marks that turn the direction of writing are escaped as in Python.
    """
    kept = text if len(text) <= most else text[: most - 3] + "..."
    if not kept.isprintable():
        kept = "".join(one if one.isprintable() else ascii(one)[1:-1] for one in kept)
    return kept if len(kept) <= most else kept[: most - 3] + "..."


def _encoded(subject: str) -> str:
    """Return a subject as the value of a header, in encoded words unless it is short and plain."""
    if subject.isascii() and "=?" not in subject and len(subject) <= _MAX_PLAIN and subject == subject.strip():
        return subject
    return Header(subject, "utf-8", maxlinelen=76, header_name="Subject").encode(linesep="\r\n")


def _counts(body: dict[str, Any]) -> str | None:
    counts = {name: body.get(f"{name}_count") for name in ("added", "updated", "removed")}
    return ", ".join(f"{count} {name}" for name, count in counts.items() if count is not None) or None


def _duration(started: object, completed: object) -> str | None:
    try:
        seconds = round((datetime.fromisoformat(str(completed)) - datetime.fromisoformat(str(started))).total_seconds())
    except (ValueError, TypeError):
        return None
    if seconds < 0:
        return None
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    units = {"h": hours, "min": minutes, "s": seconds}
    return " ".join(f"{value} {unit}" for unit, value in units.items() if value) or "0 s"
