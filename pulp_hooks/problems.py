"""Problems of plugins and settings, as data. They do not stop the host."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Problem:
    """A problem: where it is, its cause and its fix.

    Attributes:
        where: Name of the plugin or listener, or path of the settings file.
        cause: What is wrong, as one sentence without a full stop.
        remedy: How to fix it, as one sentence without a full stop.
        distribution: Name and version of the plugin's package; null for settings and objects in hand.
        hook: Name of the hook or attribute; null for a problem of the whole plugin.
    """

    where: str
    cause: str
    remedy: str
    distribution: str | None = None
    hook: str | None = None

    def __str__(self) -> str:
        origin = f" ({self.distribution})" if self.distribution else ""
        hook = f", {self.hook}" if self.hook else ""
        return f"{self.where}{origin}{hook}: {self.cause}; fix: {self.remedy}"
