"""The base class of notifiers: listeners that take configuration."""

from abc import ABC, abstractmethod
from typing import Any, Self, cast

from marshmallow import RAISE, Schema

from pulp_hooks.event import Event


class Notifier(ABC):
    """Base class of notifiers, which forward events to another system.

    A plugin installs the class once, as an entry point. Each `[[listeners]]` table of the settings that names it makes
    one instance, which receives the events that match the table's filters.

    Attributes:
        Config: marshmallow schema of `[listeners.config]`. Override it to accept configuration; the default accepts
            none. A field with `load_only=True` is a secret: a settings file must refer to it, by `env` or `file`.
        config: The configuration, loaded by `Config`. It may contain secrets.

    Example:
        ```python
        class Printer(Notifier):
            class Config(Notifier.Config):
                prefix = fields.String(load_default="")

            def notify(self, event):
                print(self.config["prefix"], event.type, event.body["repo_id"])
        ```
    """

    class Config(Schema):
        """Schema without fields."""

        class Meta:
            """Refuse unknown keys, and keep the schema out of marshmallow's global registry."""

            unknown = RAISE
            register = False

    def __init__(self, config: dict[str, Any]) -> None:
        self.config = config

    @classmethod
    def configured(cls, /, **config: Any) -> Self:  # noqa: ANN401 - what TOML may hold
        """Return a notifier with this configuration, checked and completed by `Config` as that of the settings is.

        Raises:
            ValidationError: `Config` refuses it.
        """
        return cls(cast("dict[str, Any]", cls.Config().load(config)))

    @abstractmethod
    def notify(self, event: Event) -> object:
        """Forward one event, or raise. The method may be `async def`, and several threads may call it at once.

        Returns:
            `None`, or a mapping to record as `Outcome.detail`.
        """

    def close(self) -> None:  # noqa: B027 - most notifiers have nothing to close
        """Close files, connections and other resources. Called once, after the last event."""
