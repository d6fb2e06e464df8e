"""Signatures and their verification, byte for byte what independent implementations compute."""

import base64
import time
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st
from pulp_hooks_http import SeenIds, VerificationError, verify
from pulp_hooks_http.keys import parse_key, signed_content
from standardwebhooks import Webhook as Oracle

from .receivers import SECRET

CONTENT = b'{"type": "repo.sync.start"}'


def signed(key: str = SECRET, moment: float | None = None, webhook_id: str = "e1") -> dict[str, str]:
    """Return the headers of a webhook that a key has signed, by default now."""
    timestamp = str(int(time.time() if moment is None else moment))
    signature = parse_key(key).signature_of(signed_content(webhook_id, timestamp, CONTENT))
    return {"Webhook-Id": webhook_id, "Webhook-Timestamp": timestamp, "Webhook-Signature": signature}


def ed25519() -> tuple[str, str, Ed25519PrivateKey]:
    """Return a new key pair: as whsk_, as whpk_, and as another library has it."""
    key = Ed25519PrivateKey.generate()
    public = base64.b64encode(key.public_key().public_bytes_raw()).decode()
    return "whsk_" + base64.b64encode(key.private_bytes_raw()).decode(), f"whpk_{public}", key


def test_hmac_is_that_of_the_official_vector() -> None:
    """From the documentation of Standard Webhooks' libraries."""
    content = b'{"test": 2432232314}'
    signature = parse_key(SECRET).signature_of(signed_content("msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", content))
    assert signature == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_hmac_is_that_of_another_library() -> None:
    """The official library verifies it."""
    Oracle(SECRET).verify(CONTENT, {name.lower(): value for name, value in signed().items()})


def test_ed25519_signature_is_that_of_another_library() -> None:
    """The signature is deterministic (RFC 8032), so the bytes are equal."""
    private, public, key = ed25519()
    headers = signed(private)
    expected = key.sign(signed_content("e1", headers["Webhook-Timestamp"], CONTENT))
    assert headers["Webhook-Signature"] == f"v1a,{base64.b64encode(expected).decode()}"
    assert verify(CONTENT, headers, public).id == "e1"


def test_ed25519_key_may_have_its_public_half_behind_it() -> None:
    """Some libraries write 64 bytes; what does not belong together is refused."""
    private, public, _ = ed25519()
    seed, half = (base64.b64decode(text.partition("_")[2]) for text in (private, public))
    parse_key("whsk_" + base64.b64encode(seed + half).decode())
    with pytest.raises(ValueError, match="the public key that belongs to it"):
        parse_key("whsk_" + base64.b64encode(seed + seed).decode())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "must begin with"),
        ("whsec", "must be 24 to 64"),
        ("whsec_é", "must be Base64"),
        ("whpk_AAAA", "must be 32 bytes"),
        ("whsk_AAAA", "must be 32 or 64 bytes"),
        ("whsec_" + "A" * 92, "must be 24 to 64"),
    ],
)
def test_invalid_key_is_refused(text: str, said: str) -> None:
    """With what is wrong, and none of it."""
    with pytest.raises(ValueError, match=said):
        parse_key(text)
    with pytest.raises(VerificationError, match=f"key 1 {said}"):
        verify(CONTENT, signed(), text)


def test_public_key_cannot_sign() -> None:
    """A receiver has it."""
    with pytest.raises(ValueError, match="cannot sign"):
        parse_key(ed25519()[1]).sign(b"")


def test_genuine_webhook_is_verified() -> None:
    """Whatever the case of its headers, with any of several keys, beside signatures of other schemes."""
    other = "whsec_" + base64.b64encode(b"x" * 24).decode()
    headers = signed()
    headers["Webhook-Signature"] = f"v2,eA== v1,!! v1,eA== {headers['Webhook-Signature']}"
    for given_headers in (headers, {name.upper(): value for name, value in headers.items()}):
        found = verify(CONTENT, given_headers, [other, SECRET])
        assert (found.id, found.timestamp, found.is_duplicate) == ("e1", int(headers["Webhook-Timestamp"]), False)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("Webhook-Id", None, "webhook-id is missing"),
        ("Webhook-Id", "e2", "no signature fits"),
        ("Webhook-Id", "e.1", "webhook-id is invalid"),
        ("Webhook-Id", "é", "webhook-id is invalid"),
        ("Webhook-Timestamp", "", "webhook-timestamp is missing"),
        ("Webhook-Timestamp", "now", "webhook-timestamp is invalid"),
        ("Webhook-Timestamp", "9" * 400, "webhook-timestamp is invalid"),
        ("Webhook-Timestamp", "1", "too old"),
        ("Webhook-Timestamp", "99999999999", "too far in the future"),
        ("Webhook-Signature", None, "webhook-signature is missing"),
        ("Webhook-Signature", "garbage", "no signature fits"),
        ("Webhook-Signature", "v1,", "no signature fits"),
        ("Webhook-Signature", "v1a,eA==", "no signature fits"),
    ],
)
def test_webhook_that_was_changed_is_refused(name: str, value: str | None, said: str) -> None:
    """With the reason."""
    headers = {key: text for key, text in {**signed(), name: value}.items() if text is not None}
    with pytest.raises(VerificationError, match=said):
        verify(CONTENT, headers, SECRET)


def test_body_that_was_changed_is_refused() -> None:
    """By one byte."""
    with pytest.raises(VerificationError, match="no signature fits"):
        verify(CONTENT + b" ", signed(), SECRET)


def test_key_that_was_replaced_is_refused() -> None:
    """After the rotation only the new one counts."""
    with pytest.raises(VerificationError, match="no signature fits"):
        verify(CONTENT, signed(), "whsec_" + base64.b64encode(b"n" * 24).decode())


def test_tolerance_can_be_chosen() -> None:
    """For receivers with a queue in front of them."""
    headers = signed(moment=time.time() - 3000)
    with pytest.raises(VerificationError, match="too old: 300"):
        verify(CONTENT, headers, SECRET)
    assert verify(CONTENT, headers, SECRET, tolerance_seconds=3600).id == "e1"


@given(
    content=st.binary(),
    headers=st.dictionaries(
        st.sampled_from(["webhook-id", "Webhook-Timestamp", "webhook-signature", "x"]),
        st.text(st.characters(codec=None))
        | st.from_regex(r"v1a?,[A-Za-z0-9+/=]*( v1,.*)?")
        | st.just(str(int(time.time()))),
    ),
)
def test_nothing_else_is_raised_whatever_is_received(content: bytes, headers: dict[str, str]) -> None:
    """A receiver needs to catch one error."""
    with pytest.raises(VerificationError):
        verify(content, headers, [SECRET, ed25519()[1]])


def test_repetition_is_recognized_after_a_restart(tmp_path: Path) -> None:
    """Only when it was processed, not when it was merely verified."""
    path = tmp_path / "seen.db"
    assert not verify(CONTENT, signed(), SECRET, seen=SeenIds(path)).is_duplicate
    assert not verify(CONTENT, signed(), SECRET, seen=SeenIds(path)).is_duplicate
    assert SeenIds(path).add("e1")
    seen = SeenIds(path)
    assert verify(CONTENT, signed(), SECRET, seen=seen).is_duplicate
    assert not seen.add("e1")
    assert not verify(CONTENT, signed(webhook_id="e2"), SECRET, seen=seen).is_duplicate


def test_old_identifiers_are_deleted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file does not grow for ever."""
    seen = SeenIds(tmp_path / "seen.db", keep_days=1)
    seen.add("e1")
    before = time.time
    monkeypatch.setattr(time, "time", lambda: before() + 2 * 86_400)
    seen.add("e2")
    assert "e1" not in seen
    assert "e2" in seen


def test_damaged_file_of_identifiers_is_a_verification_error(tmp_path: Path) -> None:
    """A receiver must not process what may be a repetition."""
    path = tmp_path / "seen.db"
    seen = SeenIds(path)
    path.write_bytes(b"no database at all" * 100)
    with pytest.raises(VerificationError, match="cannot be read"):
        verify(CONTENT, signed(), SECRET, seen=seen)


@pytest.mark.parametrize(
    "arguments",
    [
        ("text", signed(), SECRET),
        (None, signed(), SECRET),
        (CONTENT, None, SECRET),
        (CONTENT, [("webhook-id", "e1")], SECRET),
        (CONTENT, signed(), None),
        (CONTENT, signed(), [None]),
        (CONTENT, signed(), SECRET.encode()),
        (CONTENT, signed(), []),
    ],
)
def test_wrong_arguments_are_not_taken_for_a_genuine_webhook(arguments: tuple[object, ...]) -> None:
    """A variable that is not set is the usual reason."""
    with pytest.raises(VerificationError):
        verify(*arguments)  # type: ignore[arg-type]
    with pytest.raises(VerificationError):
        verify(CONTENT, signed(), SECRET, tolerance_seconds=float("nan"))
