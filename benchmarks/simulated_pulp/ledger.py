"""Comparing the events that a watcher fired with those that were due."""

from collections import Counter

from benchmarks.simulated_pulp.tasks import LIFETIME, Due, Fleet, numbered
from pulp_hooks import EventType


class Ledger:
    """The events of one server, as a journal stores them: an event with a known id is dropped.

    Args:
        fleet: The tasks.
        server: Number of the server.
        begin: No events are due for tasks that ended before.
        begun: All events are due for tasks that end later. Those of tasks that ended in between are not compared.

    Attributes:
        events: Number of events due, as far as they were compared.
        lost: Number of those that were not fired.
        surplus: Number of events that were stored twice, or were not due.
        disordered: Number of tasks with all their events, but in another order.
    """

    def __init__(self, fleet: Fleet, server: int, begin: int, begun: int) -> None:
        self._fleet = fleet
        self._server = server
        self._begin = begin
        self._begun = begun
        self._next = fleet.created_before(begin - LIFETIME)
        self._fired: dict[str, dict[str, Due]] = {}
        self.events = self.lost = self.surplus = self.disordered = 0

    def add(self, event_id: str, operation_id: str, event_type: EventType, repo_id: str, result: str) -> bool:
        """Store an event; return whether its id is known."""
        task = operation_id.partition(":")[0]
        fired = self._fired.setdefault(task, {})
        is_known = event_id in fired
        fired.setdefault(event_id, Due(event_type, operation_id, repo_id, result))
        return is_known

    def compare(self, until: int) -> None:
        """Compare the events of the tasks that were created before a time and not compared yet."""
        for number in range(self._next, end := max(self._next, self._fleet.created_before(until))):
            task = self._fleet.task(self._server, number)
            fired = list(self._fired.pop(task.id, {}).values())
            if self._begin < task.committed <= self._begun:
                continue
            due = list(task.due()) if task.committed > self._begin else []
            lost, surplus = (Counter(due) - Counter(fired)).total(), (Counter(fired) - Counter(due)).total()
            self.events += len(due)
            self.lost += lost
            self.surplus += surplus
            self.disordered += not lost and not surplus and fired != due
        self._next = end
        for task_id in [one for one in self._fired if numbered(one) < end]:
            self.surplus += len(self._fired.pop(task_id))
