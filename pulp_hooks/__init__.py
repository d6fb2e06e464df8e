"""Reliable event hooks for content repositories: four hooks notify plugins when a repository is synced and published.

The public names are imported when they are used: a plugin that only marks functions with `hookimpl` does not pay for
what hosts need.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pulp_hooks.delivery_attempt import DeliveryAttempt, current_attempt
    from pulp_hooks.delivery_control import DisableListener, PermanentFailure, RetryLater
    from pulp_hooks.dispatch.outcomes import Outcome, Report, Status
    from pulp_hooks.errors import (
        BodyError,
        ClosedError,
        EventError,
        JournalError,
        MirrorError,
        PluginError,
        PulpError,
        PulpHooksError,
        SettingsError,
        UnknownEventTypeError,
    )
    from pulp_hooks.event import Event
    from pulp_hooks.event_types import EventType
    from pulp_hooks.hooks import Hooks
    from pulp_hooks.hookspecs import hookimpl
    from pulp_hooks.notifier import Notifier
    from pulp_hooks.settings.model import (
        DeliverySettings,
        DispatchSettings,
        JournalSettings,
        ListenerSettings,
        PluginSettings,
        PulpSettings,
        Settings,
    )

__all__ = [
    "BodyError",
    "ClosedError",
    "DeliveryAttempt",
    "DeliverySettings",
    "DisableListener",
    "DispatchSettings",
    "Event",
    "EventError",
    "EventType",
    "Hooks",
    "JournalError",
    "JournalSettings",
    "ListenerSettings",
    "MirrorError",
    "Notifier",
    "Outcome",
    "PermanentFailure",
    "PluginError",
    "PluginSettings",
    "PulpError",
    "PulpHooksError",
    "PulpSettings",
    "Report",
    "RetryLater",
    "Settings",
    "SettingsError",
    "Status",
    "UnknownEventTypeError",
    "current_attempt",
    "hookimpl",
]

_HOMES = {
    "delivery_attempt": ("DeliveryAttempt", "current_attempt"),
    "delivery_control": ("DisableListener", "PermanentFailure", "RetryLater"),
    "dispatch.outcomes": ("Outcome", "Report", "Status"),
    "event": ("Event",),
    "event_types": ("EventType",),
    "hooks": ("Hooks",),
    "hookspecs": ("hookimpl",),
    "notifier": ("Notifier",),
}
"""The modules of names other than those of errors and settings."""


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    other = "settings.model" if name.endswith("Settings") else "errors"
    home = next((home for home, names in _HOMES.items() if name in names), other)
    return getattr(import_module(f"{__name__}.{home}"), name)


def __dir__() -> list[str]:
    return __all__
