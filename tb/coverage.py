"""What a bench has been through: a list of points per unit, and which of them its cases reach.

Most points follow from the ports: each stream moves, is stalled and holds the other side up, and stalls while every
other one moves (channels of AXI are left to the memory and the host that watch them); each field of an input has the
corner values of its format; packets are long and short; each cause of an error is seen, and a reset in mid-job. What
only the unit knows (ties, extremes of k), and what cannot or need not be reached, is in :mod:`tb.points`. Everything is
read off the ports in every cycle, as the bulk player recorded them.
"""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gen.registry import UNITS
from golden.ports import AxiChannel, Beats, Field, StreamPort
from golden.spec import UnitSpec
from tb.cosim import Rtl
from tb.points import CONFIGURED, OWN
from tb.trace import Trace
from tb.transactions import RESET_CYCLES, Case, check

Flags = NDArray[np.bool_]

FLOATS = {"fp16": (5, 10), "bf16": (8, 7), "fp32": (8, 23)}
"""Bits of exponent and fraction."""


@dataclass(frozen=True)
class Seen:
    """One case: the ports in each of its cycles."""

    spec: UnitSpec
    trace: Trace

    @cached_property
    def running(self) -> Flags:
        return ~self.trace.flag("rst")

    def valid(self, name: str) -> Flags:
        return self.running & self.trace.flag(self.spec.port(name).signal("valid"))

    def moves(self, port: StreamPort) -> Flags:
        return self.running & self.trace.flag(port.signal("valid")) & self.trace.flag(port.signal("ready"))

    def stalls(self, port: StreamPort) -> Flags:
        """The other side holds the unit up: a sink is not ready, a source has nothing."""
        valid, ready = (self.trace.flag(port.signal(name)) for name in ("valid", "ready"))
        return self.running & (~valid & ready if port.direction == "in" else valid & ~ready)

    def holds(self, port: StreamPort) -> Flags:
        """The unit holds the other side up."""
        valid, ready = (self.trace.flag(port.signal(name)) for name in ("valid", "ready"))
        return self.running & (valid & ~ready if port.direction == "in" else ~valid & ready)

    def values(self, name: str) -> dict[str, NDArray[Any]]:
        """The fields of all beats of a stream, each ``[n, lanes]``."""
        port = self.spec.port(name)
        rows = self.trace.rows[self.moves(port)]
        bits = np.zeros((len(rows), 8 * port.bytes), np.uint8)
        for pin in port.pins:
            (at,) = (p for p in self.trace.ports if p.name == pin.name)
            width = min(pin.width, bits.shape[1] - pin.lsb)
            found = np.unpackbits(rows[:, at.bytes], axis=1, bitorder="little")
            bits[:, pin.lsb : pin.lsb + width] = found[:, :width]
        return port.unpack(Beats(np.packbits(bits, axis=1, bitorder="little"), np.zeros(len(rows), np.bool_)))

    def lengths(self, name: str) -> NDArray[np.int64]:
        """Beats of each packet of a stream."""
        port = self.spec.port(name)
        ends = np.flatnonzero(self.trace.flag(port.signal("last"))[self.moves(port)])
        return np.diff(ends, prepend=-1)


Point = Callable[[Seen], Any]


def points(spec: UnitSpec) -> dict[str, Point]:
    """Of a unit, by name."""
    made: dict[str, Point] = {name: point for port in spec.ports for name, point in _of_stream(port)}
    plain = [p for p in spec.ports if not isinstance(p, AxiChannel)]
    for a, b in itertools.permutations(plain, 2):
        made[f"{a.name} stalls while {b.name} moves"] = partial(_stalled_while, a, b)
    for port in plain:
        for f in port.fields if port.direction == "in" else ():
            made |= dict(_of_field(port, f))
    for status in spec.status:
        for bit, cause in enumerate(status.causes):
            made[f"{status.signal}: {cause}"] = partial(_told, status.signal, bit)
    made["reset in mid-job"] = _reset
    return {**made, **OWN.get(spec.unit, {})}


@dataclass(frozen=True)
class Covered:
    """``reached``: of every point, in how many cases."""

    cases: int
    cycles: int
    reached: Mapping[str, int]

    @property
    def missed(self) -> list[str]:
        return [name for name, cases in self.reached.items() if not cases]


def measure(rtl: Rtl, cases: Sequence[Case]) -> Covered:
    """Play the cases, which must pass, and look."""
    spec, listed = rtl.spec, points(rtl.spec)
    reached, cycles = dict.fromkeys(listed, 0), 0
    for case in cases:
        rtl.record()
        check(case, rtl.play(case))
        seen = Seen(spec, rtl.trace())
        cycles += len(seen.trace)
        for name, point in listed.items():
            reached[name] += bool(np.any(point(seen)))
    rtl.record(False)
    return Covered(len(cases), cycles, reached)


def reasons(missed: Sequence[str], why: Mapping[str, str]) -> dict[str, str]:
    """The reason of each that a pattern is for."""
    return {name: reason for name in missed for pattern, reason in why.items() if fnmatchcase(name, pattern)}


def holes(missed: Sequence[str], why: Mapping[str, str]) -> list[str]:
    """Those that no pattern is for, and patterns that are for none."""
    needless = [pattern for pattern in why if not any(fnmatchcase(name, pattern) for name in missed)]
    excused = reasons(missed, why)
    return [name for name in missed if name not in excused] + [f"no reason needed: {p}" for p in needless]


def _of_stream(port: StreamPort) -> Iterator[tuple[str, Point]]:
    name = port.name
    yield f"{name} moves", lambda s: s.moves(port)
    yield f"{name} is stalled", lambda s: s.stalls(port)
    if not isinstance(port, AxiChannel):
        yield f"{name} moves in two cycles running", lambda s: s.moves(port)[1:] & s.moves(port)[:-1]
        yield f"{name} moves after a stall", lambda s: s.moves(port)[1:] & s.stalls(port)[:-1]
    if port.direction == "in":
        yield f"{name} is full: a beat waits", lambda s: s.holds(port)
    else:
        yield f"{name} is empty: a sink waits", lambda s: s.holds(port)
    if port.last:
        yield f"{name}: a {port.last} of one beat", lambda s: s.lengths(name) == 1
        yield f"{name}: a {port.last} of several beats", lambda s: s.lengths(name) > 1


def _of_field(port: StreamPort, field: Field) -> Iterator[tuple[str, Point]]:
    for what, is_it in _corners(field):
        yield f"{port.name}.{field.name} is {what}", partial(_has, port.name, field.name, is_it)


def _corners(field: Field) -> Iterator[tuple[str, Callable[[NDArray[Any]], Any]]]:
    """Of numbers the ends of the range and what is next to nothing."""
    if field.format in FLOATS:
        exponent, fraction = FLOATS[field.format]
        top, ones = (1 << exponent) - 1, (1 << fraction) - 1

        def parts(v: NDArray[Any]) -> tuple[Any, Any, Any]:
            return v >> (exponent + fraction), v >> fraction & top, v & ones

        yield "0", lambda v: v == 0
        yield "-0", lambda v: v == 1 << (exponent + fraction)
        yield "subnormal", lambda v: (parts(v)[1] == 0) & (parts(v)[2] != 0)
        yield "negative", lambda v: (parts(v)[0] == 1) & (parts(v)[1] > 0) & (parts(v)[1] < top)
        yield "the largest", lambda v: (parts(v)[1] == top - 1) & (parts(v)[2] == ones)
        yield "infinite", lambda v: (parts(v)[1] == top) & (parts(v)[2] == 0)
        yield "not a number", lambda v: (parts(v)[1] == top) & (parts(v)[2] != 0)
        return
    low, high = (-(1 << field.width - 1), (1 << field.width - 1) - 1) if field.signed else (0, (1 << field.width) - 1)
    if field.width > 8:  # sums of several, addresses
        return
    for value in dict.fromkeys((low, -1, 0, high) if field.signed else (0, high)):
        yield str(value), partial(np.equal, value)


def _stalled_while(a: StreamPort, b: StreamPort, seen: Seen) -> Any:
    return seen.stalls(a) & seen.moves(b)


def _told(status: str, bit: int, seen: Seen) -> Any:
    return seen.trace.flag(status, bit)


def _has(stream: str, field: str, is_it: Callable[[NDArray[Any]], Any], seen: Seen) -> Any:
    return is_it(seen.values(stream)[field])


def _reset(seen: Seen) -> Any:
    """After a beat has come."""
    later = np.flatnonzero(seen.trace.flag("rst")) > RESET_CYCLES
    return later.any() and any(seen.moves(p).any() for p in seen.spec.ports)


def tiny(unit: str) -> UnitSpec:
    """The configuration that coverage is counted at."""
    return UNITS[unit].configure("tiny", layers=[CONFIGURED.get(unit, {})])
