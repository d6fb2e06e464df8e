"""Tests of the event types."""

import json

import pytest

from pulp_hooks.errors import UnknownEventTypeError
from pulp_hooks.event_types import EventType

TABLE = [
    ("repo-sync-started", "repo_sync_started", "repo.sync.start", "RepoSyncStarted"),
    ("repo-sync-finished", "repo_sync_finished", "repo.sync.finish", "RepoSyncFinished"),
    ("repo-publish-started", "repo_publish_started", "repo.publish.start", "RepoPublishStarted"),
    ("repo-publish-finished", "repo_publish_finished", "repo.publish.finish", "RepoPublishFinished"),
]


def test_there_are_four_event_types_with_all_their_names() -> None:
    """There are four event types, in the order of the specification, each with all of its names."""
    assert [(member.value, member.hook_name, member.wire_name, member.body_name) for member in EventType] == TABLE


@pytest.mark.parametrize("spelling", [0, 1, 2])
@pytest.mark.parametrize("names", TABLE)
def test_event_type_is_found_by_each_of_its_spellings(names: tuple[str, ...], spelling: int) -> None:
    """Type ID, hook name and wire name each return the member."""
    assert EventType(names[spelling]).value == names[0]


def test_event_type_is_its_type_id_as_text() -> None:
    """A member is its type ID in messages, comparisons, keys and JSON."""
    member = EventType.REPO_SYNC_FINISHED
    assert f"{member}" == member == "repo-sync-finished"
    assert {"repo-sync-finished": 1}[member] == 1
    assert json.dumps(member) == '"repo-sync-finished"'


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("repo-sync-finish", "repo-sync-finished"),
        ("repo_sync_startd", "repo_sync_started"),
        ("repo.publish.started", "repo.publish.start"),
        ("REPO-SYNC-STARTED", None),
        ("RepoSyncStarted", "repo_sync_started"),
        ("", None),
        (" repo-sync-started", "repo-sync-started"),
        (None, None),
        (7, None),
        ([], None),
        (b"repo-sync-started", "repo-sync-started"),
    ],
)
def test_unknown_name_is_refused_with_the_nearest_one(name: object, nearest: str | None) -> None:
    """The message of an unknown name suggests the nearest one, and the command that lists all."""
    with pytest.raises(UnknownEventTypeError) as caught:
        EventType(name)  # type: ignore[arg-type]  # invalid on purpose
    assert repr(name) in str(caught.value)
    assert "`pulp-hooks event-types`" in str(caught.value)
    assert (f"did you mean {nearest!r}?" if nearest else "not an event type (") in str(caught.value)


def test_huge_name_is_not_printed_whole() -> None:
    """The message of a long unknown name is short."""
    with pytest.raises(UnknownEventTypeError) as caught:
        EventType("x" * 10**6)
    assert len(str(caught.value)) < 2000
