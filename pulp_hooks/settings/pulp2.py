"""The event listeners of a Pulp 2 server, as its `GET /v2/events/` lists them, as listeners of these settings."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pulp_hooks.errors import SettingsError, UnknownEventTypeError
from pulp_hooks.event_types import EventType
from pulp_hooks.settings.schemas import ALL

_KEYS = {
    "http": ("url", "username", "password", "ca_path"),
    "email": ("subject", "addresses"),
    "amqp": ("exchange",),
}
"""The keys of each notifier's configuration, which ours have too."""

_SECRETS = {"http": "password"}


def listeners_of(document: object) -> Iterator[tuple[dict[str, Any], list[str]]]:
    """Yield the listeners of a Pulp 2 server, each as a `[[listeners]]` table, with notes on what is needed.

    Args:
        document: What `GET /v2/events/` returned, read from its JSON.

    Raises:
        SettingsError: It is something else.
    """
    if not isinstance(document, Sequence) or isinstance(document, str):
        raise SettingsError("not a list of Pulp 2's event listeners; fix: save what GET /pulp/api/v2/events/ returns")
    for place, entry in enumerate(document):
        if not isinstance(entry, Mapping) or not isinstance(entry.get("notifier_config", {}), Mapping):
            raise SettingsError(f"entry {place} is not one of Pulp 2's event listeners")
        yield _listener_of(entry, place)


def _listener_of(entry: Mapping[str, Any], place: int) -> tuple[dict[str, Any], list[str]]:
    notifier = str(entry.get("notifier_type_id"))
    if notifier not in _KEYS:
        raise SettingsError(f"entry {place}: notifier_type_id must be http, email or amqp")
    ending = re.sub(r"[^A-Za-z0-9]", "", str(entry.get("id") or ""))[-6:] or str(place)
    name = f"pulp2-{notifier}-{ending}"
    given = entry.get("notifier_config") or {}
    config = {key: given[key] for key in _KEYS[notifier] if given.get(key) is not None}
    config["format"] = "pulp2"
    notes = [f"{name}: {key} is not known here, and was left out" for key in given.keys() - set(_KEYS[notifier])]
    secret = _SECRETS.get(notifier)
    if secret in config:
        variable = f"{name}_{secret}".upper().replace("-", "_")
        config[secret] = {"env": variable}
        notes.append(f"{name}: put its {secret} into the environment variable {variable}")
    return {"name": name, "notifier": notifier, "event_types": _types(entry, place), "config": config}, notes


def _types(entry: Mapping[str, Any], place: int) -> list[str]:
    names = entry.get("event_types") or []
    try:
        return [ALL] if ALL in names else [EventType(name).value for name in names]
    except UnknownEventTypeError as error:
        raise SettingsError(f"entry {place}: {error}") from None
