"""Deliveries on a Celery cluster: a message carries the name of a delivery, a task makes it as any worker does."""

from pulp_hooks.celery.carrying import carry_deliveries

__all__ = ["carry_deliveries"]
