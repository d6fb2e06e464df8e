"""What a message says, and which configurations are refused, without a mail server."""

import json
import re
from datetime import UTC, datetime, timedelta
from email import message_from_bytes, policy
from email.headerregistry import Address
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from marshmallow import ValidationError
from pulp_hooks_email import Email
from pulp_hooks_email.mail import Mail, shown, subject_of, text_of

from pulp_hooks import Event
from pulp_hooks.formats import Format
from pulp_hooks.testing import example_event

SENDER = Address("Pulp", "pulp", "example.org")
TEMPLATE = "[pulp] {event_type} {repo_id}: {result}"

any_text = st.text(st.characters(codec="utf-8"), min_size=1)


def parsed(event: Event, format_: Format = Format.CLOUDEVENTS, template: str = TEMPLATE) -> EmailMessage:
    """Return the message to Ann, parsed by the standard library."""
    content = Mail(event, SENDER, template, format_).to("ann@example.org")
    mail = message_from_bytes(content, policy=policy.default)
    assert isinstance(mail, EmailMessage)
    assert not mail.defects
    return mail


@given(repo_id=any_text, error=st.none() | any_text, format_=st.sampled_from(["cloudevents", "standard", "pulp2"]))
def test_any_text_makes_one_valid_message(repo_id: str, error: str | None, format_: str) -> None:
    """The subject arrives as it was written, each line of the text is printable, the JSON is complete."""
    event = example_event("repo-publish-finished", repo_id=repo_id, error_message=error, result="failed")
    mail = parsed(event, Format(format_))
    subject = subject_of(event, TEMPLATE)
    assert subject.isprintable()
    assert len(subject) <= 200
    assert mail["Subject"].split() == subject.split()
    assert mail["To"] == "ann@example.org"
    assert mail["From"] == "Pulp <pulp@example.org>"
    if format_ == "pulp2":
        sent = json.loads(mail.get_content())["payload"]
    else:
        text, attached = mail.iter_parts()
        lines = text.get_content().replace("\r\n", "\n")
        assert lines == text_of(event)
        assert all(line.isprintable() for line in lines.split("\n"))
        sent = json.loads(attached.get_content())["data"]
    assert sent == event.body


def test_old_body_is_that_of_pulp_2() -> None:
    """It is the envelope alone, indented by two, in plain text, without anything attached."""
    event = example_event("repo-sync-started", repo_id="zoo")
    mail = parsed(event, Format.PULP2)
    assert mail.get_content_type() == "text/plain"
    envelope = {"event_type": "repo.sync.start", "payload": {"repo_id": "zoo"}, "call_report": None}
    assert mail.get_content().replace("\r\n", "\n") == json.dumps(envelope, indent=2) + "\n"


@pytest.mark.parametrize(("format_", "kind"), [("cloudevents", "cloudevents+json"), ("standard", "json")])
def test_json_is_attached_as_a_file(format_: str, kind: str) -> None:
    """A mail program offers it under a name and with its media type."""
    _, attached = parsed(example_event("repo-sync-started"), Format(format_)).iter_parts()
    assert attached.get_content_type() == f"application/{kind}"
    assert attached.get_content_disposition() == "attachment"
    assert attached.get_filename() == "event.json"


def test_message_id_derives_from_event_and_address() -> None:
    """It is the same in every attempt, and another one for each address and event."""
    first, second = example_event("repo-sync-started"), example_event("repo-sync-started")
    mails = [Mail(event, SENDER, TEMPLATE, Format.STANDARD) for event in (first, first, second)]
    ids = [mail.message_id(address) for mail in mails for address in ("ann@example.org", "bob@example.org")]
    assert ids[:2] == ids[2:4]
    assert len(set(ids)) == 4
    assert all(re.fullmatch(r"<[0-9a-f]{24}@example\.org>", one) for one in ids)


def test_message_is_marked_as_automatic_and_dated_now() -> None:
    """Holiday notices do not reply to it, and a message that was delayed is not sorted in as an old one."""
    mail = parsed(example_event("repo-sync-started"))
    assert mail["Auto-Submitted"] == "auto-generated"
    assert abs(mail["Date"].datetime - datetime.now(UTC)) < timedelta(hours=1)


def test_started_event_has_no_result_in_its_text() -> None:
    """Its subject says `started`."""
    event = example_event("repo-publish-started", repo_id="zoo")
    assert subject_of(event, TEMPLATE) == "[pulp] repo-publish-started zoo: started"
    assert text_of(event).startswith("The publish of zoo has started.\n\nRepository:  zoo\n")
    assert "Result" not in text_of(event)


@pytest.mark.parametrize(
    ("completed", "duration"),
    [
        ("2026-03-02T09:30:00Z", "0 s"),
        ("2026-03-02T09:31:00Z", "1 min"),
        ("2026-03-03T10:31:05Z", "25 h 1 min 5 s"),
        ("2026-03-02T09:29:00Z", None),
    ],
)
def test_duration_is_readable(completed: str, duration: str | None) -> None:
    """It is left out if the host's clock was set back meanwhile."""
    event = example_event("repo-sync-finished", started="2026-03-02T09:30:00Z", completed=completed)
    assert re.findall(r"^Duration: +(.*)$", text_of(event), re.MULTILINE) == ([] if duration is None else [duration])


def test_error_is_shown_with_its_lines_and_shortened() -> None:
    """A traceback-like message stays readable, and does not fill the mail."""
    message = "\n".join(["first", *["  more"] * 30, "x" * 1000])
    shown_text = text_of(example_event("repo-sync-finished", result="error", error_message=message))
    block = shown_text.split("Error:\n")[1].split("\n\n")[0].split("\n")
    assert block[:2] == ["    first", "      more"]
    assert block[-1] == "    (12 more lines)"
    assert len(block) == 21


def test_unknown_counts_are_left_out() -> None:
    """A count of null is unknown, zero is not."""
    event = example_event("repo-sync-finished", added_count=0, updated_count=None, removed_count=None)
    assert "Counts:      0 added\n" in text_of(event)


@given(st.text(st.characters(codec="utf-8")), st.integers(10, 50))
def test_shown_text_is_printable_and_short(text: str, most: int) -> None:
    """Whatever it is made of; short printable text stays as it is."""
    result = shown(text, most)
    assert result.isprintable()
    assert len(result) <= most
    assert result == text or not text.isprintable() or len(text) > most


BASIS: dict[str, Any] = {"addresses": ["ann@example.org"], "from": "pulp@example.org", "host": "smtp.example.org"}


def test_defaults() -> None:
    """The port follows from the encryption, which is on."""
    email = Email.configured(**BASIS)
    assert email.config["security"] == "starttls"
    assert [Email.configured(**BASIS, security=name)._server.port for name in ("starttls", "tls", "none")] == [
        587,
        465,
        25,
    ]


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"addresses": []}, "must have 1 to 50 addresses"),
        ({"addresses": ["ann@example.org"] * 2}, "has an address twice"),
        ({"addresses": [f"a{n}@example.org" for n in range(51)]}, "must have 1 to 50 addresses"),
        ({"addresses": "ann@example.org"}, "must be a list of addresses"),
        ({"addresses": ["ann"]}, "is not an email address"),
        ({"addresses": ["ann@example.org\r\nBcc: eve@example.org"]}, "is not an email address"),
        ({"addresses": ["ann@example.org\n"]}, "is not an email address"),
        ({"addresses": ["ann@exämple.org"]}, "xn--"),
        ({"addresses": ["Ann <ann@example.org>"]}, "is not an email address"),
        ({"addresses": ["a@b.org>,<eve@example.org"]}, "is not an email address"),
        ({"addresses": ["=?utf-8?q?=0D=0A?=@example.org"]}, "is not an email address"),
        ({"from": "pulp"}, "is not an email address"),
        ({"from": "Pulp\r\nBcc: eve@example.org <pulp@example.org>"}, "is not an email address|must be printable"),
        ({"from": "=?utf-8?q?x=0D=0ABcc:_eve@example.org?= <pulp@example.org>"}, "must be printable, without"),
        ({"from": "=?utf-8?q?x=0D=0ABcc:_eve?=@example.org"}, "is not an email address|without '=\\?'"),
        ({"host": "smtp.example.org:25"}, "must be a host name or an address"),
        ({"host": "smtp://example.org"}, "must be a host name or an address"),
        ({"port": 0}, "Must be greater than"),
        ({"port": "25"}, "Not a valid integer"),
        ({"security": "ssl"}, "Must be one of: starttls, tls, none"),
        ({"username": "pulp"}, "give both or neither"),
        ({"password": "x"}, "give both or neither"),
        ({"username": "pulp", "password": "x", "security": "none"}, "never sent without encryption"),
        ({"ca_path": "ca.pem", "security": "none"}, "has no use without encryption"),
        ({"timeout": 0}, "must be a number of seconds"),
        ({"timeout": float("inf")}, "nan|Special numeric values"),
        ({"format": "cloudevents-binary"}, "Must be one of: pulp2, standard, cloudevents"),
        ({"subject": "{repo}"}, "has an unknown placeholder {repo}"),
        ({"subject": "{repo_id.__class__}"}, "has an unknown placeholder"),
        ({"subject": "{repo_id!r}"}, "has an unknown placeholder"),
        ({"subject": "{repo_id:{result}}"}, "has an unknown placeholder"),
        ({"subject": "{"}, "has a single brace"),
        ({"subject": "a\r\nBcc: eve@example.org"}, "must be one line"),
        ({"subject": " "}, "must be one line"),
        ({"enabled": True}, "Unknown field"),
    ],
)
def test_wrong_configuration_is_refused(config: dict[str, Any], message: str) -> None:
    """The message says what is wrong, and never has the password."""
    with pytest.raises(ValidationError, match=message):
        Email.configured(**{**BASIS, **config})


def test_braces_of_a_subject_are_doubled() -> None:
    """As in Python."""
    email = Email.configured(**BASIS, subject="{{pulp}} {result}")
    assert subject_of(example_event("repo-sync-finished"), email.config["subject"]) == "{pulp} success"


@pytest.mark.parametrize("content", [None, "", "-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----\n"])
def test_unusable_ca_path_is_refused_at_once(tmp_path: Path, content: str | None) -> None:
    """The message names the path, and `pulp-hooks check` shows it."""
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ValueError, match=re.escape(f"ca_path {str(path)!r} cannot be used: ")):
        Email.configured(**BASIS, ca_path=str(path))


def test_password_is_not_in_any_repr() -> None:
    """Neither of the notifier nor of its parts."""
    email = Email.configured(**BASIS, username="pulp", password="canary")  # noqa: S106 - a canary
    assert "canary" not in repr(email) + repr(email._server)


@pytest.mark.parametrize("name", ["Pulp, the server", "Pülp", "", "p" * 200, "O'Pulp (mirror)"])
def test_sender_may_have_a_name(name: str) -> None:
    """It may be beyond ASCII, and have characters that have a meaning in addresses."""
    email = Email.configured(**{**BASIS, "from": f'"{name}" <pulp@example.org>'})
    content = Mail(example_event("repo-sync-started"), email._sender, TEMPLATE, Format.STANDARD).to("ann@example.org")
    (sender,) = message_from_bytes(content, policy=policy.default)["From"].addresses
    assert (sender.display_name, sender.addr_spec) == (name, "pulp@example.org")
