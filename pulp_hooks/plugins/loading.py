"""Loading: from what is installed and what the settings say to listeners. Nothing here raises for a plugin's fault."""

import difflib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

from marshmallow import ValidationError

from pulp_hooks.errors import PluginError
from pulp_hooks.foreign_code import call_foreign
from pulp_hooks.notifier import Notifier
from pulp_hooks.plugins.discovery import Installed, find_installed
from pulp_hooks.plugins.inspection import Implementation, inspect_plugin, marked_names
from pulp_hooks.plugins.listeners import Kind, Listener, State
from pulp_hooks.plugins.notifiers import fault_of, notifying
from pulp_hooks.plugins.process_state import described, preserved
from pulp_hooks.problems import Problem
from pulp_hooks.settings.model import ListenerSettings, Settings
from pulp_hooks.settings.reading import BLOCK_VARIABLE, violations
from pulp_hooks.settings.schemas import ListenerTable
from pulp_hooks.text import one_line, redacted, type_name


def load_installed(settings: Settings) -> tuple[list[Listener], list[Problem]]:
    """Load the installed plugins that are not blocked, and the listeners that the settings configure.

    Returns:
        Every plugin, notifier and configured listener, and everything that is wrong with them.
    """
    loader = _Loader(settings)
    return loader.listeners, loader.problems


def load_in_hand(plugins: Sequence[object]) -> list[Listener]:
    """Make listeners of objects in hand: modules, objects with hook implementations, notifiers.

    Raises:
        PluginError: Something is wrong with one of them, or the same object is given twice.
    """
    listeners: list[Listener] = []
    for position, plugin in enumerate(plugins):
        name = _name_of(plugin)
        if any(plugin is other for other in plugins[:position]):
            raise PluginError(f"the plugin {name} is given twice; give it once")
        if isinstance(plugin, type) and issubclass(plugin, Notifier):
            raise PluginError(f"{name}: it is the class of a notifier, not an object; make one: {name}({{...}})")
        if isinstance(plugin, Notifier):
            if fault := fault_of(type(plugin)):
                raise PluginError(f"{name}: {fault}; see pulp_hooks.Notifier")
            listeners.append(notifying(plugin, ListenerSettings(name, name)))
            continue
        implementations, problems = inspect_plugin(plugin, name)
        if problems:
            raise PluginError("; ".join(map(str, problems)))
        listeners.append(Listener(name, Kind.PLUGIN, State.LOADED, implementations=implementations))
    return listeners


class _Loader:
    """Loads what is installed, and gathers what is wrong."""

    def __init__(self, settings: Settings) -> None:
        self.listeners: list[Listener] = []
        self.problems: list[Problem] = list(settings.problems)
        self._settings = settings
        self._blocked = set(settings.blocked)
        self._notifiers: dict[str, type[Notifier]] = {}
        self._origins: dict[str, Installed] = {}
        if settings.autoload:
            installed, contested, problems = find_installed()
            self.problems += problems
            names = {found.name for found in (*installed, *contested)} | {found.name for found in settings.listeners}
            self._blocked |= self._meant(names)
            for claimant in contested:
                self._origins[claimant.name] = claimant
                self._add(claimant, Kind.PLUGIN, State.BROKEN)
            for found in installed:
                self._origins[found.name] = found
                self._load(found)
            for configured in settings.listeners:
                self._configure(configured)

    def _meant(self, names: set[str]) -> set[str]:
        """Give the names that somebody may have meant who blocks one that nothing has."""
        meant: set[str] = set()
        for name in sorted(self._blocked - names):
            if nearest := difflib.get_close_matches(name, sorted(names), n=1):
                meant.add(nearest[0])
                cause = f"{name!r} is to be blocked, and nothing has this name; in case {nearest[0]!r} is meant, it is"
                where = str(self._settings.path or BLOCK_VARIABLE)
                self.problems.append(Problem(where, cause, "correct the name"))
        return meant

    def _load(self, found: Installed) -> None:
        if found.name in self._blocked:
            self._add(found, Kind.PLUGIN, State.BLOCKED)
            return
        with preserved() as changed:
            plugin, problem = found.load()
        self._report_changes(changed, found.name, found)
        if problem:
            self.problems.append(problem)
            self._add(found, Kind.PLUGIN, State.BROKEN)
        # isinstance() would ask the object for its __class__, which a hostile one may answer with an error.
        elif issubclass(type(plugin), type) and issubclass(cast("type", plugin), Notifier):
            self._load_notifier(found, cast("type[Notifier]", plugin))
        elif issubclass(type(plugin), Notifier):
            fault = "it is an object, and the settings make the objects of a notifier"
            remedy = f"let the entry point name its class {type_name(plugin)}"
            self.problems.append(Problem(found.name, fault, remedy, found.origin))
            self._add(found, Kind.NOTIFIER, State.BROKEN)
        else:
            implementations, problems = inspect_plugin(plugin, found.name)
            self.problems += [replace(problem, distribution=found.origin) for problem in problems]
            state = State.LOADED if implementations else State.BROKEN
            self._add(found, Kind.PLUGIN, state, implementations)

    def _load_notifier(self, found: Installed, notifier: type[Notifier]) -> None:
        if fault := fault_of(notifier):
            self.problems.append(Problem(found.name, fault, "see pulp_hooks.Notifier", found.origin, "notify"))
            self._add(found, Kind.NOTIFIER, State.BROKEN)
            return
        for name in marked_names(notifier):
            fault = "a notifier's hooks are not called, its notify is"
            self.problems.append(Problem(found.name, fault, "take @hookimpl away", found.origin, name))
        self._notifiers[found.name] = notifier
        used = any(configured.notifier == found.name for configured in self._settings.listeners)
        self._add(found, Kind.NOTIFIER, State.LOADED if used else State.AVAILABLE)

    def _configure(self, configured: ListenerSettings) -> None:
        name, found = configured.name, self._origins.get(configured.notifier)
        if {name, configured.notifier} & self._blocked:
            self.listeners.append(Listener(name, Kind.CONFIGURED, State.BLOCKED, found))
            return
        try:
            listener = self._make(configured)
        except _FaultsError as faults:
            self.problems += faults.problems
            self.listeners.append(Listener(name, Kind.CONFIGURED, State.BROKEN, found))
            return
        self.listeners.append(listener)

    def _make(self, configured: ListenerSettings) -> Listener:
        found = self._origins.get(configured.notifier)

        def faults(*causes: str, remedy: str = "correct it and run `pulp-hooks check` again") -> _FaultsError:
            texts = [redacted(f"listener {configured.name!r}: {cause}", configured.secrets) for cause in causes]
            origin = found.origin if found else None
            return _FaultsError([Problem(str(self._settings.path), text, remedy, origin) for text in texts])

        if any(listener.name == configured.name and listener.kind is Kind.PLUGIN for listener in self.listeners):
            raise faults("name is the name of an installed plugin", remedy="choose another name")
        if configured.notifier not in self._notifiers:
            nearest = difflib.get_close_matches(configured.notifier, self._notifiers, n=1)
            suggestion = (
                f"did you mean {nearest[0]!r}?" if nearest else "`pulp-hooks listeners` shows what is installed"
            )
            what = "is no notifier that could be loaded" if found else "is not installed"
            raise faults(f"notifier {configured.notifier!r} {what}", remedy=suggestion)
        notifier = self._notifiers[configured.notifier]
        known: list[str] = []

        def make() -> Listener:
            schema = notifier.Config()
            known.extend(schema.fields)
            config = cast("dict[str, Any]", schema.load(dict(configured.config)))
            return notifying(notifier(config), configured, found)

        with preserved() as changed:
            listener = call_foreign(make)
        self._report_changes(changed, configured.name, found)
        if isinstance(listener, Listener):
            return listener
        error = listener.error
        if issubclass(type(error), ValidationError):
            refused = call_foreign(lambda: list(violations(cast("ValidationError", error))))
            if isinstance(refused, list):
                raise faults(*(f"config.{key}: {rules}{_hint(key, known)}" for key, rules in refused))
        raise faults(f"{configured.notifier} cannot start: {one_line(error, configured.secrets)}")

    def _report_changes(self, changed: list[str], name: str, found: Installed | None) -> None:
        """Report what a plugin changed of the process while it was loaded or made."""
        if changed:
            cause = f"loading it changed what belongs to the whole process, and was undone: {described(changed)}"
            remedy = "let it configure its own loggers only, and leave signals, streams and folders to the host"
            self.problems.append(Problem(name, cause, remedy, found.origin if found else None))

    def _add(self, found: Installed, kind: Kind, state: State, implementations: Sequence[Implementation] = ()) -> None:
        self.listeners.append(Listener(found.name, kind, state, found, implementations))


def _hint(key: str, known: Sequence[str]) -> str:
    """Give what may help with a key that a notifier does not know."""
    if key.partition(".")[0].partition("[")[0] in known:
        return ""
    if key in ListenerTable().fields:
        return f"; {key!r} belongs to the listener: put it above [listeners.config]"
    nearest = difflib.get_close_matches(key, known, n=1)
    return f"; did you mean {nearest[0]!r}?" if nearest else f"; the keys are {', '.join(known) or 'none'}"


class _FaultsError(Exception):
    """A configured listener that cannot be made."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__(problems)
        self.problems = problems


def _name_of(plugin: object) -> str:
    name: object = getattr(plugin, "__name__", None)
    return name if isinstance(name, str) else type(plugin).__name__
