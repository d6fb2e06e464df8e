"""The journal against a plain model of it: whatever happens, nothing is lost, stuck or delivered without reason."""

import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from sqlalchemy import delete, select

from pulp_hooks.event import Event
from pulp_hooks.event_types import EventType
from pulp_hooks.journal import schema
from pulp_hooks.journal.claims import NO_LIMITS, Claim, Result
from pulp_hooks.journal.journal import Journal
from pulp_hooks.journal.replay import Finished
from pulp_hooks.journal.schema import UNFINISHED, State

LEASE = 30.0
CLAIMABLE = {State.PENDING, State.RETRYING}
DELIVERIES = select(schema.delivery, schema.event.c.id).join(schema.event)
names = st.sampled_from(["a", "b"])
chances = st.randoms(use_true_random=False)


class Model(RuleBasedStateMachine):
    """Fires, claims, crashes and so on, in the journal and in dictionaries."""

    url: str
    body: dict[str, Any]

    def __init__(self) -> None:
        super().__init__()
        self.folder: tempfile.TemporaryDirectory[str] | None = None
        self.now = 1000.0
        self.states: dict[tuple[str, str], State] = {}
        self.holders: dict[tuple[str, str], Claim] = {}
        self.running: list[Claim] = []
        self.failed: set[tuple[str, str]] = set()
        self.disabled: set[str] = set()
        self.fired = 0

    @initialize()
    def begin(self) -> None:
        """Open an empty journal."""
        self.folder = tempfile.TemporaryDirectory()
        self.journal = Journal(self.url or f"sqlite:///{Path(self.folder.name) / 'journal.db'}")
        if self.url:
            with self.journal.backend.writing("empty it") as connection:
                for table in (schema.attempt, schema.delivery, schema.event, schema.listener):
                    connection.execute(delete(table))
            self.journal.close()

    @rule(wanted=st.sets(names), number=st.integers(1, 3), repo_id=st.sampled_from(["x", "y"]), ordered=st.booleans())
    def fire(self, wanted: set[str], number: int, repo_id: str, *, ordered: bool) -> None:
        """Append events of a repository."""
        for _ in range(number):
            self.fired += 1
            self.now += 1
            event_id = f"{self.fired:06d}"
            moment = datetime.fromtimestamp(self.now, UTC)
            body: Any = {**self.body, "repo_id": repo_id}
            event = Event(id=event_id, type=EventType.REPO_SYNC_FINISHED, time=moment, source="urn:test", body=body)
            keys = wanted if ordered else ()
            assert self.journal.append(event, sorted(wanted), now=self.now, ordered=keys)
            for name in wanted:
                self.states[event_id, name] = State.HELD if name in self.disabled else State.PENDING

    @rule(name=names, limit=st.integers(1, 3))
    def claim(self, name: str, limit: int) -> None:
        """Claim what is due longest, of an ordering key its first; nothing finished, held or leased is claimed."""
        expected = self.claimable(name)
        first = self.journal.queue.dues({name: NO_LIMITS}, now=self.now).get(name)
        assert (None if first is None else first.due) == min((row.due for row in expected), default=None)
        # What it is told of order leads to the same as a look at all of them.
        lot = self.journal.queue.claim(name, limit, LEASE, now=self.now, ordered=first is not None and first.is_ordered)
        due = sorted((row.due, row.id) for row in expected if row.due <= self.now)
        chosen, given = {event_id for _due, event_id in due[:limit]}, {claim.event_id for claim in lot}
        # Of what somebody may have died of one alone is given, and the others are as due as before.
        alone = any(claim.is_suspect for claim in lot)
        assert (len(lot) == 1 and given <= chosen) if alone else given == chosen
        assert not (lot and name in self.disabled)
        assert len(lot) <= limit
        for claim in lot:
            key = (claim.event_id, claim.listener)
            assert self.states[key] in CLAIMABLE
            self.holders[key] = claim
            self.running.append(claim)

    @rule(
        chance=chances,
        state=st.sampled_from([State.DELIVERED, State.DEAD, State.SKIPPED, State.RETRYING, State.PENDING]),
        is_attempt=st.booleans(),
    )
    def finish(self, chance: Any, state: State, *, is_attempt: bool) -> None:  # noqa: ANN401 - Hypothesis has no public type for it
        """Finish some claim, in time or late."""
        if not self.running:
            return
        claim = self.running.pop(chance.randrange(len(self.running)))
        due = self.now + chance.randrange(60) if state in CLAIMABLE else None
        error = "no" if state is State.RETRYING else None
        result = Result(claim, state, self.now, 1.0, "x", error, due, is_attempt=is_attempt)
        late = self.journal.queue.finish([result], now=self.now)
        key = (claim.event_id, claim.listener)
        if self.holders.get(key) == claim:
            assert late == []
            del self.holders[key]
            if state in CLAIMABLE and claim.listener in self.disabled:
                state = State.HELD
            # Without a failure it is what it was.
            self.states[key] = self.states[key] if state is State.PENDING else state
            if state is State.RETRYING or (state is State.HELD and error):
                self.failed.add(key)
        else:
            assert late == [claim]

    @rule(chance=chances)
    def give_back(self, chance: Any) -> None:  # noqa: ANN401 - Hypothesis has no public type for it
        """Release some claim, in time or late."""
        if not self.running:
            return
        claim = self.running.pop(chance.randrange(len(self.running)))
        late = self.journal.queue.release([claim], now=self.now)
        key = (claim.event_id, claim.listener)
        if self.holders.get(key) == claim:
            assert late == []
            del self.holders[key]
            self.states[key] = State.HELD if claim.listener in self.disabled else self.states[key]
        else:
            assert late == [claim]

    @rule()
    def crash(self) -> None:
        """Every worker dies, with all that it has claimed."""
        self.running.clear()

    @rule()
    def expire(self) -> None:
        """All leases end before anybody does anything else; the next to look claims at once."""
        self.now += 100
        for name in ("a", "b"):
            for claim in self.all_of(name):
                assert self.states[claim.event_id, claim.listener] in CLAIMABLE
                self.holders[claim.event_id, claim.listener] = claim
                self.running.append(claim)

    def all_of(self, name: str, *, delivers: bool = False) -> list[Claim]:
        """Claim all that can be claimed; what a worker may have died of comes one by one."""
        claims: list[Claim] = []
        while lot := self.journal.queue.claim(name, 1000, LEASE, now=self.now):
            assert len(lot) == 1 or not any(claim.is_suspect for claim in lot)
            claims += lot
            if delivers:
                results = [Result(claim, State.DELIVERED, self.now, 1.0, "x") for claim in lot]
                assert self.journal.queue.finish(results, now=self.now) == []
        return claims

    @rule(name=names)
    def disable(self, name: str) -> None:
        """Hold what no live worker has."""
        self.journal.disable(name, "test", now=self.now)
        self.disabled.add(name)
        for key, state in self.states.items():
            expired = key not in self.holders or self.due(key) is None
            if key[1] == name and state in CLAIMABLE and expired:
                self.states[key] = State.HELD
                self.holders.pop(key, None)

    @rule(name=names)
    def enable(self, name: str) -> None:
        """Let what was held come due again."""
        self.journal.enable(name, 10, now=self.now)
        if name in self.disabled:
            self.disabled.remove(name)
            for key, state in self.states.items():
                if key[1] == name and state is State.HELD:
                    self.states[key] = State.RETRYING if key in self.failed else State.PENDING
            for key in [key for key in self.holders if key[1] == name and self.lease(key) is None]:
                del self.holders[key]

    @rule(name=names, only=st.sampled_from([None, State.DEAD]))
    def replay_many(self, name: str, only: State | None) -> None:
        """Make finished deliveries again."""
        wanted = {only} if only else {State.DELIVERED, State.DEAD, State.SKIPPED}
        keys = [key for key, state in self.states.items() if key[1] == name and state in wanted]
        assert self.journal.replay_finished(Finished(name, states=wanted), now=self.now) == len(keys)
        for key in keys:
            self.states[key] = State.HELD if name in self.disabled else State.PENDING
            self.failed.discard(key)

    @rule()
    def forget(self) -> None:
        """Prune everything that is finished."""
        self.journal.prune(delivered_before=self.now + 1, dead_before=self.now + 1)
        self.states = {key: s for key, s in self.states.items() if s in UNFINISHED}

    def claimable(self, name: str) -> list[Any]:
        """Return the rows of a listener that may be claimed when they are due."""
        if name in self.disabled:
            return []
        query = DELIVERIES.where(schema.delivery.c.listener == name)
        with self.journal.backend.reading("look") as connection:
            rows = connection.execute(query.order_by(schema.delivery.c.event)).all()
        heads: dict[int, int] = {}
        for row in rows:
            if row.finished is None and row.ordering_key is not None:
                heads.setdefault(row.ordering_key, row.event)
        free = [row for row in rows if row.ordering_key is None or heads.get(row.ordering_key) == row.event]
        return [row for row in free if row.due is not None]

    def due(self, key: tuple[str, str]) -> float | None:
        """Return what the journal says of a delivery's due time."""
        return cast("float | None", self.row(key).due)

    def lease(self, key: tuple[str, str]) -> str | None:
        """Return what the journal says of a delivery's lease."""
        return cast("str | None", self.row(key).lease)

    def row(self, key: tuple[str, str]) -> Any:  # noqa: ANN401 - a row has the type of its columns
        """Return a delivery's row."""
        with self.journal.backend.reading("look") as connection:
            query = DELIVERIES.where(schema.event.c.id == key[0], schema.delivery.c.listener == key[1])
            return connection.execute(query).one()

    @invariant()
    def nothing_is_lost_or_stuck(self) -> None:
        """Every delivery is where the model has it; what waits has a time, nothing else has one; steps are attempts."""
        if self.folder is None:
            return
        with self.journal.backend.reading("look") as connection:
            rows = connection.execute(DELIVERIES).all()
        assert {(row.id, row.listener): State(row.state) for row in rows} == self.states
        for row in rows:
            assert (row.due is not None) == (row.state in CLAIMABLE)
            assert (row.finished is not None) == (row.state in {State.DELIVERED, State.DEAD, State.SKIPPED})
            assert row.lease is None or row.state in CLAIMABLE
            assert 0 <= row.step <= row.attempts

    def teardown(self) -> None:
        """At the end enable all, let all leases end: everything that waits can be delivered."""
        if self.folder is None:
            return
        for name in ("a", "b"):
            self.enable(name)
        self.now += 10_000
        waiting = {key for key, state in self.states.items() if state in CLAIMABLE}
        claimed = [claim for name in ("a", "b") for claim in self.all_of(name, delivers=True)]
        assert {(claim.event_id, claim.listener) for claim in claimed} == waiting
        self.journal.close()
        self.folder.cleanup()


def test_journal_does_what_its_model_does(url: str, body_of: Callable[..., dict[str, Any]]) -> None:
    """In any order of events, deaths and commands no delivery is lost, stuck, or made twice without a replay."""
    body = body_of(EventType.REPO_SYNC_FINISHED)
    machine = type("Machine", (Model,), {"url": url if "postgresql" in url else "", "body": body})
    run_state_machine_as_test(machine, settings=settings(max_examples=30, stateful_step_count=30, deadline=None))
