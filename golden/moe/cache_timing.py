"""When things happen in ``expert_cache``: cycle by cycle, with sources always valid and sinks always ready."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, NamedTuple

from golden import latency
from golden.moe.residency import Decision, KeyList, Residency

if TYPE_CHECKING:
    from golden.moe.cache import ExpertCacheSpec


class Load(NamedTuple):
    """As ``dma`` names it, its number from 0 on."""

    number: int
    slot: int
    key: int


@dataclass
class Moment:
    """A run: entries that come, lengths of those kept, lists with which of their beats are taken, faults by number."""

    entries: int
    lengths: Sequence[int]
    lists: Sequence[tuple[KeyList, Sequence[bool]]]
    bad: frozenset[int]
    lost: frozenset[int]


class Grant(NamedTuple):
    last: bool
    key: int
    slot: int
    valid: int
    miss: int
    late: int


class Clockwork:
    """Plays runs; afterwards ``grants`` (last, then the fields), ``loads``, ``stats`` and ``failed`` (key, whether by
    the timeout) say what came in which order, ``last`` in which cycle the last of it went out.

    ``memory(cycle, length)``: the first cycle in which the fill of a load, asked for in ``cycle``, is there; by default
    every fill is there before. ``work``: cycles from a grant to its ``done``, both inside the skid buffers.
    ``in_turn``: a list of needs comes when all jobs before it are done, as in a network, layer after layer; else
    everything is there.
    """

    def __init__(
        self,
        spec: "ExpertCacheSpec",
        runs: Sequence[Moment],
        memory: Callable[[int, int], int] = lambda cycle, length: 0,
        work: int = 0,
        in_turn: bool = False,
    ):
        self.spec = spec
        self.memory = memory
        self.work = work
        self.in_turn = in_turn
        self.cycle = 0
        self.last = 0
        self.grants: list[tuple[int, ...]] = []
        self.loads: list[Load] = []
        self.stats: list[tuple[int, ...]] = []
        self.failed: list[tuple[int, bool]] = []
        self.refused = 0
        self._next: list[Callable[[], object]] = []
        self.granting: deque[Grant] = deque()
        self._begin(None)
        control = self._control(runs)
        for self.cycle in count(latency.SKID):
            busy = next(control, None) is not None
            self._issue()
            self._fill()
            self._grant()
            self._done()
            for change in self._next:
                change()
            self._next.clear()
            if not busy and not self.granting and not self.working:
                return

    def _begin(self, run: Moment | None) -> None:
        """All places empty."""
        self.run = run
        self.policy = Residency(self.spec.slots, self.spec.policy)
        self.key = [-1] * self.spec.slots
        self.loading = [False] * self.spec.slots
        self.ready = [False] * self.spec.slots
        self.queued = [False] * self.spec.slots
        self.use = [0] * self.spec.slots
        self.needs: deque[int] = deque()
        self.hints: deque[int] = deque()
        self.pending: deque[tuple[Load, int]] = deque()
        self.working: deque[tuple[int, int]] = deque()
        self.number = 0
        self.tried = False
        self.waited = self.oldest = 0

    def _then(self, change: Callable[[], object]) -> None:
        """At the end of the cycle."""
        self._next.append(change)

    def _control(self, runs: Sequence[Moment]) -> Iterator[bool]:
        """Everything serial: a value per cycle."""
        for run in runs:
            for _ in range(run.entries - 1):
                yield True
            self._then(lambda run=run: self._begin(run))  # type: ignore[misc]
            yield True
            self._since, self._beats = (0, 0, 0, 0), 0
            for one, taken in run.lists:
                yield from self._list(one, taken)
            while any(self.loading) or any(self.use) or self.needs or self.hints:
                yield True
            yield True

    def _list(self, one: KeyList, taken: Sequence[bool]) -> Iterator[bool]:
        slots = self.spec.slots
        while one.need and self.in_turn and (self.working or any(need.valid for need in self.granting)):
            yield True
        for took in taken:
            yield from [True] * (1 + slots * took)
        yield True
        counts = self.policy.counts
        before = (counts.hits, counts.misses)
        resident = [None if slot in self.policy.pinned else key for slot, key in enumerate(self.policy.keys)]
        decisions = self.policy.decide(one)
        late, beats = 0, 0
        if not one.need and self.spec.policy == "residency":
            yield from self._swept(resident, one)
        for decision in decisions:
            yield from [True] * (slots + 1)
            while not self._possible(decision, one.need):
                yield True
            late += self._decide(decision, one.need, decision is decisions[-1])
            beats += self._length(decision)
            yield True
        self._beats += beats
        if one.need:
            if not one.keys:
                while len(self.granting) >= self.spec.queue:
                    yield True
                self._then(lambda: self.granting.append(Grant(True, 0, 0, 0, 0, 0)))
            self._count(counts.hits - before[0], counts.misses - before[1], late)
        yield True
        self.refused = max(self.refused, counts.refused)

    def _swept(self, resident: Sequence[int | None], one: KeyList) -> Iterator[bool]:
        """Places that the list of hints does not name, one after another."""
        for slot, key in enumerate(resident):
            gone = key is not None and key not in one.keys
            while gone and (self.loading[slot] or self.use[slot]):
                yield True
            yield True

    def _length(self, decision: Decision) -> int:
        assert self.run
        return self.run.lengths[decision.key] if decision.miss else 0

    def _count(self, hits: int, misses: int, late: int) -> None:
        c = self.policy.counts
        now = (c.prefetched, c.useless, c.dropped, c.evictions)
        since = [(a - b) % (1 << 16) for a, b in zip(now, self._since, strict=True)]
        self.stats.append((hits, misses, late, *since, self._beats % (1 << 32)))
        self._since, self._beats = now, 0
        self.last = self.cycle

    def _possible(self, decision: Decision, need: bool) -> bool:
        """In this cycle: there is room in the queues, the victim is loaded and out of use."""
        slot = decision.slot
        if slot is None:
            return True
        free = not decision.miss or not (self.loading[slot] or self.use[slot])
        if not need:
            return free and (not decision.miss or len(self.hints) < max(2, self.spec.slots))
        return free and len(self.granting) < self.spec.queue

    def _decide(self, decision: Decision, need: bool, last: bool) -> int:
        """Returns whether it is late."""
        slot = decision.slot
        if slot is None:
            return 0
        late = need and not decision.miss and self.loading[slot]
        queue = self.needs if need else self.hints
        if decision.miss:
            self.key[slot] = decision.key
            self._then(lambda: self._set(slot, loading=True, queued=True, ready=False))
            self._then(lambda: queue.append(slot))
        elif need and self.queued[slot]:
            self._then(lambda: queue.append(slot))
        if need:
            grant = Grant(last, decision.key, slot, 1, int(decision.miss), int(late))
            self._then(lambda: self.granting.append(grant))
            self._then(lambda: self._use(slot, 1))
        return int(late)

    def _set(self, slot: int, **values: bool) -> None:
        for name, value in values.items():
            getattr(self, name)[slot] = value

    def _use(self, slot: int, change: int) -> None:
        self.use[slot] += change

    def _issue(self) -> None:
        """A load goes out: one to be tried again, else a need's, else a hint's; what is queued twice goes once."""
        again = self._again()
        room = len(self.pending) < self.spec.outstanding
        if again is not None and room:
            self._then(lambda: setattr(self, "tried", True))
            self._go(again)
        may = room and again is None
        for queue, turn in ((self.needs, may), (self.hints, may and not self.needs)):
            if queue and self.queued[queue[0]] and turn:
                self._go(queue[0])
            if queue and (turn or not self.queued[queue[0]]):
                self._then(queue.popleft)

    def _go(self, slot: int) -> None:
        assert self.run
        load = Load(self.number, slot, self.key[slot])
        self.loads.append(load)
        self.number += 1
        self.last = max(self.last, self.cycle)
        there = self.memory(self.cycle, self.run.lengths[load.key])
        self._then(lambda: self.pending.append((load, there)))
        self._then(lambda: self._set(slot, loading=True, queued=False))

    def _again(self) -> int | None:
        """The slot of the next grant, when its load has failed for the first time."""
        if not self.granting or not self.granting[0].valid or self.tried:
            return None
        slot = self.granting[0].slot
        return None if self.ready[slot] or self.loading[slot] else slot

    def _fill(self) -> None:
        if not self.pending:
            return
        assert self.run
        load, there = self.pending[0]
        came = load.number not in self.run.lost and there <= self.cycle
        expired = self.spec.timeout > 0 and self.oldest == self.spec.timeout - 1
        self._then(lambda: setattr(self, "oldest", 0 if came or expired else self.oldest + 1))
        if not came and not expired:
            return
        ok = came and load.number not in self.run.bad
        if not ok:
            self.failed.append((load.key, not came))
        self._then(self.pending.popleft)
        self._then(lambda: self._set(load.slot, loading=False, ready=ok))

    def _grant(self) -> None:
        if not self.granting:
            return
        head = self.granting[0]
        failed = bool(head.valid) and not self.ready[head.slot] and not self.loading[head.slot] and self.tried
        if head.valid and not self.ready[head.slot] and not failed:
            self._then(lambda: setattr(self, "waited", min(self.waited + 1, (1 << 24) - 1)))
            return
        if head.valid and len(self.working) >= self.spec.queue:
            return
        self.grants.append((*head, int(failed), self.waited))
        self.last = max(self.last, self.cycle)
        self._then(self.granting.popleft)
        self._then(lambda: setattr(self, "waited", 0))
        self._then(lambda: setattr(self, "tried", False))
        if head.valid:
            done = self.cycle + self.work
            self._then(lambda: self.working.append((head.slot, done)))

    def _done(self) -> None:
        if self.working and self.working[0][1] <= self.cycle:
            slot, _ = self.working[0]
            self._then(self.working.popleft)
            self._then(lambda: self._use(slot, -1))
