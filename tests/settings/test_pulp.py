"""`[[pulp]]` tables: the servers that the watcher watches."""

from pathlib import Path

import pytest

from pulp_hooks import PulpSettings, Settings, SettingsError
from pulp_hooks.settings.reading import ReadSettings, read_settings

CANARY = "correct-horse-canary"


def read(folder: Path, text: str) -> ReadSettings:
    """Read a settings file."""
    (folder / "pulp-hooks.toml").write_text(text)
    return read_settings(folder / "pulp-hooks.toml")


def test_every_key_is_read(tmp_path: Path) -> None:
    """Paths are relative to the file, and the password is where the reference leads."""
    (tmp_path / "password").write_text(f"{CANARY}\n")
    read_file = read(
        tmp_path,
        """
        [[pulp]]
        name = "main"
        url = "https://pulp.example.org"
        username = "watcher"
        password = { file = "password" }
        ca_path = "ca.pem"
        client_certificate = "/etc/pulp/client.pem"
        domains = ["default", "team-a"]
        interval_seconds = 2.5
        repositories = ["prod-*"]
        labels = { env = "prod" }
        sync_tasks = ["fetch"]
        publish_tasks = ["roll_out"]
        """,
    )
    assert read_file.problems == ()
    (server,) = read_file.pulp_servers()
    assert server == PulpSettings(
        name="main",
        url="https://pulp.example.org",
        username="watcher",
        password=CANARY,
        ca_path=str(tmp_path / "ca.pem"),
        client_certificate="/etc/pulp/client.pem",
        domains=("default", "team-a"),
        interval_seconds=2.5,
        repositories=("prod-*",),
        labels={"env": "prod"},
        sync_tasks=("fetch",),
        publish_tasks=("roll_out",),
    )
    assert CANARY not in repr(server)
    assert CANARY not in repr(read_file)


def test_password_is_read_when_it_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A host that shares the settings needs no password of the watcher."""
    text = '[[pulp]]\nname = "main"\nurl = "https://p"\nusername = "w"\npassword = { env = "WATCHER_PASSWORD" }'
    monkeypatch.delenv("WATCHER_PASSWORD", raising=False)
    read_file = read(tmp_path, text)
    assert read_file.problems == ()
    with pytest.raises(SettingsError, match="pulp 'main': password: environment variable WATCHER_PASSWORD is not set"):
        read_file.pulp_servers()
    monkeypatch.setenv("WATCHER_PASSWORD", CANARY)
    assert read_file.pulp_servers()[0].password == CANARY


@pytest.mark.parametrize(
    ("keys", "cause"),
    [
        ('url = "https://p"', "pulp[0]: name is missing"),
        ('name = "a"', "pulp 'a': url is missing"),
        ('name = "a/b"\nurl = "https://p"', "pulp 'a/b': name must be letters"),
        ('name = "a"\nurl = "p.example"', "pulp 'a': url must be an http:// or https:// URL"),
        (f'name = "a"\nurl = "https://w:{CANARY}@p"', "pulp 'a': url must be"),
        (f'name = "a"\nurl = "https://p?token={CANARY}"', "pulp 'a': url must be"),
        (f'name = "a"\nurl = "https://p"\nusername = "w"\npassword = "{CANARY}"', "pulp 'a': password must not be in"),
        ('name = "a"\nurl = "https://p"\npassword = { vault = "x" }', "pulp 'a': password must be { env"),
        ('name = "a"\nurl = "https://p"\ninterval_seconds = 0.1', "pulp 'a': interval_seconds must be at least 1"),
        ('name = "a"\nurl = "https://p"\ndomains = []', "pulp 'a': domains must not be empty"),
        ('name = "a"\nurl = "https://p"\ndomains = ["../b"]', "pulp 'a': domains[0] must be letters"),
        ('name = "a"\nurl = "https://p"\nrepositories = []', "pulp 'a': repositories must not be empty"),
        ('name = "a"\nurl = "https://p"\nlabels = { env = 1 }', "pulp 'a': labels.env.value must be a string"),
        ('name = "a"\nurl = "https://p"\nuser = "w"', "pulp 'a': user is not a key of this table, did you mean"),
    ],
)
def test_invalid_server_is_a_problem(tmp_path: Path, keys: str, cause: str) -> None:
    """The problem names the server, the key and the rule, and never a secret; nothing is watched half."""
    read_file = read(tmp_path, f'[[pulp]]\nname = "good"\nurl = "https://p"\n[[pulp]]\n{keys}'.replace("pulp[0]", ""))
    (problem,) = read_file.problems
    assert problem.cause.startswith(cause.replace("pulp[0]", "pulp[1]"))
    assert CANARY not in f"{problem}{read_file!r}"
    with pytest.raises(SettingsError, match="no server is watched"):
        read_file.pulp_servers()


def test_invalid_server_leaves_listeners_and_journal(tmp_path: Path) -> None:
    """Hosts and workers that share the settings go on."""
    read_file = read(tmp_path, '[journal]\nurl = "sqlite:///j.db"\n[[pulp]]\nname = "a"')
    assert read_file.fault is None
    assert read_file.journal() is not None


def test_two_servers_of_one_name_are_refused(tmp_path: Path) -> None:
    """The name is that of the server's state."""
    table = '[[pulp]]\nname = "a"\nurl = "https://p"\n'
    assert "another pulp of this file has this name" in read(tmp_path, 2 * table).problems[0].cause
    server = PulpSettings(name="a", url="https://p")
    with pytest.raises(SettingsError, match="pulp servers must be unique"):
        Settings(pulp=(server, server))


@pytest.mark.parametrize("keys", [{"username": "w"}, {"password": "p"}])
def test_user_name_and_password_belong_together(keys: dict[str, str]) -> None:
    """One without the other is a mistake."""
    with pytest.raises(SettingsError, match="username or password is missing"):
        PulpSettings(name="a", url="https://p", **keys).resolved(Path())  # type: ignore[arg-type]
