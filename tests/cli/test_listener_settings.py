"""Facts about the commands that edit the listeners of the settings file."""

import json
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    import subprocess

Run = Callable[..., "subprocess.CompletedProcess[str]"]

SETTINGS = """\
# Where events are kept.
[journal]  # here
url = "sqlite:///j.db"

[[listeners]]  # the first
name = "audit"
notifier = "jsonl"
[listeners.config]
path = "a.jsonl"   # relative
"""


@pytest.fixture
def settings(tmp_path: Path) -> Path:
    """Return the settings file, with comments and one listener."""
    path = tmp_path / "work" / "pulp-hooks.toml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(SETTINGS)
    return path


@pytest.fixture
def edit(run: Run, settings: Path) -> Run:
    """Return a function that runs a subcommand of `listeners`, with the notifiers of the example plugins."""
    assert settings.exists()

    def edit(*arguments: str, **variables: str) -> "subprocess.CompletedProcess[str]":
        shown = run("listeners", *arguments, **{"PULP_HOOKS_BLOCK": "console", **variables})
        assert "Traceback" not in shown.stderr
        return shown

    return edit


def listeners(settings: Path) -> dict[str, Any]:
    """Return the listeners of the settings file by name."""
    return {one["name"]: one for one in tomllib.loads(settings.read_text()).get("listeners", [])}


def test_listener_is_added_and_the_rest_stays_to_the_byte(edit: Run, settings: Path) -> None:
    """Values are TOML where they can be, and text otherwise; secrets are references."""
    (settings.parent / "pass").write_text("sesame")
    shown = edit(
        *("add", "ci", "--notifier", "http", "--event-type", "repo.publish.finish", "--repo-id", "zoo-*"),
        *("--result", "success", "--set", "url=https://ci.example.org/?a=b", "--set", "timeout=5"),
        *("--set", 'allow=["10.0.0.0/8"]', "--set", "headers.X-A=1.x"),
        *("--set-env", "secret=CI_SECRET", "--set-file", "password=pass", "--set", "username=me"),
        CI_SECRET="whsec_" + "A" * 32,
    )
    assert shown.returncode == 0, shown.stderr
    assert shown.stderr == ""
    assert settings.read_text().startswith(SETTINGS)
    assert listeners(settings)["ci"] == {
        "name": "ci",
        "notifier": "http",
        "event_types": ["repo-publish-finished"],
        "repo_ids": ["zoo-*"],
        "results": ["success"],
        "config": {
            "url": "https://ci.example.org/?a=b",
            "timeout": 5,
            "allow": ["10.0.0.0/8"],
            "headers": {"X-A": "1.x"},
            "username": "me",
            "secret": {"env": "CI_SECRET"},
            "password": {"file": "pass"},
        },
    }


def test_quoted_part_of_a_key_may_have_dots(edit: Run, settings: Path) -> None:
    """As in TOML; a key that is not TOML is taken as it is."""
    keys = ("--set", 'headers."X.Y"=x', "--set", "headers.'Z'=z", "--set", "headers.a!b=b")
    shown = edit("add", "ci", "--notifier", "http", "--set", "url=https://ci.example.org/", *keys)
    assert shown.returncode == 0, shown.stderr
    assert listeners(settings)["ci"]["config"]["headers"] == {"X.Y": "x", "Z": "z", "a!b": "b"}
    shown = edit("update", "ci", "--set-env", 'headers."X.Y"=NAME', "--unset", "headers.a!b", "--yes")
    assert shown.returncode == 0, shown.stderr
    assert listeners(settings)["ci"]["config"]["headers"] == {"X.Y": {"env": "NAME"}, "Z": "z"}
    assert "no key headers.X.Z" in edit("update", "ci", "--unset", 'headers."X.Z"', "--yes").stderr
    assert "must be KEY=VALUE" in edit("update", "ci", "--set", 'headers.""=1', "--yes").stderr


def test_file_is_created_where_there_is_none(run: Run, tmp_path: Path) -> None:
    """With what the command says."""
    arguments = ["add", "audit", "--notifier", "jsonl", "--set", "path=x.jsonl", "--settings", "new.toml", "--json"]
    shown = run("listeners", *arguments, PULP_HOOKS_BLOCK="console")
    path = tmp_path / "work" / "new.toml"
    assert json.loads(shown.stdout) == {"added": ["audit"], "settings": str(path), "notes": []}
    assert listeners(path)["audit"]["config"] == {"path": "x.jsonl"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["add", "audit", "--notifier", "jsonl"], "there is a listener 'audit' already"),
        (["add", "b", "--notifier", "jsonI"], "notifier 'jsonI' is not installed; fix: did you mean 'jsonl'?"),
        (["add", "b", "--notifier", "jsonl"], "config.path: is missing"),
        (["add", "b", "--notifier", "jsonl", "--set", "pat=x"], "config.pat"),
        (["add", "a b", "--notifier", "jsonl", "--set", "path=x"], "must be letters, digits"),
        (["add", "b", "--notifier", "http", "--set", "url=https://a.example", "--set", "secret=s3cret"], "is a secret"),
        (["update", "nobody", "--set", "x=1"], "has no listener 'nobody'; it has audit"),
        (["update", "audit", "--unset", "colour", "--yes"], "has no key colour"),
        (["update", "audit", "--unset", "path", "--yes"], "config.path: is missing"),
        (["update", "audit", "--set", "path", "--yes"], "must be KEY=VALUE"),
        (["remove", "nobody", "--yes"], "has no listener 'nobody'"),
        (["show", "nobody"], "has no listener 'nobody'"),
        (["update", "audit", "--set", "path=y"], "Not a terminal; fix: pass --yes"),
        (["remove", "audit"], "Not a terminal; fix: pass --yes"),
    ],
)
def test_what_is_wrong_is_said_and_the_file_stays(edit: Run, settings: Path, arguments: list[str], said: str) -> None:
    """To the byte, and nothing is left beside it."""
    shown = edit(*arguments)
    assert shown.returncode in {1, 2}
    assert said in shown.stderr
    assert "s3cret" not in shown.stdout + shown.stderr
    assert settings.read_text() == SETTINGS
    assert [path.name for path in settings.parent.iterdir() if path.suffix != ".jsonl"] == ["pulp-hooks.toml"]


def test_update_changes_what_is_named_and_shows_the_difference(edit: Run, settings: Path) -> None:
    """Comments stay, also on the line that changes."""
    shown = edit("update", "audit", "--set", "path=b.jsonl", "--event-type", "repo-sync-started", "--yes")
    assert shown.returncode == 0, shown.stderr
    assert "config.path: a.jsonl -> b.jsonl\n" in shown.stdout
    assert "event_types: None -> ['repo-sync-started']\n" in shown.stdout
    text = settings.read_text()
    assert 'path = "b.jsonl"   # relative' in text
    assert text.startswith("# Where events are kept.\n[journal]  # here\n")
    again = edit("update", "audit", "--unset", "event_types", "--yes", "--json")
    assert json.loads(again.stdout)["changed"] == {"event_types": [["repo-sync-started"], None]}
    assert "event_types" not in listeners(settings)["audit"]
    assert edit("update", "audit", "--set", "path=b.jsonl").stdout == "audit is unchanged\n"


def test_listener_whose_secret_is_not_at_hand_is_saved_and_the_rest_of_it_checked(edit: Run, settings: Path) -> None:
    """An operator's shell rarely has the secrets of the service."""
    http = ["--notifier", "http", "--set", "url=https://a.example", "--set-env", "secret=CI_SECRET"]
    wrong = edit("add", "ci", *http, "--set", "timeout=-1")
    assert wrong.returncode == 1
    assert "config.timeout: must be more than 0" in wrong.stderr
    assert settings.read_text() == SETTINGS
    right = edit("add", "ci", *http)
    assert right.returncode == 0
    assert "ci is not checked completely: config.secret: environment variable CI_SECRET is not set" in right.stderr
    assert set(listeners(settings)) == {"audit", "ci"}


def test_removed_listener_is_gone(edit: Run, settings: Path) -> None:
    """And the last one takes the list with it."""
    assert edit("remove", "audit", "--yes").stdout == f"audit is removed from {settings}\n"
    assert settings.read_text() == '# Where events are kept.\n[journal]  # here\nurl = "sqlite:///j.db"\n\n'


def test_nothing_secret_is_shown(edit: Run, settings: Path) -> None:
    """References are; queries of URLs, what stands before a host and texts of inner tables are not."""
    settings.write_text(
        SETTINGS + "[[listeners]]\nname = 'ci'\nnotifier = 'http'\n[listeners.config]\n"
        "url = 'https://a.example/hook?token=s3cret'\nheaders = {Key = 's3cret', Other = {env = 'OTHER'}}\n"
        "secret = 's3cret'\nca_path = 'https://s3cret@b.example'\nallow = ['10.0.0.0/8']\n"
    )
    shown = json.loads(edit("show", "ci", "--json").stdout)
    assert shown["config.url"] == "https://a.example/hook?***"
    assert shown["config.headers"] == {"Key": "***", "Other": {"env": "OTHER"}}
    assert shown["config.secret"] == "***"
    assert shown["config.allow"] == ["10.0.0.0/8"]
    plain = edit("show", "ci")
    assert "config.url: https://a.example/hook?***\n" in plain.stdout
    changed = edit(
        "update", "ci", "--set", "timeout=3", "--set", "url=https://c.example", "--set-env", "secret=S", "--yes"
    )
    for one in (json.dumps(shown), plain.stdout, changed.stdout, changed.stderr):
        assert "s3cret" not in one


def test_exported_listeners_can_be_imported(edit: Run, settings: Path, run: Run, tmp_path: Path) -> None:
    """Into another file, as they were."""
    edit("update", "audit", "--event-type", "repo-sync-started", "--set-env", "path=AUDIT", "--yes", AUDIT="x")
    (tmp_path / "work" / "exported.json").write_text(edit("export").stdout)
    arguments = ["import", "exported.json", "--settings", "other.toml"]
    shown = run("listeners", *arguments, PULP_HOOKS_BLOCK="console", AUDIT="x.jsonl")
    assert shown.returncode == 0, shown.stderr
    assert listeners(tmp_path / "work" / "other.toml") == listeners(settings)


PULP2 = [
    {
        "_id": {"$oid": "50aa8b5de5b8d2a1b8aaa111"},
        "id": "50aa8b5de5b8d2a1b8aaa111",
        "_href": "/pulp/api/v2/events/50aa8b5de5b8d2a1b8aaa111/",
        "notifier_type_id": "http",
        "event_types": ["*"],
        "notifier_config": {"url": "https://ci.example.org/a", "username": "u", "password": "s3cret", "retries": 3},
    },
    {
        "id": "50aa8b5de5b8d2a1b8aaa222",
        "notifier_type_id": "http",
        "event_types": ["repo.sync.finish", "repo.publish.finish"],
        "notifier_config": {"url": "http://10.0.0.1/"},
    },
]


def test_listeners_of_pulp_2_are_imported(edit: Run, settings: Path) -> None:
    """With a report of what each needs; what cannot be valid is left out, and said."""
    (settings.parent / "events.json").write_text(json.dumps(PULP2))
    shown = edit("import", "--pulp2", "events.json", "--json")
    assert shown.returncode == 1
    assert json.loads(shown.stdout)["added"] == ["pulp2-http-aaa111"]
    assert "put its password into the environment variable PULP2_HTTP_AAA111_PASSWORD" in shown.stderr
    assert "retries is not known here, and was left out" in shown.stderr
    assert "pulp2-http-aaa222 is not imported" in shown.stderr
    assert "must be https; http is for addresses in your own network" in shown.stderr
    again = edit("import", "--pulp2", "events.json", "--set", 'http.allow=["10.0.0.0/8"]')
    assert "pulp2-http-aaa111 is not imported: there is a listener 'pulp2-http-aaa111' already" in again.stderr
    found = listeners(settings)
    assert found["pulp2-http-aaa111"] == {
        "name": "pulp2-http-aaa111",
        "notifier": "http",
        "event_types": ["*"],
        "config": {
            "url": "https://ci.example.org/a",
            "username": "u",
            "password": {"env": "PULP2_HTTP_AAA111_PASSWORD"},
            "format": "pulp2",
        },
    }
    assert found["pulp2-http-aaa222"]["event_types"] == ["repo-sync-finished", "repo-publish-finished"]
    assert found["pulp2-http-aaa222"]["config"]["allow"] == ["10.0.0.0/8"]
    assert "s3cret" not in shown.stdout + shown.stderr + settings.read_text()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("no json", "is not JSON"),
        ("{}", "not a list of Pulp 2's event listeners"),
        ("[1]", "entry 0 is not one of Pulp 2's event listeners"),
        ('[{"notifier_type_id": "fax"}]', "entry 0: notifier_type_id must be http, email or amqp"),
        ('[{"notifier_type_id": "http", "event_types": ["x"]}]', "entry 0: 'x' is not an event type"),
    ],
)
def test_file_that_is_not_of_pulp_2_is_refused(edit: Run, settings: Path, text: str, said: str) -> None:
    """With what is wrong with it."""
    (settings.parent / "events.json").write_text(text)
    shown = edit("import", "--pulp2", "events.json")
    assert shown.returncode == 1
    assert said in shown.stderr
    assert settings.read_text() == SETTINGS


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("= no toml", "is not TOML"),
        ("listeners = []", "must be [[listeners]] tables"),
        ("[jurnal]\n", "correct the file first"),
    ],
)
def test_file_that_is_invalid_already_is_not_edited(edit: Run, settings: Path, text: str, said: str) -> None:
    """Nobody could tell what the change does."""
    settings.write_text(text)
    shown = edit("add", "audit", "--notifier", "jsonl", "--set", "path=x")
    assert shown.returncode == 1
    assert said in shown.stderr
    assert settings.read_text() == text


def test_link_stays_and_the_mode_of_the_file(edit: Run, settings: Path, tmp_path: Path) -> None:
    """What it leads to is replaced."""
    target = tmp_path / "target.toml"
    settings.rename(target)
    settings.symlink_to(target)
    target.chmod(0o640)
    assert edit("update", "audit", "--set", "path=b.jsonl", "--yes").returncode == 0
    assert settings.is_symlink()
    assert target.stat().st_mode & 0o777 == 0o640
    assert "b.jsonl" in target.read_text()


def test_comments_and_tables_of_others_stay_when_a_listener_goes(edit: Run, settings: Path) -> None:
    """A comment above a table belongs to that table."""
    more = "\n# purges the CDN: do not touch\n[[listeners]]\nname = 'b'\nnotifier = 'jsonl'\nconfig.path = 'b.jsonl'\n"
    rest = "\n# how often\n[dispatch]\nslow_seconds = 1\n"
    settings.write_text(SETTINGS + more + rest)
    assert edit("remove", "audit", "--yes").returncode == 0
    assert settings.read_text() == SETTINGS.partition("[[listeners]]")[0] + more + rest
    assert edit("add", "c", "--notifier", "jsonl", "--set", "path=c.jsonl").returncode == 0
    assert settings.read_text().startswith(SETTINGS.partition("[[listeners]]")[0] + more + rest)
    before = settings.read_text()
    shown = edit("update", "b", "--set", "path=d.jsonl", "--yes")
    assert shown.returncode == 1
    assert "other tables stand between its [[listeners]]; fix: move those" in shown.stderr
    assert settings.read_text() == before


def test_line_ends_and_byte_order_mark_stay(edit: Run, settings: Path) -> None:
    """A file that was written on another system stays one of that system."""
    settings.write_bytes(b"\xef\xbb\xbf" + SETTINGS.replace("\n", "\r\n").encode())
    assert edit("add", "b", "--notifier", "jsonl", "--set", "path=b.jsonl").returncode == 0
    assert edit("update", "b", "--set", "path=c.jsonl", "--yes").returncode == 0
    content = settings.read_bytes()
    assert content.startswith(b"\xef\xbb\xbf# Where")
    assert content.count(b"\r\n") == content.count(b"\n") > 9


def test_notifier_that_is_blocked_is_neither_shown_in_clear_nor_edited(edit: Run, settings: Path) -> None:
    """Without it nobody knows which keys are secrets, and what they may be."""
    settings.write_text(SETTINGS + "[[listeners]]\nname = 'ci'\nnotifier = 'http'\nconfig.password = 's3cret'\n")
    blocked = {"PULP_HOOKS_BLOCK": "console,http"}
    shown = edit("show", "ci", **blocked)
    assert "config.password: ***" in shown.stdout
    added = edit("add", "z", "--notifier", "http", "--set", "url=5", **blocked)
    assert added.returncode == 1
    assert "notifier 'http' cannot be loaded here" in added.stderr
    assert "s3cret" not in shown.stdout + added.stderr


def test_missing_key_is_said_although_a_secret_is_not_at_hand(edit: Run, settings: Path) -> None:
    """What is required is known without it."""
    shown = edit("add", "ci", "--notifier", "http", "--set-env", "secret=CI_SECRET")
    assert shown.returncode == 1
    assert "config.url: is missing" in shown.stderr
    assert settings.read_text() == SETTINGS


def test_damaged_entries_of_an_import_are_left_out_one_by_one(edit: Run, settings: Path) -> None:
    """The others are added."""
    good = {"name": "good", "notifier": "jsonl", "config": {"path": "g.jsonl"}}
    bad: list[dict[str, object]] = [
        {"name": "a", "notifier": "jsonl", "config": "text"},
        {"name": "b", "notifier": "jsonl", "config": {"path": None}},
        {"name": "c", "notifier": None},
        {"name": "d", "notifier": "jsonl", "config": {"path": "\ud800"}},
    ]
    (settings.parent / "some.json").write_text(json.dumps([*bad, good]))
    shown = edit("import", "some.json", "--json")
    assert shown.returncode == 1
    assert json.loads(shown.stdout)["added"] == ["good"]
    assert [text.split(" is ")[0] for text in json.loads(shown.stdout)["refused"]] == ["a", "b", "c", "d"]


def test_dates_and_infinity_are_shown_as_text(edit: Run, settings: Path) -> None:
    """TOML has what JSON has not."""
    body = "config.json_body = { day = 2020-01-01, n = inf }\n"
    settings.write_text(
        SETTINGS + f"[[listeners]]\nname = 'ci'\nnotifier = 'http'\nconfig.url = 'https://a.example'\n{body}"
    )
    assert json.loads(edit("export").stdout)[1]["config"]["json_body"] == {"day": "2020-01-01", "n": "inf"}
    assert "2020-01-01" in edit("show", "ci").stdout


def test_invalid_listener_is_not_saved_with_another_invalid_value(edit: Run, settings: Path) -> None:
    """That it was invalid before is no reason to accept it."""
    settings.write_text(SETTINGS + "[[listeners]]\nname = 'ci'\nnotifier = 'http'\nconfig.url = 'http://a.example'\n")
    before = settings.read_text()
    shown = edit("update", "ci", "--set", "url=http://b.example", "--yes")
    assert shown.returncode == 1
    assert "must be https" in shown.stderr
    assert settings.read_text() == before
    assert edit("update", "ci", "--set", "url=https://b.example", "--yes").returncode == 0


def test_nothing_is_imported_from_a_list_of_pulp_2_with_an_entry_that_is_none(edit: Run, settings: Path) -> None:
    """Not even what stands before it."""
    (settings.parent / "events.json").write_text(json.dumps([PULP2[0], {"notifier_type_id": "fax"}]))
    shown = edit("import", "--pulp2", "events.json")
    assert shown.returncode == 1
    assert "entry 1: notifier_type_id must be http, email or amqp" in shown.stderr
    assert settings.read_text() == SETTINGS
