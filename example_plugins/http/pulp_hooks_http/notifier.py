"""The notifier: from an event to a signed request, and from the response to what becomes of the delivery."""

import base64
import contextlib
import json
import re
import ssl
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from pulp_hooks_http import configuration
from pulp_hooks_http.addresses import AddressRefusedError, parse_network
from pulp_hooks_http.connections import Endpoint, Request, Response, SendError
from pulp_hooks_http.keys import parse_key, signed_content
from pulp_hooks_http.templates import fill, fill_all

from pulp_hooks import DisableListener, Event, Notifier, PermanentFailure, RetryLater
from pulp_hooks.formats import write_message

_PORTS = {"https": 443, "http": 80}
_GONE = 410
_BUSY = {429, 503}
_CE_SAFE = "".join(chr(code) for code in range(0x21, 0x7F) if chr(code) not in '"%')
"""What stays as it is in the value of a CloudEvents header (HTTP binding 1.0.2, section 3.1.3.2)."""

_WEBHOOK_ID = re.compile(r"[A-Za-z0-9_:-]{1,128}")

_MOST_HEADERS = 30
_LONGEST_VALUE = 200
_MOST_BODY = 4096
_HIDDEN = frozenset(
    {"authorization", "webhook-signature", "cookie", "set-cookie", "proxy-authenticate", "www-authenticate"}
)


class DeliveryError(Exception):
    """A request that did not succeed; it is retried on the schedule.

    Attributes:
        detail: The exchange, as far as it came.
    """

    def __init__(self, message: str, detail: Mapping[str, object]) -> None:
        super().__init__(message)
        self.detail = detail


class Webhook(Notifier):
    """Sends each event to `url`, signed as Standard Webhooks 1.0.0 has it.

    Raises:
        OSError: A certificate, key or CA file cannot be read.
    """

    Config = configuration.Config

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__(config)
        self._url = parts = urlsplit(config["url"])
        self._keys = [parse_key(text) for text in [*config["secrets"], *filter(None, [config["secret"]])]]
        self._headers = {"Host": parts.netloc, **config["headers"]}
        if not any(name.lower() == "user-agent" for name in config["headers"]):
            self._headers["User-Agent"] = "pulp-hooks-http"
        if config["username"] is not None:
            login = base64.b64encode(f"{config['username']}:{config['password']}".encode()).decode()
            self._headers["Authorization"] = f"Basic {login}"
        self._endpoint = Endpoint(
            str(parts.hostname),
            parts.port or _PORTS[parts.scheme],
            self._context() if parts.scheme == "https" else None,
            [parse_network(text) for text in config["allow"]],
        )

    def notify(self, event: Event) -> object:
        """Send the event.

        Returns:
            The exchange.

        Raises:
            DeliveryError: There was no response, or one that is not a success.
            RetryLater: The endpoint asked to wait (429 or 503 with `Retry-After`).
            DisableListener: The endpoint is gone (410).
            PermanentFailure: The event cannot be a part of the URL.
        """
        request = self._request(event)
        detail: dict[str, object] = {"request": self._shown(request)}
        try:
            response = self._endpoint.send(request, self.config["timeout"])
        except (SendError, AddressRefusedError) as error:
            raise DeliveryError(str(error), detail) from error
        detail["response"] = _shown_response(response)
        if 200 <= response.status < 300:  # noqa: PLR2004 - the successful ones
            return detail
        said = f"the endpoint answered {response.status} {response.reason}".rstrip()
        if response.status == _GONE:
            raise DisableListener(said, detail=detail)
        after = _retry_after(response)
        if response.status in _BUSY and after is not None:
            raise RetryLater(said, after=after, detail=detail)
        if 300 <= response.status < 400:  # noqa: PLR2004 - the redirections
            said += "; redirections are not followed, fix: correct the url"
        raise DeliveryError(said, detail)

    def close(self) -> None:
        """Close the connections that were kept."""
        self._endpoint.close()

    def _context(self) -> ssl.SSLContext:
        for key in ("ca_path", "certificate_path", "key_path"):
            if self.config[key] is not None:
                # The errors of OpenSSL do not have the path.
                Path(self.config[key]).open("rb").close()
        context = ssl.create_default_context(cafile=self.config["ca_path"])
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if self.config["certificate_path"]:
            context.load_cert_chain(self.config["certificate_path"], self.config["key_path"])
        return context

    def _request(self, event: Event) -> Request:
        attributes: Mapping[str, str] = {}
        if self.config["json_body"] is None:
            message = write_message(event, self.config["format"])
            content_type, content, attributes = message.content_type, message.content, message.attributes
        else:
            content_type = "application/json"
            content = json.dumps(fill_all(self.config["json_body"], event), ensure_ascii=False).encode()
        headers = {
            **self._headers,
            "Content-Type": content_type,
            **{f"ce-{name}": quote(value, safe=_CE_SAFE) for name, value in attributes.items()},
            **self._signature(event.id, content),
        }
        return Request(self.config["method"], self._target(event), headers, content)

    def _signature(self, webhook_id: str, content: bytes) -> dict[str, str]:
        if not _WEBHOOK_ID.fullmatch(webhook_id):
            raise PermanentFailure(f"the id of the event cannot be sent as a header: {webhook_id!r}")
        timestamp = str(int(time.time()))
        headers = {"webhook-id": webhook_id, "webhook-timestamp": timestamp}
        if self._keys:
            signed = signed_content(webhook_id, timestamp, content)
            headers["webhook-signature"] = " ".join(key.signature_of(signed) for key in self._keys)
        return headers

    def _target(self, event: Event) -> str:
        """Return path and query, with the event in place of the placeholders."""

        def encoded(value: str) -> str:
            # Servers decode a path before they look for its segments.
            if not value or {".", ".."} & set(re.split(r"[/\\]", value)):
                raise PermanentFailure(f"{value!r} cannot be a part of the url: it would lead to another path")
            return quote(value, safe="")

        path = fill(self._url.path, event, encoded) or "/"
        query = fill(self._url.query, event, lambda value: quote(value, safe=""))
        return f"{path}?{query}" if query else path

    def _shown(self, request: Request) -> dict[str, object]:
        """Return a request as people may see it: without the query and without what authenticates."""
        headers = {
            name: "***" if name.lower() in _HIDDEN or name in self.config["headers"] else value[:_LONGEST_VALUE]
            for name, value in request.headers.items()
        }
        return {
            "line": f"{request.method} {request.target.partition('?')[0][:_LONGEST_VALUE]} HTTP/1.1",
            "headers": headers,
        }


def _shown_response(response: Response) -> dict[str, object]:
    headers = {
        name: _shown_header(name.lower(), value)[:_LONGEST_VALUE] for name, value in response.headers[:_MOST_HEADERS]
    }
    body = response.body.decode(errors="replace")
    # Escapes take up to six times as much.
    while len(json.dumps(body, ensure_ascii=False).encode()) > _MOST_BODY:
        body = body[: len(body) * 3 // 4]
    return {
        "status": response.status,
        "reason": response.reason[:_LONGEST_VALUE],
        "address": response.address,
        "headers": headers,
        "body": body,
    }


def _shown_header(name: str, value: str) -> str:
    if name in _HIDDEN:
        return "***"
    if name == "location":
        # A redirection may carry a token, in the query or before the host.
        with contextlib.suppress(ValueError):
            parts = urlsplit(value)
            return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()
        return "***"
    return re.sub(r"\?\S*", "?***", value) if "://" in value else value


def _retry_after(response: Response) -> float | None:
    """Return the seconds that `Retry-After` asks to wait (RFC 9110, section 10.2.3); null for garbage."""
    text = next((value.strip() for name, value in response.headers if name.lower() == "retry-after"), "")
    try:
        if text.isascii() and text.isdigit():
            seconds = float(text)
        else:
            moment = parsedate_to_datetime(text)
            moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
            seconds = (moment - datetime.now(UTC)).total_seconds()
    except (ValueError, OverflowError):
        return None
    # To ask for no pause at all would be to ask for a flood.
    return min(seconds, 86_400.0) if seconds > 0 else None
