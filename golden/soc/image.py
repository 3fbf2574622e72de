"""Jobs laid out in memory: descriptors, the beats of every stream, and what memory must hold when they are through."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from golden.kmeans.linear import KMeansLinearSpec
from golden.mixpe.gemm import MixPESpec
from golden.moe.layer import MoEFFNSpec
from golden.ports import Beats
from golden.soc.accelerator import AcceleratorSpec
from golden.soc.descriptor import RECORD, Entry, entry, header
from golden.soc.kinds import Engine, Lane
from golden.spec import SpecError

Bytes = NDArray[np.uint8]

APART = 32
"""No word of any bus has bytes that are read and bytes that are written."""


@dataclass(frozen=True, eq=False)
class Job:
    """A job of the accelerator: kind, a job of that kind's unit, flags of its header."""

    kind: str
    job: Any
    flags: int = 0


@dataclass(frozen=True, eq=False)
class Placed:
    """A stream in memory, and its entry."""

    lane: Lane
    entry: Entry

    def beats(self, memory: Bytes, base: int = 0) -> Beats:
        """Its beats, in order, from the rows of its entry; tlast at the end of each. The first byte has the address
        ``base``."""
        offsets = np.arange(self.entry.beats, dtype=np.int64) << self.lane.slot
        slots = (self.entry.starts()[:, None] - base + offsets).ravel()
        last = np.arange(1, len(slots) + 1) % self.entry.beats == 0
        data = memory[slots[:, None] + np.arange(self.lane.port.bytes)]
        return Beats(data, last & bool(self.lane.port.last))


@dataclass(frozen=True, eq=False)
class Image:
    """Memory from address ``base`` on, before and after a list of jobs; ``known`` are the bytes that do not depend on
    time. ``list`` is the address of ``records`` records, ``jobs`` has where the streams of each job are."""

    base: int
    before: Bytes
    after: Bytes
    known: NDArray[np.bool_]
    list: int
    records: int
    jobs: tuple[tuple[Placed, ...], ...]

    @property
    def settings(self) -> dict[str, int]:
        """Registers that say which list it is."""
        return {"LIST": self.list & 0xFFFFFFFF, "LIST_HIGH": self.list >> 32, "LIST_RECORDS": self.records}

    def placed(self, job: int, stream: str) -> Placed:
        """A stream of a job."""
        return next(p for p in self.jobs[job] if p.lane.name == stream)

    def outputs(self, job: int, memory: Bytes) -> dict[str, Beats]:
        """What a job's unit has left in memory, for its ``result``."""
        return {p.lane.name: p.beats(memory, self.base) for p in self.jobs[job] if p.lane.port.direction == "out"}

    def findings(self, memory: Bytes) -> Sequence[str]:
        """What is wrong in memory behind the jobs: the first byte that is not as expected."""
        wrong = np.flatnonzero((memory != self.after) & self.known)
        if not len(wrong):
            return []
        at = int(wrong[0])
        found = f"expected {self.after[at]:#04x}, got {memory[at]:#04x} ({len(wrong)} bytes differ)"
        return [f"memory at {self.base + at:#x}: {found}"]


def lay_out(spec: AcceleratorSpec, jobs: Sequence[Job], base: int = 0, rng: np.random.Generator | None = None) -> Image:
    """The list, then the streams of each job, from address ``base`` on, a multiple of ``APART``; ``rng`` fills what is
    between, and what will be written, and leaves gaps.

    ``SpecError`` for a kind that there is no unit for, and for a job whose rows are not alike: it would be several.
    """
    plan = _Plan(spec, base, rng)
    records = sum(1 + len(spec.engine(job.kind).inputs) + len(spec.engine(job.kind).outputs) for job in jobs)
    at = plan.room(records * RECORD, RECORD)
    placed, made = [], []
    for job in jobs:
        engine = spec.engine(job.kind)
        streams = (*plan.inputs(engine, job.job), *plan.outputs(engine, job.job))
        placed.append(streams)
        made.append(header(engine.kind.number, len(streams), job.flags))
        made += [entry(one.entry) for one in streams]
    plan.write(at, np.concatenate(made))
    return plan.image(at, len(made), tuple(placed))


class _Plan:
    """Memory as it fills up."""

    def __init__(self, spec: AcceleratorSpec, base: int, rng: np.random.Generator | None):
        self.spec = spec
        self.rng = rng
        self.base = self.end = base
        self.pieces: list[tuple[int, Bytes, NDArray[np.bool_] | None]] = []

    def room(self, size: int, align: int) -> int:
        """The address of so many bytes that nothing else has."""
        gap = int(self.rng.integers(0, 3)) * align if self.rng else 0
        at = -(-self.end // align) * align + gap
        self.end = at + size
        return at

    def write(self, at: int, data: Bytes, timed: NDArray[np.bool_] | None = None) -> None:
        """What is there before; with ``timed``, after the jobs, and which bytes of it depend on time."""
        self.pieces.append((at, data.ravel(), None if timed is None else timed.ravel()))

    def inputs(self, engine: Engine, job: Any) -> list[Placed]:
        """Those that have beats."""
        beats, held, shape = engine.spec.inputs(job), _held(engine, job), _shape(engine, job)
        placed = []
        for lane in engine.inputs:
            if lane.index:
                rows = held[lane.name]
                at = self._place(lane, _slots(lane, rows.reshape(-1, rows.shape[2])))
                placed.append(Placed(lane, Entry(lane.number, at, rows.shape[1])))
            elif len(beats[lane.name]):
                placed.append(self._rows(lane, beats[lane.name], shape))
        return placed

    def _rows(self, lane: Lane, beats: Beats, shape: tuple[int, int]) -> Placed:
        """``shape``: how often how many rows. What is the same each time is there once."""
        repeats, rows = shape
        if len(beats) % (repeats * rows):
            raise SpecError(
                f"{lane.name} must have rows of one length, not {len(beats)} beats in {repeats * rows} rows"
            )
        data = _slots(lane, beats.data).reshape(repeats, rows, -1, 1 << lane.slot)
        ends = np.zeros(data.shape[:3], np.bool_)
        ends[..., -1] = bool(lane.port.last)
        if not np.array_equal(ends.ravel(), beats.last):
            raise SpecError(
                f"{lane.name} must have tlast at the end of each of its {repeats * rows} rows and nowhere else"
            )
        length = data.shape[2]
        again = rows > 1 and bool((data == data[:, :1]).all())
        data = data[:, :1] if again else data
        all_again = repeats > 1 and bool((data == data[:1]).all())
        data = data[:1] if all_again else data
        stride = 0 if again else length << lane.slot
        repeat_stride = 0 if all_again else (data.shape[1] * length) << lane.slot
        return Placed(lane, Entry(lane.number, self._place(lane, data), length, rows, stride, repeats, repeat_stride))

    def _place(self, lane: Lane, data: Bytes) -> int:
        at = self.room(data.size, 1 << lane.slot)
        self.write(at, data)
        return at

    def outputs(self, engine: Engine, job: Any) -> list[Placed]:
        beats = engine.spec.outputs(job, engine.spec.compute(job))
        placed = []
        self.room(0, APART)
        for lane in engine.outputs:
            data = _slots(lane, beats[lane.name].data)
            at = self.room(data.size, 1 << lane.slot)
            self.write(at, data, _slots(lane, _timed(lane, len(data))).astype(np.bool_))
            placed.append(Placed(lane, Entry(lane.number, at, len(data))))
        self.room(0, APART)
        return placed

    def image(self, at: int, records: int, jobs: tuple[tuple[Placed, ...], ...]) -> Image:
        size = self.room(0, APART) - self.base
        before = self.rng.integers(0, 256, size, np.uint8) if self.rng else np.zeros(size, np.uint8)
        for start, data, timed in self.pieces:
            if timed is None:
                before[start - self.base :][: data.size] = data
        after, known = before.copy(), np.ones(size, np.bool_)
        for start, data, timed in self.pieces:
            if timed is not None:
                after[start - self.base :][: data.size] = data
                known[start - self.base :][: data.size] = ~timed
        return Image(self.base, before, after, known, at, records, jobs)


def _slots(lane: Lane, data: Bytes) -> Bytes:
    """Beats, each in its slot."""
    return np.pad(data, ((0, 0), (0, (1 << lane.slot) - data.shape[1])))


def _timed(lane: Lane, beats: int) -> Bytes:
    """Which bits of so many beats depend on time."""
    port = lane.port
    fields = {f.name: np.full((beats, port.lanes), -(f.name in port.timed)) for f in port.fields}
    return port.pack(**fields).data


def _shape(engine: Engine, job: Any) -> tuple[int, int]:
    """How often how many rows the streams of a job have: a GEMM has tiles of columns for each of tokens."""
    if not isinstance(engine.spec, MixPESpec):
        return 1, 1
    tiles = list(engine.spec.tiles(job))
    tokens = len({m.start for m, _ in tiles})
    return tokens, len(tiles) // tokens


def _held(engine: Engine, job: Any) -> Mapping[str, NDArray[np.uint8]]:
    """Beats in memory of inputs that units ask for, ``[rows, beats, bytes]``: all experts as the addresses in ``desc``
    say, the weights of every channel."""
    spec = engine.spec
    if isinstance(spec, MoEFFNSpec):
        return {name: beats.data[None] for name, beats in spec.ffn.memory(job.experts).items()}
    if isinstance(spec, KMeansLinearSpec):
        channels = np.arange(job.weights.shape[1])
        return {"col": np.stack(np.split(spec.column(job, channels).data, len(channels)))}
    return {}
