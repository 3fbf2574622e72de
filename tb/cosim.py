"""Bulk co-simulation: the exported Verilog as a function on arrays.

``rtl = compile(spec)`` builds the product of ``spec`` with Verilator into a shared library around a stream driver in
C++; ``rtl(job)`` computes what ``spec.compute(job)`` computes, in the RTL. A :class:`Session` is a unit with registers
and memory that is used step by step.
"""

import ctypes
import struct
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gen.export import Product
from gen.manifest import beat_bytes
from golden.axi import OKAY, RESPONSES
from golden.ports import Beats
from golden.spec import UnitSpec
from tb import products
from tb.axi import AxiWorld, Host, Memory, Read, Write
from tb.build import Build, Flags
from tb.trace import Trace
from tb.transactions import (
    PATIENCE,
    RESET_CYCLES,
    SURPLUS,
    TAIL,
    Case,
    CheckFailed,
    Gift,
    Played,
    Talk,
    Violation,
    check,
)


class _Stream(ctypes.Structure):
    _fields_ = (
        ("data", ctypes.c_void_p),
        ("last", ctypes.c_void_p),
        ("beats", ctypes.c_uint64),
        ("most", ctypes.c_uint64),
        ("generator", ctypes.c_uint32),
        ("level", ctypes.c_uint32),
        ("told", ctypes.c_uint32),
        ("number", ctypes.c_uint32),
        ("moved", ctypes.c_uint64),
        ("violation", ctypes.c_int64),
        ("violation_cycle", ctypes.c_int64),
    )


_WHEN = ("first_in", "last_in", "first_out", "last_out")
_NEVER, _NOTED, _ANSWERED = range(3)
_OVER, _ASKS, _PAUSED = range(3)
_NOTE = struct.Struct("QII")
_EVER = (1 << 64) - 1


class _Run(ctypes.Structure):
    _fields_ = (
        ("reset_cycles", ctypes.c_uint64),
        ("tail", ctypes.c_uint64),
        ("patience", ctypes.c_uint64),
        ("least", ctypes.c_int64),
        ("reset_at", ctypes.c_int64),
        ("until", ctypes.c_uint64),
        ("waits", ctypes.c_uint64),
        *((when, ctypes.c_int64) for when in _WHEN),
        ("ran", ctypes.c_uint64),
    )


def compile(
    spec: UnitSpec, optimise: bool = False, product: Product | None = None, coverage: tuple[str, ...] = ()
) -> "Rtl":
    """Build the RTL of ``spec`` for bulk co-simulation, or find it in the cache.

    Without ``optimise`` the build is the one that the cocotb player uses. ``product`` replaces that of ``spec``, for
    faulty or synthesised variants. With ``coverage`` it counts what that names, ``line`` and ``toggle``
    (:meth:`Rtl.coverage`). An ``Rtl`` may be used for any number of jobs.
    """
    return Rtl(spec, Build(product or products.of(spec), Flags(optimise=optimise, coverage=coverage)))


class Rtl:
    """A design in a Verilated library. ``cycles``, ``ran`` and ``seconds`` describe the last play: from the first
    accepted input beat to the last delivered output beat; all simulated cycles from reset on; wall time.
    """

    def __init__(self, spec: UnitSpec, build: Build):
        self.spec = spec
        self.manifest = build.product.manifest
        self.cycles = 0
        self.ran = 0
        self.seconds = 0.0
        library = ctypes.CDLL(str(build.library()))
        library.player_new.restype = ctypes.c_void_p
        library.player_delete.argtypes = [ctypes.c_void_p]
        pointer, number = ctypes.c_void_p, ctypes.c_uint64
        library.player_tie.argtypes = [pointer] * 2
        library.player_begin.argtypes = [pointer] * 3
        library.player_play.argtypes = [pointer] * 5
        library.player_give.argtypes = [pointer, number, pointer, pointer, number, number, number, ctypes.c_uint8]
        library.player_notes.restype = pointer
        library.player_notes.argtypes = [pointer, pointer]
        library.player_fetch.argtypes = [pointer, number, pointer, pointer]
        library.player_record.argtypes = [pointer, ctypes.c_int]
        library.player_replay.argtypes = [pointer, pointer, number]
        library.player_trace.restype = pointer
        library.player_trace.argtypes = [pointer, pointer]
        self._library = library
        self._player = library.player_new()

    def __del__(self) -> None:
        if hasattr(self, "_player"):
            self._library.player_delete(self._player)

    def __call__(self, job: Any, exact: bool = True) -> Any:
        """The result of one job, from reset, with nothing stalling.

        :class:`CheckFailed` when the RTL breaks a stream rule, sets a status bit, leaves input over or does not take
        exactly ``spec.cycles(job)`` cycles; where they are not ``exact``, when it does not give as many beats as
        expected. The result itself is not judged.
        """
        cycles = self.spec.cycles(job)
        nothing = {p.name: p.pack(**{f.name: np.zeros((0, p.lanes)) for f in p.fields}) for p in self.spec.ports}
        case = Case(
            name="job",
            ports=self.spec.ports,
            inputs=self.spec.inputs(job),
            outputs={p.name: nothing[p.name] for p in self.spec.ports if p.direction == "out"}
            if exact
            else self.spec.outputs(job, self.spec.compute(job)),
            status={s.signal: 0 for s in self.spec.status},
            judged=False,
            patience=max(PATIENCE, cycles),
        )
        played = self._play(case, least=cycles if exact else 0, surplus=cycles + PATIENCE)
        check(case, played)
        if exact and played.cycles != cycles:
            raise CheckFailed(f"job: cycles: expected {cycles}, got {played.cycles}")
        for name, beats in case.outputs.items():
            if not exact and len(played.outputs[name]) != len(beats):
                raise CheckFailed(f"job: {name}: expected {len(beats)} beats, got {len(played.outputs[name])}")
        return self.spec.result(job, played.outputs)

    def tie(self, **values: int) -> None:
        """Values of the inputs that the manifest lists as ``tied``, for all plays from here on; 0 at first."""
        words = [values[name] for name in self.manifest["tied"]]
        self._library.player_tie(self._player, (ctypes.c_uint64 * len(words))(*words))

    def record(self, on: bool = True) -> None:
        """From here on, or no longer: every port in every cycle, those of the reset included."""
        self._library.player_record(self._player, on)

    def trace(self) -> Trace:
        """What was recorded."""
        length = ctypes.c_uint64()
        where = self._library.player_trace(self._player, ctypes.byref(length))
        return Trace.of(self.manifest, ctypes.string_at(where, length.value) if length.value else b"")

    def replay(self, trace: Trace) -> float:
        """The bare evaluation loop: the inputs of a recording, outputs unseen. Its seconds."""
        rows = np.ascontiguousarray(trace.rows)
        start = time.perf_counter()
        self._library.player_replay(self._player, rows.ctypes.data, len(rows))
        return time.perf_counter() - start

    def coverage(self, file: Path) -> None:
        """Write Verilator's counters of lines and toggles, of all that was played."""
        self._library.player_coverage(ctypes.c_void_p(self._player), str(file).encode())

    def play(self, case: Case) -> Played:
        """Play a case by the rules of ``tb.transactions``; judge it with :func:`tb.transactions.check`."""
        return self._play(case, least=0, surplus=SURPLUS)

    def _play(self, case: Case, least: int, surplus: int) -> Played:
        play = Play(self, case, least, surplus)
        start = time.perf_counter()
        play.go()
        self.seconds = time.perf_counter() - start
        played = play.played()
        self.cycles, self.ran = played.cycles or 0, played.ran
        return played


class Play:
    """One play of a case, with the world that answers."""

    def __init__(self, rtl: Rtl, case: Case, least: int = 0, surplus: int = SURPLUS):
        self._rtl = rtl  # the player lives as long as this
        self._library, self._player, self._manifest, self._case = rtl._library, rtl._player, rtl.manifest, case
        self._talk = Talk(case.world)
        self.world = self._talk.world
        self._keep: list[Any] = []  # the arrays that the driver reads
        self._names = [s["name"] for s in self._manifest["streams"]]
        self._sides = {side: [s for s in self._manifest["streams"] if s["direction"] == side] for side in ("in", "out")}
        self._in, self._out = (
            (_Stream * len(streams))(*(self._stream(s, surplus) for s in streams)) for streams in self._sides.values()
        )
        self._places = {s["name"]: i for i, s in enumerate(self._sides["in"])}
        self._status = (ctypes.c_uint64 * len(self._manifest["status"]))()
        self._run = _Run(
            reset_cycles=RESET_CYCLES,
            tail=TAIL,
            patience=case.patience,
            least=least,
            reset_at=-1 if case.reset_at is None else case.reset_at,
            until=_EVER,
            **dict.fromkeys(_WHEN, -1),
        )
        self._library.player_begin(self._player, ctypes.byref(self._run), self._in)
        self.give(self.world.begins())

    @property
    def cycle(self) -> int:
        """The next one."""
        return int(self._run.ran)

    @property
    def status(self) -> dict[str, int]:
        """The status outputs as they were in the last cycle."""
        return {s["name"]: value for s, value in zip(self._manifest["status"], self._status, strict=True)}

    @property
    def faultless(self) -> bool:
        return not self._talk.findings and all(c.violation < 0 for c in self._out)

    def go(self, until: int = _EVER, enough: Callable[[], bool] = lambda: False) -> None:
        """To the end, or to before a cycle, or until it is enough after what the world has seen."""
        run, talk, why = self._run, self._talk, _ASKS
        run.until = until
        while why == _ASKS and not talk.findings and not enough():
            run.waits = not self.world.over
            why = self._library.player_play(self._player, ctypes.byref(run), self._in, self._out, self._status)
            for cycle, stream, beat in self._notes():
                self.give(talk.tell(cycle, stream, beat))
        if why == _OVER and self._case.reset_at is None:
            talk.end()

    def give(self, gifts: Iterable[Gift]) -> None:
        for g in gifts:
            at = self._places[g.stream]
            stream = ctypes.byref(self._in, at * ctypes.sizeof(_Stream))
            self._library.player_give(self._player, at, stream, g.data, len(g.data), g.at, g.pace, g.last)

    def played(self) -> Played:
        return Played(
            outputs={s["name"]: self._beats(i, s) for i, s in enumerate(self._sides["out"])},
            taken={name: self._in[i].moved for name, i in self._places.items()},
            **{when: None if getattr(self._run, when) < 0 else getattr(self._run, when) for when in _WHEN},
            status=self.status,
            violations=tuple(
                Violation(s["name"], c.violation, c.violation_cycle)
                for s, c in zip(self._sides["out"], self._out, strict=True)
                if c.violation >= 0
            ),
            ran=self._run.ran,
            findings=self._talk.findings,
            world=self.world,
        )

    def _stream(self, stream: Mapping[str, Any], surplus: int) -> _Stream:
        case, name, world = self._case, stream["name"], self.world
        found = case.inputs if stream["direction"] == "in" else case.outputs
        beats = found[name] if name in found else Beats(np.empty((0, 1), np.uint8), np.empty(0, np.bool_))
        data = np.ascontiguousarray(beats.data)
        last = np.ascontiguousarray(beats.last, dtype=np.uint8)
        self._keep += [data, last]
        return _Stream(
            data=data.ctypes.data,
            last=last.ctypes.data,
            beats=len(beats),
            most=len(beats) + surplus if name in found else _EVER,
            generator=case.generator(name),
            level=case.stall.get(name, 0),
            told=_ANSWERED if name in world.answers else _NOTED if name in world.notes else _NEVER,
            number=self._names.index(name),
            violation=-1,
        )

    def _notes(self) -> Iterator[tuple[int, str, int]]:
        """Cycle, stream and packed beat of what the world is to be told."""
        length = ctypes.c_uint64()
        where = self._library.player_notes(self._player, ctypes.byref(length))
        notes, at = ctypes.string_at(where, length.value) if length.value else b"", 0
        while at < len(notes):
            cycle, stream, width = _NOTE.unpack_from(notes, at)
            at += _NOTE.size + width
            yield cycle, self._names[stream], int.from_bytes(notes[at - width : at], "little")

    def _beats(self, sink: int, stream: Mapping[str, Any]) -> Beats:
        moved = self._out[sink].moved
        data = np.empty((moved, beat_bytes(stream)), dtype=np.uint8)
        last = np.empty(moved, dtype=np.uint8)
        self._library.player_fetch(self._player, sink, data.ctypes.data, last.ctypes.data)
        return Beats(data, last.astype(np.bool_))


class AccessError(RuntimeError):
    """A register access was answered with an error."""


class _Desk(AxiWorld):
    """A memory, and a host who may ask for more at any time."""

    @property
    def over(self) -> bool:
        return False


REST = 200


class Session:
    """A unit with AXI4 and AXI4-Lite ports from its reset on, to be used step by step: time passes in :meth:`read`,
    :meth:`write` and :meth:`step` alone.

    ``memory``: what it stands on, 1 MiB of zeros unless given. ``stall`` as in a case, one level for all streams.
    Each of the three raises :class:`~tb.transactions.CheckFailed` when the unit has broken a rule or does not answer.
    """

    def __init__(
        self,
        spec: UnitSpec,
        memory: Memory | None = None,
        *,
        stall: int = 0,
        seed: int = 0,
        optimise: bool = False,
        product: Product | None = None,
    ):
        memory = memory or Memory(spec.ports, np.zeros(1 << 20, np.uint8))
        world = _Desk(memory, Host(spec.ports, []))
        levels = dict.fromkeys([p.name for p in spec.ports], stall)
        self._case = Case("session", spec.ports, {}, {}, levels, seed, patience=_EVER, world=world)
        self._play = Play(compile(spec, optimise, product), self._case)
        assert isinstance(self._play.world, _Desk)
        self._world: _Desk = self._play.world  # the play's own

    @property
    def memory(self) -> NDArray[np.uint8]:
        """The memory's bytes, to be read and written between two steps."""
        return self._world.memory.image

    @property
    def room(self) -> range:
        """Addresses of the memory."""
        memory = self._world.memory
        return range(memory.base, memory.base + len(memory.image))

    def fetch(self, address: int, count: int) -> bytes:
        """Bytes of memory."""
        at = address - self.room.start
        return self.memory[at : at + count].tobytes()

    def store(self, address: int, data: bytes) -> None:
        """Bytes to memory."""
        at = address - self.room.start
        self.memory[at : at + len(data)] = np.frombuffer(data, np.uint8)

    @property
    def cycle(self) -> int:
        return self._play.cycle

    @property
    def status(self) -> dict[str, int]:
        """The unit's status outputs, interrupts among them."""
        return self._play.status

    def write(self, address: int, value: int) -> None:
        """Write a register; :class:`AccessError` when the unit answers with an error."""
        self._ask(Write(address=address, value=value, resp=None))

    def read(self, address: int) -> int:
        """Read a register; :class:`AccessError` when the unit answers with an error."""
        return self._ask(Read(address=address, resp=None))

    def step(self, cycles: int) -> None:
        self._go(cycles)

    def rest(self) -> None:
        """Some cycles, for who waits."""
        self._go(REST)

    def _ask(self, access: Write | Read) -> int:
        host = self._world.host
        self._play.give(host.asks(self.cycle - 1, access))
        self._go(PATIENCE, lambda: host.over)
        if not host.over:
            raise CheckFailed("\n".join(host.ends()))
        ((value, resp),) = host.seen
        if resp != OKAY:
            raise AccessError(f"{type(access).__name__} of {access.address:#05x} was answered with {RESPONSES[resp]}")
        return value

    def _go(self, cycles: int, enough: Callable[[], bool] = lambda: False) -> None:
        self._play.go(self.cycle + cycles, enough)
        if not self._play.faultless:
            check(self._case, self._play.played())
