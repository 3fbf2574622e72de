"""The cocotb player. Runs inside the simulator (see ``tb.runner``); one cocotb test per case.

``$SENBAZURU_CASES`` names a pickle of (manifest, cases); what was played is appended, pickled, to
``$SENBAZURU_PLAYED``.
"""

import os
import pickle
from collections.abc import Mapping
from typing import Any

import cocotb
import numpy as np
from cocotb.clock import Clock
from cocotb.triggers import RisingEdge

from golden.ports import Beats
from tb.transactions import (
    RESET_CYCLES,
    SURPLUS,
    TAIL,
    Case,
    Played,
    Violation,
    check,
    pauses,
)

WITHDRAWN, DATA_CHANGED, LAST_CHANGED, VALID_AFTER_RESET = range(4)


class Pins:
    """The handles of one AXI4-Stream."""

    def __init__(self, dut: Any, stream: Mapping[str, Any]):
        prefix = stream["prefix"]
        self.bytes: int = stream["tdata_width"] // 8
        self.data = getattr(dut, f"{prefix}_tdata")
        self.valid = getattr(dut, f"{prefix}_tvalid")
        self.ready = getattr(dut, f"{prefix}_tready")
        self.last = getattr(dut, f"{prefix}_tlast") if stream["tlast"] else None


class Source:
    """Presents the beats of one input stream. ``sample`` at the clock edge, then ``drive``."""

    def __init__(self, pins: Pins, case: Case, name: str):
        beats = case.inputs[name]
        self._pins = pins
        self._data = [int.from_bytes(beat.tobytes(), "little") for beat in beats.data]
        self._last = [int(flag) for flag in beats.last]
        self._pauses = pauses(case.generator(name), case.stall.get(name, 0))
        self._presents = False
        self.taken = 0
        self.idle()

    @property
    def over(self) -> bool:
        return self.taken == len(self._data)

    def add(self, data: bytes, last: bool) -> None:
        self._data.append(int.from_bytes(data, "little"))
        self._last.append(int(last))

    def idle(self) -> None:
        self._presents = False
        self._pins.valid.value = 0
        self._put((1 << 8 * self._pins.bytes) - 1, 1)

    def drive(self) -> None:
        paused = next(self._pauses)
        if self._presents:
            return
        if paused or self.over:
            self.idle()
            return
        self._presents = True
        self._pins.valid.value = 1
        self._put(self._data[self.taken], self._last[self.taken])

    def sample(self) -> bool:
        if not self._presents or not self._pins.ready.value:
            return False
        self._presents = False
        self.taken += 1
        return True

    def _put(self, data: int, last: int) -> None:
        self._pins.data.value = data
        if self._pins.last is not None:
            self._pins.last.value = last


class Sink:
    """Takes the beats of one output stream and watches the rules: a valid beat stays as it is until it is taken."""

    def __init__(self, pins: Pins, case: Case, name: str):
        self._name = name
        self._pins = pins
        self._expected = len(case.outputs[name])
        self._pauses = pauses(case.generator(name), case.stall.get(name, 0))
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
        """tdata of the last beat that was taken."""
        return self._beats[-1][0]

    @property
    def surplus(self) -> bool:
        return len(self._beats) >= self._expected + SURPLUS

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
        self._set_ready(not next(self._pauses) or ready)

    def sample(self, cycle: int) -> bool:
        pins = self._pins
        if not pins.valid.value:
            if self._held:
                self._violate(WITHDRAWN, cycle)
            self._held = None
            return False
        beat = (
            pins.data.value.to_unsigned(),
            0 if pins.last is None else int(pins.last.value),
        )
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
        self._status = {s["name"]: getattr(dut, s["name"]) for s in manifest["status"]}

    async def play(self) -> Played:
        """The rules of play of ``tb.transactions``."""
        self._reset.value = 1
        Clock(self._clock, 10, unit="ns").start(start_high=False)
        for _ in range(RESET_CYCLES):
            await self._edge
        self._reset.value = 0

        case, sources, sinks = (
            self.case,
            list(self.sources.values()),
            list(self.sinks.values()),
        )
        when: dict[str, int] = {}
        cycle = ending = quiet = 0
        while True:
            if case.world:
                for name, data, last in case.world.gives(cycle):
                    self.sources[name].add(data, last)
            for source in sources:
                source.drive()
            for sink in sinks:
                sink.drive(ending > 0)
            if cycle == case.reset_at:
                return self._played(when, await self._cut(cycle))
            await self._edge  # what is read here is what the edge saw
            quiet += 1
            for source in sources:
                if source.sample():
                    when.setdefault("first_in", cycle)
                    when["last_in"] = cycle
                    quiet = 0
            for name, sink in self.sinks.items():
                if sink.sample(cycle):
                    if case.world:
                        case.world.sees(cycle, name, sink.latest)
                    when.setdefault("first_out", cycle)
                    when["last_out"] = cycle
                    quiet = 0
            if case.reset_at is None and all(s.over for s in sources) and all(s.over for s in sinks):
                ending += 1
            cycle += 1
            if ending > TAIL or quiet >= case.patience or any(s.surplus for s in sinks):
                return self._played(when, cycle)

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
