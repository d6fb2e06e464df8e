"""The base class of notifiers: listeners that take configuration."""

from abc import ABC, abstractmethod
from typing import Any

from marshmallow import RAISE, Schema

from pulp_hooks.event import Event


class Notifier(ABC):
    """Forwards events somewhere, as its configuration says.

    A plugin installs the class once, as an entry point. Each `[[listeners]]` table of the settings that names it makes
    one instance, which receives the events that the table asks for.

    Attributes:
        Config: marshmallow schema of `[listeners.config]`. Without one of its own a notifier takes no configuration.
        config: The configuration, loaded by `Config`. It may hold secrets.

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
        """Takes no configuration."""

        class Meta:
            """A misspelt key is an error, and the schema stays out of marshmallow's global registry."""

            unknown = RAISE
            register = False

    def __init__(self, config: dict[str, Any]) -> None:
        self.config = config

    @abstractmethod
    def notify(self, event: Event) -> object:
        """Forward one event; raise if that fails. It may be `async def`, and several threads may call it.

        Returns:
            Nothing, or a mapping that shows what was done, see `Outcome.detail`.
        """

    def close(self) -> None:  # noqa: B027 - most notifiers hold nothing that has to be closed
        """Close what the notifier holds, such as files and connections; called once, after its last event."""
