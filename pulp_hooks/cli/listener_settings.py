"""`pulp-hooks listeners add`, `update`, `remove`, `show`, `export` and `import`: the listeners of the settings file."""

import json
import math
import os
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TextIO, TypeAlias, TypeVar

import click
from marshmallow import ValidationError
from marshmallow.fields import Field

from pulp_hooks.cli.journal_access import confirmed
from pulp_hooks.cli.output import (
    counted,
    echo_json,
    echo_result,
    json_option,
    show_log,
    stdout_for_listeners,
    yes_option,
)
from pulp_hooks.cli.parameters import EventTypeParameter, checked_text
from pulp_hooks.errors import SettingsError
from pulp_hooks.hooks import Hooks
from pulp_hooks.notifier import Notifier
from pulp_hooks.plugins.listeners import Kind
from pulp_hooks.settings.model import Settings, violations
from pulp_hooks.settings.pulp2 import listeners_of
from pulp_hooks.settings.reading import FILE_NAME, PATH_VARIABLE, read_settings
from pulp_hooks.settings.references import is_reference, resolve_config
from pulp_hooks.settings.schemas import RESULT_NAMES
from pulp_hooks.text import printable

if TYPE_CHECKING:
    from pulp_hooks.settings.editing import SettingsFile

_Function = TypeVar("_Function", bound=Callable[..., object])

_FILTERS = ("event_types", "repo_ids", "results")

_HIDDEN = "***"


_Path: TypeAlias = tuple[str, ...]
"""Where a value is in the table of a listener: the keys that lead to it."""


def _assigned(_ctx: click.Context, param: click.Parameter, texts: Sequence[str]) -> dict[_Path, Any]:
    """Return places and values of `--set KEY=VALUE`, `--set-env KEY=NAME` or `--set-file KEY=PATH`."""
    found: dict[_Path, Any] = {}
    for text in texts:
        key, is_given, value = text.partition("=")
        path = _path(key)
        if not is_given or not all(path):
            raise click.BadParameter(f"{printable(text)!r} must be KEY=VALUE")
        kind = str(param.name).rpartition("_")[2]
        found[path] = {kind: value} if kind in {"env", "file"} else _value(value)
    return found


def _places(ctx: click.Context, param: click.Parameter, keys: tuple[str, ...]) -> list[_Path]:
    """Return the places of `--unset KEY`, which may also be a filter."""
    return [(key,) if key in _FILTERS else ("config", *_path(key)) for key in checked_text(ctx, param, keys)]


def _path(key: str) -> _Path:
    """Return the keys in a dotted key of TOML, whose parts may be quoted; else the parts between the dots."""
    try:
        read: Any = tomllib.loads(f"{key} = 0")
    except (tomllib.TOMLDecodeError, RecursionError):
        return tuple(key.split("."))
    path: list[str] = []
    while isinstance(read, dict) and len(read) == 1:
        [(part, read)] = read.items()
        path.append(part)
    return tuple(path) if read == 0 else tuple(key.split("."))


def _value(text: str) -> object:
    """Return what a text is in TOML, such as a number, true, an array or a table; else the text itself."""
    try:
        read = tomllib.loads(f"x = {text}")
    except (tomllib.TOMLDecodeError, RecursionError):
        return text
    return read["x"] if read.keys() == {"x"} else text


def _assigning(option: str, metavar: str, text: str) -> Callable[[_Function], _Function]:
    return click.option(option, multiple=True, metavar=metavar, callback=_assigned, help=text)


def _filtering(
    option: str, name: str, kind: click.ParamType[Any] | None, text: str
) -> Callable[[_Function], _Function]:
    return click.option(
        option, name, multiple=True, type=kind, callback=checked_text if kind is None else None, help=text
    )


_OPTIONS = (
    _filtering(
        "--event-type", "event_types", EventTypeParameter(), "Only events of this type. Repeatable, as the others."
    ),
    _filtering("--repo-id", "repo_ids", None, "Only events of repositories that match this glob."),
    _filtering("--result", "results", click.Choice(RESULT_NAMES), "Only finished events with this result."),
    _assigning("--set", "KEY=VALUE", "Set a key of its configuration; VALUE is TOML or else text."),
    _assigning("--set-env", "KEY=NAME", "Set a key that is in an environment variable."),
    _assigning("--set-file", "KEY=PATH", "Set a key that is in a file."),
)


def _listener_options(function: _Function) -> _Function:
    """Add the options that describe a listener."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


def _file_option(function: _Function) -> _Function:
    """Add `--settings` to a command that may create the file."""

    def path(ctx: click.Context, _: click.Parameter, value: str | None) -> str:
        of_group = ctx.parent and ctx.parent.params.get("settings")
        return str(value or of_group or os.environ.get(PATH_VARIABLE) or FILE_NAME)

    return click.option(
        "--settings",
        type=click.Path(dir_okay=False),
        callback=path,
        help="Settings file, instead of $PULP_HOOKS_SETTINGS or ./pulp-hooks.toml.",
    )(function)


def _opened(path: str) -> "SettingsFile":
    try:
        from pulp_hooks.settings.editing import SettingsFile  # noqa: PLC0415 - tomlkit is in an extra
    except ImportError as error:
        raise SettingsError(f"{error.name} is not installed; fix: install pulp-hooks[editing]") from None
    return SettingsFile(path)


def _changes(options: Mapping[str, Any]) -> dict[_Path, Any]:
    """Return what the options of `_listener_options` set, and where."""
    changes: dict[_Path, Any] = {(name,): [str(value) for value in options[name]] for name in _FILTERS if options[name]}
    for source in ("set", "set_env", "set_file"):
        changes |= {("config", *path): value for path, value in options[source].items()}
    return changes


@click.command(
    epilog="""\b
Examples:
  pulp-hooks listeners add ci --notifier http --event-type repo-publish-finished \\
      --set url=https://ci.example.org/hook --set-env secret=CI_SECRET
  pulp-hooks listeners add purge --notifier http --set url=https://cdn.example.org/{repo_id} \\
      --set method=PURGE --set timeout=5 --set 'allow=["10.0.0.0/8"]'"""
)
@click.argument("name", callback=checked_text)
@click.option("--notifier", required=True, callback=checked_text, help="Name of an installed notifier.")
@_listener_options
@_file_option
@json_option
def add(name: str, notifier: str, settings: str, *, as_json: bool, **options: Any) -> None:  # noqa: ANN401 - each of its own type
    """Add a listener to the settings file, which is left as it is if the result is not valid."""
    file = _opened(settings)
    file.add({"name": name, "notifier": notifier}, _changes(options))
    notes = _save(file, [name], as_json=as_json)
    _echo(file, f"{name} is added to {file.path}", notes, {"added": [name]}, as_json=as_json)


@click.command(
    epilog="""\b
Examples:
  pulp-hooks listeners update ci --set timeout=30
  pulp-hooks listeners update ci --event-type repo-sync-finished --unset repo_ids --yes"""
)
@click.argument("name", callback=checked_text)
@_listener_options
@click.option("--unset", multiple=True, metavar="KEY", callback=_places, help="Remove a key.")
@yes_option
@_file_option
@json_option
def update(
    name: str,
    settings: str,
    unset: Sequence[_Path],
    *,
    yes: bool,
    as_json: bool,
    **options: Any,  # noqa: ANN401 - each of its own type
) -> None:
    """Change keys of a listener in the settings file; all others stay as they are.

    Shows the difference, and asks. The file is left as it is if the result is not valid.
    """
    file = _opened(settings)
    before = file.listener(name)
    file.update(name, _changes(options), unset)
    changed = dict(_difference(before, file.listener(name), _hidden_keys(before, as_json=as_json)))
    if not changed:
        echo_result({"changed": {}}, f"{name} is unchanged", as_json=as_json)
        return
    for key, (old, new) in changed.items():
        click.echo(printable(f"{key}: {old} -> {new}"), err=as_json or not yes)
    confirmed(f"Write this to {file.path}?", yes=yes)
    notes = _save(file, [name], as_json=as_json)
    _echo(file, f"{name} is updated in {file.path}", notes, {"changed": changed}, as_json=as_json)


@click.command(epilog="\b\nExample:\n  pulp-hooks listeners remove ci --yes")
@click.argument("name", callback=checked_text)
@yes_option
@_file_option
@json_option
def remove(name: str, settings: str, *, yes: bool, as_json: bool) -> None:
    """Remove a listener from the settings file. What the journal has for it stays, and is not delivered."""
    file = _opened(settings)
    file.remove(name)
    confirmed(f"Remove {name} from {file.path}?", yes=yes)
    notes = _save(file, [], as_json=as_json)
    _echo(file, f"{name} is removed from {file.path}", notes, {"removed": [name]}, as_json=as_json)


@click.command(epilog="\b\nExample:\n  pulp-hooks listeners show ci")
@click.argument("name", callback=checked_text)
@_file_option
@json_option
def show(name: str, settings: str, *, as_json: bool) -> None:
    """Show a listener of the settings file. Secrets, queries of URLs and what is in inner tables are not shown."""
    listener = _opened(settings).listener(name)
    shown = dict(_shown(listener, _hidden_keys(listener, as_json=as_json)))
    if as_json:
        echo_json(shown)
        return
    for key, value in shown.items():
        click.echo(printable(f"{key}: {value}"))


@click.command(epilog="\b\nExample:\n  pulp-hooks listeners export > listeners.json")
@_file_option
def export(settings: str) -> None:
    """Print the listeners of the settings file as JSON, as they stand there: with references in place of secrets."""
    file = _opened(settings)
    echo_json([_as_json(file.listener(name)) for name in file.names])


@click.command(
    "import",
    epilog="""\b
Examples:
  pulp-hooks listeners import listeners.json
  pulp-hooks listeners import --pulp2 events.json --set email.host=mail.example.org \\
      --set-env amqp.url=AMQP_URL""",
)
@click.argument("file", type=click.File(encoding="utf-8"))
@click.option("--pulp2", is_flag=True, help="FILE is what GET /pulp/api/v2/events/ of a Pulp 2 server returned.")
@_assigning("--set", "NOTIFIER.KEY=VALUE", "Set a key of every imported listener of a notifier.")
@_assigning("--set-env", "NOTIFIER.KEY=NAME", "... that is in an environment variable.")
@_assigning("--set-file", "NOTIFIER.KEY=PATH", "... that is in a file.")
@_file_option
@json_option
@click.pass_context
def import_(ctx: click.Context, /, file: TextIO, settings: str, *, pulp2: bool, as_json: bool, **options: Any) -> None:  # noqa: ANN401 - each of its own type
    """Add the listeners of a file to the settings file: those of `export`, or those of a Pulp 2 server.

    Says what each one needs. Exit code 1 if one is not valid; it is left out, and the others are added.
    """
    added, refused, notes = list[str](), list[str](), list[str]()
    more = {path: value for source in ("set", "set_env", "set_file") for path, value in options[source].items()}
    for listener, needs in _read(file, is_pulp2=pulp2):
        name = str(listener["name"])
        try:
            edited = _opened(settings)
            of_notifier = {path[1:]: value for path, value in more.items() if path[0] == listener.get("notifier")}
            edited.add(listener, {("config", *path): value for path, value in of_notifier.items() if path})
            notes += [*needs, *_save(edited, [name], as_json=as_json)]
            added.append(name)
        except SettingsError as error:
            refused.append(f"{name} is not imported: {error}")
    for text in refused:
        click.secho(printable(text), fg="red", err=True)
    result = {"added": added, "refused": refused}
    edited = _opened(settings)
    _echo(edited, f"{counted(len(added), 'listener')} added to {edited.path}", notes, result, as_json=as_json)
    if refused:
        ctx.exit(1)


COMMANDS = (add, update, remove, show, export, import_)
"""The commands, for the group `listeners`."""


def _read(file: TextIO, *, is_pulp2: bool) -> Iterator[tuple[dict[str, Any], list[str]]]:
    """Yield the listeners of a file, each with what it needs."""
    try:
        document = json.load(file)
    except (ValueError, RecursionError) as error:
        raise SettingsError(f"{file.name} is not JSON: {error}") from None
    if is_pulp2:
        # All are read before the first one is saved.
        yield from list(listeners_of(document))
        return
    if not isinstance(document, list) or not all(
        isinstance(entry, dict) and isinstance(entry.get("name"), str) for entry in document
    ):
        raise SettingsError(
            f"{file.name} is not a list of listeners; fix: use what `pulp-hooks listeners export` prints"
        )
    yield from ((entry, []) for entry in document)


def _save(file: "SettingsFile", names: Sequence[str], *, as_json: bool) -> list[str]:
    """Replace the settings file, and return what could not be checked of these listeners.

    Raises:
        SettingsError: The result has problems that the file did not have.
    """
    exists = file.path.exists()
    if exists and (fault := read_settings(file.path).fault):
        raise SettingsError(f"{fault}; fix: correct the file first")
    show_log("pulp_hooks.plugins")
    unresolved = {}
    for name in names:
        listener = file.listener(name)
        try:
            resolve_config(listener.get("config", {}), file.path.parent)
        except SettingsError as error:
            unresolved[f"listener {name!r}: {error}"] = f"{name} is not checked completely: {error}"
            _check_fields(listener, as_json=as_json)
    with file.candidate() as candidate, stdout_for_listeners(as_json=as_json):
        own = tuple(f"listener {name!r}: " for name in names)
        known = {cause for cause, _ in _problems(str(file.path)) if not cause.startswith(own)} if exists else set()
        wrong = [
            f"{cause}; fix: {remedy}"
            for cause, remedy in _problems(str(candidate))
            if cause not in {*known, *unresolved}
        ]
        wrong += [
            f"notifier {file.listener(name).get('notifier')!r} cannot be loaded here; fix: see `pulp-hooks listeners`"
            for name in names
            if not wrong and _fields_of(file.listener(name), as_json=as_json) is None
        ]
        if wrong:
            raise SettingsError(f"{file.path} is left as it is: {'; '.join(wrong)}")
        file.replace_by(candidate)
    return list(unresolved.values())


def _problems(path: str) -> list[tuple[str, str]]:
    """Return cause and remedy of each problem with these settings."""
    with Hooks.discover(path) as hooks:
        hooks.build_notifiers()
        return [(problem.cause, problem.remedy) for problem in hooks.problems]


def _check_fields(listener: Mapping[str, Any], *, as_json: bool) -> None:
    """Check each key of a configuration that cannot be checked as a whole, because a secret is not at hand.

    Raises:
        SettingsError: A key or its value is invalid.
    """
    fields = _fields_of(listener, as_json=as_json) or {}
    config = listener.get("config", {})
    lacking = [key for key, field in fields.items() if field.required and (field.data_key or key) not in config]
    if lacking:
        causes = "; ".join(f"config.{key}: is missing" for key in lacking)
        raise SettingsError(f"the settings are left as they are: listener {listener['name']!r}: {causes}")
    fields = {field.data_key or key: field for key, field in fields.items()}
    for key, value in config.items():
        if not fields or is_reference(value) or any(map(is_reference, _parts(value))):
            continue
        try:
            faults = [] if key in fields else [("", "is not a key of its notifier")]
            _ = key in fields and fields[key].deserialize(value)
        except ValidationError as error:
            faults = list(violations(error))
        if faults:
            causes = "; ".join(f"config.{key}{inner and '.' + inner}: {rule}" for inner, rule in faults)
            raise SettingsError(f"the settings are left as they are: listener {listener['name']!r}: {causes}")


def _parts(value: object) -> Iterator[object]:
    """Yield every value within a value."""
    for part in value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ():
        yield part
        yield from _parts(part)


def _hidden_keys(listener: Mapping[str, Any], *, as_json: bool) -> set[str]:
    """Return the keys of a listener's configuration that its notifier declares as secrets.

    All of them, if the notifier cannot be loaded.
    """
    fields = _fields_of(listener, as_json=as_json)
    if fields is None:
        return set(listener.get("config") or ())
    return {field.data_key or name for name, field in fields.items() if field.load_only}


def _fields_of(listener: Mapping[str, Any], *, as_json: bool) -> Mapping[str, Field[Any]] | None:
    """Return the fields of a listener's configuration; null if its notifier cannot be loaded."""
    show_log("pulp_hooks.plugins")
    with stdout_for_listeners(as_json=as_json), Hooks.discover(Settings()) as hooks:
        for found in hooks.listeners:
            if found.kind is Kind.NOTIFIER and found.name == listener.get("notifier") and found.installed:
                notifier, _ = found.installed.load()
                if isinstance(notifier, type) and issubclass(notifier, Notifier):
                    return notifier.Config().fields
    return None


def _shown(listener: Mapping[str, Any], hidden: set[str]) -> Iterator[tuple[str, Any]]:
    """Yield the keys of a listener, of its configuration as `config.KEY`, with what may be shown of their values."""
    for key, value in listener.items():
        if key == "config" and isinstance(value, Mapping):
            yield from ((f"config.{name}", _visible(item, is_hidden=name in hidden)) for name, item in value.items())
        else:
            yield key, value


def _visible(value: object, *, is_hidden: bool, is_inner: bool = False) -> object:
    if isinstance(value, Mapping):
        if is_reference(value):
            return dict(value)
        return {key: _visible(item, is_hidden=is_hidden, is_inner=True) for key, item in value.items()}
    if isinstance(value, list):
        return [_visible(item, is_hidden=is_hidden, is_inner=is_inner) for item in value]
    if is_hidden or (is_inner and isinstance(value, str)):
        return _HIDDEN
    if isinstance(value, str) and "://" in value:
        place, is_query, _ = value.partition("#")[0].partition("?")
        scheme, _, rest = place.partition("://")
        host, slash, path = rest.partition("/")
        user, at, host = host.rpartition("@")
        return f"{scheme}://{_HIDDEN if user else ''}{at}{host}{slash}{path}{'?' + _HIDDEN if is_query else ''}"
    return _as_json(value)


def _as_json(value: object) -> object:
    """Return a TOML value as JSON has it: dates, times and numbers that are not finite as text."""
    if isinstance(value, Mapping):
        return {str(key): _as_json(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_as_json(item) for item in value]
    is_plain = isinstance(value, str | int | bool) or (isinstance(value, float) and math.isfinite(value))
    return value if is_plain or value is None else str(value)


def _difference(
    before: Mapping[str, Any], after: Mapping[str, Any], hidden: set[str]
) -> Iterator[tuple[str, tuple[Any, Any]]]:
    """Yield what may be shown of the values before and after, for each key that differs; null where there is none."""
    old, new = (dict(_shown(listener, hidden)) for listener in (before, after))
    was, becomes = (_flat(listener) for listener in (before, after))
    for key in dict.fromkeys([*old, *new]):
        if was.get(key) != becomes.get(key):
            yield key, (old.get(key), new.get(key))


def _flat(listener: Mapping[str, Any]) -> dict[str, Any]:
    config = listener.get("config")
    return {
        **listener,
        **{f"config.{key}": value for key, value in (config if isinstance(config, dict) else {}).items()},
    }


def _echo(file: "SettingsFile", text: str, notes: Sequence[str], result: Mapping[str, Any], *, as_json: bool) -> None:
    for note in notes:
        click.secho(printable(note), fg="yellow", err=True)
    echo_result({**result, "settings": str(file.path), "notes": list(notes)}, text, as_json=as_json)
