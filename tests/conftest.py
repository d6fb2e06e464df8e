"""What all tests share: the example bodies of the specification, and a strict eye for JSON."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from pulp_hooks.event_types import EventType

# How long an example takes says nothing about right or wrong on a busy machine.
settings.register_profile("pulp_hooks", deadline=None)
settings.load_profile("pulp_hooks")

_EXAMPLES = sorted((Path(__file__).parent / "bodies" / "examples").glob("*.json"))


def _read(path: Path) -> tuple[EventType, dict[str, Any]]:
    return EventType(path.name.partition(".")[0]), json.loads(path.read_text(encoding="utf-8"))


@pytest.fixture(params=_EXAMPLES, ids=lambda path: path.stem)
def example(request: pytest.FixtureRequest) -> tuple[EventType, dict[str, Any]]:
    """Give each of the specification's five examples: its event type and its body."""
    return _read(request.param)


@pytest.fixture(scope="session")
def body_of() -> Callable[..., dict[str, Any]]:
    """Give a function that makes a valid body of an event type, with some of its fields changed by keyword."""
    # Sorted by name the successful sync comes last, and is the one that stays.
    texts = {event_type: json.dumps(body) for event_type, body in map(_read, _EXAMPLES)}

    def make(event_type: EventType, **changes: object) -> dict[str, Any]:
        return {**json.loads(texts[event_type]), **changes}

    return make


@pytest.fixture(scope="session")
def as_json() -> Callable[[object], str]:
    """Give a function that writes a value as JSON, and fails if it is not plain data in RFC 8259 and UTF-8."""

    def write(value: object) -> str:
        assert {type(part) for part in _parts(value)} <= {dict, list, str, int, float, bool, type(None)}
        text = json.dumps(value, ensure_ascii=False)
        read = json.loads(text.encode("utf-8"), parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
        assert read == value
        return text

    return write


def _parts(value: object) -> Iterator[object]:
    yield value
    children = [*value, *value.values()] if isinstance(value, dict) else value if isinstance(value, list) else []
    for child in children:
        yield from _parts(child)
