"""A notifier for pulp_hooks: sends each event by email, one message per address."""

import ipaddress
import json
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.headerregistry import Address
from pathlib import Path
from typing import Any

from marshmallow import ValidationError, fields, validates_schema
from marshmallow.validate import Length, OneOf, Range
from pulp_hooks_email.mail import Mail, check_subject
from pulp_hooks_email.smtp import FAILURES, PORTS, Deadline, RefusedError, Reply, Security, Server, Session

from pulp_hooks import Event, Notifier, PermanentFailure, current_attempt
from pulp_hooks.formats import Format

_MAX_ADDRESSES = 50
_MAX_DETAIL_BYTES = 7500
"""Below the size cap of a detail: a truncated one would not say who has the message."""

_SHORTEST = 16
"""How many characters of each text a detail has at least, without replies: so everything fits."""

_MAX_REPLIES = 10

_SENT, _REFUSED, _FAILED, _NOT_TRIED = "sent", "refused", "failed", "not tried"

# Without encoded words (`=?utf-8?q?...?=`), which mail programs would decode.
_LOCAL_PART = re.compile(r"(?!.*=\?)[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}")
_HOST_NAME = re.compile(r"(?=.{1,253}\.?$)[A-Za-z0-9_]([A-Za-z0-9_-]{0,62})(\.[A-Za-z0-9_][A-Za-z0-9_-]{0,62})*\.?")
_NAMED_ADDRESS = re.compile(r"(?P<name>[^<>]*)<(?P<address>[^<>]*)>")


class EmailError(Exception):
    """Some of the messages were not sent, and are worth another attempt.

    Attributes:
        detail: What happened with each recipient.
    """

    def __init__(self, message: str, detail: Mapping[str, object]) -> None:
        super().__init__(message)
        self.detail = detail


def _check_address(address: str) -> None:
    local, _, domain = address.rpartition("@")
    if not _LOCAL_PART.fullmatch(local) or not _HOST_NAME.fullmatch(domain) or len(address) > 254:  # noqa: PLR2004 - RFC 5321
        raise ValidationError(
            f"{address[:100]!r} is not an email address such as ann@example.org; "
            "fix: write a domain with letters beyond ASCII as xn--"
        )


def _check_sender(sender: str) -> None:
    address = _address_of(sender)
    _check_address(address.addr_spec)
    if not address.display_name.isprintable() or "=?" in address.display_name:
        raise ValidationError("the name before the address must be printable, without '=?'")


def _address_of(sender: str) -> Address:
    """Return an address that may have a name before it: `ann@example.org`, `Ann <ann@example.org>`."""
    found = _NAMED_ADDRESS.fullmatch(sender)
    name, address = (found["name"].strip().strip('"'), found["address"]) if found else ("", sender)
    local, _, domain = address.rpartition("@")
    try:
        return Address(name, local, domain)
    except Exception as error:  # whatever the parser of `email` raises for it
        raise ValidationError(f"{sender[:100]!r} is not an email address such as ann@example.org") from error


def _check_host(host: str) -> None:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        if not _HOST_NAME.fullmatch(host):
            raise ValidationError(
                "must be a host name or an address; fix: give the port and the encryption by `port` and `security`"
            ) from None


def _check_subject(subject: str) -> None:
    problem = check_subject(subject)
    if problem is not None:
        raise ValidationError(problem)


_TEXT: dict[str, Any] = {"error_messages": {"required": "is missing", "invalid": "must be a string"}}


class Email(Notifier):
    """Sends a message about each event to each of its addresses.

    Every message has its own outcome. If some were not sent, the attempt fails, and the next one sends only these, in
    any worker: the detail of the attempt says who has the message.

    Raises:
        ValueError: `ca_path` has no certificates.
    """

    class Config(Notifier.Config):
        """The server, the addresses, and what to send. `password` is a secret."""

        addresses = fields.List(
            fields.String(validate=_check_address, **_TEXT),
            required=True,
            validate=Length(
                min=1, max=_MAX_ADDRESSES, error="must have 1 to {max} addresses; fix: use several listeners for more"
            ),
            error_messages={"required": "is missing", "invalid": "must be a list of addresses"},
        )
        # The key `from` is a keyword of Python.
        from_ = fields.String(data_key="from", required=True, validate=_check_sender, **_TEXT)
        subject = fields.String(
            load_default="[pulp] {event_type} {repo_id}: {result}", validate=_check_subject, **_TEXT
        )
        format = fields.String(
            load_default=Format.CLOUDEVENTS.value,
            validate=OneOf([Format.PULP2.value, Format.STANDARD.value, Format.CLOUDEVENTS.value]),
            **_TEXT,
        )
        host = fields.String(required=True, validate=_check_host, **_TEXT)
        port = fields.Integer(strict=True, load_default=None, validate=Range(1, 65535))
        security = fields.String(load_default=Security.STARTTLS.value, validate=OneOf(list(Security)), **_TEXT)
        username = fields.String(load_default=None, validate=Length(min=1), **_TEXT)
        password = fields.String(load_only=True, load_default=None, validate=Length(min=1), **_TEXT)
        ca_path = fields.String(load_default=None, validate=Length(min=1), **_TEXT)
        timeout = fields.Float(
            load_default=20.0,
            validate=Range(
                0, 3600, min_inclusive=False, error="must be a number of seconds, more than 0 and at most 3600"
            ),
        )

        @validates_schema
        def check(self, data: dict[str, Any], **_: object) -> None:
            """Refuse what does not fit together."""
            if (data["username"] is None) != (data["password"] is None):
                raise ValidationError("username and password belong together; fix: give both or neither", "username")
            if data["security"] == Security.NONE and data["password"] is not None:
                raise ValidationError(
                    "a password is never sent without encryption; fix: use starttls or tls, or remove the password",
                    "security",
                )
            if data["security"] == Security.NONE and data["ca_path"] is not None:
                raise ValidationError("has no use without encryption; fix: remove it", "ca_path")
            if len({address.lower() for address in data["addresses"]}) < len(data["addresses"]):
                raise ValidationError("has an address twice; fix: remove one", "addresses")

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__(config)
        security = Security(config["security"])
        login = None if config["password"] is None else (config["username"], config["password"])
        context = None if security is Security.NONE else _context(config["ca_path"])
        self._server = Server(config["host"], config["port"] or PORTS[security], security, context, login)
        self._sender = _address_of(config["from_"])

    def notify(self, event: Event) -> Mapping[str, object]:
        """Send the messages that earlier attempts of this delivery did not send.

        Raises:
            EmailError: Some were not sent.
            PermanentFailure: All were sent, but for those that the server refused for good.
        """
        deadline = Deadline(self.config["timeout"])
        mail = Mail(event, self._sender, self.config["subject"], Format(self.config["format"]))
        attempt = current_attempt(event)
        earlier = _earlier(attempt.previous_detail)
        recipients = [_Recipient(address, mail.key(address)) for address in self.config["addresses"]]
        for recipient in recipients:
            status, error = earlier.get(recipient.key, (_NOT_TRIED, None))
            # The first step with an earlier attempt is an operator's replay, which is for refused recipients too.
            if status == _SENT or (status == _REFUSED and attempt.step > 1):
                recipient.status, recipient.error, recipient.is_done = status, error, True
            elif status == _FAILED:
                recipient.status = _FAILED
        # An address at which an earlier attempt failed, perhaps by running out of time, must not hold up the others.
        todo = sorted(
            (recipient for recipient in recipients if not recipient.is_done),
            key=lambda recipient: recipient.status == _FAILED,
        )
        record = _Record(self._server, recipients)
        self._send(mail, todo, record, deadline)
        detail = record.detail()
        missing = [recipient for recipient in recipients if recipient.status != _SENT]
        if not missing:
            return detail
        reason = _reason(missing, len(recipients), record.error)
        if all(recipient.status == _REFUSED for recipient in missing):
            raise PermanentFailure(reason, detail=detail)
        raise EmailError(reason, detail)

    def _send(self, mail: Mail, todo: "list[_Recipient]", record: "_Record", deadline: Deadline) -> None:
        """Send the messages over one connection, or a new one after each failure of it."""
        session = None
        try:
            for recipient in todo:
                if session is None or not session.is_open:
                    session = Session(self._server, deadline)
                    record.session = session
                    session.open()
                try:
                    recipient.replies = session.deliver(
                        self._sender.addr_spec, recipient.address, mail.to(recipient.address)
                    )
                    recipient.status, recipient.error = _SENT, None
                except RefusedError as error:
                    recipient.fail(_REFUSED if error.reply.is_permanent else _FAILED, str(error))
                    recipient.replies = [error.reply]
                except FAILURES as error:
                    recipient.fail(_FAILED, self._why(error, deadline))
                    session.close()
            if session is not None:
                session.leave()
        except FAILURES as error:
            # There is no session, and another try would end in the same way.
            record.error = self._why(error, deadline)
        finally:
            if session is not None:
                session.close()

    def _why(self, error: BaseException, deadline: Deadline) -> str:
        if deadline.is_over:
            return f"the timeout of {self.config['timeout']:g} s is over"
        if isinstance(error, ssl.SSLCertVerificationError):
            return f"the server's certificate is not valid: {error.verify_message}"
        return f"{type(error).__name__}: {error}" if isinstance(error, OSError) else str(error)


@dataclass
class _Recipient:
    """A recipient of the messages about one event.

    Attributes:
        address: The address.
        key: What identifies the message, the same in every attempt.
        status: What became of the message.
        is_done: Whether there is nothing to do in this attempt.
        error: Why the message was not sent, in this attempt or an earlier one.
        replies: The server's replies in this attempt.
    """

    address: str
    key: str
    status: str = _NOT_TRIED
    is_done: bool = False
    error: str | None = None
    replies: list[Reply] = field(default_factory=list)

    def detail(self, longest: int) -> dict[str, object]:
        """Return what an attempt shows of the recipient, with texts of so many characters."""
        detail: dict[str, object] = {"address": self.address[:longest], "status": self.status}
        if self.error is not None:
            detail["error"] = self.error[:longest]
        if self.replies and longest > _SHORTEST:
            detail["replies"] = [str(reply)[:longest] for reply in self.replies]
        return detail

    def fail(self, status: str, error: str) -> None:
        """Note that the message was not sent."""
        self.status, self.error = status, error


@dataclass
class _Record:
    """What an attempt shows of its work.

    Attributes:
        server: The server.
        recipients: All recipients.
        session: The last session.
        error: Why there is no session.
    """

    server: Server
    recipients: list[_Recipient]
    session: Session | None = None
    error: str | None = None

    def detail(self) -> dict[str, object]:
        """Return the detail of the attempt, which has room for every recipient, however much the server said."""
        for longest in (300, 80, _SHORTEST):
            detail = self._detail(longest)
            if len(json.dumps(detail, ensure_ascii=False).encode()) <= _MAX_DETAIL_BYTES:
                break
        return detail

    def _detail(self, longest: int) -> dict[str, object]:
        session = self.session
        own = {id(reply) for recipient in self.recipients for reply in recipient.replies}
        replies = [] if session is None else [reply for reply in session.replies if id(reply) not in own]
        return {
            "server": f"{self.server.host}:{self.server.port}",
            "security": self.server.security.value,
            "tls": None if session is None else session.tls,
            "error": None if self.error is None else self.error[:longest],
            "replies": [str(reply)[:longest] for reply in replies[:_MAX_REPLIES]],
            "recipients": {recipient.key: recipient.detail(longest) for recipient in self.recipients},
        }


def _earlier(detail: Mapping[str, object] | None) -> dict[str, tuple[str, str | None]]:
    """Return status and error of each message in the detail of an earlier attempt, by its key."""
    found = (detail or {}).get("recipients")
    parts = found.items() if isinstance(found, dict) else ()
    return {key: (str(part.get("status")), part.get("error")) for key, part in parts if isinstance(part, dict)}


def _reason(missing: list[_Recipient], count: int, error: str | None) -> str:
    reasons = [f"{one.address}: {one.error or error or one.status}" for one in missing[:3]]
    more = [f"and {len(missing) - 3} more"] if len(missing) > 3 else []  # noqa: PLR2004 - as many as fit on a line
    return f"{len(missing)} of {count} messages not sent: " + "; ".join([*reasons, *more])


def _context(ca_path: str | None) -> ssl.SSLContext:
    """Return a context that verifies certificates and host names, by the CAs of the file in place of the system's.

    Raises:
        ValueError: There are no certificates.
    """
    path = None if ca_path is None else Path(ca_path)
    of_folder = path is not None and path.is_dir()
    try:
        context = ssl.create_default_context(capath=path) if of_folder else ssl.create_default_context(cafile=path)
    except OSError as error:
        reason = error.strerror if not isinstance(error, ssl.SSLError) and error.strerror else "it has no certificate"
        raise ValueError(f"ca_path {ca_path!r} cannot be used: {reason}; fix: name a file in PEM format") from error
    # Not every build of Python, or configuration of OpenSSL, begins with it.
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context
