"""`PULP_MANIFEST`: the list of a repository's files, one line `path,sha256,size` for each."""

import codecs
import itertools
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from pulp_hooks.errors import MirrorError

MANIFEST_NAME = "PULP_MANIFEST"
MAX_MANIFEST_BYTES = 64 * 2**20

_SHA256 = re.compile(r"[0-9A-Fa-f]{64}")
_SIZE = re.compile(r"[0-9]{1,18}")  # no file is larger, and `int` refuses very long digits
_SHOWN_CHARACTERS = 200
_MAX_COMPONENT_BYTES = 255  # longest name on common file systems
_MAX_PATH_BYTES = 1024  # longest path on the strictest file system, and longest key in object storage

# Checked in this order: each rule is more specific than those after it.
_PATH_RULES: tuple[tuple[str, Callable[[str], object]], ...] = (
    ("a path must not be empty", lambda path: not path),
    ("a path must not contain NUL or another control character", re.compile(r"[\x00-\x1f\x7f-\x9f]").search),
    ("a path must be valid UTF-8", re.compile(r"[\ud800-\udfff]").search),
    ("a path must not be a Windows network path", re.compile(r"//|\\\\").match),
    ("a path must not be absolute", re.compile(r"/").match),
    ("a path must not begin with a Windows drive letter", re.compile(r"[A-Za-z]:").match),
    ("a path must not contain a backslash", re.compile(r"\\").search),
    ("a path must not end with a slash", re.compile(r"/\Z").search),
    ("a path must not contain an empty component", re.compile(r"//").search),
    ("a path must not contain a component `.` or `..`", re.compile(r"(?:\A|/)\.\.?(?:/|\Z)").search),
    # Readers of manifests (Pulp and this module) strip blanks and skip lines that start with `#`.
    ("a path must not start or end with blanks", lambda path: path != path.strip()),
    ("a path must not start with `#`, which marks a comment", re.compile("#").match),
    ("a path must not start with a byte order mark", re.compile("\ufeff").match),
    (f"{MANIFEST_NAME} is the manifest itself", re.compile(rf"{MANIFEST_NAME}(?:/|\Z)").match),
    (
        f"a component must not be longer than {_MAX_COMPONENT_BYTES} bytes",
        lambda path: max(len(part.encode()) for part in path.split("/")) > _MAX_COMPONENT_BYTES,
    ),
    (f"a path must not be longer than {_MAX_PATH_BYTES} bytes", lambda path: len(path.encode()) > _MAX_PATH_BYTES),
)


@dataclass(frozen=True, slots=True)
class Entry:
    """One file of a repository.

    Attributes:
        path: Path below the repository's root, components joined by `/`.
        sha256: Checksum, 64 lower-case hex digits.
        size: Size in bytes.
    """

    path: str
    sha256: str
    size: int


def broken_rule(path: str) -> str | None:
    """Return the first rule that a path breaks, or `None` if the path is safe below any folder on every system."""
    return next((rule for rule, is_broken in _PATH_RULES if is_broken(path)), None)


def shown(path: str) -> str:
    """Return a path for a message: quoted, on one line, and shortened."""
    return repr(path if len(path) <= _SHOWN_CHARACTERS else path[:_SHOWN_CHARACTERS] + "…")


def read_manifest(chunks: Iterable[bytes], name: str) -> list[Entry]:
    """Read a manifest and return its entries, see `parse_manifest`. Reading stops at the size limit.

    Raises:
        MirrorError: The manifest is too large, or `parse_manifest` refuses it.
    """
    data = bytearray()
    for chunk in chunks:
        data += chunk
        if len(data) > MAX_MANIFEST_BYTES:
            raise MirrorError(f"{name}: a manifest must not be larger than {MAX_MANIFEST_BYTES} bytes")
    return parse_manifest(bytes(data), name)


def parse_manifest(data: bytes, name: str) -> list[Entry]:
    """Return the entries of a manifest in order of their paths.

    As in Pulp, blank lines, lines that start with `#`, and blanks around a field are skipped. A byte order mark at the
    start is skipped too.

    Raises:
        MirrorError: A line is not an entry, or its path breaks a rule. The message has the manifest's name, the line
            number, the path and the rule.
    """
    lines: dict[str, int] = {}
    entries: list[Entry] = []
    for number, line in enumerate(data.removeprefix(codecs.BOM_UTF8).splitlines(), start=1):
        place = f"{name}, line {number}"
        text = _decoded(line, place)
        if not text or text.startswith("#"):
            continue
        entry = _parse_line(text, place)
        if entry.path in lines:
            raise _refusal(place, entry.path, f"line {lines[entry.path]} has the same path")
        lines[entry.path] = number
        entries.append(entry)

    # With NUL for the slash, a folder's files sort directly after a file with the folder's name.
    entries.sort(key=lambda entry: entry.path.replace("/", "\0"))
    for file, follower in itertools.pairwise(entries):
        if follower.path.startswith(f"{file.path}/"):
            rule = f"line {lines[file.path]} has {shown(file.path)}, which cannot be both a file and a folder"
            raise _refusal(f"{name}, line {lines[follower.path]}", follower.path, rule)
    return sorted(entries, key=lambda entry: entry.path)


def format_manifest(entries: Iterable[Entry]) -> bytes:
    """Return the manifest of these entries, in order of their paths."""
    in_order = sorted(entries, key=lambda entry: entry.path)
    return "".join(f"{entry.path},{entry.sha256},{entry.size}\n" for entry in in_order).encode()


def _decoded(line: bytes, place: str) -> str:
    try:
        return line.decode().strip()
    except UnicodeDecodeError:
        path = line.decode(errors="surrogateescape").rsplit(",", maxsplit=2)[0]
        raise _refusal(place, path, "a path must be valid UTF-8") from None


def _parse_line(text: str, place: str) -> Entry:
    match [field.strip() for field in text.rsplit(",", maxsplit=2)]:  # from the right: a path may contain commas
        case [path, sha256, size]:
            pass
        case _:
            raise _refusal(place, text, "a line must be `path,sha256,size`")
    if rule := broken_rule(path):
        raise _refusal(place, path, rule)
    if not _SHA256.fullmatch(sha256):
        raise _refusal(place, path, f"sha256 must be 64 hex digits, not {shown(sha256)}")
    if not _SIZE.fullmatch(size):
        raise _refusal(place, path, f"size must be a number of bytes in decimal digits, not {shown(size)}")
    return Entry(path, sha256.lower(), int(size))


def _refusal(place: str, path: str, rule: str) -> MirrorError:
    return MirrorError(f"{place}, path {shown(path)}: {rule}")
