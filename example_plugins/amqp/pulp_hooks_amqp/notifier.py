"""The notifier: a message for each event, published over connections that are kept."""

import math
import random
import time
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pika
from pika.spec import BasicProperties
from pulp_hooks_amqp import config as configuration
from pulp_hooks_amqp.errors import AmqpError, DownError, StaleError
from pulp_hooks_amqp.publisher import Publisher

from pulp_hooks import Event, Notifier, PermanentFailure
from pulp_hooks.formats import write_message

if TYPE_CHECKING:
    from pulp_hooks.formats import Message

ROUTING_KEY_PREFIX = "pulp.server."
"""What a routing key begins with, as with Pulp 2; the wire name of the event type follows."""

_CONNECT_SECONDS = 5.0
"""How long one address of the broker may take to answer, of those that its name has."""

_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 2.0
"""Pauses between attempts to connect, in seconds; each is twice as long as the one before."""

_IMPATIENT_SECONDS = 30.0
"""How long, after the broker was down for a whole timeout, events try to connect only once."""

_IDLE_SECONDS = 30.0
"""How long a connection may be idle and still be used: after that, something between may have forgotten it."""

_CLOSE_SECONDS = 1.0
"""How long closing connections may take before they are closed without a word."""

_PERSISTENT = 2


class Amqp(Notifier):
    """Publishes each event to an exchange of RabbitMQ, and waits until the broker has confirmed it.

    A connection is used by one thread at a time, and kept for the next event; there are as many as threads need at
    once. One that fails in any way, or whose thread is interrupted, is closed and not used again.

    Raises:
        ValueError: A file of the configuration cannot be used; the message has its path.
    """

    Config = configuration.Config

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__(config)
        self._address = configuration.address_of(config["url"])
        self._context = configuration.tls_context(config) if self._address.is_tls else None
        self._idle: deque[Publisher] = deque()
        self._closed = False
        self._impatient_until = 0.0

    def notify(self, event: Event) -> dict[str, object]:
        """Publish the event.

        Raises:
            AmqpError: The broker has not confirmed the event, or has no queue for it.
            PermanentFailure: The message is too large for the broker.
        """
        deadline = time.monotonic() + self.config["timeout"]
        detail: dict[str, object] = {
            "exchange": self.config["exchange"],
            "routing_key": ROUTING_KEY_PREFIX + event.type.wire_name,
        }
        try:
            returned = self._publish(event, detail, deadline)
        except (AmqpError, PermanentFailure) as error:
            error.detail = detail
            raise
        detail["reply"] = "ack" if returned is None else f"ack, returned: {returned}"
        if returned is not None and self.config["unroutable"] == "fail":
            unroutable = AmqpError(
                "no queue gets the event; fix: bind a queue to the exchange with this routing key, leave out the event "
                'type with event_types, or set unroutable = "accept"'
            )
            unroutable.detail = detail
            raise unroutable
        return detail

    def close(self) -> None:
        """Close the connections."""
        self._closed = True
        self._close_idle()

    def _publish(self, event: Event, detail: dict[str, object], deadline: float) -> str | None:
        """Publish the event over a connection that is there, or else over a new one."""
        message = write_message(event, self.config["format"])
        properties = _properties(event, message)
        self._close_idle(_IDLE_SECONDS, deadline)
        while (publisher := self._take_idle()) is not None:
            try:
                return self._publish_over(publisher, properties, message.content, detail, deadline)
            except StaleError:
                continue
        return self._publish_over(self._connect(deadline), properties, message.content, detail, deadline)

    def _publish_over(
        self,
        publisher: Publisher,
        properties: BasicProperties,
        content: bytes,
        detail: dict[str, object],
        deadline: float,
    ) -> str | None:
        try:
            detail["broker"] = publisher.broker
            returned = publisher.publish(str(detail["routing_key"]), properties, content, deadline)
        except BaseException:
            publisher.abort()
            raise
        self._idle.append(publisher)
        if self._closed:
            self._close_idle()
        return returned

    def _take_idle(self) -> Publisher | None:
        """Return a connection that is open and that no other thread has; close those that are not."""
        while True:
            try:
                publisher = self._idle.pop()
            except IndexError:
                return None
            if publisher.is_usable():
                return publisher
            publisher.abort()

    def _connect(self, deadline: float) -> Publisher:
        """Return a new connection; while the broker is down, try again until the deadline."""
        pause = _FIRST_PAUSE
        failure: DownError | None = None
        while True:
            try:
                publisher = Publisher(self._parameters(), self.config["exchange"], deadline)
            except DownError as error:
                now = time.monotonic()
                # An attempt that the deadline has cut short says less than the one before it.
                failure = error if failure is None or now < deadline else failure
                if now < self._impatient_until or now + pause >= deadline:
                    self._impatient_until = now + _IMPATIENT_SECONDS
                    raise failure from error
                time.sleep(pause * random.uniform(0.5, 1))  # noqa: S311 - so that threads do not come all at once
                pause = min(_LONGEST_PAUSE, 2 * pause)
            else:
                self._impatient_until = 0.0
                return publisher

    def _parameters(self) -> pika.ConnectionParameters:
        """Return parameters for one connection.

        Two must not share them: pika takes `ssl_options` out for a moment while it copies them, and a connection made
        by another thread at that moment would send the password without TLS.
        """
        timeout: float = self.config["timeout"]
        address, context = self._address, self._context
        return pika.ConnectionParameters(
            host=address.host,
            port=address.port,
            virtual_host=address.virtual_host,
            credentials=pika.PlainCredentials(address.username, address.password),
            ssl_options=None if context is None else pika.SSLOptions(context, address.host),
            # Nobody would send heartbeats between events, so the broker would close the connection. Every wait has a
            # deadline, so we need none to notice that the broker is gone.
            heartbeat=0,
            connection_attempts=1,
            socket_timeout=min(_CONNECT_SECONDS, timeout),
            stack_timeout=timeout,
            tcp_options={"TCP_KEEPIDLE": 60},
            client_properties={"connection_name": "pulp_hooks"},
        )

    def _close_idle(self, seconds: float = 0, deadline: float = math.inf) -> None:
        """Close the connections that were idle for so long, which come first in the queue."""
        deadline = min(deadline, time.monotonic() + _CLOSE_SECONDS)
        # Another thread may take what this one has just looked at.
        with suppress(IndexError):
            while self._idle[0].idle_seconds >= seconds:
                self._idle.popleft().close(deadline)


def _properties(event: Event, message: "Message") -> BasicProperties:
    return BasicProperties(
        content_type=message.content_type,
        delivery_mode=_PERSISTENT,
        message_id=event.id,
        headers={f"ce-{name}": value for name, value in message.attributes.items()} or None,
    )
