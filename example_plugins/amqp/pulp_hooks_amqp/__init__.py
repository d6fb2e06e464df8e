"""A notifier for pulp_hooks: publishes each event to RabbitMQ, and waits until the broker has confirmed it."""

from pulp_hooks_amqp.errors import AmqpError
from pulp_hooks_amqp.notifier import Amqp

__all__ = ["Amqp", "AmqpError"]
