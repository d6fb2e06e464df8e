"""The manifest: reading, writing, and refusals."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pulp_hooks.errors import MirrorError
from pulp_hooks.hosts.file_mirror import manifest
from pulp_hooks.hosts.file_mirror.manifest import Entry, broken_rule, format_manifest, parse_manifest, read_manifest

SHA = "a" * 64

REFUSED = {
    "": "must not be empty",
    "../x": "`.` or `..`",
    "a/../x": "`.` or `..`",
    "a/..": "`.` or `..`",
    "..": "`.` or `..`",
    ".": "`.` or `..`",
    "./x": "`.` or `..`",
    "a//b": "empty component",
    "/etc/passwd": "absolute",
    "a/": "end with a slash",
    "a\\b": "backslash",
    "..\\x": "backslash",
    "C:x": "drive letter",
    "c:/x": "drive letter",
    "//host/share/x": "network path",
    "\\\\host\\share\\x": "network path",
    "a\0b": "NUL",
    "a\tb": "control character",
    "a\x1b[2Jb": "control character",
    "a\x7fb": "control character",
    "a\x85b": "control character",
    "PULP_MANIFEST": "the manifest itself",
    "PULP_MANIFEST/x": "the manifest itself",
    "é" * 128: "255 bytes",
    "/".join(["x" * 200] * 6): "1024 bytes",
}

components = st.text(
    st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="/\\"), min_size=1, max_size=60
).filter(lambda text: text not in {".", ".."})
paths = st.lists(components, min_size=1, max_size=4).map("/".join).filter(lambda path: broken_rule(path) is None)
entries = st.builds(
    Entry,
    path=paths,
    sha256=st.text("0123456789abcdef", min_size=64, max_size=64),
    size=st.integers(min_value=0, max_value=10**18 - 1),
)


def without_folders(entries: list[Entry]) -> bool:
    """Return whether no path is a folder of another."""
    files = {entry.path for entry in entries}
    return not any(path.rsplit("/", count)[0] in files for path in files for count in range(1, path.count("/") + 1))


@given(st.lists(entries, unique_by=lambda entry: entry.path).filter(without_folders))
def test_written_manifest_is_read_back(written: list[Entry]) -> None:
    """A written manifest is read back as the same entries, in order of path."""
    assert parse_manifest(format_manifest(written), "m") == sorted(written, key=lambda entry: entry.path)


@given(st.text() | st.lists(st.sampled_from(["..", ".", "", "a", "C:", "\\", "\0", "PULP_MANIFEST"])).map("/".join))
def test_no_accepted_path_leaves_the_root(path: str) -> None:
    """Every accepted path stays below the root folder on POSIX, and is already normalized."""
    if broken_rule(path) is None:
        joined = os.path.normpath(os.path.join("/root/folder", path))  # noqa: PTH118 - pathlib would hide what is tested
        assert joined == f"/root/folder/{path}"
        assert not os.path.isabs(path)  # noqa: PTH117 - the same
        assert len(Path(path).parts) == path.count("/") + 1


@given(st.binary() | st.text().map(str.encode))
def test_any_bytes_are_entries_or_refused(data: bytes) -> None:
    """Reading any bytes returns entries or raises `MirrorError`."""
    message = ""
    try:
        parse_manifest(data, "m")
    except MirrorError as error:
        message = str(error)
    assert message.isprintable()


@pytest.mark.parametrize("path", REFUSED)
def test_hostile_path_is_refused_by_name(path: str) -> None:
    """The error has manifest, line, path and rule."""
    data = f"fine,{SHA},1\n{path},{SHA},1\n".encode()
    with pytest.raises(MirrorError) as caught:
        parse_manifest(data, "m")
    message = str(caught.value)
    assert message.startswith(f"m, line 2, path {manifest.shown(path)}: ")
    assert REFUSED[path] in message
    assert message.isprintable()


@pytest.mark.parametrize("data", [b"caf\xe9", b"\xed\xa0\x80"])
def test_path_that_is_not_utf8_is_refused_by_name(data: bytes) -> None:
    """Latin-1 and encoded surrogates are refused, and the message is printable."""
    with pytest.raises(MirrorError, match=r"^m, line 1, path '.*\\udc.*': a path must be valid UTF-8$"):
        parse_manifest(data + f",{SHA},1".encode(), "m")


def test_newline_in_a_path_makes_two_invalid_lines() -> None:
    """A path with a line break becomes two invalid lines."""
    with pytest.raises(MirrorError, match="line 1, path 'a': a line must be"):
        parse_manifest(f"a\nb,{SHA},1".encode(), "m")


@pytest.mark.parametrize(
    ("line", "rule"),
    [
        ("a", "a line must be"),
        (f"a,{SHA}", "a line must be"),
        (f"a,{SHA[1:]},1", "64 hex digits"),
        (f"a,{SHA}a,1", "64 hex digits"),
        (f"a,{'g' * 64},1", "64 hex digits"),
        (f"a,{SHA},", "decimal digits"),
        (f"a,{SHA},-1", "decimal digits"),
        (f"a,{SHA},1.0", "decimal digits"),
        (f"a,{SHA},0x1", "decimal digits"),
        (f"a,{SHA},\u0661", "decimal digits"),
        (f"a,{SHA},{'9' * 5000}", "decimal digits"),
    ],
)
def test_wrong_line_is_refused(line: str, rule: str) -> None:
    """The error has manifest, line, path and the rule of the field."""
    with pytest.raises(MirrorError, match=f"^m, line 1, path 'a.*{rule}"):
        parse_manifest(line.encode(), "m")


@pytest.mark.parametrize("second", [f"a,{SHA},1", f"a,{'b' * 64},2"])
def test_same_path_twice_is_refused(second: str) -> None:
    """A second line for the same path is refused, even if identical."""
    with pytest.raises(MirrorError, match="m, line 3, path 'a': line 1 has the same path"):
        parse_manifest(f"a,{SHA},1\n\n{second}\n".encode(), "m")


@pytest.mark.parametrize("order", [["a", "a-b", "a/b/c"], ["a/b/c", "a-b", "a"]])
def test_path_that_is_a_folder_of_another_is_refused(order: list[str]) -> None:
    """A path that is both a file and a folder is refused, in any order."""
    data = "".join(f"{path},{SHA},1\n" for path in order).encode()
    with pytest.raises(MirrorError, match=r"path 'a/b/c': line \d has 'a', which cannot be both a file and a folder"):
        parse_manifest(data, "m")


def test_blank_lines_and_windows_line_ends_are_accepted() -> None:
    """Blank lines are skipped, and line ends may have a carriage return."""
    assert parse_manifest(f"\n \r\na,{SHA},1\r\n\n".encode(), "m") == [Entry("a", SHA, 1)]


def test_manifest_is_read_as_pulp_reads_it() -> None:
    """As in Pulp, comments, blanks around lines and fields, a byte order mark and any line end are skipped."""
    data = (
        f"\ufeff# files, of, today\n  # more\r\n \t\n  a, b ,\t{SHA.upper()} , 1 \r\nc,{SHA},2\rd#,{SHA},3\n#e,{SHA},4"
    )
    assert parse_manifest(data.encode(), "m") == [Entry("a, b", SHA, 1), Entry("c", SHA, 2), Entry("d#", SHA, 3)]


@pytest.mark.parametrize("path", [" ../x", "../x ", "\t/etc/passwd", "\u3000..", " PULP_MANIFEST "])
def test_hostile_path_is_refused_with_blanks_around_it(path: str) -> None:
    """A path that leaves the root is refused despite blanks around it."""
    with pytest.raises(MirrorError, match=r"^m, line 2, path "):
        parse_manifest(f"# comment\n{path},{SHA},1\n".encode(), "m")


@pytest.mark.parametrize("path", ["#a", " a", "a ", "\u3000a", "\ufeffa"])
def test_path_that_would_be_read_as_another_one_breaks_a_rule(path: str) -> None:
    """A file name that is not allowed in a manifest breaks a rule."""
    assert broken_rule(path)
    assert not broken_rule(f"x{path}x")


def test_path_may_have_commas_and_checksum_capitals() -> None:
    """Lines are split from the right, and checksums are lower-cased."""
    assert parse_manifest(f"a,b,,{SHA.upper()},007\n".encode(), "m") == [Entry("a,b,", SHA, 7)]


def test_manifest_over_the_limit_is_not_read_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading stops at the size limit."""
    monkeypatch.setattr(manifest, "MAX_MANIFEST_BYTES", 10)
    chunks = iter([b"x" * 11, b"never read"])
    with pytest.raises(MirrorError, match="m: a manifest must not be larger than 10 bytes"):
        read_manifest(chunks, "m")
    assert list(chunks) == [b"never read"]


def test_long_hostile_path_makes_a_short_message() -> None:
    """An error message is short, however long the path."""
    with pytest.raises(MirrorError) as caught:
        parse_manifest(f"{'../' * 10_000},{SHA},1".encode(), "m")
    assert len(str(caught.value)) < 400
