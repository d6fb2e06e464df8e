"""Exceptions that control redelivery."""

import pickle
from datetime import timedelta
from typing import Any

import pytest

from pulp_hooks import DisableListener, Hooks, PermanentFailure, RetryLater, Status, hookimpl


class Controlled:
    """Raises an exception."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    @hookimpl
    def repo_sync_started(self) -> None:
        """Raise the exception."""
        raise self.error


@pytest.mark.parametrize("error", [RetryLater(after=5), PermanentFailure("400"), DisableListener("410 Gone")])
def test_delivery_control_is_a_failure_in_direct_dispatch(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    """Without a journal there is no retry: the outcome is a failure, and has the control."""
    with Hooks([Controlled(error)]) as hooks:
        (outcome,) = hooks.repo_sync_started(repo_id="zoo").outcomes
    assert (outcome.status, outcome.control) == (Status.FAILED, error)
    assert outcome.error == f"{type(error).__name__}: {error}"
    assert error.__traceback__ is None
    assert "Traceback" not in caplog.text


def test_retry_later_takes_seconds_or_a_timedelta() -> None:
    """Both are converted to seconds."""
    assert RetryLater(after=90).after == RetryLater(after=timedelta(minutes=1, seconds=30)).after == 90
    assert str(RetryLater("busy", after=90)) == "busy"
    assert str(RetryLater(after=90)) == "retry requested after 90"


@pytest.mark.parametrize("after", [-1, float("nan"), timedelta(seconds=-1), "5", None, True])
def test_retry_later_refuses_an_invalid_pause(after: Any) -> None:  # noqa: ANN401 - what a listener may get wrong
    """A pause is a number of seconds that is not negative."""
    with pytest.raises(ValueError, match="after must be a number of seconds, at least 0, got"):
        RetryLater(after=after)


def test_retry_later_survives_pickling() -> None:
    """A listener may pass it between processes."""
    copy = pickle.loads(pickle.dumps(RetryLater("busy", after=90)))  # noqa: S301 - written by this test
    assert (str(copy), copy.after) == ("busy", 90)
