"""A limit on how many threads do something at a time, which no interruption can use up."""

from queue import Empty, SimpleQueue
from weakref import ref

from sqlalchemy.exc import TimeoutError as PoolTimeoutError


class Place:
    """The right to be one of them.

    Give it back to `Places`. If it was lost instead, because a signal handler raised an exception before it could be
    given back, it returns when the last reference to it is gone.
    """

    def __init__(self, free: "SimpleQueue[Place]") -> None:
        # Without a cycle the last reference is gone at once.
        self._free = ref(free)

    def __del__(self) -> None:
        free = self._free()
        if free is not None:
            free.put(Place(free))


class Places:
    """So many places.

    A semaphore is code in Python, in the middle of which a signal handler may raise an exception and leave it locked.
    A `SimpleQueue` is not.
    """

    def __init__(self, number: int) -> None:
        self._free: SimpleQueue[Place] = SimpleQueue()
        for _ in range(number):
            self._free.put(Place(self._free))

    def take(self, seconds: float) -> Place:
        """Return a place, as soon as one is free.

        Raises:
            PoolTimeoutError: All of them were taken.
        """
        try:
            return self._free.get(timeout=seconds)
        except Empty:
            raise PoolTimeoutError(f"no connection was free for {seconds} seconds") from None

    def give_back(self, place: Place) -> None:
        """Let another thread have a place."""
        self._free.put(place)
