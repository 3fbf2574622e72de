"""The cocotb player. Runs inside the simulator (see ``tb.runner``); one cocotb test per case.

``$SENBAZURU_CASES`` names a pickle of (manifest, cases); what was played is appended, pickled, to
``$SENBAZURU_PLAYED``.
"""

import math
import os
import pickle
from collections.abc import Iterable, Mapping
from typing import Any

import cocotb
import numpy as np
from cocotb.clock import Clock
from cocotb.triggers import RisingEdge

from gen.manifest import beat_bytes, pins, signal_name
from golden.ports import Beats
from tb.transactions import (
    RESET_CYCLES,
    SHY,
    SURPLUS,
    TAIL,
    Case,
    Gift,
    Played,
    Talk,
    Violation,
    check,
    pauses,
)

WITHDRAWN, DATA_CHANGED, LAST_CHANGED, VALID_AFTER_RESET = range(4)


class Pins:
    """The handles of one stream."""

    def __init__(self, dut: Any, stream: Mapping[str, Any]):
        self.bytes = beat_bytes(stream)
        self._carry = [(getattr(dut, p.name), p.lsb, (1 << p.width) - 1) for p in pins(stream)]
        self._last = getattr(dut, signal_name(stream, "last")) if stream["tlast"] else None
        self.valid = getattr(dut, signal_name(stream, "valid"))
        self.ready = getattr(dut, signal_name(stream, "ready"))

    def put(self, data: int, last: int) -> None:
        for handle, lsb, mask in self._carry:
            handle.value = data >> lsb & mask
        if self._last is not None:
            self._last.value = last

    def get(self) -> tuple[int, int]:
        data = 0
        for handle, lsb, _ in self._carry:
            data |= int(handle.value) << lsb  # a scalar has no to_unsigned
        return data, 0 if self._last is None else int(self._last.value)


class Source:
    """Presents the beats of one input stream. ``sample`` at the clock edge, then ``drive``."""

    def __init__(self, pins: Pins, case: Case, name: str):
        self._pins = pins
        self._beats: list[tuple[int, int, int]] = []  # data, last, first cycle
        if name in case.inputs:
            beats = case.inputs[name]
            for data, last in zip(beats.data, beats.last, strict=True):
                self._beats.append((int.from_bytes(data.tobytes(), "little"), int(last), 0))
        self._pauses = pauses(case.generator(name), case.stall.get(name, 0))
        self._presents = False
        self.taken = 0
        self.idle()

    @property
    def over(self) -> bool:
        return self.taken == len(self._beats)

    @property
    def latest(self) -> int:
        """The last beat that was taken."""
        return self._beats[self.taken - 1][0]

    def add(self, gift: Gift) -> None:
        for i in range(len(gift.data) // self._pins.bytes):
            data = gift.data[i * self._pins.bytes : (i + 1) * self._pins.bytes]
            self._beats.append((int.from_bytes(data, "little"), int(gift.last), gift.at + i * gift.pace))

    def idle(self) -> None:
        self._presents = False
        self._pins.valid.value = 0
        self._pins.put((1 << 8 * self._pins.bytes) - 1, 1)

    def drive(self, cycle: int) -> None:
        paused = next(self._pauses)
        if self._presents:
            return
        if paused or self.over or self._beats[self.taken][2] > cycle:
            self.idle()
            return
        self._presents = True
        self._pins.valid.value = 1
        data, last, _ = self._beats[self.taken]
        self._pins.put(data, last)

    def sample(self) -> bool:
        if not self._presents or not self._pins.ready.value:
            return False
        self._presents = False
        self.taken += 1
        return True


class Sink:
    """Takes the beats of one output stream and watches the rules: a valid beat stays as it is until it is taken."""

    def __init__(self, pins: Pins, case: Case, name: str):
        self._name = name
        self._pins = pins
        self._expected = len(case.outputs.get(name, ()))
        self._most = self._expected + SURPLUS if name in case.outputs else math.inf
        self._pauses = pauses(case.generator(name), case.stall.get(name, 0))
        self._shy = case.stall.get(name) == SHY
        self._held: tuple[int, int] | None = None
        self._ready = False
        self._beats: list[tuple[int, int]] = []
        self.violation: Violation | None = None
        self.idle()

    @property
    def over(self) -> bool:
        return len(self._beats) >= self._expected

    @property
    def latest(self) -> int:
        """The last beat that was taken."""
        return self._beats[-1][0]

    @property
    def surplus(self) -> bool:
        return len(self._beats) >= self._most

    @property
    def beats(self) -> Beats:
        n, width = len(self._beats), self._pins.bytes
        data = np.frombuffer(
            b"".join(d.to_bytes(width, "little") for d, _ in self._beats),
            dtype=np.uint8,
        )
        return Beats(
            data.reshape(n, width),
            np.array([last for _, last in self._beats], dtype=np.bool_),
        )

    def idle(self) -> None:
        self._set_ready(False)
        self._pins.ready.value = 0

    def drive(self, ready: bool) -> None:
        free = self._held is not None if self._shy else not next(self._pauses)
        self._set_ready(free or ready)

    def sample(self, cycle: int) -> bool:
        pins = self._pins
        if not pins.valid.value:
            if self._held:
                self._violate(WITHDRAWN, cycle)
            self._held = None
            return False
        beat = pins.get()
        if self._held and beat != self._held:
            self._violate(DATA_CHANGED if beat[0] != self._held[0] else LAST_CHANGED, cycle)
        self._held = None if self._ready else beat
        if self._ready:
            self._beats.append(beat)
        return self._ready

    def after_reset(self, cycle: int) -> None:
        if self._pins.valid.value:
            self._violate(VALID_AFTER_RESET, cycle)

    def _set_ready(self, ready: bool) -> None:
        if ready != self._ready:
            self._ready = ready
            self._pins.ready.value = int(ready)

    def _violate(self, kind: int, cycle: int) -> None:
        self.violation = self.violation or Violation(self._name, kind, cycle)


_CUT: list[str] = []
"""The last play, if its one cycle of reset must do for the next one."""


class TB:
    """Clock, reset, a source or sink per stream; plays one case. Other kinds of port (memory, registers) join here."""

    def __init__(self, dut: Any, manifest: Mapping[str, Any], case: Case):
        self.case = case
        self._reset = getattr(dut, manifest["reset"])
        self._clock = getattr(dut, manifest["clock"])
        self._edge = RisingEdge(self._clock)
        streams = [(s["name"], s["direction"], Pins(dut, s)) for s in manifest["streams"]]
        self.sources = {name: Source(pins, case, name) for name, side, pins in streams if side == "in"}
        self.sinks = {name: Sink(pins, case, name) for name, side, pins in streams if side == "out"}
        self._agents: dict[str, Source | Sink] = {**self.sources, **self.sinks}
        self._status = {s["name"]: getattr(dut, s["name"]) for s in manifest["status"]}
        self._talk = Talk(case.world)

    async def play(self) -> Played:
        """The rules of play of ``tb.transactions``."""
        Clock(self._clock, 10, unit="ns").start(start_high=False)
        if not _CUT:
            self._reset.value = 1
            for _ in range(RESET_CYCLES):
                await self._edge
        self._reset.value = 0
        _CUT.clear()

        case, sources, sinks = (
            self.case,
            list(self.sources.values()),
            list(self.sinks.values()),
        )
        when: dict[str, int] = {}
        world, told = self._talk.world, self._talk.world.answers | self._talk.world.notes
        self._give(world.begins())
        cycle = ending = quiet = 0
        while True:
            for source in sources:
                source.drive(cycle)
            for sink in sinks:
                sink.drive(ending > 0)
            if cycle == case.reset_at:
                return self._played(when, await self._cut(cycle))
            await self._edge  # what is read here is what the edge saw
            quiet += 1
            moved = []
            for name, source in self.sources.items():
                if source.sample():
                    when.setdefault("first_in", cycle)
                    when["last_in"] = cycle
                    moved.append(name)
            for name, sink in self.sinks.items():
                if sink.sample(cycle):
                    when.setdefault("first_out", cycle)
                    when["last_out"] = cycle
                    moved.append(name)
            for name in moved:
                quiet = 0
                if name in told:
                    self._give(self._talk.tell(cycle, name, self._agents[name].latest))
            if self._talk.findings:
                return self._played(when, cycle + 1)
            if case.reset_at is None and world.over and all(a.over for a in self._agents.values()):
                ending += 1
            cycle += 1
            if ending > TAIL or quiet >= case.patience or any(s.surplus for s in sinks):
                self._talk.end()
                return self._played(when, cycle)

    def _give(self, gifts: Iterable[Gift]) -> None:
        for gift in gifts:
            self.sources[gift.stream].add(gift)

    async def _cut(self, cycle: int) -> int:
        self._reset.value = 1
        await self._edge
        self._reset.value = 0
        for source in self.sources.values():
            source.idle()
        for sink in self.sinks.values():
            sink.idle()
        await self._edge
        for sink in self.sinks.values():
            sink.after_reset(cycle + 1)
        _CUT.append(self.case.name)
        return cycle + 2

    def _played(self, when: dict[str, int], ran: int) -> Played:
        return Played(
            outputs={name: sink.beats for name, sink in self.sinks.items()},
            taken={name: source.taken for name, source in self.sources.items()},
            first_in=when.get("first_in"),
            last_in=when.get("last_in"),
            first_out=when.get("first_out"),
            last_out=when.get("last_out"),
            status={name: int(signal.value) for name, signal in self._status.items()},
            violations=tuple(s.violation for s in self.sinks.values() if s.violation),
            ran=ran,
            findings=self._talk.findings,
            world=self._talk.world,
        )


with open(os.environ["SENBAZURU_CASES"], "rb") as _file:
    MANIFEST, CASES = pickle.load(_file)


@cocotb.test
@cocotb.parametrize(case=[cocotb.Param(case, case.name) for case in CASES])
async def play(dut: Any, case: Case) -> None:
    played = await TB(dut, MANIFEST, case).play()
    with open(os.environ["SENBAZURU_PLAYED"], "ab") as file:
        pickle.dump(played, file)
    check(case, played)
