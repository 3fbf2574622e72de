"""Which experts are resident: the decisions of an expert cache, without time.

Requests come in lists, in one order: *hints* name experts that may be needed (prefetch), *needs* those that are. Every
decision follows from the lists alone, never from when a load ends: a place that is still loaded or in use is waited
for, not passed over. So the model counts exactly what the unit ``expert_cache`` counts under any memory.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from golden.spec import SpecError

POLICIES = ("fifo", "lru", "residency")
"""What a unit can do: evict the oldest load; the oldest use; all that a list of hints does not name, else the oldest
load."""

BELADY = "belady"
"""The bound, which knows the future: what is needed last is evicted. Nothing is prefetched."""


class KeyList(NamedTuple):
    """Keys in order of (first) use; ``need``: they are needed now, else they may be. ``pins``: those that stay."""

    keys: Sequence[int]
    need: bool = True
    pins: frozenset[int] = frozenset()


class Decision(NamedTuple):
    """About one key of a list. ``slot`` is ``None`` for a hint that is dropped; ``miss``: a load begins; ``evicted``:
    the key whose place it takes."""

    key: int
    slot: int | None
    miss: bool
    evicted: int | None = None


@dataclass
class Counts:
    """``hits`` and ``misses`` of needs; ``prefetched``: loads of hints; ``useless``: those of them that were evicted
    before a need; ``dropped``: hints that found no place; ``evictions``; ``refused`` pins: one place must be left."""

    hits: int = 0
    misses: int = 0
    prefetched: int = 0
    useless: int = 0
    dropped: int = 0
    evictions: int = 0
    refused: int = 0

    @property
    def loads(self) -> int:
        return self.misses + self.prefetched

    @property
    def hit_rate(self) -> float:
        """Of all needs; 0 of none."""
        return self.hits / max(1, self.hits + self.misses)


@dataclass
class Residency:
    """``slots`` places for experts, and who goes when one is wanted.

    Victim      an empty place; else the first, in the order of ``policy``, that is neither pinned, nor protected, nor
                of the last list of needs; else the first that is neither pinned nor protected.
    Protected   of a list of needs: what stands among its first ``free`` keys and is not decided yet, ``free`` being the
                places that are not pinned. So with ``free`` needs or fewer none of the list is evicted before its turn;
                a longer list goes through the cache in waves. Of a list of hints: all that it names. A hint without a
                victim is dropped; a need always has one.
    Order       ``fifo`` and ``residency``: of loads; ``lru``: of loads and needs. A hint is no use.
    Pins        a key of ``pins`` stays once it is resident; a pin that would leave no place is refused.

    ``SpecError`` for an unknown policy or less than one slot.
    """

    slots: int
    policy: str = "lru"
    counts: Counts = field(default_factory=Counts)

    def __post_init__(self) -> None:
        if self.slots < 1:
            raise SpecError(f"slots must be at least 1, not {self.slots}")
        if self.policy not in (*POLICIES, BELADY):
            raise SpecError(f"policy must be one of {', '.join((*POLICIES, BELADY))}, not {self.policy!r}")
        self.keys: list[int | None] = [None] * self.slots
        self.order = list(range(self.slots))
        self.pinned: set[int] = set()
        self.protected: set[int] = set()
        self.recent: set[int] = set()
        self.fresh: set[int] = set()

    def decide(self, one: KeyList) -> list[Decision]:
        """The decisions about one list, in its order."""
        free = self.slots - len(self.pinned)
        kept = one.keys[:free] if one.need else one.keys
        self.protected = {slot for slot, key in enumerate(self.keys) if key is not None and key in kept}
        if one.need:
            self.recent = set()
        elif self.policy == "residency":
            self._sweep()
        return [(self._need if one.need else self._hint)(key, key in one.pins) for key in one.keys]

    def _sweep(self) -> None:
        """The published code: what is resident and not predicted goes, before anything is loaded."""
        for slot, key in enumerate(self.keys):
            if key is not None and slot not in self.pinned | self.protected:
                self._evict(slot)

    def _need(self, key: int, pin: bool) -> Decision:
        if key in self.keys:
            slot = self.keys.index(key)
            decision = Decision(key, slot, False)
            self.counts.hits += 1
            if self.policy == "lru":
                self._touch(slot)
        else:
            found = self._victim()
            assert found is not None  # fewer are protected than there are places
            decision = self._load(key, found)
            slot = found
            self.counts.misses += 1
        self.protected.discard(slot)
        self.fresh.discard(slot)
        self.recent.add(slot)
        self._pin(slot, pin)
        return decision

    def _hint(self, key: int, pin: bool) -> Decision:
        if key in self.keys:
            slot = self.keys.index(key)
            self._pin(slot, pin)
            return Decision(key, slot, False)
        found = self._victim()
        if found is None:
            self.counts.dropped += 1
            return Decision(key, None, False)
        decision = self._load(key, found)
        self.counts.prefetched += 1
        self.protected.add(found)
        self.fresh.add(found)
        self._pin(found, pin)
        return decision

    def _victim(self) -> int | None:
        for slot in self.order:
            if self.keys[slot] is None:
                return slot
        possible = [slot for slot in self.order if slot not in self.pinned | self.protected]
        return next((slot for slot in possible if slot not in self.recent), possible[0] if possible else None)

    def _load(self, key: int, slot: int) -> Decision:
        evicted = self.keys[slot]
        if evicted is not None:
            self._evict(slot)
        self.keys[slot] = key
        self._touch(slot)
        return Decision(key, slot, True, evicted)

    def _evict(self, slot: int) -> None:
        self.counts.evictions += 1
        self.counts.useless += slot in self.fresh
        self.keys[slot] = None
        self.fresh.discard(slot)
        self.recent.discard(slot)

    def _touch(self, slot: int) -> None:
        self.order.remove(slot)
        self.order.append(slot)

    def _pin(self, slot: int, pin: bool) -> None:
        if not pin or slot in self.pinned:
            return
        if len(self.pinned) == self.slots - 1:
            self.counts.refused += 1
        else:
            self.pinned.add(slot)


class Belady(Residency):
    """Knows all needs that follow, key by key: of the victims that are allowed the one needed last, or never, goes."""

    def __init__(self, slots: int, needs: Sequence[int]):
        super().__init__(slots, BELADY)
        self._uses: dict[int, list[int]] = {}
        for at in reversed(range(len(needs))):
            self._uses.setdefault(needs[at], []).append(at)

    def _need(self, key: int, pin: bool) -> Decision:
        decision = super()._need(key, pin)
        self._uses[key].pop()
        return decision

    def _victim(self) -> int | None:
        if None in self.keys:
            return self.keys.index(None)
        return max((s for s in range(self.slots) if s not in self.pinned | self.protected), key=self._next)

    def _next(self, slot: int) -> float:
        key = self.keys[slot]
        assert key is not None
        later = self._uses.get(key)
        return later[-1] if later else float("inf")


def replay(lists: Iterable[KeyList], slots: int, policy: str) -> Counts:
    """What a cache counts over a run of lists, from empty.

    ``belady`` looks at the needs alone, in order, each decided by itself (a list protects nothing): with one key at a
    time and no prefetch no policy has fewer misses. ``SpecError`` as :class:`Residency`.
    """
    if policy != BELADY:
        cache = Residency(slots, policy)
        for one in lists:
            cache.decide(one)
        return cache.counts
    needs = [key for one in lists if one.need for key in one.keys]
    bound = Belady(slots, needs)
    for key in needs:
        bound.decide(KeyList([key]))
    return bound.counts
