"""The keys of `[listeners.config]`, and what they may be."""

import json
import re
from typing import Any
from urllib.parse import SplitResult, urlsplit

from marshmallow import ValidationError, fields, validates, validates_schema
from marshmallow.validate import Length, Range
from pulp_hooks_http.addresses import is_allowed, is_inside, literal_addresses, parse_network
from pulp_hooks_http.keys import PrivateKey, PublicKey, parse_key
from pulp_hooks_http.templates import check_template, texts_in

from pulp_hooks import Notifier
from pulp_hooks.formats import Format

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
"""What a name of a header or method consists of (RFC 9110, section 5.6.2)."""

_VALUE = re.compile(r"[\t\x20-\x7e\xa0-\xff]*")

_RESERVED = re.compile(
    r"(connection|content-.*|expect|host|keep-alive|proxy-.*|te|trailer|transfer-encoding|upgrade|webhook-.*|ce-.*)",
    re.IGNORECASE,
)
"""Headers that decide how the request is read, or that the notifier sends itself."""

_METHOD = re.compile(r"[A-Z]{3,20}")

_REQUIRED: dict[str, Any] = {"required": "is missing", "invalid": "must be text"}


def _check_key(text: str) -> None:
    try:
        key = parse_key(text)
    except ValueError as error:
        raise ValidationError(str(error)) from None
    if isinstance(key, PublicKey) and not isinstance(key, PrivateKey):
        raise ValidationError("must be the private key (whsk_): a public key cannot sign")


def _check_network(text: str) -> None:
    try:
        parse_network(text)
    except ValueError as error:
        raise ValidationError(f"must be a network such as 10.0.0.0/8: {error}") from None


def _check_json_body(value: object) -> None:
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):
        raise ValidationError("must have what JSON has: texts, numbers, true, false, arrays and tables") from None
    for text in texts_in(value):
        try:
            check_template(text)
        except ValueError as error:
            raise ValidationError(str(error)) from None


def split_url(text: str) -> SplitResult:
    """Return the parts of a URL to send webhooks to.

    Raises:
        ValidationError: It is not one; the message has nothing of it.
    """
    if not text.isascii() or not text.isprintable() or " " in text:
        raise ValidationError(
            "must not have blanks, control characters or letters beyond ASCII; fix: percent-encode them"
        )
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise ValidationError("must be a URL such as https://hooks.example.org/path") from None
    if parts.scheme not in {"https", "http"} or not parts.hostname or port == 0:
        raise ValidationError("must be a URL such as https://hooks.example.org/path")
    try:
        parts.hostname.encode("idna")
    except UnicodeError:
        raise ValidationError("must have a valid host name") from None
    if "@" in parts.netloc:
        raise ValidationError("must not have a user or password in it; fix: use the keys username and password")
    if "{" in parts.netloc or "}" in parts.netloc:
        raise ValidationError("must not have placeholders in its host")
    try:
        check_template(parts.path)
        check_template(parts.query)
    except ValueError as error:
        raise ValidationError(str(error)) from None
    return parts


class Config(Notifier.Config):
    """The configuration of a webhook."""

    url = fields.String(required=True, validate=split_url, error_messages=_REQUIRED)
    method = fields.String(load_default="POST")
    format = fields.Enum(
        Format,
        by_value=True,
        load_default=Format.STANDARD,
        error_messages={"unknown": f"must be one of {', '.join(Format)}"},
    )
    json_body = fields.Dict(
        keys=fields.String(),
        load_default=None,
        validate=_check_json_body,
        error_messages={"invalid": "must be a table"},
    )
    secret = fields.String(load_default=None, load_only=True, validate=_check_key)
    secrets = fields.List(fields.String(validate=_check_key), load_default=list, load_only=True)
    username = fields.String(load_default=None)
    password = fields.String(load_default=None, load_only=True)
    headers = fields.Dict(
        keys=fields.String(),
        values=fields.String(),
        load_default=dict,
        error_messages={"invalid": "must be a table of texts"},
    )
    ca_path = fields.String(load_default=None, validate=Length(min=1, error="must not be empty"))
    certificate_path = fields.String(load_default=None, validate=Length(min=1, error="must not be empty"))
    key_path = fields.String(load_default=None, validate=Length(min=1, error="must not be empty"))
    timeout = fields.Float(
        load_default=15.0,
        validate=Range(min=0, min_inclusive=False, max=300, error="must be more than 0 and at most 300 (seconds)"),
        error_messages={"invalid": "must be a number of seconds", "special": "must be finite"},
    )
    allow = fields.List(
        fields.String(validate=_check_network),
        load_default=list,
        error_messages={"invalid": "must be a list of networks"},
    )

    @validates("method")
    def _check_method(self, value: str, **_: object) -> None:
        if not _METHOD.fullmatch(value) or value == "CONNECT":
            raise ValidationError("must be a method in capital letters, such as POST, PUT or PURGE")

    @validates("headers")
    def _check_headers(self, value: dict[str, str], **_: object) -> None:
        if len({name.lower() for name in value}) < len(value):
            raise ValidationError("must not have a name twice, in different letters")
        for name, text in value.items():
            if not _TOKEN.fullmatch(name):
                raise ValidationError(f"has an invalid name: {name!r}")
            if _RESERVED.fullmatch(name):
                raise ValidationError(f"must not have {name}: the notifier sends it itself")
            if not _VALUE.fullmatch(text):
                raise ValidationError(
                    f"has an invalid value for {name}: line breaks and control characters cannot be sent"
                )

    @validates_schema
    def _check_together(self, config: dict[str, Any], **_: object) -> None:
        if config["secret"] and config["secrets"]:
            raise ValidationError("use either secret or secrets, not both", "secrets")
        if (config["username"] is None) != (config["password"] is None):
            raise ValidationError("needs the other one of username and password", "username")
        if config["username"] is not None:
            if ":" in config["username"]:
                raise ValidationError("must not have a colon (RFC 7617)", "username")
            if any(name.lower() == "authorization" for name in config["headers"]):
                raise ValidationError("must not have Authorization beside username and password", "headers")
        if config["key_path"] and not config["certificate_path"]:
            raise ValidationError("needs certificate_path, the certificate that belongs to it", "key_path")
        self._check_address(config)

    def _check_address(self, config: dict[str, Any]) -> None:
        """Refuse at once what can be told without asking the name service."""
        parts = split_url(config["url"])
        allow = [parse_network(text) for text in config["allow"]]
        if parts.scheme == "http" and not allow:
            raise ValidationError(
                "must be https; http is for addresses in your own network, which `allow` has to list", "url"
            )

        literal = literal_addresses(str(parts.hostname))
        may = is_inside if parts.scheme == "http" else is_allowed
        if literal and not any(may(address, allow) for address in literal):
            raise ValidationError(
                "must not lead into a private or reserved network; fix: if that is meant, add the network to `allow`",
                "url",
            )
