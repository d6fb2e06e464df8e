"""The watcher: sees the syncs and publishes of Pulp 3 servers through their REST API, and fires their events."""

from pulp_hooks.hosts.pulp3.events import PulpEvent
from pulp_hooks.hosts.pulp3.position import StateFolder
from pulp_hooks.hosts.pulp3.watcher import Watcher

__all__ = ["PulpEvent", "StateFolder", "Watcher"]
