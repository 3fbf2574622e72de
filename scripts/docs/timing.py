"""Timing diagrams from a simulation: a case of a unit's own bench, played on the design in Amaranth's simulator.

The player is a third one, slow and simple, that keeps what it sees; a diagram is drawn only of a case that it passes.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import wavedrom
from amaranth.sim import Simulator

from gen.registry import unit
from golden.ports import StreamPort
from golden.spec import UnitSpec
from hdl.stream.axi import AxiShell
from tb.transactions import Case, CheckFailed, pauses
from tb.units import BENCHES

SHOWN = 44
"""Cycles of a diagram at most."""

SHORTEST = 20
"""Cycles of a case that is worth one."""


@dataclass(frozen=True)
class Seen:
    """A stream in one cycle; ``beat`` is the number of the beat that is offered."""

    valid: bool
    ready: bool
    data: int
    last: bool
    beat: int


def free_case(spec: UnitSpec) -> Case:
    """The shortest case of the unit's bench without stalls in which every output has a beat."""
    cases = [
        c
        for c in BENCHES[spec.unit](spec, 0)
        if c.judged and c.reset_at is None and not any((*c.stall.values(), *c.status.values()))
    ]
    whole = [c for c in cases if (c.cycles or 0) >= SHORTEST and all(len(beats) for beats in c.outputs.values())]
    return min(whole, key=lambda c: c.cycles or 0)


def play(spec: UnitSpec, case: Case) -> dict[str, list[Seen]]:
    """What is seen of each stream, from the first cycle after reset to the last beat.

    :class:`tb.transactions.CheckFailed` if a beat is not what the case expects, or the cycles are not as many.
    """
    shell = AxiShell(unit(spec.unit).hardware(spec)(spec), spec.ports, spec.status)
    seen: dict[str, list[Seen]] = {p.name: [] for p in spec.ports}
    at = dict.fromkeys(seen, 0)
    paused = {p.name: pauses(case.generator(p.name), case.stall.get(p.name, 0)) for p in spec.ports}
    beats = {**case.inputs, **case.outputs}

    def signal(port: StreamPort, name: str) -> Any:
        return getattr(shell, port.signal(name))

    async def bench(ctx: Any) -> None:
        offered = dict.fromkeys(seen, False)
        while any(at[name] < len(b) for name, b in beats.items()):
            for p in spec.ports:
                pause = next(paused[p.name])
                if p.direction == "out":
                    ctx.set(signal(p, "ready"), not pause)
                    continue
                offered[p.name] = at[p.name] < len(beats[p.name]) and (offered[p.name] or not pause)
                ctx.set(signal(p, "valid"), offered[p.name])
                if offered[p.name]:
                    ctx.set(signal(p, "data"), int.from_bytes(beats[p.name].data[at[p.name]].tobytes(), "little"))
                    if p.last:
                        ctx.set(signal(p, "last"), bool(beats[p.name].last[at[p.name]]))
            for p in spec.ports:
                now = Seen(
                    bool(ctx.get(signal(p, "valid"))),
                    bool(ctx.get(signal(p, "ready"))),
                    ctx.get(signal(p, "data")),
                    bool(p.last and ctx.get(signal(p, "last"))),
                    at[p.name],
                )
                seen[p.name].append(now)
                if now.valid and now.ready:
                    _check(case, p, now)
                    at[p.name] += 1
                    offered[p.name] = False
            await ctx.tick()

    simulator = Simulator(shell)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    ran = len(next(iter(seen.values())))
    if not any(case.stall.values()) and case.cycles not in (None, ran):
        raise CheckFailed(f"{case.name}: cycles: expected {case.cycles}, got {ran}")
    return seen


def _check(case: Case, port: StreamPort, now: Seen) -> None:
    beats = {**case.inputs, **case.outputs}[port.name]
    if now.beat >= len(beats) or np.frombuffer(now.data.to_bytes(port.bytes, "little"), np.uint8).tolist() != list(
        beats.data[now.beat]
    ):
        raise CheckFailed(f"{case.name}: {port.prefix} beat {now.beat} is not what is expected")


def overview(spec: UnitSpec, seen: Mapping[str, list[Seen]]) -> str:
    """A row per stream: which beat moves (blue), which one waits (yellow)."""
    rows = [_row("clk", "p" + "." * (_shown(seen) - 1))]
    for p in spec.ports:
        states = [(("5" if s.ready else "3") if s.valid else "0", str(s.beat)) for s in seen[p.name][: _shown(seen)]]
        rows.append(_states(p.prefix, states))
    return _svg(rows)


def handshake(spec: UnitSpec, seen: Mapping[str, list[Seen]], cycles: int) -> str:
    """All signals of the streams in the first cycles; data in hexadecimal while it is valid."""
    rows = [_row("clk", "p" + "." * (cycles - 1))]
    for p in spec.ports:
        some = seen[p.name][:cycles]
        digits = 2 * p.bytes
        rows.append(_states(p.signal("data"), [("=" if s.valid else "x", f"{s.data:0{digits}x}") for s in some]))
        names = ["valid", "ready", *(["last"] if p.last else [])]
        rows += [
            _row(p.signal(n), _levels([bool(getattr(s, n) and (n != "last" or s.valid)) for s in some])) for n in names
        ]
    return _svg(rows)


def _shown(seen: Mapping[str, list[Seen]]) -> int:
    return min(SHOWN, len(next(iter(seen.values()))))


def _row(name: str, wave: str, data: list[str] | None = None) -> dict[str, Any]:
    return {"name": name, "wave": wave} | ({"data": data} if data else {})


def _levels(bits: list[bool]) -> str:
    return "".join("." if i and bits[i - 1] == b else str(int(b)) for i, b in enumerate(bits))


def _states(name: str, states: list[tuple[str, str]]) -> dict[str, Any]:
    """A state goes on where neither its kind nor its label changes; labels are those of beats."""
    wave, data = "", []
    for i, (kind, label) in enumerate(states):
        same = i and states[i - 1][0] == kind and (kind in "0x" or states[i - 1][1] == label)
        wave += "." if same else kind
        if not same and kind not in "0x":
            data.append(label)
    return _row(name, wave, data)


def _svg(rows: list[dict[str, Any]]) -> str:
    # strict JSON: from anything else the package draws an empty picture
    return str(wavedrom.render(json.dumps({"signal": rows, "head": {"tick": 0, "every": 4}})).tostring())
