"""The error of an event that the broker has not confirmed."""

from collections.abc import Mapping


class AmqpError(Exception):
    """The broker has not confirmed the event, or cannot route it.

    Attributes:
        detail: Facts to show with the outcome; see `pulp_hooks.Outcome.detail`.
    """

    detail: Mapping[str, object] | None = None


class DownError(AmqpError):
    """The broker cannot be reached at the moment: it is worth another try soon. Nothing was published."""


class StaleError(AmqpError):
    """A connection that was idle is closed, or its exchange is gone. Nothing was published."""
