"""Queues and registers, cycle by cycle: they show what stands there at the beginning of a cycle, and change at its
end."""

from collections import deque
from typing import Any, Protocol


class Part(Protocol):
    """What may change at the end of a cycle."""

    def tick(self) -> None: ...


class Clock:
    """Counts cycles, and ends them for the parts in which something has happened."""

    def __init__(self) -> None:
        self.now = 0
        self._touched: list[Part] = []

    def touch(self, part: Part) -> None:
        self._touched.append(part)

    def tick(self) -> None:
        touched, self._touched = self._touched, []
        for part in touched:
            part.tick()
        self.now += 1


class Queue:
    """:class:`hdl.stream.fifo.StreamFIFO`; of two places also :class:`hdl.stream.skid.Skid`."""

    def __init__(self, clock: Clock, depth: int = 2):
        self.depth = depth
        self.ready, self.valid = True, False
        self._clock = clock
        self._items: deque[Any] = deque()
        self._new: list[Any] = []

    @property
    def head(self) -> Any:
        return self._items[0]

    def push(self, item: Any = None) -> None:
        self._new.append(item)
        self._clock.touch(self)

    def pop(self) -> Any:
        self._clock.touch(self)
        return self._items.popleft()

    def tick(self) -> None:
        self._items += self._new
        self._new.clear()
        self.valid, self.ready = bool(self._items), len(self._items) < self.depth


class Block:
    """:class:`hdl.stream.fifo.BlockFIFO`, of items that are all alike."""

    def __init__(self, clock: Clock, depth: int):
        self.ready, self.valid = True, False
        self._clock = clock
        self._most = depth - 1
        self._inside = 0  # the head's register not counted
        self._pushed = self._popped = self._touched = False

    def push(self) -> None:
        self._pushed = True
        self._touch()

    def pop(self) -> None:
        self._popped = True
        self._touch()

    def _touch(self) -> None:
        if not self._touched:
            self._touched = True
            self._clock.touch(self)

    def tick(self) -> None:
        moves = self._inside > 0 and (not self.valid or self._popped)
        self.valid = moves or (self.valid and not self._popped)
        self._inside += self._pushed - moves
        self.ready = self._inside < self._most
        self._pushed = self._popped = self._touched = False
        if self._inside:
            self._touch()


class Register:
    """A number."""

    def __init__(self, clock: Clock, value: int = 0):
        self.value = self._next = value
        self._clock = clock

    def add(self, change: int) -> None:
        self.set(self._next + change)

    def set(self, value: int) -> None:
        self._next = value
        self._clock.touch(self)

    def tick(self) -> None:
        self.value = self._next


class Delay:
    """Items that come again so many cycles later, one per cycle at most."""

    def __init__(self, clock: Clock, cycles: int):
        self._clock, self._cycles = clock, cycles
        self._items: deque[tuple[int, Any]] = deque()

    def push(self, item: Any = True) -> None:
        self._items.append((self._clock.now + self._cycles, item))

    def pop(self) -> Any:
        """What comes in this cycle, or ``None``; to be called in every cycle."""
        return self._items.popleft()[1] if self._items and self._items[0][0] == self._clock.now else None
