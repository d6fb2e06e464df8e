"""Deliveries on a Celery cluster: a message carries the name of a delivery, a task makes it as any worker does."""

try:
    from pulp_hooks.celery.carrying import carry_deliveries
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        f"pulp_hooks.celery needs {error.name}, which is not installed: install pulp-hooks[celery]", name=error.name
    ) from error

__all__ = ["carry_deliveries"]
