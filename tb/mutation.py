"""Mutation score of a unit's bench: one wrong bit at a time in the unit's netlist, and whether the bench sees it.

Yosys puts all mutants of a unit into one netlist; the input ``mutsel`` switches one of them on, 0 none. A mutant forces
one bit of one port of one cell to 0 or 1, inverts it, or mixes it with another bit of that port. Clock pins are left
out: no logic drives them, and what a register on another clock edge does is a matter of delays, which the netlist has
not. The bulk player plays the unit's own cases: a mutant is killed by the first that
:func:`tb.transactions.check` objects to, or when it ends the simulator. Of a mutant that survives,
:mod:`tb.equivalence` says whether anybody could tell it from the unit.
"""

import hashlib
import multiprocessing
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from typing import Any

from gen.export import Product, export, rtlil
from gen.netlist import yosys
from golden.spec import UnitSpec
from tb import equivalence
from tb.cosim import Rtl, compile
from tb.equivalence import HOW, Verdict
from tb.transactions import Case, CheckFailed, check
from tb.units import BENCHES

COUNT = 1000
SEED = 1
ENOUGH = 0.98
SELECT = "mutsel"

CYCLES = 20_000
"""Of the unmutated unit, in all cases that a mutant is played against."""

_TIMING = re.compile(r" -port ((WR_|RD_)?CLK|RD_EN|RD_ARST|RD_SRST) ")
"""Clock pins, and pins of memories that ``memory_nordff`` has left without a function."""


@dataclass(frozen=True)
class Mutant:
    """One wrong bit; ``number`` is the value of ``mutsel`` that makes it wrong, ``command`` is Yosys'."""

    number: int
    command: str

    def _all(self, option: str) -> list[str]:
        return re.findall(rf" -{option} (\S+)", self.command)

    @property
    def name(self) -> str:
        """What is wrong with which port of which cell; no two mutants of a netlist have the same."""
        (mode,), (cell,), (port,), (bit,) = (self._all(o) for o in ("mode", "cell", "port", "portbit"))
        by = "".join(f" by bit {control}" for control in self._all("ctrlbit"))
        return f"{mode}{by}, {cell.removeprefix('$flatten').replace(chr(92), '')} {port}[{bit}]"

    @property
    def where(self) -> str:
        """The Python lines that the bit comes from, and its wire, where known."""
        wire = "".join(f" ({w}[{i}])" for w, i in zip(self._all("wire"), self._all("wirebit"), strict=True))
        return (", ".join(self._all("src")) or "no line known") + wire

    def __str__(self) -> str:
        return f"{self.where}: {self.name}"


@dataclass(frozen=True)
class Mutated:
    """A unit with all its mutants: a product with one more input. ``netlist`` is a hash of the unmutated one."""

    product: Product
    mutants: tuple[Mutant, ...]
    netlist: str


@dataclass(frozen=True)
class Score:
    """Of a bench: ``killers`` counts mutants by the case that kills them, ``survivors`` has the verdicts on the
    others; ``played`` of all ``cases``, with ``cycles`` of the unmutated unit, are what mutants were played against.
    ``seconds`` are of CPU, up to the comparison."""

    unit: str
    netlist: str
    seed: int
    mutants: int
    played: int
    cases: int
    cycles: int
    killers: Counter[str]
    survivors: tuple[tuple[Mutant, Verdict], ...]
    seconds: float

    @property
    def holes(self) -> list[tuple[Mutant, Verdict]]:
        """Survivors that are not shown to be the unit."""
        return [(m, v) for m, v in self.survivors if not v.same]

    @property
    def share(self) -> float:
        """Killed, of the mutants that are not shown to be the unit."""
        killed = self.killers.total()
        return killed / max(1, killed + len(self.holes))

    def table(self) -> str:
        same = Counter(v.text for _, v in self.survivors if v.same)
        lines = [
            f"{self.unit}: {self.mutants} mutants, seed {self.seed}; "
            f"{self.played} of {self.cases} cases, {self.cycles} cycles",
            f"  killed       {self.killers.total()}, by {len(self.killers)} cases",
            f"  equivalent   {same.total()}{''.join(f'; {n} {text}' for text, n in same.items())}",
            f"  not killed   {len(self.holes)}",
            f"  score        {100 * self.share:.1f} %",
        ]
        return "\n".join(lines + [f"    {m}: {v.text}" for m, v in self.holes])

    def record(self) -> dict[str, Any]:
        """For a program to read."""
        same = {text: [m.name for m, v in self.survivors if v == Verdict(True, text)] for text in HOW}
        return {
            "unit": self.unit,
            "netlist": self.netlist,
            "seed": self.seed,
            "mutants": self.mutants,
            "played": self.played,
            "cases": self.cases,
            "cycles": self.cycles,
            "killed": self.killers.total(),
            "equivalent": len(self.survivors) - len(self.holes),
            "score": self.share,
            "seconds": round(self.seconds),
            "same": same,
            "holes": [{"where": m.where, "mutant": m.name, "verdict": v.text} for m, v in self.holes],
        }


def measure(
    spec: UnitSpec,
    count: int = COUNT,
    seed: int = SEED,
    say: Callable[[str], None] = lambda line: None,
    known: Mapping[str, Any] | None = None,
) -> Score:
    """The score of the bench of ``spec``; :class:`CheckFailed` when the unmutated netlist does not pass it. ``known``
    is a record of the same unit: as long as the netlist is the same, its verdicts stand."""
    say(f"making {count} mutants of {spec.unit}")
    start = _cpu()
    made = mutated(spec, count, seed)
    rtl = compile(spec, product=made.product)
    cases = BENCHES[spec.unit](spec, 1)
    played, cycles = affordable(rtl, cases)
    say(f"playing {len(played)} of {len(cases)} cases")
    found = list(killers(rtl, played, made.mutants))
    seconds = _cpu() - start
    alive = [m for m, killer in zip(made.mutants, found, strict=True) if killer is None]
    verdicts = _known(made, known or {})
    left = [m for m in alive if m.name not in verdicts]
    say(f"comparing {len(left)} of {len(alive)} survivors with the unit")
    if left:
        judged = equivalence.verdicts(made.product, SELECT, [m.number for m in left])
        verdicts |= zip((m.name for m in left), judged, strict=True)
    return Score(
        unit=spec.unit,
        netlist=made.netlist,
        seed=seed,
        mutants=len(made.mutants),
        played=len(played),
        cases=len(cases),
        cycles=cycles,
        killers=Counter(filter(None, found)),
        survivors=tuple((m, verdicts[m.name]) for m in alive),
        seconds=seconds,
    )


def _cpu() -> float:
    """Seconds of this process and its children."""
    return sum(os.times()[:4])


def _known(made: Mutated, record: Mapping[str, Any]) -> dict[str, Verdict]:
    if record.get("netlist") != made.netlist:
        return {}
    same = {name: Verdict(True, text) for text, names in record["same"].items() for name in names}
    return same | {hole["mutant"]: Verdict(False, hole["verdict"]) for hole in record["holes"]}


def mutated(spec: UnitSpec, count: int = COUNT, seed: int = SEED) -> Mutated:
    """``count`` mutants of a unit, sampled by Yosys over all cells and ports; fewer where there are not so many. Where
    they are fewer than :data:`COUNT`, they are the first of a sample of that size, which is in no order."""
    more = max(count, COUNT) * 5 // 4  # some are of pins that are left out
    width = more.bit_length()
    script = [
        "read_rtlil unit.il",
        f"prep -flatten -top {spec.unit}",
        "memory_nordff",
        "delete t:$scopeinfo",
        "write_rtlil base.il",
        f"mutate -list {more} -seed {seed} -ctrl {SELECT} {width} 1 -o mutants.ys",
        "write_verilog -noattr base.v",
    ]
    listed = yosys(script, {"unit.il": rtlil(spec)}, ["base.il", "mutants.ys", "base.v"])
    numbered = enumerate(listed["mutants.ys"].splitlines(), 1)
    mutants = tuple(Mutant(i, line) for i, line in numbered if not _TIMING.search(line))[:count]
    script = ["read_rtlil base.il", *(m.command for m in mutants), "write_verilog -noattr mutated.v"]
    verilog = yosys(script, {"base.il": listed["base.il"]}, ["mutated.v"])["mutated.v"]
    verilog = verilog.replace(" // synopsys parallel_case", "")  # a promise that only the unmutated netlist keeps
    plain = export(spec)
    port = {"name": SELECT, "direction": "input", "width": width}
    manifest = plain.manifest | {"ports": [*plain.manifest["ports"], port], "tied": [SELECT]}
    netlist = hashlib.sha256(listed["base.v"].encode()).hexdigest()[:16]
    return Mutated(replace(plain, verilog=verilog, manifest=manifest), mutants, netlist)


def affordable(rtl: Rtl, cases: Sequence[Case]) -> tuple[list[Case], int]:
    """The shortest cases first, as many as fit into :data:`CYCLES`, and their cycles. All of them must pass."""
    lengths = []
    for case in cases:
        played = rtl.play(case)
        check(case, played)
        lengths.append(played.ran)
    chosen, total = [], 0
    for ran, _, case in sorted(zip(lengths, range(len(cases)), cases, strict=True)):
        if total + ran > CYCLES:
            break
        chosen.append(case)
        total += ran
    return chosen, total


def killers(rtl: Rtl, cases: Sequence[Case], mutants: Sequence[Mutant]) -> Iterator[str | None]:
    """For each mutant the case that kills it. They are played in another process, which they may end."""
    context = multiprocessing.get_context("fork")
    left = list(mutants)
    while left:
        ours, theirs = context.Pipe(duplex=False)
        child = context.Process(target=_play, args=(rtl, cases, left, theirs))
        child.start()
        theirs.close()
        try:
            while left:
                yield ours.recv()
                left.pop(0)
        except EOFError:
            yield "the simulator ended"
            left.pop(0)
        child.join()


def _play(rtl: Rtl, cases: Sequence[Case], mutants: Sequence[Mutant], report: Connection) -> None:
    for mutant in mutants:
        rtl.tie(**{SELECT: mutant.number})
        report.send(next((case.name for case in cases if _fails(rtl, case)), None))


def _fails(rtl: Rtl, case: Case) -> bool:
    try:
        check(case, rtl.play(case))
    except CheckFailed:
        return True
    return False
