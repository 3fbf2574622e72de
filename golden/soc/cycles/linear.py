"""A K-Means linear layer, :mod:`hdl.layers.kmeans_linear`: one token at a time, as jobs do not overlap."""

from collections import deque
from collections.abc import Mapping
from typing import NamedTuple

from golden import latency
from golden.kmeans.linear import ACCUMULATE, STAGES, KMeansLinearSpec, LinearToken
from golden.kmeans.lutgemm import LutGemmSpec
from golden.soc.cycles.channels import Sink, Source
from golden.soc.cycles.parts import Block, Clock, Delay, Queue, Register
from golden.soc.cycles.topk import Core
from golden.soc.cycles.unit import Unit
from golden.soc.descriptor import Entry
from golden.soc.kinds import ASKED_AHEAD, Lane

EXPONENTS = 4
"""Places for exponents on each path."""

INDICES = 4
"""Cycles from a token's last indices to their place in the memory of the main path: skid buffers, collected."""


class Mark(NamedTuple):
    """What is under way in a stage of the pipeline."""

    ends_group: bool = False
    ends: bool = False


class Main:
    """The index GEMM, up to the queue behind it: :mod:`hdl.kmeans.sequencer` and what it drives."""

    def __init__(self, clock: Clock, spec: LutGemmSpec, sums: Block):
        self.spec, self.sums = spec, sums
        self.w, self.lut, self.cfg = Queue(clock), Queue(clock), Queue(clock)
        self.full = Register(clock)  # the token's indices are there
        self._table = 0  # its beats that have come
        self._running = False
        self._fetched: Mark | None = None
        self._under_way: deque[Mark | None] = deque([None] * spec.pipeline.front)
        self._reduce = 0  # cycles for which the sums that were handed on are in use
        depth = spec.back + 3
        self._credit = Register(clock, depth)
        self._results = Delay(clock, spec.back - spec.reduce - 1)
        self._queue, self._out = Queue(clock, depth), Queue(clock)

    def prepare(self, job: LinearToken, rows: int, groups: int) -> None:
        self._load, self._rows, self._groups = job.load, rows, groups

    def cycle(self) -> None:
        self._leave()
        table_full = self._table == self.spec.lut_beats
        oldest = self._under_way[0]
        busy, last = self._reduce > 0, self._reduce == 1
        free = not busy or last
        waiting = oldest is not None and oldest.ends_group
        hand_on = waiting and free and self._credit.value > 0
        go = not waiting or hand_on
        idle = free and not self._running and self._fetched is None and not any(self._under_way)
        begins = not self._running and self.full.value and self.cfg.valid and (not self._load or (idle and table_full))
        if last:
            self._results.push()
        if self._results.pop():
            self._queue.push()
        self._reduce = self.spec.reduce if hand_on else max(0, self._reduce - 1)
        if hand_on:
            self._credit.add(-1)
        step = self._fetched if go and self.w.valid else None
        read = self._read() if self._running and (self._fetched is None or step) else None
        if step:
            self.w.pop()
            self._fetched = None
        self._fetched = read or self._fetched
        if go:
            self._under_way.popleft()
            self._under_way.append(step)
        if begins:
            self.cfg.pop()
            self._running, self._row, self._group = True, 0, 0
        if begins and self._load:
            self._table = 0
        elif self.lut.valid and not table_full:
            self.lut.pop()
            self._table += 1

    def _read(self) -> Mark:
        """The next row of indices."""
        self._row += 1
        ends_group = self._row == self._rows
        if ends_group:
            self._row, self._group = 0, self._group + 1
        ends = ends_group and self._group == self._groups
        if ends:
            self._running = False
            self.full.set(0)
        return Mark(ends_group, ends)

    def _leave(self) -> None:
        if self._out.valid and self.sums.ready:
            self._out.pop()
            self.sums.push()
        if self._queue.valid and self._out.ready:
            self._queue.pop()
            self._out.push()
            self._credit.add(1)


class Side:
    """Outliers to their sums: :mod:`hdl.kmeans.compensate`."""

    def __init__(self, clock: Clock, spec: KMeansLinearSpec, cfg: Queue, exponent: Queue):
        self.cfg, self.exponent = cfg, exponent
        self.outliers = Queue(clock, 2 * spec.outliers + 2)
        self.fetch, self.col = Queue(clock), Queue(clock)
        self.full = Register(clock)
        self._through = False
        self._stages: list[tuple[bool, bool] | None] = [None] * STAGES  # of residuals: there is one, the last
        self._row = self._gap = 0
        self._ended = Delay(clock, ACCUMULATE - 1)

    def prepare(self, rows: int, channels: list[int]) -> None:
        self._rows, self._channels = rows, deque(channels)

    def cycle(self) -> None:
        may = self.cfg.valid and self.exponent.valid and not self._through and not self.full.value
        done = self._ended.pop()
        leaves = self._column()
        none = self._stages[-1] is not None and not self._stages[-1][0]
        self._shift(leaves, may)
        if done or none:
            self.cfg.pop()
            self.exponent.pop()
            self.full.set(1)
            self._through = False

    def _column(self) -> bool:
        """A row of the outlier's column. Returns that it leaves."""
        now, gap = self._stages[-1], self._gap
        self._gap = max(0, gap - 1)
        if now is None:
            return True
        there, last = now
        if not there or not self.col.valid or gap:
            return not there
        self.col.pop()
        self._row += 1
        if self._row < self._rows:
            return False
        self._gap = max(0, ACCUMULATE - self._rows)
        self._row = 0
        if last:
            self._ended.push()
        return True

    def _shift(self, leaves: bool, may: bool) -> None:
        """Residuals go on, and an outlier enters."""
        goes = leaves
        for stage in reversed(range(STAGES)):
            goes = goes or self._stages[stage] is None
            if goes:
                self._stages[stage] = self._stages[stage - 1] if stage else None
                if stage:
                    self._stages[stage - 1] = None
        if not (goes and may and self.outliers.valid):
            return
        valid, last = self.outliers.head
        if valid and not self.fetch.ready:
            return
        self.outliers.pop()
        if valid:
            self.fetch.push(self._channels.popleft())
        self._stages[0] = (valid, last)
        self._through = last


class Linear(Unit):
    """The unit."""

    def __init__(self, clock: Clock, spec: KMeansLinearSpec):
        self.clock, self.spec = clock, spec
        # orizuru and quantizer
        self._keys, self._k, self._ranks = Queue(clock), Queue(clock), Queue(clock)
        self._core = Core(clock, spec.engine, self._keys, self._k, self._ranks)
        self._row, self._book, self._cfg = Queue(clock), Queue(clock), Queue(clock)
        self._ready = -1  # when the token's scale is there
        self._exponent = Queue(clock)
        self._exponents = [Queue(clock, EXPONENTS) for _ in range(2)]
        self._indices = -1  # when they are all there
        self._sums = Block(clock, spec.groups + 4)
        self._main = Main(clock, spec.gemm, self._sums)
        self._side = Side(clock, spec, self._cfg, self._exponents[0])
        self._merged: list[bool] = [False, False]  # both stages
        self._scl, self._o = Queue(clock), Queue(clock)
        under_way = spec.scaling - latency.QUEUE
        self._credit = Register(clock, under_way + latency.QUEUE + 2)
        self._scaled, self._results = Delay(clock, under_way), Queue(clock, under_way + latency.QUEUE + 2)
        self._asked = Queue(clock, ASKED_AHEAD)

    def begin(self, job: LinearToken, sources: Mapping[str, Source], sinks: Mapping[str, Sink]) -> None:
        spec = self.spec
        self._sources, self._sinks = sources, sinks
        self._beats = self._left = max(1, -(-len(job.x) // spec.lanes))
        self._count = spec.engine.results(int(job.mask.sum()), job.k)
        self._groups = self._merging = -(-len(job.weights) // spec.lines)
        self._main.prepare(job, -(-max(len(job.x), 1) // spec.codes), self._groups)
        rows = -(-self._groups // spec.macs)
        self._side.prepare(rows, [int(channel) for channel in spec.chosen(job)])

    def asks(self, lane: Lane, entry: Entry, source: Source) -> None:
        source.follow(lane.slot, self._asked, entry.address)
        self._column = entry.beats

    def cycle(self, complete: bool) -> None:
        self._scale()
        self._merge()
        self._main.cycle()
        self._outliers(complete)
        self._quantize()
        self._in()

    def _scale(self) -> None:
        """Sums to results."""
        if self._o.valid and self._sinks["o"].ready:
            self._o.pop()
            self._sinks["o"].put()
        if self._results.valid and self._o.ready:
            self._results.pop()
            self._o.push()
            self._credit.add(1)
        if self._scaled.pop():
            self._results.push()

    def _merge(self) -> None:
        """Both paths, as soon as the outliers are through."""
        takes = self._merged[1] and self._scl.valid and self._credit.value > 0
        if takes:
            self._scl.pop()
            self._credit.add(-1)
            self._scaled.push()
        if self._merged[1] and not takes:
            return
        if self._merged[0] and not self._merging:
            self._side.full.set(0)
        self._merged[1], self._merged[0] = self._merged[0], False
        if self._sums.valid and self._exponents[1].valid and self._side.full.value and self._merging:
            self._sums.pop()
            self._merging -= 1
            self._merged[0] = True
            if not self._merging:
                self._exponents[1].pop()

    def _outliers(self, complete: bool) -> None:
        side = self._side
        if complete and side.fetch.valid and self._asked.ready:
            self._asked.push((side.fetch.pop() * self._column, self._column))
        side.cycle()
        if self._ranks.valid and side.outliers.ready:
            side.outliers.push((self._count > 0, self._ranks.pop()))
        self._core.cycle()

    def _quantize(self) -> None:
        """The token's scale; then its indices, a row per cycle; nothing holds them up."""
        now, quantizer = self.clock.now, self.spec.quantizer
        if self._exponent.valid and all(queue.ready for queue in self._exponents):
            self._exponent.pop()
            for queue in self._exponents:
                queue.push()
        if now == self._indices:
            self._main.full.set(1)
        if self._book.valid and self._exponent.ready and 0 <= self._ready <= now:
            self._book.pop()
            self._exponent.push()
            self._ready = -1
            self._indices = now + quantizer.path + self._beats - 1 + INDICES - 1
        if self._row.valid and self._row.pop():
            self._ready = now + quantizer.settle

    def _in(self) -> None:
        sources = self._sources
        direct = {"w": self._main.w, "lut": self._main.lut, "scl": self._scl, "col": self._side.col}
        for name, queue in direct.items():
            if name in sources and sources[name].valid and queue.ready:
                sources[name].take()
                queue.push()
        if sources["i"].valid and self._row.ready and self._keys.ready:
            sources["i"].take()
            self._left -= 1
            for queue in (self._row, self._keys):
                queue.push(not self._left)
        parts = (self._book, self._k, self._main.cfg, self._cfg)
        if sources["cfg"].valid and all(part.ready for part in parts):
            sources["cfg"].take()
            for part in parts:
                part.push(self._count)
