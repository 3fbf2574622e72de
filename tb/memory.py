"""``expert_cache`` with what it stands between: a far memory that answers, and jobs that take their time."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from amaranth.sim import Simulator

from golden.latency import SKID
from golden.moe.cache import ExpertCacheSpec, Run, Served
from golden.ports import Beats
from hdl.moe.cache import ExpertCache


@dataclass
class FarMemory:
    """One load after another: ``delay`` cycles, and a cycle for every ``rate`` beats of it."""

    delay: int
    rate: int
    free: int = 0

    def __call__(self, cycle: int, length: int) -> int:
        """The cycle from which on the fill is at the unit's port, of a load that goes out in ``cycle``."""
        self.free = max(self.free, cycle) + -(-length // self.rate)
        return self.free + self.delay

    def inside(self, cycle: int, length: int) -> int:
        """The same between the skid buffers."""
        return self(cycle + SKID, length) + SKID


@dataclass
class Seen:
    """Beats of an output stream, and their cycles."""

    beats: list[tuple[int, int]] = field(default_factory=list)
    cycles: list[int] = field(default_factory=list)


class Loop:
    """Plays a run in Amaranth's own simulator, sources always valid and sinks always ready. ``work``: cycles from a
    grant to its done, at the unit's ports; ``tardy``: how much later than that the loads that are lost are answered, if
    they are; ``in_turn``: a list of needs comes when all jobs before it are done."""

    def __init__(
        self, spec: ExpertCacheSpec, memory: FarMemory, work: int, tardy: int | None = None, in_turn: bool = False
    ):
        self.spec = spec
        self.memory = memory
        self.work = work
        self.tardy = tardy
        self.in_turn = in_turn
        self.dut = ExpertCache(spec)
        self.fills: deque[tuple[int, int]] = deque()  # when, and what
        self.dones: deque[tuple[int, int]] = deque()
        self.seen = {p.name: Seen() for p in spec.ports if p.direction == "out"}
        self.status: dict[str, int] = {}

    def __call__(self, run: Run, cycles: int) -> Served:
        self.run = run
        self.done, self.before = 0, self._before(run)
        simulator = Simulator(self.dut)
        simulator.add_clock(1e-6)
        self.waiting = {
            name: self._queue(beats) for name, beats in self.spec.inputs(run).items() if name in ("desc", "i")
        }

        async def play(ctx: Any) -> None:
            for cycle in range(cycles):
                self._cycle(ctx, cycle)
                await ctx.tick()
            self.status = {s.signal: ctx.get(getattr(self.dut, s.signal)) for s in self.spec.status}

        simulator.add_testbench(play)
        simulator.run()
        return self.spec.result(run, {name: self._beats(name) for name in self.seen})

    def _queue(self, beats: Beats) -> deque[tuple[int, int]]:
        return deque(
            (int.from_bytes(d.tobytes(), "little"), int(last)) for d, last in zip(beats.data, beats.last, strict=True)
        )

    def _cycle(self, ctx: Any, cycle: int) -> None:
        for name, beats in self.waiting.items():
            held = name == "i" and beats and self.done < self.before[-len(beats)]
            self._source(ctx, name, beats[0] if beats and not held else None, beats.popleft)
        for name, coming in (("fill", self.fills), ("done", self.dones)):
            there = coming and coming[0][0] <= cycle
            went = self._source(ctx, name, (coming[0][1], 0) if there else None, coming.popleft)
            self.done += went and name == "done"
        for name, seen in self.seen.items():
            out = getattr(self.dut, name)
            ctx.set(out.ready, 1)
            if ctx.get(out.valid):
                self._takes(name, ctx.get(out.payload.as_value()), seen, cycle)

    def _before(self, run: Run) -> list[int]:
        """Of each beat of ``i``: how many jobs are done before it comes."""
        before, needs = [], 0
        for raw, one in zip(run.lists, self.spec.accepted(run), strict=True):
            before += [needs * (raw.need and self.in_turn)] * max(1, len(raw.keys))
            needs += len(one.keys) * one.need
        return before

    def _source(self, ctx: Any, name: str, beat: tuple[int, int] | None, taken: Callable[[], object]) -> bool:
        port, stream = self.spec.port(name), getattr(self.dut, name)
        ctx.set(stream.valid, beat is not None)
        if beat is None:
            return False
        data, last = beat
        ctx.set(stream.payload.as_value(), data & ((1 << port.width) - 1) | (last << port.width if port.last else 0))
        if not ctx.get(stream.ready):
            return False
        taken()
        return True

    def _takes(self, name: str, value: int, seen: Seen, cycle: int) -> None:
        port = self.spec.port(name)
        beat = value & ((1 << port.width) - 1), value >> port.width
        seen.beats.append(beat)
        seen.cycles.append(cycle)
        fields = {
            f.name: int(v[0, 0]) for f, v in zip(port.fields, port.unpack(_packed(port, [beat])).values(), strict=True)
        }
        if name == "dma":
            there = self.memory(cycle, fields["length"])
            load = len(seen.beats) - 1
            if load in self.run.lost:
                if self.tardy is None:
                    return
                there += self.tardy
            ok = load not in self.run.bad | self.run.lost
            self.fills.append((there, fields["number"] | ok << self.spec.port("fill").lsb("ok")))
        elif name == "grant" and fields["valid"]:
            self.dones.append((cycle + self.work, fields["slot"]))

    def _beats(self, name: str) -> Beats:
        return _packed(self.spec.port(name), self.seen[name].beats)


def _packed(port: Any, beats: list[tuple[int, int]]) -> Beats:
    data = b"".join(value.to_bytes(port.bytes, "little") for value, _ in beats)
    return Beats(np.frombuffer(data, np.uint8).reshape(-1, port.bytes), np.array([last for _, last in beats], np.bool_))
