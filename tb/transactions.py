"""What a bench plays, what a player reports, and the one place that judges.

A :class:`Case` is data: the beats of every stream, how they stall, and what must come out. Two players play it
(``tb.bench_cocotb`` through cocotb, ``tb.cosim`` in C++) and report a :class:`Played`; both see the same clock cycles,
because they follow the rules below and step the same random generators.

Rules of play
    Two cycles of reset, sources and sinks idle; then cycle 0. In every cycle each stream steps its generator once. An
    idle source with a beat left presents it unless its generator says pause, and holds it until it is taken; an idle
    source drives ones on ``tdata`` and ``tlast``. A sink is ready unless its generator says pause. Signals are driven
    after the clock edge and sampled before the next. Once all inputs are taken and all expected outputs are there,
    every sink stays ready for ``TAIL`` cycles, to catch what should not come. A case also ends when no beat moves for
    ``patience`` cycles, or when an output has ``SURPLUS`` beats too many. With ``reset_at`` the reset is high in that
    cycle alone, in which nothing counts as transferred; in the next cycle every output must be idle and the status must
    be 0, and the case ends; that one cycle of reset must do for the case played next, which has none of its own.
    A :class:`World` is told of the beats of a cycle after it, of the inputs first, each in the order of the ports; what
    it gives can be presented in the next cycle.
"""

import copy
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from golden.ports import Beats, StreamPort
from golden.spec import UnitSpec

RESET_CYCLES = 2
TAIL = 64
SURPLUS = 16
PATIENCE = 4096

SHY = 256
"""In place of an output's level: ready only after a cycle in which a beat was shown. A unit whose valid waits for
ready, which AXI forbids, hangs."""
PAUSE = 100
"""Cycles that a stream of a bench hardly ever pauses for."""

VIOLATIONS = (
    "valid was withdrawn before ready",
    "data changed before ready",
    "last changed before ready",
    "valid is high after reset",
)
"""What a player may find wrong with an output stream; players report the index."""


@dataclass(frozen=True)
class Violation:
    """The first breach of the stream rules on one output: ``kind`` indexes :data:`VIOLATIONS`."""

    stream: str
    kind: int
    cycle: int


class CheckFailed(AssertionError):
    """A played case is not what it should be: one line per finding."""


@dataclass(frozen=True)
class Gift:
    """Beats for an input stream, packed one after another: beat ``i`` can be presented from cycle ``at + i * pace`` on,
    not before those that were given before. ``last`` is the ``tlast`` of all of them."""

    stream: str
    data: bytes
    at: int
    pace: int = 1
    last: bool = False


class World:
    """What stands around a unit and answers it: it is told of beats, and gives beats to inputs.

    This one does nothing. What a world gives depends on the beats of ``answers`` and their cycles alone; so does
    ``over``. ``notes``: streams of whose beats it is told at the latest before the next of ``answers``, which is
    cheaper. A case plays a copy of its world.
    """

    answers: frozenset[str] = frozenset()
    notes: frozenset[str] = frozenset()

    @property
    def over(self) -> bool:
        """Whether the case may end, as far as this world is concerned."""
        return True

    def begins(self) -> Iterable[Gift]:
        """What there is before anything was seen."""
        return ()

    def sees(self, cycle: int, stream: str, beat: int) -> Iterable[Gift]:
        """A beat was transferred. :class:`CheckFailed` for one that must not be: it ends the case."""
        return ()

    def ends(self) -> Iterable[str]:
        """What is wrong at the end of a case that was played to the end."""
        return ()


class Talk:
    """A world during one play."""

    def __init__(self, world: World):
        self.world = copy.deepcopy(world)
        self.findings: tuple[str, ...] = ()

    def tell(self, cycle: int, stream: str, beat: int) -> list[Gift]:
        """What the world gives when it sees a beat; nothing more after it has found something wrong."""
        try:
            return [] if self.findings else list(self.world.sees(cycle, stream, beat))
        except CheckFailed as e:
            self.findings = (str(e),)
            return []

    def end(self) -> None:
        """The case was played to its end."""
        self.findings = self.findings or tuple(self.world.ends())


@dataclass(frozen=True)
class Case:
    """One play from reset to the end.

    ``inputs`` and ``outputs`` (expected) hold the beats of each stream, by port name; an output that is absent is
    its ``world``'s: any beats may come. ``stall`` gives per stream the probability of a pause in a cycle, in 256ths
    (0..255, absent is 0, for outputs also :data:`SHY`); ``seed`` fixes when. ``cycles``, if given, is
    asserted exactly when nothing stalls. ``status`` is expected at the end. ``reset_at`` cuts the job with a reset in
    that cycle: what came out before must be a prefix of the expectation. ``judged`` is false for a malformed job whose
    outputs mean nothing: status, protocol and an end in time are still asserted.
    """

    name: str
    ports: tuple[StreamPort, ...]
    inputs: Mapping[str, Beats]
    outputs: Mapping[str, Beats]
    stall: Mapping[str, int] = field(default_factory=dict)
    seed: int = 0
    cycles: int | None = None
    status: Mapping[str, int] = field(default_factory=dict)
    reset_at: int | None = None
    judged: bool = True
    patience: int = PATIENCE
    world: World = field(default_factory=World)

    def generator(self, stream: str) -> int:
        """Initial state of a stream's stall generator: never 0, and unlike its neighbours'."""
        names = [p.name for p in self.ports]
        x = (self.seed * 0x9E3779B1 + names.index(stream) * 0x85EBCA6B + 1) & 0xFFFFFFFF
        x = ((x ^ x >> 16) * 0x7FEB352D) & 0xFFFFFFFF
        x = ((x ^ x >> 15) * 0x846CA68B) & 0xFFFFFFFF
        return x ^ x >> 16 or 1


@dataclass(frozen=True)
class Played:
    """What a player saw. ``taken`` counts the accepted beats of each input; ``first_in``, ``last_in``, ``first_out``
    and ``last_out`` are the cycles of the first and last accepted input beat and delivered output beat, of all
    streams; ``ran`` is the number of cycles from reset to the end. ``findings`` are those of the case's world, and
    ``world`` is how the case left it.
    """

    outputs: Mapping[str, Beats]
    taken: Mapping[str, int]
    first_in: int | None
    last_in: int | None
    first_out: int | None
    last_out: int | None
    status: Mapping[str, int]
    violations: tuple[Violation, ...]
    ran: int
    findings: tuple[str, ...] = ()
    world: World = field(default_factory=World, compare=False)

    @property
    def cycles(self) -> int | None:
        """From the first accepted input beat to the last delivered output beat, both included."""
        if self.first_in is None or self.last_out is None:
            return None
        return self.last_out - self.first_in + 1


def pauses(state: int, level: int) -> Iterator[bool]:
    """The stall generator: xorshift32, a pause when the top byte is below ``level``. The C++ driver has its twin."""
    while True:
        state ^= (state << 13) & 0xFFFFFFFF
        state ^= state >> 17
        state ^= (state << 5) & 0xFFFFFFFF
        yield state >> 24 < level


def case_of(
    spec: UnitSpec,
    name: str,
    jobs: Sequence[Any],
    *,
    seed: int = 0,
    stall: Mapping[str, int] | int = 0,
    status: Mapping[str, int] | None = None,
    reset_at: int | None = None,
) -> Case:
    """Jobs back to back, with the expectation from ``spec.compute``. ``stall`` is one level for all streams, or one per
    stream.

    The unused high bits of the inputs' ``tdata`` are filled with random bits, which the unit must ignore.
    """
    levels = dict.fromkeys([p.name for p in spec.ports], stall) if isinstance(stall, int) else dict(stall)
    flags = dict.fromkeys((s.signal for s in spec.status), 0)
    most = {p.name: SHY if p.direction == "out" else 255 for p in spec.ports}
    unknown = [*(levels.keys() - most.keys()), *(dict(status or {}).keys() - flags.keys())]
    if unknown or not all(0 <= level <= most[name] for name, level in levels.items()) or not jobs:
        raise ValueError(
            f"a case needs jobs, known streams and status ports, and levels 0..255, not {unknown or levels}"
        )
    inputs: dict[str, list[Beats]] = {p.name: [] for p in spec.ports if p.direction == "in"}
    outputs: dict[str, list[Beats]] = {p.name: [] for p in spec.ports if p.direction == "out"}
    for job in jobs:
        for stream, beats in spec.inputs(job).items():
            inputs[stream].append(beats)
        for stream, beats in spec.outputs(job, spec.compute(job)).items():
            outputs[stream].append(beats)
    cycles = spec.cycles(*jobs)
    rng = np.random.default_rng(seed)
    ports = {p.name: p for p in spec.ports}
    return Case(
        name=name,
        ports=spec.ports,
        inputs={s: _fill_pad(ports[s], Beats.concatenate(parts), rng) for s, parts in inputs.items()},
        outputs={s: Beats.concatenate(parts) for s, parts in outputs.items()},
        stall=levels,
        seed=seed,
        cycles=cycles,
        status=flags | dict(status or {}),
        reset_at=reset_at,
        patience=max(PATIENCE, 2 * cycles),
    )


def cases_of(spec: UnitSpec, name: str, jobs: Sequence[Any], seed: int = 0, level: int = 96) -> list[Case]:
    """The same jobs five times: idle sources off and on, backpressure off and on; sinks that wait for valid."""
    cases = []
    for idle in (0, level):
        for back in (0, level):
            stall = {p.name: idle if p.direction == "in" else back for p in spec.ports}
            suffix = {
                (0, 0): "free",
                (0, level): "back",
                (level, 0): "idle",
                (level, level): "both",
            }[idle, back]
            cases.append(case_of(spec, f"{name}-{suffix}", jobs, seed=seed, stall=stall))
    shy = {p.name: SHY for p in spec.ports if p.direction == "out"}
    return [*cases, case_of(spec, f"{name}-shy", jobs, seed=seed, stall=shy)]


def in_time(cases: Iterable[Case], patience: int, *streams: str) -> list[Case]:
    """The cases that a unit with so many cycles of patience (0: any number) bears: with less than ``PAUSE``, those in
    which none of the streams pauses that it waits for."""
    patient = not 0 < patience < PAUSE
    return [case for case in cases if patient or not any(case.stall.get(name) for name in streams)]


def altered(case: Case, stream: str, **fields: int) -> Case:
    """The same case, but for other values in the first beat of an input: what no job asks for."""
    (port,) = (p for p in case.ports if p.name == stream)
    beats = case.inputs[stream]
    values = port.unpack(beats)
    for name, value in fields.items():
        values[name][0] = value
    return replace(case, inputs={**case.inputs, stream: port.pack(last=beats.last, **values)})


def check(case: Case, played: Played) -> None:
    """Judge: raises :class:`CheckFailed` with one line per finding, at most a few per stream."""
    findings = [f"{case.name}: {line}" for line in _findings(case, played)]
    if findings:
        raise CheckFailed("\n".join(findings))


def _findings(case: Case, played: Played) -> Iterator[str]:
    ports = {p.name: p for p in case.ports}
    for v in played.violations:
        yield f"{ports[v.stream].prefix}: {VIOLATIONS[v.kind]} in cycle {v.cycle}"
    yield from played.findings
    if played.findings:
        return  # the rest would say that the case was cut short
    for name, value in case.status.items():
        wanted = value if case.reset_at is None else 0
        if played.status[name] != wanted:
            yield f"{name}: expected {wanted:#x}, got {played.status[name]:#x}"
    short = False
    if case.judged:
        for name, expected in case.outputs.items():
            got = played.outputs[name]
            short |= len(got) < len(expected)
            if any(case.stall.values()) or case.cycles is None:
                expected, got = _timeless(ports[name], expected, got)
            yield from _differences(ports[name], expected, got)
    if case.reset_at is not None:
        if played.ran <= case.reset_at:
            yield f"ended in cycle {played.ran - 1}, before the reset in cycle {case.reset_at}"
        if not short and played.world.over:
            yield f"the job was over before the reset in cycle {case.reset_at}: nothing was cut"
        return
    whole = True
    for name, beats in case.inputs.items():
        if played.taken[name] < len(beats):
            whole = False
            yield f"{ports[name].prefix}: {played.taken[name]} of {len(beats)} beats taken by cycle {played.ran}"
    if not case.judged:
        return
    for name, beats in case.outputs.items():
        came = len(played.outputs[name])
        whole &= came == len(beats)
        if came < len(beats):
            yield f"{ports[name].prefix}: {came} of {len(beats)} beats came by cycle {played.ran}"
    if whole and case.cycles is not None and not any(case.stall.values()) and played.cycles != case.cycles:
        yield f"cycles: expected {case.cycles}, got {played.cycles}"


def _timeless(port: StreamPort, expected: Beats, got: Beats) -> tuple[Beats, Beats]:
    """What stalls leave as it is. Where they change the order and some beats are missing, of the expected ones those
    that came; if others came, as many of them as there are."""
    if not port.timed and port.ordered:
        return expected, got
    expected, got = port.untimed(expected), port.untimed(got)
    if port.ordered or len(got) >= len(expected):
        return expected, got
    rest = [beat.tobytes() for beat in expected.data]
    missing = Counter(rest) - Counter(beat.tobytes() for beat in got.data)
    kept = []
    for beat in rest:
        kept.append(not missing[beat])
        missing[beat] -= missing[beat] > 0
    return Beats(expected.data[kept], expected.last[kept]), got


def _differences(port: StreamPort, expected: Beats, got: Beats) -> Iterator[str]:
    """The first wrong beat, the first wrong tlast, the first beat too many."""
    n = min(len(expected), len(got))
    wrong = np.flatnonzero((expected.data[:n] != got.data[:n]).any(axis=1))
    if len(wrong):
        i = int(wrong[0])
        what = _first_difference(port, _beat(expected, i), _beat(got, i))
        yield f"{port.prefix} beat {i}: {what} ({len(wrong)} of {n} differ)"
    wrong = np.flatnonzero(expected.last[:n] != got.last[:n])
    if len(wrong):
        i = int(wrong[0])
        yield f"{port.prefix} beat {i}: tlast: expected {expected.last[i]:d}, got {got.last[i]:d}"
    if len(got) > len(expected):
        yield f"{port.prefix} beat {n}: expected no more beats, got {_hex(_beat(got, n))}"


def _first_difference(port: StreamPort, expected: Beats, got: Beats) -> str:
    want, have = port.unpack(expected), port.unpack(got)
    for lane in range(port.lanes):
        for f in port.fields:
            a, b = int(want[f.name][0, lane]), int(have[f.name][0, lane])
            if a != b:
                where = f"lane {lane} {f.name}" if port.lanes > 1 else f.name
                show = str if f.format.startswith(("int", "uint")) else hex
                return f"{where}: expected {show(a)}, got {show(b)}"
    return f"unused bits: expected 0, got tdata {_hex(got)}"


def _beat(beats: Beats, i: int) -> Beats:
    return Beats(beats.data[i : i + 1], beats.last[i : i + 1])


def _hex(beat: Beats) -> str:
    return "0x" + beat.data[0][::-1].tobytes().hex()


def _fill_pad(port: StreamPort, beats: Beats, rng: np.random.Generator) -> Beats:
    pad = 8 * port.bytes - port.width
    if not pad:
        return beats
    data: NDArray[np.uint8] = beats.data.copy()
    data[:, -1] |= rng.integers(0, 1 << pad, len(data), dtype=np.uint8) << np.uint8(8 - pad)
    return Beats(data, beats.last)
