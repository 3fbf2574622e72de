"""What the register CYCLES says behind a list of jobs."""

from collections.abc import Sequence

from golden.soc.accelerator import AcceleratorSpec
from golden.soc.cycles.bus import Reader, Writer
from golden.soc.cycles.channels import Channel, Row, Sink, Source
from golden.soc.cycles.parts import Clock
from golden.soc.cycles.unit import Unit
from golden.soc.cycles.units import model
from golden.soc.descriptor import OUTPUT, RECORD_SLOT
from golden.soc.image import Image, Job, Placed


def cycles(spec: AcceleratorSpec, image: Image, jobs: Sequence[Job], latency: int) -> int:
    """Of a list of ``jobs``, exactly: each word read comes as soon as it can, the first of a burst ``latency`` cycles
    (1 or more) after its address; every address and word written is taken at once, the answer comes ``latency`` cycles
    after the last word.

    ``SpecError`` for units that are not counted: of ``gemm`` those with stationary weights, of ``topk`` thresholds, of
    ``moe`` those with a table, pruning, or mixed weights."""
    return _List(spec, image, jobs, latency).run()


class _List:
    """Channels, bus, units; and the sequencer, which takes records and loads channels."""

    def __init__(self, spec: AcceleratorSpec, image: Image, jobs: Sequence[Job], latency: int):
        self.spec, self.image, self.jobs = spec, image, jobs
        self.clock = Clock()
        self.sources = [Source(self.clock, spec) for _ in range(spec.channels_in)]
        self.sinks = [Sink(self.clock, spec) for _ in range(spec.channels_out)]
        self.list = Source(self.clock, spec)
        self.reader = Reader(self.clock, spec, [*self.sources, self.list], latency)
        self.writer = Writer(self.clock, spec, self.sinks, latency)
        kinds = dict.fromkeys(job.kind for job in jobs)
        self.units: dict[str, Unit] = {kind: model(self.clock, spec.engine(kind)) for kind in kinds}

    def run(self) -> int:
        self.list.load(RECORD_SLOT, [Row(self.image.list, self.image.records)])
        self._cycle()  # the start
        for job, placed in zip(self.jobs, self.image.jobs, strict=True):
            self._record()
            unit = self._begin(job)
            for stream in placed:
                self._record(unit, stream)
            while not self._idle:
                self._cycle(unit, True)
            self._cycle(unit, True)
        return self.clock.now - 1

    @property
    def _idle(self) -> bool:
        return not self.writer.busy and all(channel.idle for channel in (*self.sources, *self.sinks))

    def _begin(self, job: Job) -> Unit:
        engine, unit = self.spec.engine(job.kind), self.units[job.kind]
        sources = {lane.name: self.sources[n] for n, lane in enumerate(engine.inputs)}
        sinks = {lane.name: self.sinks[n] for n, lane in enumerate(engine.outputs)}
        unit.begin(job.job, sources, sinks)
        return unit

    def _record(self, unit: Unit | None = None, stream: Placed | None = None) -> None:
        """The next one is taken, as soon as it is there: a header, or the entry of a stream."""
        while not self.list.valid:
            self._cycle(unit)
        self.list.take()
        if unit and stream:
            self._load(unit, stream)
        self._cycle(unit)

    def _load(self, unit: Unit, stream: Placed) -> None:
        lane, entry = stream.lane, stream.entry
        if lane.index:
            unit.asks(lane, entry, self.sources[lane.number])
            return
        channel: Channel = self.sinks[lane.number - OUTPUT] if lane.number >= OUTPUT else self.sources[lane.number]
        channel.load(lane.slot, [Row(int(at), entry.beats) for at in entry.starts()])

    def _cycle(self, unit: Unit | None = None, complete: bool = False) -> None:
        """``complete``: all entries of its job have been taken."""
        if unit:
            unit.cycle(complete)
        for channel in (*self.sources, self.list, *self.sinks):
            channel.move()
        self.reader.cycle()
        self.writer.cycle()
        self.clock.tick()
