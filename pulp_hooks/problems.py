"""Problems: whatever is wrong with plugins and settings, as data. None of them stops the host."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong, where, why, and how to mend it.

    Attributes:
        where: Name of the plugin or listener, or path of the settings file.
        cause: What is wrong, as one sentence without a full stop.
        remedy: What to do about it.
        distribution: Name and version of the package that brings the plugin; null for settings and objects in hand.
        hook: Name of the hook or attribute concerned, where it is about one.
    """

    where: str
    cause: str
    remedy: str
    distribution: str | None = None
    hook: str | None = None

    def __str__(self) -> str:
        origin = f" ({self.distribution})" if self.distribution else ""
        hook = f", {self.hook}" if self.hook else ""
        return f"{self.where}{origin}{hook}: {self.cause}; {self.remedy}"
