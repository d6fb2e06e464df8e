"""The configuration: its schema, and what the `url` consists of."""

import os
import ssl
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

from marshmallow import ValidationError, fields, validates, validates_schema
from marshmallow.validate import OneOf, Range

from pulp_hooks import Notifier
from pulp_hooks.formats import Format

_MAX_EXCHANGE_BYTES = 127
_MAX_NAME_BYTES = 255
_PORTS = {"amqp": 5672, "amqps": 5671}


class Config(Notifier.Config):
    """Keys of `[listeners.config]`; the README describes them."""

    url = fields.String(
        required=True, load_only=True, error_messages={"required": "is missing", "invalid": "must be text"}
    )
    ca_path = fields.String(load_default=None)
    certificate_path = fields.String(load_default=None)
    key_path = fields.String(load_default=None)
    exchange = fields.String(load_default="amq.topic")
    format = fields.Enum(Format, by_value=True, load_default=Format.CLOUDEVENTS)
    unroutable = fields.String(
        load_default="fail", validate=OneOf(["fail", "accept"], error="must be 'fail' or 'accept'")
    )
    timeout = fields.Float(
        load_default=15.0,
        validate=Range(min=0, min_inclusive=False, max=3600, error="must be more than 0 and at most 3600 seconds"),
    )

    @validates("url")
    def _validate_url(self, value: str, **_kwargs: object) -> None:
        address_of(value)

    @validates("exchange")
    def _validate_exchange(self, value: str, **_kwargs: object) -> None:
        if not 1 <= len(value.encode()) <= _MAX_EXCHANGE_BYTES or not value.isprintable():
            raise ValidationError(f"must be 1 to {_MAX_EXCHANGE_BYTES} bytes of printable text")

    @validates_schema
    def _validate_tls(self, data: Mapping[str, Any], **_kwargs: object) -> None:
        for key in ("ca_path", "certificate_path", "key_path"):
            if data[key] is not None and not address_of(data["url"]).is_tls:
                raise ValidationError("needs a url that begins with amqps://", key)
        if data["key_path"] is not None and data["certificate_path"] is None:
            raise ValidationError("needs certificate_path", "key_path")


class Address(NamedTuple):
    """What a URL consists of."""

    is_tls: bool
    host: str
    port: int
    username: str
    password: str
    virtual_host: str


def address_of(url: str) -> Address:
    """Return what an `amqp://` or `amqps://` URL consists of.

    Raises:
        ValidationError: It is not valid; the message shows no part of it, because it may contain a password.
    """
    try:
        # Outside of ASCII, `urlsplit` deletes or replaces some characters.
        parts = urlsplit(url) if url.isascii() and url.isprintable() else urlsplit("")
        port = parts.port
    except ValueError:
        # Not chained: its text may show a part of a password that is not percent-encoded.
        parts, port = urlsplit(""), None
    if parts.scheme not in _PORTS or not parts.hostname or port == 0 or " " in url:
        raise ValidationError(
            "must be amqp://USER:PASSWORD@HOST:PORT/VIRTUAL_HOST or the same with amqps://, with special characters "
            "percent-encoded, such as %2F for a slash"
        )
    if parts.query or parts.fragment:
        raise ValidationError("must not have options after ? or #; percent-encode these characters in a password")
    path = parts.path[1:]
    if "/" in path and path != "/":
        raise ValidationError("must have a single virtual host, in which a slash is written %2F")
    try:
        username, password, virtual_host = (
            unquote(text, errors="strict")
            for text in (
                "guest" if parts.username is None else parts.username,
                "guest" if parts.username is None else parts.password or "",
                path or "/",
            )
        )
    except UnicodeDecodeError:
        raise ValidationError("must percent-encode characters as UTF-8") from None
    if len(virtual_host.encode()) > _MAX_NAME_BYTES:
        raise ValidationError(f"must have a virtual host of at most {_MAX_NAME_BYTES} bytes")
    return Address(
        parts.scheme == "amqps", parts.hostname, port or _PORTS[parts.scheme], username, password, virtual_host
    )


def tls_context(config: Mapping[str, Any]) -> ssl.SSLContext:
    """Return a context that verifies the broker's certificate, and shows the client's.

    Raises:
        ValueError: A file is missing or has another content; the message has its path.
    """
    ca_path, certificate_path, key_path = (config[key] for key in ("ca_path", "certificate_path", "key_path"))
    for path in filter(None, (ca_path, certificate_path, key_path)):
        try:
            os.close(os.open(path, os.O_RDONLY))
        except (OSError, ValueError) as error:
            raise ValueError(f"{path} cannot be read: {error}") from error
    try:
        context = ssl.create_default_context(cafile=ca_path)
    except (OSError, ValueError) as error:
        raise ValueError(f"ca_path: {ca_path} contains no certificates in PEM format") from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if certificate_path is not None:
        try:
            # With a password, even an empty one, OpenSSL does not ask on the terminal.
            context.load_cert_chain(certificate_path, key_path, password="")
        except (OSError, ValueError) as error:
            raise ValueError(
                f"certificate_path: {certificate_path}, with the key in {key_path or 'the same file'}, is no "
                "certificate in PEM format with its key, or the key is encrypted"
            ) from error
    return context
