"""What a listener raises to say what is to follow."""

import pickle
from datetime import timedelta
from typing import Any

import pytest

from pulp_hooks import DisableListener, Hooks, PermanentFailure, RetryLater, Status, hookimpl


class Steered:
    """Raises what it is given."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    @hookimpl
    def repo_sync_started(self) -> None:
        """Raise it."""
        raise self.error


@pytest.mark.parametrize("error", [RetryLater(after=5), PermanentFailure("400"), DisableListener("410 Gone")])
def test_steering_is_a_failure_in_direct_dispatch(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    """Without a journal nobody tries again: the outcome says that the listener failed, and what it asked for."""
    with Hooks([Steered(error)]) as hooks:
        (outcome,) = hooks.repo_sync_started(repo_id="zoo").outcomes
    assert (outcome.status, outcome.control) == (Status.FAILED, error)
    assert outcome.error == f"{type(error).__name__}: {error}"
    assert error.__traceback__ is None
    assert "Traceback" not in caplog.text


def test_retry_later_takes_seconds_or_a_timedelta() -> None:
    """Both ways of saying how long give the same number of seconds."""
    assert RetryLater(after=90).after == RetryLater(after=timedelta(minutes=1, seconds=30)).after == 90
    assert str(RetryLater("busy", after=90)) == "busy"
    assert str(RetryLater(after=90)) == "asked to be called again after 90"


@pytest.mark.parametrize("after", [-1, float("nan"), timedelta(seconds=-1), "5", None, True])
def test_retry_later_refuses_what_is_no_pause(after: Any) -> None:  # noqa: ANN401 - what a listener may get wrong
    """Neither a moment in the past nor one that is no number can be waited for."""
    with pytest.raises(ValueError, match="after must be a number of seconds from 0 up"):
        RetryLater(after=after)


def test_retry_later_survives_pickling() -> None:
    """A listener may hand it from one process to another."""
    copy = pickle.loads(pickle.dumps(RetryLater("busy", after=90)))  # noqa: S301 - we have just written it
    assert (str(copy), copy.after) == ("busy", 90)
