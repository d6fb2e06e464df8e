"""Preparation of foreign text for messages and logs: valid Unicode, short, on one line, without secrets."""

import dataclasses
import difflib
import json
import re
import reprlib
import sys
from base64 import b64encode
from collections.abc import (
    Callable,
    ItemsView,
    Iterable,
    Iterator,
    KeysView,
    Mapping,
    MutableSequence,
    Sequence,
    ValuesView,
)
from collections.abc import Set as AbstractSet
from functools import lru_cache
from itertools import islice
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote, quote_plus

from pulp_hooks.signals import is_interruption

REDACTED = "***"
"""Replacement for a secret."""

_MAX_ERROR = 1000
_MAX_MESSAGE = 100_000
"""Characters of an exception's message that are read."""

MAX_TEXT = 2**20
"""Characters of an object's text that are read."""

MAX_REPR = 200
"""Maximum length of a shortened `repr`."""


_SURROGATE = re.compile("[\ud800-\udfff]")
_LONE_SURROGATE = re.compile("[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]")


def clean_text(text: str) -> str:
    """Return the text as a plain `str` that can be encoded as UTF-8. Lone surrogates become U+FFFD."""
    # Call the method of `str`, which a subclass may override.
    plain = str.__str__(text)
    if plain.isascii() or not _SURROGATE.search(plain):
        return plain
    paired = _LONE_SURROGATE.sub("\ufffd", plain)
    return paired.encode("utf-16", "surrogatepass").decode("utf-16") if _SURROGATE.search(paired) else paired


def printable(text: str) -> str:
    """Return the text with non-printable characters escaped, such as line breaks and terminal control characters."""
    return text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def did_you_mean(name: str, known: Iterable[str], otherwise: str = "", *, form: str = "did you mean {!r}?") -> str:
    """Return a suggestion of the known name that is most like a wrong one, or another text if none is like it."""
    nearest = difflib.get_close_matches(name, list(known), n=1)
    return form.format(nearest[0]) if nearest else otherwise


def redacted(text: str, secrets: Iterable[str]) -> str:
    """Return the text with `***` in place of each secret, even if the secret is encoded, indented or truncated.

    These forms of a secret are found:

    - the secret in any nesting of backslash escapes (`repr`, JSON, git), percent-encoding, form encoding, HTML entities
      and single quotes in a shell;
    - each line of a secret of several lines;
    - the Base64 of the secret, alone or within a longer text;
    - any 16 consecutive characters of a secret, if at least eight of them are different.

    Secrets of fewer than four characters are ignored: replacing them would garble every message.
    """
    given = tuple(secrets)
    return _matcher(given).redacted(text) if given else text


_SHORTEST_SECRET = 4
_SHORTEST_LINE = 8
_PIECE = 16
_HALF = _PIECE // 2
_FEWEST_LETTERS = 8
"""Pieces with fewer different letters, such as rulers or rows of zeros, are common in any text."""

_LONGEST_IN_PIECES = 20_000
"""Longer secrets are found only as a whole and by their lines, because their pieces would fill the memory."""

_DEEPEST_NESTING = 8


class _Matcher:
    """Finds secrets in texts, in time linear in the length of the text.

    Escapes in the text and in the secrets are decoded until none is left, so that one comparison finds a secret in
    every nesting of encodings. The position of each decoded character in the original text is recorded.
    """

    def __init__(self, secrets: Sequence[str]) -> None:
        self._as_written: set[str] = set()
        self._decoded: set[str] = set()
        self._joined: set[str] = set()
        self._pieces: set[str] = set()
        for secret in secrets:
            for plain in {secret, secret.strip()}:
                if len(plain) >= _SHORTEST_SECRET:
                    self._add(plain)
        self._halves = {piece[start : start + _HALF] for piece in self._pieces for start in range(_HALF + 1)}

    def redacted(self, text: str) -> str:
        """Return the text with `***` in place of each secret."""
        parts: list[str] = []
        end = 0
        for start, stop in _merged(self._found(text)):
            parts += text[end:start], REDACTED
            end = stop
        return "".join([*parts, text[end:]])

    def _add(self, plain: str) -> None:
        # The text around a secret can make decoding ambiguous, so the usual forms are also searched as written.
        octets = plain.encode("utf-8", "surrogateescape")
        self._as_written |= {plain, repr(plain)[1:-1], ascii(plain)[1:-1], json.dumps(plain)[1:-1], printable(plain)}
        self._as_written |= {quote(octets), quote(octets, safe=""), quote_plus(octets)}
        for form in (plain, plain.replace(" ", "+")):
            self._decoded.add(_unescaped(form)[0])
            self._add_joined(form, _SHORTEST_SECRET if len(form.splitlines()) > 1 else _PIECE)
        for encoded in _base64_forms(octets):
            self._add_joined(encoded, _SHORTEST_SECRET)
        self._joined |= {line for line in map(_joined, plain.splitlines()) if len(line) >= _SHORTEST_LINE}
        self._decoded = {form for form in self._decoded if len(form) >= _SHORTEST_SECRET}

    def _add_joined(self, form: str, shortest: int) -> None:
        joined = _joined(form)
        if len(joined) >= shortest:
            self._joined.add(joined)
        if len(joined) <= _LONGEST_IN_PIECES:
            pieces = {joined[start : start + _PIECE] for start in range(len(joined) - _PIECE + 1)}
            self._pieces |= {piece for piece in pieces if len(set(piece)) >= _FEWEST_LETTERS}

    def _found(self, text: str) -> Iterator[tuple[int, int]]:
        """Yield the start and end of each match, in any order. Matches may overlap."""
        for form in self._as_written:
            yield from _occurrences(text, form)
        decoded, origins = _unescaped(text)
        for form in self._decoded:
            for start, end in _occurrences(decoded, form):
                yield origins[start], origins[end]
        joined = "".join(_VISIBLE.findall(decoded))
        hits = [span for form in self._joined for span in _occurrences(joined, form)]
        # Any occurrence of a piece fills at least one of these blocks with half a piece.
        for block in range(0, len(joined), _HALF):
            if joined[block : block + _HALF] in self._halves:
                windows = range(max(block - _HALF, 0), block + 1)
                hits += [(start, start + _PIECE) for start in windows if joined[start : start + _PIECE] in self._pieces]
        if hits:
            kept = [position for run in _VISIBLE.finditer(decoded) for position in range(*run.span())]
            for start, end in hits:
                yield origins[kept[start]], origins[kept[end - 1] + 1]


_matcher = lru_cache(maxsize=256)(_Matcher)


def _occurrences(text: str, form: str) -> Iterator[tuple[int, int]]:
    start = text.find(form)
    while start >= 0:
        yield start, start + len(form)
        start = text.find(form, start + len(form))


def _merged(spans: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Yield the spans in order, with overlapping spans joined."""
    begun: tuple[int, int] | None = None
    for start, end in sorted(spans):
        if begun is not None and start < begun[1]:
            begun = begun[0], max(begun[1], end)
            continue
        if begun is not None:
            yield begun
        begun = start, end
    if begun is not None:
        yield begun


def _base64_forms(octets: bytes) -> Iterator[str]:
    """Yield the Base64 of the octets at each alignment within a longer text, in both alphabets."""
    for before in range(3):
        bits = 8 * (before + len(octets))
        # Leave out the first and last character if they depend on the octets around.
        encoded = b64encode(bytes(before) + octets).decode()[-(-8 * before // 6) : bits // 6]
        yield encoded
        yield encoded.replace("+", "-").replace("/", "_")


_VISIBLE = re.compile(r"[^\s|│┃]+")
"""The parts of a line without indentation and without the bars of boxes and of exception group tracebacks."""


def _joined(form: str) -> str:
    """Return the form of a secret without escapes, blanks, line breaks and bars."""
    return "".join(_VISIBLE.findall(_unescaped(form)[0]))


def _octets_after(first: str, others: str) -> str:
    """Return the pattern of a UTF-8 character or a single octet, each octet as a prefix and two hexadecimal digits."""
    digit, more = "[0-9a-fA-F]", f"{others}[89abAB][0-9a-fA-F]"
    leads = (f"[cCdD]{digit}{more}", f"[eE]{digit}{more}{more}", f"[fF][0-7]{more}{more}{more}", digit * 2)
    return f"{first}(?:{'|'.join(leads)})"


_OCTETS_OF_NO_TEXT = {0xDC80 + octet: 0x80 + octet for octet in range(0x80)}
"""Translation of surrogates, which stand for undecodable octets in environment variables, to Latin-1."""


def _of_octets(escape: str) -> str:
    return _text_of(bytes.fromhex("".join(_OCTET.findall(escape))))


def _text_of(octets: bytes) -> str:
    return octets.decode("latin-1" if len(octets) == 1 else "utf-8", "replace")[:1]


def _of_number(number: int) -> str:
    return chr(_OCTETS_OF_NO_TEXT.get(number, number)) if number <= sys.maxunicode else "\ufffd"


def _of_entity(escape: str) -> str:
    *_, name, _ = re.split("[&;]", escape)
    if name.startswith("#"):
        return _of_number(int(name.lstrip("#xX"), 16 if name[1] in "xX" else 10))
    return _ENTITIES[name]


# Possessive matching of backslashes avoids backtracking in a long row of them.
_PERCENT, _BACKSLASHES, _MORE_BACKSLASHES = "(?<=%)(?:25)*", r"(?<=\\)\\*+", r"\\++"
_OCTET = re.compile(r"(?:x|%(?:25)*)([0-9a-fA-F]{2})(?=[%\\]|\Z)")
_OCTAL, _NEXT = "[0-3][0-7]{2}", f"{_MORE_BACKSLASHES}2[0-7]{{2}}"
_OCTALS = f"3[0-3][0-7]{_NEXT}|3[45][0-7](?:{_NEXT}){{2}}|36[0-7](?:{_NEXT}){{3}}|{_OCTAL}"
_LETTERS = dict(zip("abfnrtv0", "\a\b\f\n\r\t\v\0", strict=True))
_ENTITIES = {"amp": "&", "lt": "<", "gt": ">", "quot": '"', "apos": "'", "nbsp": " "}
_KINDS: dict[str, tuple[str, Callable[[str], str]]] = {
    "percent": (_octets_after(_PERCENT, "%(?:25)*"), _of_octets),
    "octets": (_octets_after(f"{_BACKSLASHES}x", f"{_MORE_BACKSLASHES}x"), _of_octets),
    "pair": (
        f"{_BACKSLASHES}u[dD][89abAB][0-9a-fA-F]{{2}}{_MORE_BACKSLASHES}u[dD][c-fC-F][0-9a-fA-F]{{2}}",
        lambda escape: bytes.fromhex("".join(re.findall("u(....)", escape))).decode("utf-16-be"),
    ),
    "point": (
        f"{_BACKSLASHES}(?:u[0-9a-fA-F]{{4}}|U[0-9a-fA-F]{{8}})",
        lambda escape: _of_number(int(escape.lstrip("\\uU"), 16)),
    ),
    # Git quotes the octets of a character in a path one by one.
    "octal": (
        f"{_BACKSLASHES}(?:{_OCTALS})",
        lambda escape: _text_of(bytes(int(octet, 8) for octet in re.findall(_OCTAL, escape))),
    ),
    "letter": (f"{_BACKSLASHES}[abfnrtv0'\"/]", lambda escape: _LETTERS.get(escape[-1], escape[-1])),
    # Drop other backslashes: their number depends on how often the text was escaped.
    "backslashes": (_BACKSLASHES, lambda _: ""),
    "entity": ("(?<=&)(?:amp;)*(?:amp|lt|gt|quot|apos|nbsp|#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6});", _of_entity),
    # A single quote within single quotes, as `shlex.quote` writes it.
    "shell": (r"""(?<=')"'"'""", lambda _: "'"),
}
_DECODERS = {kind: decode for kind, (_, decode) in _KINDS.items()}
# The character set at the beginning lets `re` skip all other characters quickly.
_ESCAPE = re.compile(rf"[%\\&'](?:{'|'.join(f'(?P<{kind}>{pattern})' for kind, (pattern, _) in _KINDS.items())})")


def _unescaped(text: str) -> tuple[str, Sequence[int]]:
    """Return the text with all escapes decoded, nested ones too, and the original position of each character.

    The last position is the end of the text.
    """
    text = text if text.isascii() else text.translate(_OCTETS_OF_NO_TEXT)
    origins: Sequence[int] = range(len(text) + 1)
    for _ in range(_DEEPEST_NESTING):
        parts: list[str] = []
        positions: list[int] = []
        end = 0
        for match in _ESCAPE.finditer(text):
            character = _DECODERS[str(match.lastgroup)](match[0])
            parts += text[end : match.start()], character
            positions += origins[end : match.start() + len(character)]
            end = match.end()
        if not end:
            break
        origins = [*positions, *origins[end:]]
        text = "".join([*parts, text[end:]])
    return text, origins


def shortened_repr(value: object) -> str:
    """Return a printable `repr` of at most `MAX_REPR` characters, or the type's name if `repr` raises."""
    try:
        text = printable(clean_text(_short.repr(value)))
    except BaseException as error:
        # A foreign __repr__ may raise anything.
        if is_interruption(error):
            raise
        text = f"<{type_name(value)}>"
    return text if len(text) <= MAX_REPR else text[: MAX_REPR - 3] + "..."


def one_line(error: BaseException, secrets: Iterable[str] = ()) -> str:
    """Return type and message of an exception, redacted, on one printable line of at most 1000 characters."""
    message = text_of(error)[:_MAX_MESSAGE]
    text = redacted(f"{type_name(error)}: {message}" if message else type_name(error), secrets)
    return printable(clean_text(text[:_MAX_ERROR]))[:_MAX_ERROR]


def text_of(value: object, convert: Callable[[object], str] = str, fallback: str = "") -> str:
    """Return the text of an object, cut to `MAX_TEXT` characters.

    Args:
        value: The object.
        convert: `str` or `repr`.
        fallback: Returned if the conversion raises.
    """
    try:
        # Call the method of `str`, which a subclass may override.
        return str.__str__(convert(value))[:MAX_TEXT]
    except BaseException as error:
        # A foreign __str__ may raise anything.
        if is_interruption(error):
            raise
        return fallback


def type_name(value: object) -> str:
    """Return the name of an object's type, even if its metaclass overrides `__name__`."""
    return str.__str__(type.__dict__["__name__"].__get__(type(value)))


class _ShortRepr(reprlib.Repr):
    """Shortens `repr` and does not call the `repr` of unknown containers, whose size has no limit."""

    def repr_instance(self, x: object, level: int) -> str:
        if isinstance(x, bytes | bytearray):
            return super().repr_instance(x[:MAX_REPR], level)
        if isinstance(x, SimpleNamespace) and level > 0:
            return f"namespace({', '.join(f'{name}={self.repr1(part, level - 1)}' for name, part in vars(x).items())})"
        parts = self._parts(x)
        if parts is None:
            return super().repr_instance(x, level)
        if level <= 0 or not parts:
            return f"<{type_name(x)}>"
        return f"{type_name(x)}({', '.join(self.repr1(part, level - 1) for part in parts)})"

    @staticmethod
    def _parts(x: object) -> list[object] | None:
        """Return the parts to show of a container, or `None` for another object, whose own `repr` is used."""
        if isinstance(x, BaseException):
            return list(x.args)
        if isinstance(x, ValuesView | KeysView | ItemsView):
            return [list(x)]
        if isinstance(x, Mapping | AbstractSet | MutableSequence | tuple | SimpleNamespace):
            return []
        return [] if dataclasses.is_dataclass(x) and not isinstance(x, type) else None

    def repr_dict(self, x: dict[Any, Any], level: int) -> str:
        # One item beyond the limit makes `...` appear. Sorting all items would be slow.
        return super().repr_dict(dict(islice(x.items(), self.maxdict + 1)), level)

    def repr_int(self, x: int, level: int) -> str:
        del level
        # Python refuses to format integers of many decimal digits.
        text = repr(x) if x.bit_length() < MAX_REPR else hex(x)
        return text if len(text) <= MAX_REPR else text[:MAX_REPR]


_short = _ShortRepr()
_short.maxlevel, _short.maxother, _short.maxstring = 3, MAX_REPR, MAX_REPR
