"""Placeholders in the configuration, such as `{repo_id}`, and what an event puts there."""

import string
from collections.abc import Callable, Iterable, Mapping

from pulp_hooks import Event

_VALUES: Mapping[str, Callable[[Event], object]] = {
    "event_id": lambda event: event.id,
    "event_type": lambda event: event.type.value,
    "repo_id": lambda event: event.body["repo_id"],
    "result": lambda event: event.body.get("result"),
    "error_message": lambda event: event.body.get("error_message"),
    "time": lambda event: event.to_dict()["time"],
    "source": lambda event: event.source,
    "operation_id": lambda event: event.operation_id,
}


def check_template(text: str) -> None:
    """Check the placeholders of a text.

    Raises:
        ValueError: One is unknown, or a brace is not closed.
    """
    try:
        parts = list(string.Formatter().parse(text))
    except ValueError as error:
        raise ValueError(f"has a brace that is not closed ({error}); fix: write {{{{ and }}}} for braces") from None
    for _, name, spec, conversion in parts:
        if name is not None and (name not in _VALUES or spec or conversion):
            # The text may be a secret: nothing of it is said.
            raise ValueError(
                f"has an unknown placeholder; fix: use {_listed(_VALUES)}, and write {{{{ and }}}} for braces"
            )


def fill(text: str, event: Event, encode: Callable[[str], str] = str) -> str:
    """Return a text with the event's values in place of the placeholders; a value that an event lacks is empty.

    Args:
        text: The text, after `check_template`.
        event: The event.
        encode: Applied to each value.
    """
    filled = []
    for literal, name, _, _ in string.Formatter().parse(text):
        filled.append(literal)
        if name is not None:
            value = _VALUES[name](event)
            filled.append(encode("" if value is None else str(value)))
    return "".join(filled)


def fill_all(value: object, event: Event) -> object:
    """Return a JSON value with every text in it filled; keys stay as they are."""
    if isinstance(value, str):
        return fill(value, event)
    if isinstance(value, Mapping):
        return {key: fill_all(item, event) for key, item in value.items()}
    if isinstance(value, list):
        return [fill_all(item, event) for item in value]
    return value


def texts_in(value: object) -> Iterable[str]:
    """Yield every text in a JSON value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from texts_in(item)
    elif isinstance(value, list):
        for item in value:
            yield from texts_in(item)


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"{{{name}}}" for name in names)
