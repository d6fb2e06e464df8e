"""Tests of the exceptions."""

import copy
import pickle
from collections.abc import Callable

import pytest

from pulp_hooks import errors
from pulp_hooks.errors import BodyError, FieldError, PulpHooksError

ERRORS = [error for error in vars(errors).values() if isinstance(error, type) and issubclass(error, Exception)]
BODY_ERROR = BodyError(
    "repo-sync-started", [FieldError("repo_id", "7", "must be a string"), FieldError("x", "", "is missing")]
)


@pytest.mark.parametrize("error", ERRORS)
def test_every_error_is_a_pulp_hooks_error(error: type[Exception]) -> None:
    """`except PulpHooksError` catches all exceptions that this package raises on purpose."""
    assert issubclass(error, PulpHooksError)
    assert error.__doc__


@pytest.mark.parametrize("error", [errors.BodyError, errors.EventError, errors.UnknownEventTypeError])
def test_wrong_input_is_a_value_error(error: type[Exception]) -> None:
    """Errors about invalid values are also `ValueError`."""
    assert issubclass(error, ValueError)


def test_body_error_names_event_type_field_value_rule_and_command() -> None:
    """The message of a `BodyError` says how to fix the body."""
    assert str(BODY_ERROR) == (
        "invalid repo-sync-started body: repo_id must be a string, got 7; x is missing "
        "(`pulp-hooks schema repo-sync-started` shows the valid fields)"
    )


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda error: pickle.loads(pickle.dumps(error))])  # noqa: S301 - its own pickle
def test_body_error_survives_a_copy(again: Callable[[BodyError], BodyError]) -> None:
    """A `BodyError` can be copied and pickled without loss."""
    other = again(BODY_ERROR)
    assert type(other) is BodyError
    assert (other.event_type, other.errors, str(other)) == (
        BODY_ERROR.event_type,
        BODY_ERROR.errors,
        str(BODY_ERROR),
    )
