"""Keeping secrets out of messages."""

from collections.abc import Iterable

REDACTED = "***"
"""What stands in place of a secret."""


def redacted(text: str, secrets: Iterable[str]) -> str:
    """Give the text with every occurrence of each secret replaced by `***`."""
    # A secret that contains another one has to go first.
    for secret in sorted(filter(None, secrets), key=len, reverse=True):
        text = text.replace(secret, REDACTED)
    return text
