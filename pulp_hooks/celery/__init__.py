"""Deliveries on a Celery cluster: a message names a delivery, and a task makes it as a worker would."""

try:
    from pulp_hooks.celery.carrying import carry_deliveries
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        f"pulp_hooks.celery needs {error.name}, which is not installed; fix: `pip install 'pulp-hooks[celery]'`",
        name=error.name,
    ) from error

__all__ = ["carry_deliveries"]
