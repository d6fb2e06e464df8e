"""The keys of Standard Webhooks 1.0.0: shared secrets (`whsec_`, scheme v1), ed25519 keys (`whsk_`, `whpk_`, v1a)."""

import base64
import binascii
import hashlib
import hmac
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

_SHORTEST, _LONGEST = 24, 64
"""Bytes of a shared secret."""

_SEED = 32
"""Bytes of an ed25519 key, private or public."""


class Key(ABC):
    """A key that verifies signatures, and signs unless it is public.

    Attributes:
        scheme: Name of the signature scheme, as it stands before each signature.
    """

    scheme: str

    @abstractmethod
    def sign(self, content: bytes) -> bytes:
        """Return the signature of this content."""

    @abstractmethod
    def verify(self, content: bytes, signature: bytes) -> bool:
        """Return, in a time that does not depend on where they differ, whether this is the content's signature."""

    def signature_of(self, content: bytes) -> str:
        """Return the signature as the header `webhook-signature` has it."""
        return f"{self.scheme},{base64.b64encode(self.sign(content)).decode()}"


class SharedSecret(Key):
    """A secret that sender and receiver share: HMAC-SHA256."""

    scheme = "v1"

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def sign(self, content: bytes) -> bytes:
        """Return the HMAC."""
        return hmac.digest(self._secret, content, hashlib.sha256)

    def verify(self, content: bytes, signature: bytes) -> bool:
        """Compare with the HMAC."""
        return hmac.compare_digest(self.sign(content), signature)


class PublicKey(Key):
    """The public half of an ed25519 key, which receivers have."""

    scheme = "v1a"

    def __init__(self, key: "Ed25519PublicKey") -> None:
        self._public = key

    def sign(self, content: bytes) -> bytes:
        """Raise `ValueError`: a public key cannot sign."""
        del content
        raise ValueError("a public key (whpk_) cannot sign; fix: use the private one (whsk_)")

    def verify(self, content: bytes, signature: bytes) -> bool:
        """Verify the ed25519 signature."""
        from cryptography.exceptions import InvalidSignature  # noqa: PLC0415 - for those who use ed25519

        try:
            self._public.verify(signature, content)
        except InvalidSignature:
            return False
        return True


class PrivateKey(PublicKey):
    """An ed25519 key, which only the sender has."""

    def __init__(self, key: "Ed25519PrivateKey") -> None:
        super().__init__(key.public_key())
        self._private = key

    def sign(self, content: bytes) -> bytes:
        """Return the ed25519 signature."""
        return self._private.sign(content)


def parse_key(text: str) -> Key:
    """Return the key that a text holds.

    Args:
        text: `whsec_` and the Base64 of 24 to 64 bytes; or `whsk_` and that of an ed25519 seed, alone (32 bytes) or
            with the public key after it (64); or `whpk_` and that of an ed25519 public key (32).

    Raises:
        ValueError: It is none of them, or `cryptography` is not installed; the message has nothing of the key.
    """
    prefix, _, encoded = text.partition("_")
    if prefix not in {"whsec", "whsk", "whpk"}:
        raise ValueError("must begin with whsec_ (a shared secret) or whsk_ (an ed25519 key)")
    try:
        octets = base64.b64decode(encoded.encode(), validate=True)
    except (binascii.Error, ValueError):
        raise ValueError(f"must be Base64 after {prefix}_") from None
    if prefix == "whsec":
        if not _SHORTEST <= len(octets) <= _LONGEST:
            raise ValueError(f"must be {_SHORTEST} to {_LONGEST} bytes in Base64 after whsec_")
        return SharedSecret(octets)
    return _ed25519(prefix, octets)


def _ed25519(prefix: str, octets: bytes) -> PublicKey:
    try:
        from cryptography.hazmat.primitives.asymmetric import ed25519  # noqa: PLC0415 - for those who use ed25519
    except ImportError:
        raise ValueError("needs cryptography, which is not installed; fix: install pulp-hooks-http[ed25519]") from None
    if prefix == "whpk":
        if len(octets) != _SEED:
            raise ValueError(f"must be {_SEED} bytes in Base64 after whpk_")
        return PublicKey(ed25519.Ed25519PublicKey.from_public_bytes(octets))
    if len(octets) not in {_SEED, 2 * _SEED}:
        raise ValueError(f"must be {_SEED} or {2 * _SEED} bytes in Base64 after whsk_")
    key = ed25519.Ed25519PrivateKey.from_private_bytes(octets[:_SEED])
    if octets[_SEED:] not in {b"", key.public_key().public_bytes_raw()}:
        raise ValueError("must have the public key that belongs to it after the seed")
    return PrivateKey(key)


def signed_content(webhook_id: str, timestamp: str, content: bytes) -> bytes:
    """Return the bytes that are signed."""
    return b".".join([webhook_id.encode(), timestamp.encode(), content])
