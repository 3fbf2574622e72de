"""The top-k engine: :mod:`hdl.orizuru.loader`, ``popper``, and when the selectors have their winners."""

from collections.abc import Mapping
from typing import Any

from golden.orizuru.engine import OrizuruSpec
from golden.soc.cycles.channels import Sink, Source
from golden.soc.cycles.parts import Clock, Queue
from golden.soc.cycles.unit import Unit


class Selector:
    """From the exchange of a vector to its winners, tree by tree."""

    def __init__(self, clock: Clock, spec: OrizuruSpec):
        self.clock, self.spec = clock, spec
        self.period = {"systolic": 2, "unit16": 2, "level": spec.depth}.get(spec.variant, 1)
        self._from = [0] * spec.trees  # when each has its next winner

    def winner(self, tree: int) -> bool:
        return self.clock.now >= self._from[tree]

    @property
    def holds(self) -> bool:
        """No beat may be written."""
        return False

    def cycle(self, swap: bool, taken: list[int]) -> None:
        """After the winners of some trees were taken."""
        now = self.clock.now
        for tree in taken:
            self._from[tree] = now + self.period
        if swap:
            self._from = [now + 1 + self.spec.timing.fill] * self.spec.trees


class Refilled(Selector):
    """Variant ``memory``: a row is read again after its winner was taken, one row in two cycles."""

    def __init__(self, clock: Clock, spec: OrizuruSpec):
        super().__init__(clock, spec)
        self._waiting: list[int] = []
        self._refills = -2  # the last cycle in which a row was read again

    @property
    def holds(self) -> bool:
        return bool(self._waiting) and self.clock.now > self._refills + 1

    def cycle(self, swap: bool, taken: list[int]) -> None:
        now = self.clock.now
        if self.holds and not swap:
            tree = self._waiting.pop(0)
            self._refills = now
            self._from[tree] = now + self.spec.timing.settle
        self._waiting = [] if swap else sorted(self._waiting + taken)
        for tree in taken:
            self._from[tree] = now + (1 << 62)
        if swap:
            self._from = [now + 1] * self.spec.trees


class Core:
    """The engine between its skid buffers ``i``, ``cfg`` and ``o``: items of ``i`` say whether they end a vector, those
    of ``cfg`` how many results it has, those of ``o`` whether they are the last."""

    def __init__(self, clock: Clock, spec: OrizuruSpec, i: Queue, cfg: Queue, o: Queue):
        self.clock, self.spec, self.timing = clock, spec, spec.timing
        self.i, self.cfg, self.o = i, cfg, o
        self.selector = (Refilled if spec.variant == "memory" else Selector)(clock, spec)
        self._full = False
        self._write = 0  # from when on the next beat may be written
        self._settled = 0  # from when on the vector may be exchanged
        self._busy = False
        self._left = self._number = 0

    def cycle(self) -> None:
        now, timing, spec = self.clock.now, self.timing, self.spec
        lanes = 1 + spec.pair
        # results
        taken: list[int] = []
        free = not self._busy
        if self._busy and self.o.ready:
            those = range(min(lanes, self._left))
            trees = [lane if spec.pair else self._number % spec.trees for lane in those]
            if all(self.selector.winner(tree) for tree in trees):
                last = self._left <= lanes
                self.o.push(last)
                taken = trees
                self._left -= lanes
                self._number += 1
                self._busy, free = not last, last
        # exchange
        swap = self._full and now >= self._settled and self.cfg.valid and free
        if swap:
            self._left, self._number, self._busy = self.cfg.pop(), 0, True
        # keys
        holds = (self.selector.holds and not swap) or now < self._write
        if self.i.valid and (not self._full or swap) and not holds:
            self._full = self.i.pop()
            self._write = now + timing.load
            self._settled = now + timing.settle
        elif swap:
            self._full = False
        self.selector.cycle(swap, taken)


class TopK(Unit):
    """The unit."""

    def __init__(self, clock: Clock, spec: OrizuruSpec):
        self.spec = spec
        self.skids = {port.name: Queue(clock) for port in spec.ports}
        self.core = Core(clock, spec, *(self.skids[name] for name in ("i", "cfg", "o")))

    def begin(self, job: Any, sources: Mapping[str, Source], sinks: Mapping[str, Sink]) -> None:
        self._beats = max(1, -(-len(job.keys) // self.spec.lanes))
        self._results = self.spec.results(int(job.mask[: self.spec.n].sum()), job.k)
        self._sources, self._o = sources, sinks["o"]

    def cycle(self, complete: bool) -> None:
        o = self.skids["o"]
        if o.valid and self._o.ready:
            self._o.put()
            o.pop()
        self.core.cycle()
        for name, source in self._sources.items():
            if source.valid and self.skids[name].ready:
                source.take()
                if name == "i":
                    self._beats -= 1
                self.skids[name].push(not self._beats if name == "i" else self._results)
