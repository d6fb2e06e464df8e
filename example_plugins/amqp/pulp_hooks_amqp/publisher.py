"""One connection to the broker, driven by the thread that uses it, with a deadline on every wait."""

import ssl
import time
from collections.abc import Callable
from contextlib import suppress

import pika
from pika import exceptions
from pika.adapters.select_connection import IOLoop, SelectConnection
from pika.adapters.utils.connection_workflow import (
    AMQPConnectionWorkflowFailed,
    AMQPConnectorException,
    AMQPConnectorPhaseErrorBase,
)
from pika.channel import Channel
from pika.frame import Method
from pika.spec import Basic, BasicProperties
from pulp_hooks_amqp.errors import AmqpError, DownError, StaleError

from pulp_hooks import PermanentFailure

_NOT_FOUND = 404
_PRECONDITION_FAILED = 406
_NOT_ALLOWED = 530

_PIKA_ERRORS = (exceptions.AMQPError, AMQPConnectorException)

_FRAME_OVERHEAD = 64
"""More bytes than a header frame has besides the properties."""

_MAX_NAME = 200
"""How many characters of the broker's name are kept."""

_MAX_BYTES = 8 * 2**20
"""How much a broker may send while an event waits: more than any event that it returns."""

_ABORT_ROUNDS = 10
"""Rounds of the loop in which pika closes a socket; it takes one or two."""


class _Connection(SelectConnection):  # type: ignore[misc] # pika has no marker of its types
    """A connection that can be closed at once, without waiting for the broker, as pika lets only its adapters do."""

    def abort(self) -> None:
        """Close the socket, in the next rounds of the loop."""
        if not self.is_closed:
            self._terminate_stream(exceptions.ConnectionOpenAborted("given up"))  # pyright: ignore[reportAttributeAccessIssue] # its stubs lack it


class Publisher:
    """A connection with a channel in confirm mode, whose exchange exists.

    One thread at a time may use it. After an exception it must be aborted.

    Attributes:
        broker: Product, version and node of the broker, as it says itself.

    Args:
        parameters: Where and how to connect.
        exchange: Exchange; declared as a durable topic exchange if it does not exist and may be declared.
        deadline: Time of `time.monotonic()` at which to give up.

    Raises:
        DownError: The broker cannot be reached at the moment.
        AmqpError: The broker refuses the connection or the exchange.
    """

    def __init__(self, parameters: pika.ConnectionParameters, exchange: str, deadline: float) -> None:
        self._exchange = exchange
        self._lost: BaseException | None = None
        self._refused: BaseException | None = None
        self._blocked: str | None = None
        self._published = 0
        self._settled: Basic.Ack | Basic.Nack | None = None
        self._returned: str | None = None
        self._used = time.monotonic()
        self._loop = IOLoop()
        self._connection: _Connection | None = None
        try:
            self._loop.activate_poller()
            self._connection = connection = _Connection(
                parameters,
                on_open_error_callback=self._on_lost,
                on_close_callback=self._on_lost,
                custom_ioloop=self._loop,
            )
            connection.add_on_connection_blocked_callback(self._on_blocked)
            connection.add_on_connection_unblocked_callback(self._on_unblocked)
            self._wait(lambda: bool(connection.is_open), deadline)
            self.broker = _name_of(connection.server_properties or {})
            self._channel = self._ready_channel(connection, deadline)
        except _PIKA_ERRORS as error:
            self.abort()
            raise _connection_error(error) from error
        except BaseException:
            self.abort()
            raise

    @property
    def idle_seconds(self) -> float:
        """How long ago it was used."""
        return time.monotonic() - self._used

    @property
    def _received(self) -> int:
        if self._connection is None:
            return 0
        return int(self._connection.bytes_received)  # pyright: ignore[reportAttributeAccessIssue] # its stubs lack it

    def is_usable(self) -> bool:
        """Return whether the connection is still open, as far as this side has been told."""
        with suppress(Exception):
            self._turn()
            return self._lost is None and self._refused is None and bool(self._channel.is_open)
        return False

    def publish(self, routing_key: str, properties: BasicProperties, content: bytes, deadline: float) -> str | None:
        """Publish a message, and wait until the broker has confirmed it.

        Returns:
            The broker's reason if it has no queue for the message and has dropped it.

        Raises:
            StaleError: The exchange does not exist any more; the message was not published.
            AmqpError: The broker has not confirmed the message. It may have it all the same.
            PermanentFailure: The message is too large for this broker.
        """
        self._check_size(properties)
        self._wait_until_unblocked(deadline)
        self._settled = self._returned = None
        self._published += 1
        try:
            self._channel.basic_publish(self._exchange, routing_key, content, properties, mandatory=True)
            self._wait(lambda: self._settled is not None, deadline)
        except exceptions.ChannelClosedByBroker as error:
            raise _channel_error(error) from error
        except (*_PIKA_ERRORS, DownError) as error:
            reason = self._blocked or _text_of(_root_of(error))
            raise AmqpError(f"the broker has not confirmed the event: {reason}") from error
        if isinstance(self._settled, Basic.Nack):
            raise AmqpError("the broker refused the event (nack): a queue is full, or the broker failed")
        self._used = time.monotonic()
        return self._returned

    def close(self, deadline: float) -> None:
        """Close the connection, after a word to the broker unless it takes too long."""
        connection = self._connection
        if connection is not None:
            with suppress(Exception):
                connection.close()
                self._turn_until(lambda: bool(connection.is_closed), deadline)
        self.abort()

    def abort(self) -> None:
        """Close the connection at once."""
        connection = self._connection
        if connection is not None:
            with suppress(Exception):
                connection.abort()
            with suppress(Exception):
                for _ in range(_ABORT_ROUNDS):
                    if connection.is_closed:
                        break
                    self._turn()
        with suppress(Exception):
            self._loop.close()

    def _ready_channel(self, connection: _Connection, deadline: float) -> Channel:
        """Return a channel in confirm mode, after making sure that the exchange exists."""
        channel = self._open_channel(connection, deadline)
        if not self._exchange.startswith("amq."):
            try:
                self._declare(channel, deadline, passive=True)
            except exceptions.ChannelClosedByBroker as error:
                if error.reply_code != _NOT_FOUND:
                    raise
                channel = self._open_channel(connection, deadline)
                self._declare(channel, deadline, passive=False)
        channel.add_on_return_callback(self._on_return)
        self._call(lambda done: channel.confirm_delivery(self._on_settled, callback=done), deadline)
        return channel

    def _open_channel(self, connection: _Connection, deadline: float) -> Channel:
        self._refused = None
        opened: list[Channel] = []
        connection.channel(on_open_callback=opened.append).add_on_close_callback(self._on_refused)
        self._wait(lambda: bool(opened), deadline)
        return opened[0]

    def _declare(self, channel: Channel, deadline: float, *, passive: bool) -> None:
        self._call(
            lambda done: channel.exchange_declare(
                self._exchange, exchange_type="topic", passive=passive, durable=True, callback=done
            ),
            deadline,
        )

    def _call(self, method: Callable[[Callable[[object], None]], object], deadline: float) -> None:
        """Call a method of pika that takes a callback, and wait for the callback."""
        replies: list[object] = []
        method(replies.append)
        self._wait(lambda: bool(replies), deadline)

    def _wait_until_unblocked(self, deadline: float) -> None:
        try:
            self._wait(lambda: self._blocked is None, deadline)
        except (*_PIKA_ERRORS, DownError) as error:
            reason = self._blocked or _text_of(_root_of(error))
            raise AmqpError(f"the event was not published: {reason}") from error

    def _wait(self, is_done: Callable[[], bool], deadline: float) -> None:
        """Wait until something is done.

        Raises:
            DownError: It was not done before the deadline.
            AMQPError: The connection or the channel was closed before.
        """
        if not self._turn_until(lambda: is_done() or self._lost or self._refused, deadline):
            raise DownError("the broker did not answer within the timeout")
        error = self._lost or self._refused
        if error is not None and not is_done():
            raise error

    def _turn_until(self, is_done: Callable[[], object], deadline: float) -> bool:
        """Turn the loop until something is done, and return whether it was before the deadline."""
        timer = self._loop.call_later(max(0, deadline - time.monotonic()), _nothing)
        most = self._received + _MAX_BYTES
        try:
            while not is_done():
                if self._received > most:
                    raise AmqpError("the broker sends without end")
                if time.monotonic() >= deadline:
                    return False
                self._loop.poll()
                self._loop.process_timeouts()
        finally:
            self._loop.remove_timeout(timer)
        return True

    def _turn(self) -> None:
        """Process what has arrived, without waiting."""
        self._loop.call_later(0, _nothing)
        self._loop.poll()
        self._loop.process_timeouts()

    def _check_size(self, properties: BasicProperties) -> None:
        """Refuse headers that do not fit in a frame, for which the broker would close the connection."""
        size = sum(map(len, properties.encode())) + _FRAME_OVERHEAD if properties.headers else 0
        limit = self._connection.params.frame_max if self._connection is not None else 0
        if size > limit:
            raise PermanentFailure(
                f"the attributes take {size} bytes as headers, more than a frame may have ({limit}); "
                'fix: use format = "cloudevents", which has them in the content'
            )

    def _on_lost(self, _connection: object, error: BaseException) -> None:
        self._lost = error

    def _on_refused(self, _channel: object, error: BaseException) -> None:
        self._refused = error

    def _on_blocked(self, _connection: object, frame: Method) -> None:
        self._blocked = f"the broker accepts no messages at the moment: {frame.method.reason}"

    def _on_unblocked(self, _connection: object, _frame: object) -> None:
        self._blocked = None

    def _on_settled(self, frame: Method) -> None:
        # One message is under way at a time.
        if frame.method.delivery_tag == self._published:
            self._settled = frame.method

    def _on_return(self, _channel: object, method: Basic.Return, _properties: object, _content: object) -> None:
        self._returned = f"{method.reply_code} {method.reply_text}"


def _nothing() -> None:
    """Do nothing: the timer is there to end a wait."""


def _name_of(properties: dict[str, object]) -> str:
    name = " ".join(str(properties[key]) for key in ("product", "version", "cluster_name") if key in properties)
    return name[:_MAX_NAME]


def _connection_error(error: BaseException) -> AmqpError:
    """Return our error for a connection that was not made."""
    root = _root_of(error)
    if isinstance(root, exceptions.ChannelClosedByBroker):
        return AmqpError(f"the broker refused the exchange: {_text_of(root)}")
    if isinstance(root, exceptions.ProbableAuthenticationError | exceptions.AuthenticationError):
        return AmqpError("the broker refused the user name or the password")
    if isinstance(root, exceptions.ProbableAccessDeniedError) or (
        isinstance(root, exceptions.ConnectionClosed) and root.reply_code == _NOT_ALLOWED
    ):
        return AmqpError("the broker refused the virtual host: it does not exist, or the user has no access to it")
    if isinstance(root, exceptions.MethodNotImplemented):
        return AmqpError("the broker has no publisher confirms, so it cannot say that it has an event")
    if isinstance(root, ssl.SSLCertVerificationError):
        return AmqpError(f"the certificate of the broker is not trusted: {root.verify_message}")
    return DownError(f"the broker cannot be reached: {_text_of(root)}")


def _channel_error(error: exceptions.ChannelClosedByBroker) -> Exception:
    """Return our error for a message that the broker refused by closing the channel."""
    text = f"the broker refused the event: {_text_of(error)}"
    if error.reply_code == _PRECONDITION_FAILED:
        return PermanentFailure(text)
    return StaleError(text) if error.reply_code == _NOT_FOUND else AmqpError(text)


def _root_of(error: BaseException) -> BaseException:
    """Return the error that pika has wrapped."""
    while True:
        inner: object = None
        if isinstance(error, AMQPConnectionWorkflowFailed):
            inner = error.exceptions[-1]
        elif isinstance(error, AMQPConnectorPhaseErrorBase):
            inner = error.exception
        elif isinstance(error, exceptions.AMQPConnectionError) and error.args:
            inner = error.args[0]
        if not isinstance(inner, BaseException):
            return error
        error = inner


def _text_of(error: BaseException) -> str:
    if isinstance(error, exceptions.ConnectionClosed | exceptions.ChannelClosed):
        return f"{error.reply_code} {error.reply_text}"
    if isinstance(error, AmqpError):
        return str(error)
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
