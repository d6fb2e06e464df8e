"""Publishing with the notifier for AMQP, beside the bare client with confirms, over the RabbitMQ on loopback."""

import os
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pika
from pulp_hooks_amqp import Amqp

from benchmarks.measuring import ROUNDS, Figure, at_least
from pulp_hooks.formats import Format, write_message
from pulp_hooks.testing import example_event

URL = "amqp://guest:guest@127.0.0.1:5672"
_CALLS = 100
_KEY = "pulp.server.repo.sync.finish"


def measure() -> Iterator[Figure]:
    """Measure both in turn, one message at a time, each to a durable queue of its own exchange."""
    event = example_event("repo-sync-finished")
    message = write_message(event, Format.CLOUDEVENTS)
    properties = pika.BasicProperties(content_type=message.content_type, delivery_mode=2, message_id=event.id)
    with _channel() as channel, _exchange(channel) as exchange:
        channel.confirm_delivery()
        notifier = Amqp.configured(url=URL, exchange=exchange)

        def bare() -> None:
            channel.basic_publish(exchange, _KEY, message.content, properties, mandatory=True)

        def ours() -> None:
            notifier.notify(event)

        for function in (bare, ours):
            _seconds(function)
        ratio = statistics.median(_seconds(bare) / _seconds(ours) for _ in range(ROUNDS))
        notifier.close()
    yield at_least(f"amqp: {len(message.content)} bytes, confirmed one by one / bare pika", ratio, 0.8)


def _seconds(function: Callable[[], None]) -> float:
    began = time.perf_counter()
    for _ in range(_CALLS):
        function()
    return time.perf_counter() - began


@contextmanager
def _channel() -> Iterator[Any]:
    connection = pika.BlockingConnection(pika.URLParameters(URL))
    try:
        yield connection.channel()
    finally:
        connection.close()


@contextmanager
def _exchange(channel: Any) -> Iterator[str]:  # noqa: ANN401 - pika has no marker of its types
    """Yield an exchange with a durable queue, and delete both."""
    name = f"benchmark-{os.urandom(4).hex()}"
    channel.exchange_declare(name, exchange_type="topic", durable=True)
    channel.queue_declare(name, durable=True)
    channel.queue_bind(name, name, "pulp.server.#")
    try:
        yield name
    finally:
        channel.queue_delete(name)
        channel.exchange_delete(name)
