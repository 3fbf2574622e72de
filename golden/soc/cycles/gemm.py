"""The GEMM engine with stationary outputs: :mod:`hdl.mixpe.feeder`, ``align``, ``collect``, and what is between."""

from collections import deque
from collections.abc import Mapping
from typing import Any

from golden.mixpe.gemm import MixPESpec
from golden.soc.cycles.channels import Sink, Source
from golden.soc.cycles.parts import Block, Clock, Queue, Register
from golden.soc.cycles.unit import Unit

SLACK = 6
"""Places of the aligner beside a group."""


class Feeder:
    """Takes steps from ``act`` and ``wgt``, and each group's and tile's parameters, all of them queues; gives beats of
    results to ``o``. Items of ``act`` say whether they end a tile."""

    def __init__(self, clock: Clock, spec: MixPESpec, inputs: Mapping[str, Any], o: Queue):
        self.clock, self.inputs, self.o = clock, inputs, o
        self.timing, self.group = spec.timing, spec.group
        self.by_group = ["par", *(["scl"] if spec.act_scale == "pow2" else [])]
        self.by_tile = [*(["scl"] if spec.act_scale == "token" else []), *(["chn"] if spec.channel_scaled else [])]
        self.free = Register(clock, spec.timing.tiles)
        self._ready = [int(n) for n in spec.timing.ready]
        self._rested = 0  # from when on a group may end
        self._step = 0  # of its group
        self._tiles: deque[int] = deque()  # when they ended
        self._beat = 0

    def cycle(self) -> None:
        self._collect()
        self._feed()

    def _collect(self) -> None:
        """A beat of the oldest tile."""
        if self.o.ready and self._tiles and self.clock.now >= self._tiles[0] + self._ready[self._beat]:
            self._beat += 1
            last = self._beat == len(self._ready)
            self.o.push(last)
            if last:
                self._beat = 0
                self._tiles.popleft()

    def _feed(self) -> None:
        act, wgt, now = self.inputs["act"], self.inputs["wgt"], self.clock.now
        if not (act.valid and wgt.valid):
            return
        ends_tile = act.head
        ends_group = ends_tile or self._step == self.group - 1
        needs = [act, wgt]
        if ends_group:
            needs += [self.inputs[name] for name in self.by_group]
            if now < self._rested:
                return
        if ends_tile:
            needs += [self.inputs[name] for name in self.by_tile]
            if not self.free.value:
                return
        if not all(one.valid for one in needs):
            return
        for one in needs:
            one.pop()
        self._step = 0 if ends_group else self._step + 1
        if ends_group:
            self._rested = now + self.timing.period
        if ends_tile:
            self._tiles.append(now)
            self.free.add(-1)


class Aligner:
    """A group's first activation leaves when its last one has come."""

    def __init__(self, clock: Clock, spec: MixPESpec, i: Queue):
        self.i = i
        self.length = spec.length
        depth = spec.length + SLACK
        self.activations, self.exponents = Block(clock, depth), Block(clock, depth)
        self._marks: deque[tuple[bool, bool]] = deque()  # whether it ends a group, and a tile
        self._count = 0
        self._stage: list[bool | None] = [None, None]  # both registers: whether what stands there ends a tile
        self._popped = False

    @property
    def valid(self) -> bool:
        return self._stage[1] is not None

    @property
    def head(self) -> bool:
        return bool(self._stage[1])

    def pop(self) -> None:
        self._popped = True

    def cycle(self) -> None:
        """Behind those who take from it."""
        if self.i.valid and self.activations.ready and self.exponents.ready:
            last = self.i.pop()
            self._count += 1
            ends = last or self._count == self.length
            self._count = 0 if ends else self._count
            self._marks.append((ends, last))
            self.activations.push()
            if ends:
                self.exponents.push()
        moves_1 = self._stage[1] is None or self._popped
        moves_0 = self._stage[0] is None or moves_1
        if moves_1:
            self._stage[1] = self._stage[0]
        self._popped = False
        if moves_0:
            self._stage[0] = None
            if self.activations.valid and self.exponents.valid:
                ends, self._stage[0] = self._marks.popleft()
                self.activations.pop()
                if ends:
                    self.exponents.pop()


class Gemm(Unit):
    """The unit: skid buffers around the feeder."""

    def __init__(self, clock: Clock, spec: MixPESpec):
        self.spec = spec
        self.skids = {port.name: Queue(clock) for port in spec.ports}
        inputs: dict[str, Any] = dict(self.skids)
        self.aligner = Aligner(clock, spec, self.skids["act"]) if spec.aligned else None
        if self.aligner:
            inputs["act"] = self.aligner
        self.feeder = Feeder(clock, spec, inputs, self.skids["o"])

    def begin(self, job: Any, sources: Mapping[str, Source], sinks: Mapping[str, Sink]) -> None:
        self._steps, self._came = job.shape[1], 0
        self._sources, self._o = sources, sinks["o"]

    def cycle(self, complete: bool) -> None:
        o = self.skids["o"]
        if o.valid and self._o.ready:
            self._o.put()
            self.feeder.free.add(o.pop())
        self.feeder.cycle()
        if self.aligner:
            self.aligner.cycle()
        for name, source in self._sources.items():
            if source.valid and self.skids[name].ready:
                source.take()
                self.skids[name].push(self._ends(name))

    def _ends(self, name: str) -> bool:
        """Whether it is a tile's last step."""
        if name != "act":
            return False
        self._came = (self._came + 1) % self._steps
        return not self._came
