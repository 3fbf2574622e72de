"""Bulk co-simulation: the exported Verilog as a function on arrays.

``rtl = compile(spec)`` builds the product of ``spec`` with Verilator into a shared library around a stream driver in
C++; ``rtl(job)`` computes what ``spec.compute(job)`` computes, in the RTL.
"""

import ctypes
import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from gen.export import Product, export
from golden.ports import Beats
from golden.spec import UnitSpec
from tb.build import Build, Flags
from tb.transactions import (
    PATIENCE,
    RESET_CYCLES,
    SURPLUS,
    TAIL,
    Case,
    CheckFailed,
    Played,
    Violation,
    check,
)


class _Stream(ctypes.Structure):
    _fields_ = (
        ("data", ctypes.c_void_p),
        ("last", ctypes.c_void_p),
        ("beats", ctypes.c_uint64),
        ("generator", ctypes.c_uint32),
        ("level", ctypes.c_uint32),
        ("moved", ctypes.c_uint64),
        ("violation", ctypes.c_int64),
        ("violation_cycle", ctypes.c_int64),
    )


_WHEN = ("first_in", "last_in", "first_out", "last_out")


class _Run(ctypes.Structure):
    _fields_ = (
        ("reset_cycles", ctypes.c_uint64),
        ("tail", ctypes.c_uint64),
        ("surplus", ctypes.c_uint64),
        ("patience", ctypes.c_uint64),
        ("least", ctypes.c_int64),
        ("reset_at", ctypes.c_int64),
        *((when, ctypes.c_int64) for when in _WHEN),
        ("ran", ctypes.c_uint64),
    )


def compile(spec: UnitSpec, optimise: bool = False, product: Product | None = None) -> "Rtl":
    """Build the RTL of ``spec`` for bulk co-simulation, or find it in the cache.

    Without ``optimise`` the build is the one that the cocotb player uses. ``product`` replaces ``export(spec)``, for
    faulty or synthesised variants. An ``Rtl`` may be used for any number of jobs.
    """
    return Rtl(spec, Build(product or export(spec), Flags(optimise=optimise)))


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
        library.player_play.argtypes = [ctypes.c_void_p] * 5
        library.player_fetch.argtypes = [
            ctypes.c_void_p,
            ctypes.c_uint64,
            ctypes.c_void_p,
            ctypes.c_void_p,
        ]
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

    def play(self, case: Case) -> Played:
        """Play a case by the rules of ``tb.transactions``; judge it with :func:`tb.transactions.check`.
        ``ValueError`` for one with a ``world``, which the cocotb player alone has."""
        if case.world:
            raise ValueError(f"case {case.name} must have no world for the bulk player")
        return self._play(case, least=0, surplus=SURPLUS)

    def _play(self, case: Case, least: int, surplus: int) -> Played:
        streams = self.manifest["streams"]
        ins = [s for s in streams if s["direction"] == "in"]
        outs = [s for s in streams if s["direction"] == "out"]
        keep: list[Any] = []  # the arrays that the driver reads
        c_ins = (_Stream * len(ins))(*(self._stream(case, s["name"], case.inputs[s["name"]], keep) for s in ins))
        c_outs = (_Stream * len(outs))(*(self._stream(case, s["name"], case.outputs[s["name"]], keep) for s in outs))
        run = _Run(
            reset_cycles=RESET_CYCLES,
            tail=TAIL,
            surplus=surplus,
            patience=case.patience,
            least=least,
            reset_at=-1 if case.reset_at is None else case.reset_at,
            **dict.fromkeys(_WHEN, -1),
        )
        status = (ctypes.c_uint64 * len(self.manifest["status"]))()
        start = time.perf_counter()
        self._library.player_play(self._player, ctypes.byref(run), c_ins, c_outs, status)
        self.seconds = time.perf_counter() - start

        played = Played(
            outputs=self._outputs(outs, c_outs),
            taken={s["name"]: c.moved for s, c in zip(ins, c_ins, strict=True)},
            **{when: None if getattr(run, when) < 0 else getattr(run, when) for when in _WHEN},
            status={s["name"]: value for s, value in zip(self.manifest["status"], status, strict=True)},
            violations=tuple(
                Violation(s["name"], c.violation, c.violation_cycle)
                for s, c in zip(outs, c_outs, strict=True)
                if c.violation >= 0
            ),
            ran=run.ran,
        )
        self.cycles, self.ran = played.cycles or 0, played.ran
        return played

    def _stream(self, case: Case, name: str, beats: Beats, keep: list[Any]) -> _Stream:
        data = np.ascontiguousarray(beats.data)
        last = np.ascontiguousarray(beats.last, dtype=np.uint8)
        keep += [data, last]
        level, state = case.stall.get(name, 0), case.generator(name)
        return _Stream(data.ctypes.data, last.ctypes.data, len(beats), state, level, 0, -1, 0)

    def _outputs(self, outs: list[dict[str, Any]], c_outs: Any) -> Mapping[str, Beats]:
        outputs = {}
        for i, s in enumerate(outs):
            data = np.empty((c_outs[i].moved, s["tdata_width"] // 8), dtype=np.uint8)
            last = np.empty(c_outs[i].moved, dtype=np.uint8)
            self._library.player_fetch(self._player, i, data.ctypes.data, last.ctypes.data)
            outputs[s["name"]] = Beats(data, last.astype(np.bool_))
        return outputs
