"""SOURCE: valid forms, names, and refusals that repeat no secret."""

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pulp_hooks.errors import MirrorError
from pulp_hooks.hosts.file_mirror.sources import open_source

if TYPE_CHECKING:
    from tests.hosts.file_mirror.conftest import Repository


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("http://host/repo", "http://host/repo"),
        ("HTTPS://host:8443/repo/PULP_MANIFEST", "https://host:8443/repo/PULP_MANIFEST"),
        ("https://user:secret@host/repo/", "https://host/repo/"),
        ("https://user:sec%40ret@[::1]:80/repo/", "https://[::1]:80/repo/"),
        ("http://host/100%/%2f%", "http://host/100%25/%2f%25"),
        ("http://us@er:secret@host/a b/é%20%40", "http://host/a%20b/%C3%A9%20%40"),
    ],
)
def test_name_of_a_url_has_no_secret(url: str, name: str) -> None:
    """The name and the `repr` of a source have neither user name nor password."""
    with open_source(url) as source:
        assert source.name == name
        assert source.folder is None
        assert "secret" not in repr(source)


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("", "SOURCE is empty"),
        ("https://user:secret@host/repo?token=secret", "query"),
        ("https://user:secret@host/repo#secret", "fragment"),
        ("https://user:secret?x@host/", "invalid host or port"),
        ("https://user:1/secret@host/", "`@` after its host"),
        ("https://user:secret#x@host/", "invalid host or port"),
        ("https://user:secret/x@host/", "invalid host or port"),
        ("https://user:secret@host:port/", "invalid host or port"),
        ("https://user:secret@[host/", "invalid host or port"),
        ("https://user:secret@/repo", "without a host"),
        ("https:///repo", "without a host"),
        ("https:/user:secret@host/", "without `//`"),
        ("https:user:secret@host/", "without `//`"),
        ("ftp://user:secret@host/", "scheme ftp"),
        ("file://user:secret@host/repo", "another machine"),
        ("file:///re%00po", "NUL"),
        ("re\0po", "NUL"),
        ("file:///repo?x", "%3F"),
    ],
)
def test_invalid_source_is_refused_without_repeating_it(text: str, rule: str) -> None:
    """The message gives the reason, and nothing that may be a password."""
    with pytest.raises(MirrorError) as caught, open_source(text):
        pass
    assert rule in str(caught.value)
    assert "secret" not in str(caught.value)
    assert "user:" not in str(caught.value).replace("user:password", "")


@pytest.mark.parametrize("ending", ["", "/", "/PULP_MANIFEST"])
@pytest.mark.parametrize("start", ["", "file://", "file://localhost"])
def test_folder_and_file_url_name_the_same_folder(repository: "Repository", start: str, ending: str) -> None:
    """A folder may be given as path or URL, and as the path or URL of its manifest."""
    repository.write({"a": "x"})
    repository.list_files()
    with open_source(f"{start}{repository.folder}{ending}") as source:
        assert source.folder == repository.folder
        assert [entry.path for entry in source.entries()] == ["a"]


def test_file_url_is_decoded(tmp_path: Path) -> None:
    """Percent-encoded bytes of a file URL are decoded."""
    folder = tmp_path / "a b%é"
    folder.mkdir()
    with open_source(folder.as_uri()) as source:
        assert source.folder == folder
        assert source.name == folder.as_uri()


def test_folder_after_a_dot_may_look_like_a_url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`./` marks the name of a folder that looks like a URL."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ab:c").mkdir()
    with open_source("./ab:c") as source:
        assert source.entries() == []
        assert source.name == str(tmp_path / "ab:c")


def test_name_of_a_folder_fits_on_a_line() -> None:
    """A line break or an undecodable byte in a folder's name is escaped in messages and events."""
    with open_source("/a\nb\udce9") as source:
        assert source.name == r"'/a\nb\udce9'"


@pytest.mark.parametrize(
    ("module", "source", "hint"),
    [
        ("urllib3", "http://127.0.0.1:9/", "mirroring a URL needs urllib3"),
        ("filelock", ".", "a mirror needs filelock"),
    ],
)
def test_message_says_how_to_install_a_missing_extra(module: str, source: str, hint: str, tmp_path: Path) -> None:
    """Without the extra, the mirror fails before anything is written, and says how to install it."""
    code = f"""
import sys
sys.modules[{module!r}] = None  # makes its import fail
from pulp_hooks.errors import MirrorError
from pulp_hooks.hooks import Hooks
from pulp_hooks.hosts.file_mirror import mirror
try:
    mirror({source!r}, "dest", Hooks(), repo_id="r")
except MirrorError as error:
    print(error)
"""
    run = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert run.stdout == f"{hint}; fix: pip install 'pulp-hooks[mirror]'\n"
    assert list(tmp_path.iterdir()) == []


def test_import_of_the_mirror_is_light() -> None:
    """urllib3 and filelock are imported only when they are used."""
    code = "import sys, pulp_hooks.hosts.file_mirror; print({'urllib3', 'filelock'} & set(sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "set()\n"
