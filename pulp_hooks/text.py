"""Text from elsewhere, made fit to be sent and shown: valid Unicode, short, on one line, without secrets."""

import dataclasses
import json
import re
import reprlib
from collections.abc import Callable, ItemsView, Iterable, Iterator, KeysView, Mapping, MutableSequence, ValuesView
from collections.abc import Set as AbstractSet
from itertools import islice
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote, quote_plus

from pulp_hooks.signals import raised_by_signal_handler

REDACTED = "***"
"""What stands in place of a secret."""

_MAX_ERROR = 1000
_SHORTEST_SECRET = 4

MAX_TEXT = 2**20
"""How many characters of an object's text are looked at."""

MAX_REPR = 200
"""How many characters a shortened `repr` has at most."""


_SURROGATE = re.compile("[\ud800-\udfff]")
_LONE_SURROGATE = re.compile("[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]")


def clean_text(text: str) -> str:
    """Give the text as a plain `str` that UTF-8 can carry: lone surrogates are replaced by U+FFFD."""
    # A subclass may answer anything; the methods of `str` itself do not lie.
    plain = str.__str__(text)
    if plain.isascii() or not _SURROGATE.search(plain):
        return plain
    paired = _LONE_SURROGATE.sub("\ufffd", plain)
    return paired.encode("utf-16", "surrogatepass").decode("utf-16") if _SURROGATE.search(paired) else paired


def printable(text: str) -> str:
    """Give the text with everything escaped that a terminal or a log would act on: line breaks, control characters."""
    return text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def redacted(text: str, secrets: Iterable[str]) -> str:
    """Give the text with every occurrence of each secret replaced by `***`, also of one that was quoted or escaped.

    Texts of fewer than four characters are no secrets: to replace them would garble every message.
    """
    forms = {form for secret in secrets for form in _forms(secret)}
    # A secret that contains another one has to go first.
    for form in sorted(forms, key=len, reverse=True):
        text = text.replace(form, REDACTED)
    return text


def _forms(secret: str) -> Iterator[str]:
    for plain in (secret, secret.strip()):
        if len(plain) >= _SHORTEST_SECRET:
            yield from (plain, repr(plain)[1:-1], json.dumps(plain)[1:-1], printable(plain))
            octets = plain.encode("utf-8", "surrogateescape")
            yield from (quote(octets), quote(octets, safe=""), quote_plus(octets))


def shortened_repr(value: object) -> str:
    """Give a printable `repr` of at most `MAX_REPR` characters, or the type's name where `repr` raises."""
    try:
        text = printable(clean_text(_short.repr(value)))
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        # A foreign __repr__ may raise anything.
        if raised_by_signal_handler(error):
            raise
        text = f"<{type_name(value)}>"
    return text if len(text) <= MAX_REPR else text[: MAX_REPR - 3] + "..."


def one_line(error: BaseException, secrets: Iterable[str] = ()) -> str:
    """Return type and message of an exception on one printable line of at most 1000 characters, without the secrets."""
    message = text_of(error)
    text = redacted(f"{type_name(error)}: {message}" if message else type_name(error), secrets)
    return printable(clean_text(text[:_MAX_ERROR]))[:_MAX_ERROR]


def text_of(value: object, convert: Callable[[object], str] = str, fallback: str = "") -> str:
    """Return the text of an object, at most `MAX_TEXT` characters of it, or `fallback` where its methods fail.

    Args:
        value: The object.
        convert: `str` or `repr`.
        fallback: Returned when the conversion raises.
    """
    try:
        # A subclass of `str` may answer anything; the methods of `str` itself do not lie.
        return str.__str__(convert(value))[:MAX_TEXT]
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        # A foreign __str__ may raise anything.
        if raised_by_signal_handler(error):
            raise
        return fallback


def type_name(value: object) -> str:
    """Return the name of an object's type, whatever its metaclass says."""
    return str.__str__(type.__dict__["__name__"].__get__(type(value)))


class _ShortRepr(reprlib.Repr):
    """Shortens, and writes out no family of objects: the `repr` of a container that it does not know has no bounds."""

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
        """Give what is shown of an object that holds others; nothing where it may be shown as it shows itself."""
        if isinstance(x, BaseException):
            return list(x.args)
        if isinstance(x, ValuesView | KeysView | ItemsView):
            return [list(x)]
        if isinstance(x, Mapping | AbstractSet | MutableSequence | tuple | SimpleNamespace):
            return []
        return [] if dataclasses.is_dataclass(x) and not isinstance(x, type) else None

    def repr_dict(self, x: dict[Any, Any], level: int) -> str:
        # One more than is shown says that there are more; sorting them all would take long.
        return super().repr_dict(dict(islice(x.items(), self.maxdict + 1)), level)

    def repr_int(self, x: int, level: int) -> str:
        del level
        # Python refuses to write integers of many digits in decimal.
        text = repr(x) if x.bit_length() < MAX_REPR else hex(x)
        return text if len(text) <= MAX_REPR else text[:MAX_REPR]


_short = _ShortRepr()
_short.maxlevel, _short.maxother, _short.maxstring = 3, MAX_REPR, MAX_REPR
