"""The documentation is complete and speaks of nothing else: what it lists is compared with the code itself."""

import dataclasses
import inspect
import json
import os
import re
import subprocess
import sys
import tomllib
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

import click
import pytest

import pulp_hooks
from pulp_hooks import hookspecs
from pulp_hooks.bodies.examples import EXAMPLES
from pulp_hooks.bodies.json_schema import json_schema
from pulp_hooks.cli import COMMANDS, cli
from pulp_hooks.errors import PulpHooksError
from pulp_hooks.event import Event
from pulp_hooks.event_types import EventType
from pulp_hooks.hosts.file_mirror import MirrorResult
from pulp_hooks.settings.model import Settings
from tests.conftest import EXAMPLE_PLUGINS

ROOT = Path(__file__).parents[2]
PAGES = {page.name: page.read_text(encoding="utf-8") for page in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]}
SOURCES = {file.relative_to(ROOT): file.read_text(encoding="utf-8") for file in (ROOT / "pulp_hooks").rglob("*.py")}


def section(page: str, heading: str) -> str:
    """Return what stands under a heading, without its code blocks."""
    prose = re.sub(r"^```.*?^```$", "", PAGES[page], flags=re.MULTILINE | re.DOTALL)
    _, *parts = re.split(r"^#+ (.+)$", prose, flags=re.MULTILINE)
    return dict(zip(parts[::2], parts[1::2], strict=True))[heading]


def rows(page: str, heading: str) -> dict[str, list[str]]:
    """Return the rows of the table under a heading: the code in the first cell, and the other cells."""
    table = re.findall(r"^\| `([^`]+)` \| (.*) \|$", section(page, heading), flags=re.MULTILINE)
    return {first: rest.split(" | ") for first, rest in table}


def keys(row: list[str]) -> set[str]:
    """Return what a row names as code."""
    return set(re.findall(r"`([^`]+)`", " ".join(row)))


def commands() -> Iterator[tuple[str, click.Command, click.Context]]:
    """Yield every command with its name and a context."""
    for name in COMMANDS:
        command = cli.get_command(click.Context(cli), name)
        assert command is not None
        yield name, command, click.Context(command)


def subcommands(command: click.Command) -> list[click.Command]:
    """Return the commands of a command that is a group."""
    return list(command.commands.values()) if isinstance(command, click.Group) else []


def options(command: click.Command, context: click.Context) -> list[str]:
    """Return the options of a command but `--help`, as its help shows them."""
    records = [option.get_help_record(context) for option in command.params if isinstance(option, click.Option)]
    return [record[0] for record in records if record]


def errors(of: type[PulpHooksError] = PulpHooksError) -> Iterator[str]:
    """Yield the name of every error class that callers may meet; modules have more for themselves."""
    if of.__module__ == PulpHooksError.__module__:
        yield of.__name__
    for error in of.__subclasses__():
        yield from errors(error)


@pytest.fixture(scope="session")
def reference(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """Build the documentation, with every warning an error, and give the full name of each object that it describes."""
    output = tmp_path_factory.mktemp("documentation")
    options = ("--fresh-env", "--nitpicky", "--fail-on-warning", "--keep-going", "--quiet")
    built = subprocess.run(
        [sys.executable, "-m", "sphinx", *options, ROOT / "docs", output], check=False, capture_output=True, text=True
    )
    assert built.returncode == 0, built.stderr
    inventory = (output / "objects.inv").read_bytes().split(b"\n", 4)[4]
    return {line.split()[0] for line in zlib.decompress(inventory).decode().splitlines()}


def test_reference_has_every_public_name(reference: set[str]) -> None:
    """What `pulp_hooks` exports is described under that name."""
    assert {f"pulp_hooks.{name}" for name in pulp_hooks.__all__} <= reference


def test_reference_has_every_error(reference: set[str]) -> None:
    """Every error class is described, be it exported or not."""
    public = set(pulp_hooks.__all__)
    names = {f"pulp_hooks.{name}" if name in public else f"pulp_hooks.errors.{name}" for name in errors()}
    assert names <= reference


def test_reference_has_every_method_of_hooks(reference: set[str]) -> None:
    """The facade of hosts has no method that is not described."""
    methods = {name for name, _ in inspect.getmembers(pulp_hooks.Hooks, callable) if not name.startswith("_")}
    assert {f"pulp_hooks.Hooks.{name}" for name in methods} <= reference


def test_every_hook_is_documented_with_its_exact_signature(reference: set[str]) -> None:
    """The table of the hooks has each of them as it is declared, and the reference describes it."""
    hooks = {event_type.hook_name: getattr(hookspecs, event_type.hook_name) for event_type in EventType}
    signatures = []
    for name, hook in hooks.items():
        parameters = inspect.signature(hook).parameters.values()
        signatures.append(
            f"{name}({', '.join(f'{parameter.name}: {parameter.annotation}' for parameter in parameters)})"
        )
    assert list(rows("listeners.md", "The four hooks")) == signatures
    assert {f"pulp_hooks.hookspecs.{name}" for name in hooks} <= reference


def test_every_event_type_is_documented_with_its_three_names() -> None:
    """The table of the event types is the one of the code."""
    names = {t.value: [f"`{t.hook_name}`", f"`{t.wire_name}`"] for t in EventType}
    assert rows("events.md", "Event types") == names


@pytest.mark.parametrize("event_type", EventType)
def test_every_field_of_a_body_is_documented(event_type: EventType) -> None:
    """The table of a body has its fields in their order; null may be where its JSON Schema lets it be."""
    fields = json.loads(json_schema(event_type))["properties"]
    table = rows("events.md", f"`{event_type}`")
    assert list(table) == list(fields)
    for field, (_, null, _) in table.items():
        assert (null != "never") == ("null" in fields[field].get("type", "null")), field


@pytest.mark.parametrize("event_type", EventType)
def test_example_body_is_the_one_that_fire_sends(event_type: EventType) -> None:
    """The page of the events shows the same examples as the command."""
    shown = re.search(rf"^:caption: {event_type}\.json\n\n(.*?)^```$", PAGES["events.md"], re.MULTILINE | re.DOTALL)
    assert shown is not None
    assert json.loads(shown[1]) == EXAMPLES[event_type]


def test_every_result_is_documented() -> None:
    """The table of the results has those of a publish, which are all there are."""
    results = json.loads(json_schema(EventType.REPO_PUBLISH_FINISHED))["properties"]["result"]["enum"]
    assert list(rows("events.md", "Results")) == results


def test_every_member_of_the_envelope_is_documented() -> None:
    """The table of the envelope has the members of an event in their order."""
    assert list(rows("events.md", "The envelope")) == [field.name for field in dataclasses.fields(Event)]


def tables() -> dict[str, Any]:
    """Return the model of each table of the settings, by the heading under which it is documented."""
    found: dict[str, Any] = {}
    for name, hint in get_type_hints(Settings).items():
        (model,) = [part for part in (hint, *get_args(hint)) if dataclasses.is_dataclass(part)]
        if model not in found.values():
            found[f"`[[{name}]]`" if get_origin(hint) is tuple else f"`[{name}]`"] = model
    return found


def test_every_table_of_the_settings_is_documented() -> None:
    """The page of the settings has a section for each table, in the order of the model, and for no other."""
    assert re.findall(r"^### (`\[.+)$", PAGES["settings.md"], re.MULTILINE) == list(tables())


@pytest.mark.parametrize("heading", tables())
def test_every_setting_is_documented(heading: str) -> None:
    """The section of a table lists just its keys, which are the fields of the model."""
    fields = [field.name for field in dataclasses.fields(tables()[heading])]
    assert list(rows("settings.md", heading)) == fields
    assert list(tables()[heading].rules().fields) == fields


@pytest.mark.parametrize("heading", tables())
def test_defaults_of_settings_are_documented(heading: str) -> None:
    """A default that is a value is shown as it is written in the file, and it is the one of the model."""
    for field in dataclasses.fields(tables()[heading]):
        *_, cell = rows("settings.md", heading)[field.name]
        shown = re.match(r"`(.+?)`", cell)
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            assert cell == "Required", field.name
        elif field.default is None:
            assert cell
            assert shown is None, field.name
        else:
            assert shown, field.name
            value = tomllib.loads(f"{field.name} = {shown[1]}")
            needed = {"name": "a", "notifier": "b"} if heading == "`[[listeners]]`" else {}
            needed = {"url": "sqlite:///a"} if heading == "`[journal]`" else needed
            needed = {"name": "a", "url": "https://b"} if heading == "`[[pulp]]`" else needed
            made = tables()[heading](**needed | value)
            assert made == tables()[heading](**needed), field.name


def test_every_environment_variable_is_documented() -> None:
    """The table of the environment variables has just those that the package reads; other pages name no others."""
    read = {name for text in SOURCES.values() for name in re.findall(r"\bPULP_HOOKS_[A-Z_]+\b", text)}
    assert set(rows("settings.md", "Environment variables")) == read
    completion = "_PULP_HOOKS_COMPLETE"
    assert completion in PAGES["command-line.md"]
    named = {name for text in PAGES.values() for name in re.findall(r"\b_?PULP_HOOKS_[A-Z_]+\b", text)}
    assert named == read | {completion}


def test_every_command_is_documented() -> None:
    """The page of the command line has a section for each command, with its arguments."""
    usages = [
        " ".join(
            ["pulp-hooks", name, *(a.make_metavar(context) for a in command.params if isinstance(a, click.Argument))]
        )
        for name, command, context in commands()
    ]
    assert re.findall(r"^## `(.+)`$", PAGES["command-line.md"], re.MULTILINE) == usages


def test_every_option_is_documented() -> None:
    """The section of a command has a table with just the options that its help shows."""
    for (name, command, context), heading in zip(
        commands(), re.findall(r"^## (`.+`)$", PAGES["command-line.md"], re.MULTILINE), strict=True
    ):
        assert list(rows("command-line.md", heading)) == options(command, context), name
        named = keys([section("command-line.md", heading)])
        for part in subcommands(command):
            assert any(text.startswith(f"pulp-hooks {name} {part.name}") for text in named)
            assert {option.split()[0] for option in options(part, context)} <= {text.split()[0] for text in named}
    assert "--help" in PAGES["command-line.md"]
    assert "--version" in PAGES["command-line.md"]


def test_no_page_names_a_command_or_option_that_does_not_exist() -> None:
    """Wherever `pulp-hooks` is followed by a command or by options, in text or in a console, they exist."""
    known = {
        name: {option for part in (command, *subcommands(command)) for p in part.params for option in p.opts}
        for name, command, _ in commands()
    }
    for page, text in PAGES.items():
        for words in re.findall(r"(?:^|[`$ ])pulp-hooks ((?:[\w.<>/-]+ ?)+)", text, flags=re.MULTILINE):
            name, *others = words.split()
            if name != "--version":
                assert name in known, f"{page}: pulp-hooks {words}"
                assert {word for word in others if word.startswith("--")} <= known[name], f"{page}: pulp-hooks {words}"


DOCUMENTS = {
    "event-types": [["event-types"]],
    "schema": [["schema", "repo-sync-started"]],
    "listeners": [
        ["listeners"],
        ["listeners", "test", "desk"],
        ["listeners", "add", "audit", "--notifier", "jsonl", "--set", "path=a.jsonl"],
        ["listeners", "show", "audit"],
        ["listeners", "update", "audit", "--set", "path=b.jsonl", "--yes"],
        ["listeners", "export"],
        ["listeners", "remove", "audit", "--yes"],
        ["listeners", "import", "listeners.json"],
        ["listeners", "disable", "desk", "--yes"],
        ["listeners", "enable", "desk"],
        ["listeners", "rename", "desk", "counter", "--yes"],
        ["listeners", "rename", "counter", "desk", "--yes"],
    ],
    "check": [["check"]],
    "fire": [["fire", "repo-sync-started"]],
    "mirror": [["mirror", "files", "mirrored"]],
    "watch": [["watch", "http://127.0.0.1:1", "--check"]],
    "worker": [["worker", "--once"]],
    "deliveries": [["deliveries"], ["deliveries", "show", "EVENT"]],
    "events": [["events"]],
    "stats": [["stats"]],
    "replay": [["replay", "EVENT/desk"]],
    "backfill": [["backfill", "desk", "--yes"]],
    "prune": [["prune", "--yes"]],
    "journal": [["journal"], ["journal", "upgrade"]],
}
"""The ways in which each command, and each of its subcommands, prints JSON."""

FREE = {"event", "body", "call_report", "config", "result"}
"""Keys whose values have a page, or a part of the reference, of their own."""

DESK = """
from pulp_hooks import hookimpl

@hookimpl
def repo_sync_started(body): ...

@hookimpl
def repo_sync_finish(body): ...
"""


def json_keys(value: object) -> set[str]:
    """Return every key of a JSON document; the states by which an event's deliveries are counted are none."""
    if isinstance(value, list):
        return set().union(*map(json_keys, value))
    if not isinstance(value, dict):
        return set()
    counts = {key for key, item in value.items() if key == "deliveries" and isinstance(item, dict)}
    return set(value).union(*(json_keys(item) for key, item in value.items() if key not in FREE | counts))


def json_documents(text: str) -> Iterator[Any]:
    """Yield the JSON documents that follow each other in a text."""
    while text := text.lstrip():
        document, end = json.JSONDecoder().raw_decode(text)
        text = text[end:]
        yield document


@pytest.fixture(scope="module")
def printed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[list[Any]]]:
    """Run every command with `--json`, and return the documents of each run, by the command."""
    folder = tmp_path_factory.mktemp("commands")
    info = folder / "desk-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: desk\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[pulp_hooks]\ndesk = desk\n")
    (folder / "desk.py").write_text(DESK)
    (folder / "pulp-hooks.toml").write_text("[journal]\nurl = 'sqlite:///journal.db'\n")
    (folder / "files").mkdir()
    (folder / "files" / "a").write_text("a")
    (folder / "listeners.json").write_text("[]")
    blocked = [name for name in EXAMPLE_PLUGINS if name != "jsonl"]
    environment = os.environ | {"PYTHONPATH": str(folder), "PULP_HOOKS_BLOCK": ",".join(blocked)}
    event_id = ""

    def documents(arguments: list[str]) -> list[Any]:
        as_json = [] if "export" in arguments else ["--json"]
        command = [argument.replace("EVENT", event_id) for argument in [*arguments, *as_json]]
        done = subprocess.run(
            [sys.executable, "-m", "pulp_hooks", *command],
            capture_output=True,
            check=False,
            cwd=folder,
            encoding="utf-8",
            env=environment,
        )
        assert done.stdout, done.stderr
        return list(json_documents(done.stdout))

    event_id = documents(["fire", "repo-sync-started"])[0]["event"]["id"]
    return {name: [documents(arguments) for arguments in DOCUMENTS[name]] for name in COMMANDS}


@pytest.mark.parametrize("name", [name for name in COMMANDS if name not in {"schema", "mirror", "worker"}])
def test_keys_of_json_output_are_documented(printed: dict[str, list[list[Any]]], name: str) -> None:
    """The row of `--json` names every key of what the command prints, and no other; its section those of its parts."""
    headings = dict(zip(COMMANDS, re.findall(r"^## (`.+`)$", PAGES["command-line.md"], re.MULTILINE), strict=True))
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    parts = {str(part.name) for part in subcommands(command)}
    documented = keys(rows("command-line.md", headings[name])["--json"]) - parts - {"--before"}
    plain, *others = [json_keys(documents) for documents in printed[name]]
    assert plain <= documented
    assert documented <= plain.union(*others)
    assert set().union(*others) <= documented | keys([section("command-line.md", headings[name])])


def test_every_command_prints_json(printed: dict[str, list[list[Any]]]) -> None:
    """Each is run by the tests of its keys, with every part that it has."""
    assert list(printed) == list(COMMANDS)
    for name, command, _ in commands():
        assert {run[1] for run in DOCUMENTS[name][1:]} == {part.name for part in subcommands(command)}


def test_json_of_a_schema_is_the_schema(printed: dict[str, list[list[Any]]]) -> None:
    """As its row says, `--json` changes nothing."""
    assert printed["schema"] == [[json.loads(json_schema(EventType.REPO_SYNC_STARTED))]]


def test_json_of_a_mirror_is_documented(printed: dict[str, list[list[Any]]]) -> None:
    """The lines are events in their envelopes, and a result with the fields of the reference."""
    *events, last = printed["mirror"][0]
    assert {key for event in events for key in event} == {field.name for field in dataclasses.fields(Event)}
    assert set(last) == {"result"} == keys(rows("command-line.md", "`pulp-hooks mirror SOURCE DEST`")["--json"])
    assert set(last["result"]) == {field.name for field in dataclasses.fields(MirrorResult)}


def test_json_of_a_worker_is_documented(printed: dict[str, list[list[Any]]]) -> None:
    """A line has the keys of its row, and of an attempt the attributes of the log record."""
    own = keys(rows("command-line.md", "`pulp-hooks worker`")["--json"])
    (sentence,) = re.findall(r"has the attributes (.+?), in seconds", section("durable.md", "Monitoring"), re.DOTALL)
    attempts = [line for line in printed["worker"][0] if "event_id" in line]
    assert attempts
    assert {key for line in attempts for key in line} == own | keys([sentence])


def test_every_logger_is_documented() -> None:
    """The table of the loggers has each module that logs, and each logger that several modules share."""
    modules = [file.with_suffix("").parts for file, text in SOURCES.items() if "safe_logger(__name__)" in text]
    shared = {
        name for text in SOURCES.values() for name in re.findall(r'^_log = safe_logger\("(.+)"\)', text, re.MULTILINE)
    }
    assert not [file for file, text in SOURCES.items() if "_log = logging" in text]
    assert set(rows("hosts.md", "Logging")) == {".".join(module) for module in modules} | shared


def test_rooms_of_the_architecture_are_those_that_are_checked() -> None:
    """The table of the rooms has the floors that import-linter holds, from the top down."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    floors = settings["tool"]["importlinter"]["contracts"][0]["layers"]
    cells = re.findall(r"^\| (`.+?) \|", section("architecture.md", "The rooms"), re.MULTILINE)
    assert [sorted(keys([cell])) for cell in cells] == [sorted(floor.split(" | ")) for floor in floors]


def test_links_of_the_readme_lead_somewhere() -> None:
    """Every link is one to a file of this repository."""
    targets = re.findall(r"\]\(([^)]+)\)", PAGES["README.md"])
    assert targets
    assert [target for target in targets if not (ROOT / target).exists()] == []
