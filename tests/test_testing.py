"""Tests of the test kit."""

import subprocess
import sys
import time

import pytest
from marshmallow import ValidationError, fields

from pulp_hooks import BodyError, Event, Hooks, JournalError, Notifier, RetryLater, UnknownEventTypeError, hookimpl
from pulp_hooks import testing as kit
from pulp_hooks.event_types import EventType
from pulp_hooks.journal.schema import State
from pulp_hooks.testing import MovableClock, Recorder, drain, example_body, example_event, temporary_journal


class Shout(Notifier):
    """A notifier with a default."""

    class Config(Notifier.Config):
        """A word that is needed, and one that is not."""

        word = fields.String(required=True)
        end = fields.String(load_default="!")

    def notify(self, event: Event) -> None:
        """Do nothing."""


class Flaky:
    """A listener that fails a number of times."""

    def __init__(self, failures: int) -> None:
        self.left = failures

    @hookimpl
    def repo_sync_started(self) -> None:
        """Fail as often as was asked."""
        self.left -= 1
        if self.left >= 0:
            raise ValueError("not yet")


class Later:
    """A listener that asks to be called later each time."""

    @hookimpl
    def repo_sync_started(self) -> None:
        """Ask for an hour."""
        raise RetryLater(after=3600)


@pytest.mark.parametrize("event_type", EventType)
def test_example_is_valid_and_a_new_one_each_time(event_type: EventType) -> None:
    """What a test changes in it changes no other."""
    body, other = example_body(event_type), example_body(event_type.wire_name, repo_id="zoo")
    assert other == {**body, "repo_id": "zoo"}
    event = example_event(event_type.hook_name, repo_id="zoo")
    assert (event.type, event.body) == (event_type, other)
    assert event.id != example_event(event_type).id
    assert Event.from_json(event.to_json()) == event


def test_example_with_a_wrong_change_is_refused() -> None:
    """A test does not go on with a body that no host can fire."""
    with pytest.raises(BodyError, match="result"):
        example_body("repo-sync-finished", result="splendid")
    with pytest.raises(BodyError, match="repoid"):
        example_event("repo-sync-started", repoid="zoo")
    with pytest.raises(UnknownEventTypeError):
        example_body("repo-sync-done")


def test_recorder_finds_an_event_by_type_and_fields() -> None:
    """It returns the first one that has them all."""
    recorder = Recorder()
    with Hooks({"recorder": recorder}) as hooks:
        hooks.fire("repo-sync-started", {"repo_id": "a"})
        for repo_id in ("a", "b"):
            hooks.fire("repo-sync-finished", {**example_body("repo-sync-finished", repo_id=repo_id)})
        hooks.fire("repo-publish-started", {**example_body("repo-publish-started")})
        hooks.fire("repo-publish-finished", {**example_body("repo-publish-finished")})
    assert len(recorder.events) == 5
    assert recorder.assert_fired("repo.sync.finish", repo_id="b", result="success") is recorder.events[2]
    assert recorder.assert_fired("repo_publish_finished") is recorder.events[4]


def test_recorder_says_what_it_recorded_instead() -> None:
    """A failed assertion shows the fields that were asked for."""
    recorder = Recorder()
    with pytest.raises(AssertionError, match=r"^no event repo-sync-started was recorded, but these: none$"):
        recorder.assert_fired("repo-sync-started")
    recorder.events.append(example_event("repo-sync-finished", repo_id="zoo"))
    with pytest.raises(AssertionError) as caught:
        recorder.assert_fired("repo-sync-finished", result="failed")
    assert str(caught.value).splitlines()[1:] == ["  repo-sync-finished repo_id='zoo' result='success'"]


def test_notifier_is_configured_as_settings_do_it() -> None:
    """Its schema fills in defaults and refuses what it does not know."""
    assert Shout.configured(word="hello").config == {"word": "hello", "end": "!"}
    with pytest.raises(ValidationError, match="word"):
        Shout.configured()
    with pytest.raises(ValidationError, match="wrd"):
        Shout.configured(wrd="hello")


@pytest.mark.parametrize(("failures", "state"), [(0, State.DELIVERED), (9, State.DELIVERED), (99, State.DEAD)])
def test_drain_delivers_without_waiting_for_pauses(failures: int, state: State) -> None:
    """Ten attempts, which would take three days, are over at once."""
    with temporary_journal() as journal, Hooks({"flaky": Flaky(failures)}, journal=journal) as hooks:
        report = hooks.repo_sync_started(repo_id="zoo")
        drain(hooks)
        [delivery] = journal.deliveries_of(report.event.id)
        assert (delivery.state, delivery.attempts) == (state, min(failures + 1, 10))


def test_drain_ends_with_a_listener_that_always_wants_to_be_called_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would go on for ever."""
    monkeypatch.setattr(kit, "_MOST_ROUNDS", 3)
    with temporary_journal() as journal, Hooks({"later": Later()}, journal=journal) as hooks:
        hooks.repo_sync_started(repo_id="zoo")
        with pytest.raises(AssertionError, match="still being retried after 3 attempts"):
            drain(hooks)


def test_drain_needs_a_journal() -> None:
    """Without one nothing is ever due."""
    with Hooks() as hooks, pytest.raises(JournalError, match="no journal"):
        drain(hooks)


def test_clock_of_a_journal_can_be_moved() -> None:
    """Only when the pause is over is there a second attempt."""
    clock = MovableClock()
    with temporary_journal(clock) as journal, Hooks({"flaky": Flaky(1)}, journal=journal) as hooks:
        before = journal.now()
        report = hooks.repo_sync_started(repo_id="zoo")

        def attempts() -> int:
            hooks.worker().run_once()
            return journal.deliveries_of(report.event.id)[0].attempts

        assert (attempts(), attempts()) == (1, 1)
        clock.move(3600)
        assert attempts() == 2
        assert journal.now() - before >= 3600
        assert journal.now() - 3600 <= time.time()


def test_temporary_journal_is_deleted() -> None:
    """Nothing is left of it."""
    with temporary_journal() as journal:
        journal.open()
        path = journal.backend.file.path  # type: ignore[attr-defined] # it is a file
        assert path.exists()
    assert not path.parent.exists()


def test_kit_does_not_import_sqlalchemy() -> None:
    """An author of a listener may not have it."""
    code = "import sys, pulp_hooks.testing; sys.exit('sqlalchemy' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
