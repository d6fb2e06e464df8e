"""Redaction: secrets are found in the encodings of common libraries, and other text is unchanged."""

import asyncio
import html
import json
import reprlib
import shlex
import time
import traceback
from base64 import b64encode, encodebytes, urlsafe_b64encode
from collections.abc import Callable
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from pulp_hooks.text import REDACTED, one_line, redacted

KEY = """\
-----BEGIN PRIVATE KEY-----
MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC7VJTUt9Us8cKj
MzEfYyjiWA4R4/M2bS1GB4t7NXp98C3SC6dVMvDuictGeurT8jNbvJZHtCSuYEvu
NMoSfm76oqFvAp8Gy0iz5sxjZmSnXyCdPEovGhLa0VzMaQ8s+CLOyS56YyCFGeJZ
qgtzJ6GR3eqoYSW9b9UMvkBpZODSctWSNGj3P7jRFDO5VoTwCQAWbFnOjDfH5Ulg
p2PKSQnSJP3AJLQNFNe7br1XbrhV
-----END PRIVATE KEY-----"""


def indented(secret: str) -> str:
    """Return the secret as shown in the traceback of an exception in an `asyncio.TaskGroup`."""

    async def fail() -> None:
        raise ConnectionError(secret)

    async def run() -> None:
        async with asyncio.TaskGroup() as outer, asyncio.TaskGroup() as inner:
            outer.create_task(asyncio.sleep(0))
            inner.create_task(fail())

    with pytest.raises(ExceptionGroup) as raised:
        asyncio.run(run())
    return "".join(traceback.format_exception(raised.value))


def base64_after(before: str) -> Callable[[str], str]:
    """Return a function that encodes a secret after other text, such as `user:` in HTTP."""
    return lambda secret: b64encode(f"{before}{secret}".encode()).decode()


ENCODINGS: dict[str, Callable[[str], str]] = {
    "plain": str,
    "repr": repr,
    "ascii": ascii,
    "repr of octets": lambda secret: repr(secret.encode()),
    "JSON": json.dumps,
    "JSON in UTF-8": lambda secret: json.dumps(secret, ensure_ascii=False),
    "path": quote,
    "path in lower case": lambda secret: "".join(f"%{octet:02x}" for octet in secret.encode()),
    "user information": lambda secret: quote(secret, safe=""),
    "form": quote_plus,
    "HTML": html.escape,
    "XML": lambda secret: html.escape(secret).encode("ascii", "xmlcharrefreplace").decode(),
    "path in git": lambda secret: "".join(
        f"\\{octet:03o}" if octet > 126 or octet < 32 else f"\\{chr(octet)}" if octet in b'"\\' else chr(octet)
        for octet in secret.encode()
    ),
    "shell": shlex.quote,
    "Windows line breaks": lambda secret: "\r\n".join(secret.splitlines()),
    "quoted lines": lambda secret: "\n  │ ".join(secret.splitlines()),
    "Base64": base64_after(""),
    "Base64 after one octet": base64_after(":"),
    "Base64 after a user": base64_after("me:"),
    "Base64 after another user": base64_after("you:"),
    "Base64 for URLs": lambda secret: urlsafe_b64encode(secret.encode()).decode(),
    "Base64 with more after it": lambda secret: b64encode(f"{secret}:realm".encode()).decode(),
}
TEXT_ENCODINGS = [name for name in ENCODINGS if not name.startswith("Base64")]

# Letters that encodings treat in a special way, some that they leave alone, and some beyond ASCII.
LETTERS = st.sampled_from("aBc1xu0n25;%&#+/\\\"' |\n\t<>=-_ü€😀\x00\x7f")
SECRETS = st.tuples(st.text(LETTERS, max_size=30), st.text(LETTERS, max_size=30)).map("s3crEt".join)
LINES = st.lists(SECRETS, min_size=2, max_size=6).map("\n".join)


def assert_hidden(secret: str, encoded: str, told: str) -> None:
    """The text has neither the secret, nor its encoded form, nor eight consecutive characters of one of its lines."""
    assert secret not in told
    assert encoded not in told
    lines = secret.splitlines()
    for line in lines if len(lines) > 1 else []:
        assert not any(line[i : i + 8] in told for i in range(len(line) - 7) if line[i : i + 8].strip())


@pytest.mark.parametrize("encoding", ENCODINGS)
@settings(max_examples=40)
@given(secret=SECRETS | LINES)
def test_secret_in_an_encoding_is_found(encoding: str, secret: str) -> None:
    """A secret encoded by a client library is redacted."""
    encoded = ENCODINGS[encoding](secret)
    told = redacted(f"refused: {encoded}, try again", [secret])
    assert_hidden(secret, encoded, told)
    assert told.startswith("refused: ")
    assert told.endswith(", try again")


@given(secret=SECRETS, names=st.lists(st.sampled_from(TEXT_ENCODINGS), min_size=2, max_size=3))
def test_secret_in_nested_encodings_is_found(secret: str, names: list[str]) -> None:
    """Nested encodings, such as JSON in a URL in a `repr`, hide no secret."""
    encoded = secret
    for name in names:
        encoded = ENCODINGS[name](encoded)
    assert_hidden(secret, encoded, redacted(f"refused: {encoded}, try again", [secret]))


@given(secret=LINES | st.just(KEY))
def test_secret_of_several_lines_is_found_in_an_exception_group(secret: str) -> None:
    """A secret is found despite the indentation and bars between its lines."""
    assert_hidden(secret, secret, redacted(indented(secret), [secret]))


@given(secret=SECRETS.filter(lambda secret: len(secret) < 16), text=st.text(LETTERS))
def test_text_without_the_secret_is_unchanged(secret: str, text: str) -> None:
    """Escapes, bars and line breaks of other text are unchanged."""
    assume("s3crEt" not in text)
    assert redacted(text, [secret]) == text


@pytest.mark.parametrize("secret", ["", "abc", " abc\n"])
def test_short_text_is_not_a_secret(secret: str) -> None:
    """Replacing fewer than four characters would garble every message."""
    assert redacted("abc, abcd and   abc \n", [secret]) == "abc, abcd and   abc \n"


def test_longer_one_of_two_secrets_goes_first() -> None:
    """Nothing is left of two overlapping secrets, in either order."""
    for secrets in (["hunter2", "hunter22-long"], ["hunter22-long", "hunter2"], ["hunter22", "22-long"]):
        assert redacted("it was hunter22-long", secrets) == "it was ***"


def test_pieces_of_a_long_secret_are_found() -> None:
    """A secret that another library has shortened or broken into lines leaves no half visible."""
    short = reprlib.Repr()
    short.maxstring = 200
    for told in (short.repr(KEY), KEY[:90], KEY[300:], encodebytes(KEY.encode()).decode()):
        shown = redacted(told, [KEY])
        assert not any(told[i : i + 16] in shown for i in range(len(told) - 15))
    assert "MIIE" not in redacted(f"bad input: {KEY[:60]!r}...", [KEY])


def test_half_of_a_secret_is_not_left_where_an_error_is_shortened() -> None:
    """Secrets are replaced before an error's message is shortened."""
    words = "correct-horse-battery-staple"
    for before in range(950, 1001):
        told = one_line(ValueError("x" * before + words), [words])
        assert len(told) <= 1000
        assert "corr" not in told


def test_very_long_secret_is_found_by_its_lines() -> None:
    """The lines of a long secret, such as a file of certificates, are found without the memory for its pieces."""
    secret = "\n".join(f"line {number} of something long" for number in range(2000))
    assert redacted(f"a {secret} z", [secret]) == f"a {REDACTED} z"
    assert "line 7" not in redacted(">> line 7 of something long", [secret])


HARD = {
    "one letter": "a" * 100_000,
    "piece of the secret": "MIIEvQIBADANBg" * 7_000,
    "percent signs": "%25" * 33_000,
    "percent signs and digits": "%" * 100_000,
    "backslashes": "\\" * 100_000,
    "backslashes and letters": "\\\\x" * 33_000,
    "ampersands": "&amp;" * 20_000,
    "ampersands without an end": "&" + "amp;" * 25_000,
    "everything": "%25\\\\u00&#2 |\n" * 7_000,
    "line breaks": "\n  | " * 20_000,
    "the secret": KEY * 200,
}


@pytest.mark.parametrize("text", HARD.values(), ids=HARD)
def test_time_grows_linearly_with_the_text(text: str) -> None:
    """Four times the text takes about four times as long; quadratic time would take sixteen times as long."""

    def seconds(text: str) -> float:
        began = time.process_time()
        redacted(text, [KEY])
        return time.process_time() - began

    quarter = text[: len(text) // 4]
    short = min(seconds(quarter) for _ in range(5))
    assert min(seconds(text) for _ in range(3)) < 10 * short + 0.01
