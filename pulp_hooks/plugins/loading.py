"""Loading: make listeners of installed plugins and settings. A faulty plugin is a `Problem`, not an exception."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import cast

from marshmallow import ValidationError

from pulp_hooks.errors import PluginError, SettingsError
from pulp_hooks.event_types import EventType
from pulp_hooks.foreign_code import call_foreign
from pulp_hooks.notifier import Notifier
from pulp_hooks.plugins.discovery import Installed, find_installed
from pulp_hooks.plugins.inspection import Implementation, inspect_plugin, marked_names
from pulp_hooks.plugins.listeners import Kind, Listener, State
from pulp_hooks.plugins.notifiers import fault_of, notifying
from pulp_hooks.plugins.process_state import described, preserved
from pulp_hooks.problems import Problem
from pulp_hooks.settings.model import ListenerSettings, violations
from pulp_hooks.settings.reading import BLOCK_VARIABLE, REMEDY, ReadSettings
from pulp_hooks.settings.references import resolve_config, written_texts
from pulp_hooks.settings.schemas import NAME
from pulp_hooks.text import did_you_mean, one_line, redacted, type_name


def load_in_hand(
    listeners: Mapping[str, object] | Sequence[object], taken: Collection[str] = (), *, has_journal: bool = False
) -> list[Listener]:
    """Return listeners for objects in hand: modules, objects with hook implementations, notifiers.

    Args:
        listeners: The objects by name; or a sequence, whose objects are named after their classes.
        taken: Names of other listeners.
        has_journal: Whether a journal stores deliveries by these names. Then a sequence is refused, because its names
            may change at a restart.

    Raises:
        PluginError: An object or its name is invalid, or a sequence has an object twice.
    """
    if not isinstance(listeners, Mapping):
        if has_journal and listeners:
            raise PluginError(
                "listeners need names, because the journal stores deliveries by them; "
                'fix: pass a mapping, such as {"mail": listener}'
            )
        listeners = _named(listeners, taken)
    else:
        for name in listeners:
            _check_name(name, taken)
    return [_in_hand(name, listener) for name, listener in listeners.items()]


def _named(listeners: Sequence[object], taken: Collection[str]) -> dict[str, object]:
    """Name each object after its class or module; number those with the same name."""
    named: dict[str, object] = {}
    for position, listener in enumerate(listeners):
        own = name = _name_of(listener)
        if any(listener is other for other in listeners[:position]):
            raise PluginError(f"listener {name} is passed twice; fix: pass it once")
        number = 1
        while name in named or name in taken:
            number += 1
            name = f"{own}-{number}"
        named[name] = listener
    return named


def _check_name(name: object, taken: Collection[str]) -> None:
    try:
        NAME(name if isinstance(name, str) else "")
    except ValidationError as error:
        raise PluginError(f"invalid listener name {name!r}: {error.messages[0]}") from None
    if name in taken:
        raise PluginError(
            f"two listeners are named {name!r}: one installed or configured, one passed to Hooks; fix: rename one"
        )


def _in_hand(name: str, listener: object) -> Listener:
    if isinstance(listener, type) and issubclass(listener, Notifier):
        raise PluginError(f"{name}: it is a notifier class, not an object; fix: pass {listener.__name__}({{...}})")
    if isinstance(listener, Notifier):
        if fault := fault_of(type(listener)):
            raise PluginError(f"{name}: {fault}; fix: see pulp_hooks.Notifier")
        return notifying(listener, name)
    implementations, problems = inspect_plugin(listener, name)
    if problems:
        raise PluginError("; ".join(map(str, problems)))
    return Listener(name, Kind.PLUGIN, State.LOADED, None, _event_types(implementations), implementations)


class Loader:
    """Loads the installed plugins and collects problems. Configured listeners are built later, by `build`.

    Attributes:
        listeners: Every plugin, notifier and configured listener.
        problems: All problems of plugins and settings.
    """

    def __init__(self, read: ReadSettings) -> None:
        self.listeners: list[Listener] = []
        self.problems: list[Problem] = list(read.problems)
        self._read = read
        self._blocked = read.blocked
        self._notifiers: dict[str, type[Notifier]] = {}
        self._origins: dict[str, Installed] = {}
        if not read.autoload or read.fault:
            return
        installed, contested, problems = find_installed()
        self.problems += problems
        self._suggest_blocked({found.name for found in (*installed, *contested)})
        for claimant in contested:
            self._origins[claimant.name] = claimant
            fault = "several entry points have this name"
            self.listeners.append(_broken(claimant.name, self._kind(claimant), claimant, fault))
        for found in installed:
            self._origins[found.name] = found
            self._load(found)
        for name, fault in read.invalid_listeners:
            if name in self._blocked:
                self.listeners.append(Listener(name, Kind.CONFIGURED, State.BLOCKED))
            else:
                self.listeners.append(_broken(name, Kind.CONFIGURED, None, fault))
        self.listeners += [self._planned(configured) for configured in read.settings.listeners]

    def build(self) -> None:
        """Build the notifiers of the configured listeners, and resolve their secrets."""
        for position, listener in enumerate(self.listeners):
            if listener.state is State.NOT_BUILT:
                configured = next(one for one in self._read.settings.listeners if one.name == listener.name)
                try:
                    self.listeners[position] = self._make(configured)
                except _FaultsError as faults:
                    self.problems += faults.problems
                    fault = "; ".join(problem.cause for problem in faults.problems)
                    self.listeners[position] = _broken(listener.name, Kind.CONFIGURED, listener.installed, fault)

    def _suggest_blocked(self, installed: set[str]) -> None:
        """Report each blocked name that does not exist but is close to one that does."""
        read = self._read
        names = (
            installed | {found.name for found in read.settings.listeners} | {name for name, _ in read.invalid_listeners}
        )
        for name in sorted(self._blocked - names):
            if remedy := did_you_mean(name, sorted(names)):
                where = read.origin if name in read.settings.plugins.block else BLOCK_VARIABLE
                cause = f"{name!r} is blocked, but no plugin or listener has this name"
                self.problems.append(Problem(where, cause, remedy))

    def _planned(self, configured: ListenerSettings) -> Listener:
        """Return a configured listener that is not built yet, or a blocked or broken one."""
        name, found = configured.name, self._origins.get(configured.notifier)
        if {name, configured.notifier} & self._blocked:
            return Listener(name, Kind.CONFIGURED, State.BLOCKED, found)
        if any(listener.name == name and listener.kind is Kind.PLUGIN for listener in self.listeners):
            cause = f"listener {name!r}: an installed plugin has this name"
            self.problems.append(
                Problem(self._read.origin, cause, "choose another name", found.origin if found else None)
            )
            return _broken(name, Kind.CONFIGURED, found, cause)
        event_types, wants = configured.event_types, configured.wants
        return Listener(name, Kind.CONFIGURED, State.NOT_BUILT, found, event_types, wants=wants)

    def _load(self, found: Installed) -> None:
        if found.name in self._blocked:
            self.listeners.append(Listener(found.name, Kind.PLUGIN, State.BLOCKED, found))
            return
        with preserved() as changed:
            plugin, problem = found.load()
        self._report_changes(changed, found.name, found)
        if problem:
            self.problems.append(problem)
            self.listeners.append(_broken(found.name, self._kind(found), found, problem.cause))
        # isinstance() reads `__class__`, which raises in some objects.
        elif issubclass(type(plugin), type) and issubclass(cast("type", plugin), Notifier):
            self._load_notifier(found, cast("type[Notifier]", plugin))
        elif issubclass(type(plugin), Notifier):
            remedy = f"point the entry point at its class {type_name(plugin)}"
            self._refuse(found, Kind.NOTIFIER, "it is a notifier object, not the class", remedy)
        else:
            implementations, problems = inspect_plugin(plugin, found.name)
            self.problems += [replace(problem, distribution=found.origin) for problem in problems]
            if implementations:
                event_types = _event_types(implementations)
                listener = Listener(found.name, Kind.PLUGIN, State.LOADED, found, event_types, implementations)
            else:
                listener = _broken(found.name, Kind.PLUGIN, found, "; ".join(problem.cause for problem in problems))
            self.listeners.append(listener)

    def _refuse(self, found: Installed, kind: Kind, fault: str, remedy: str, hook: str | None = None) -> None:
        self.problems.append(Problem(found.name, fault, remedy, found.origin, hook))
        self.listeners.append(_broken(found.name, kind, found, fault))

    def _kind(self, found: Installed) -> Kind:
        """Return the kind of a plugin that cannot be loaded: a notifier if a configured listener uses it."""
        return Kind.NOTIFIER if self._is_used(found) else Kind.PLUGIN

    def _is_used(self, found: Installed) -> bool:
        return any(configured.notifier == found.name for configured in self._read.settings.listeners)

    def _load_notifier(self, found: Installed, notifier: type[Notifier]) -> None:
        if fault := fault_of(notifier):
            self._refuse(found, Kind.NOTIFIER, fault, "see pulp_hooks.Notifier", "notify")
            return
        for name in marked_names(notifier):
            fault = "hooks of a notifier are never called; only notify is"
            self.problems.append(Problem(found.name, fault, "remove @hookimpl", found.origin, name))
        self._notifiers[found.name] = notifier
        state = State.LOADED if self._is_used(found) else State.AVAILABLE
        self.listeners.append(Listener(found.name, Kind.NOTIFIER, state, found))

    def _make(self, configured: ListenerSettings) -> Listener:
        found = self._origins.get(configured.notifier)
        secrets: list[str] = []

        def faults(*causes: str, remedy: str = REMEDY) -> _FaultsError:
            texts = [redacted(f"listener {configured.name!r}: {cause}", secrets) for cause in causes]
            origin = found.origin if found else None
            return _FaultsError([Problem(self._read.origin, text, remedy, origin) for text in texts])

        if configured.notifier not in self._notifiers:
            otherwise = "run `pulp-hooks listeners` to list the installed ones"
            suggestion = did_you_mean(configured.notifier, self._notifiers, otherwise)
            what = "is not a usable notifier" if found else "is not installed"
            raise faults(f"notifier {configured.notifier!r} {what}", remedy=suggestion)
        notifier = self._notifiers[configured.notifier]
        known: list[str] = []
        folder = self._read.folder
        try:
            resolved, secrets = resolve_config(configured.config, folder)
        except SettingsError as unresolved:
            cause = f"listener {configured.name!r}: {unresolved}"
            raise _FaultsError([Problem(self._read.origin, cause, REMEDY)]) from None

        def make() -> Listener | list[str]:
            schema = notifier.Config()
            known.extend(schema.fields)
            # marshmallow's mark of passwords and other secrets.
            hidden = {
                key: written_texts(configured.config.get(field.data_key or key))
                for key, field in schema.fields.items()
                if field.load_only
            }
            secrets.extend(text for texts in hidden.values() for text in texts)
            if self._read.path and any(hidden.values()):
                return sorted(key for key, texts in hidden.items() if texts)
            return notifying(notifier.configured(**resolved), configured.name, configured, found, secrets)

        with preserved() as changed:
            listener = call_foreign(make)
        self._report_changes(changed, configured.name, found)
        if isinstance(listener, Listener):
            return listener
        if isinstance(listener, list):
            causes = [f"config.{key}: is a secret, which must not be in the settings file" for key in listener]
            raise faults(*causes, remedy='refer to it: { env = "NAME" } or { file = "path" }')
        error = listener.error
        if issubclass(type(error), ValidationError):
            refused = call_foreign(lambda: list(violations(cast("ValidationError", error))))
            if isinstance(refused, list):
                raise faults(*(f"config.{key}: {rules}{_hint(key, known)}" for key, rules in refused))
        raise faults(f"{configured.notifier} cannot start: {one_line(error, secrets)}")

    def _report_changes(self, changed: list[str], name: str, found: Installed | None) -> None:
        """Report changes to the process that a plugin made while it was loaded or built."""
        if changed:
            cause = f"loading it changed global state, which was restored: {described(changed)}"
            remedy = "configure only its own loggers; leave signals, streams and the working directory to the host"
            self.problems.append(Problem(name, cause, remedy, found.origin if found else None))


def _broken(name: str, kind: Kind, installed: Installed | None, fault: str) -> Listener:
    return Listener(name, kind, State.BROKEN, installed, fault=fault)


def _event_types(implementations: Sequence[Implementation]) -> list[EventType]:
    return [implementation.event_type for implementation in implementations]


def _hint(key: str, known: Sequence[str]) -> str:
    """Return a hint for a configuration key that a notifier does not have."""
    if key.partition(".")[0].partition("[")[0] in known:
        return ""
    if key in ListenerSettings.rules().fields:
        return f"; {key!r} belongs to the listener: put it above [listeners.config]"
    return "; " + did_you_mean(key, known, f"the keys are {', '.join(known) or 'none'}")


class _FaultsError(Exception):
    """A configured listener that cannot be built."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__(problems)
        self.problems = problems


def _name_of(plugin: object) -> str:
    name: object = getattr(plugin, "__name__", None)
    return name if isinstance(name, str) else type(plugin).__name__
