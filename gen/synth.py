"""Synthesis reports: what a product, or one kind of block in it, costs on three targets."""

import json
import re
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any, Self

from gen import liberty, netlist, toolchain
from gen.export import Product
from gen.netlist import Netlist
from golden.spec import SpecError

TARGETS = ("ecp5", "asic", "lut6", "generic")
FREQUENCY = 200
SEEDS = 3

PERIOD = 1000.0
"""Of the clock for which OpenSTA is asked, in ns: long enough that every path has slack."""


@dataclass(frozen=True)
class Report:
    """What a synthesis came to. ``figures`` by target:

    ``lut6``     luts, ffs, carry4
    ``ecp5``     luts = lut4 + 2 * ccu2c + 6 * lutrams (so many places of a LUT each of them takes), ffs, dsps, brams;
                 fmax_mhz is the median of the seeds
    ``asic``     area in the library's unit (um^2, usually), cells, ffs, delay_ns where a tool can tell
    ``generic``  gates, ffs

    ``notes`` say how: tools and versions, recipe, what the delay is.
    """

    unit: str
    configuration: Mapping[str, Any]
    module: str
    target: str
    figures: Mapping[str, float]
    notes: Mapping[str, str]

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Inverse of :meth:`to_json`."""
        return cls(**json.loads(text))

    def table(self) -> str:
        """The figures and notes, one a line, aligned."""
        rows = {name: f"{value:,.10g}" for name, value in self.figures.items()} | dict(self.notes)
        width = max(map(len, rows))
        return "\n".join([f"{self.module} on {self.target}", *(f"{n:{width}}  {v}" for n, v in rows.items())])


@dataclass(frozen=True)
class Synthesis:
    """A report and the netlist that it is about."""

    report: Report
    netlist: Netlist


def _nothing(line: str) -> None:
    """Says nothing; a function with a name, so that options can go to another process."""


@dataclass(frozen=True)
class Options:
    """``library``: a Liberty file, else :func:`gen.toolchain.liberty`. ``frequency`` in MHz is what nextpnr aims at,
    with each of the ``seeds`` 1, 2, ...; 0 seeds leave place and route out. ``dsp`` allows DSP blocks on ECP5.
    """

    library: Path | None = None
    frequency: int = FREQUENCY
    seeds: int = SEEDS
    dsp: bool = False
    say: Callable[[str], None] = _nothing

    def __post_init__(self) -> None:
        for name, low in (("frequency", 1), ("seeds", 0)):
            if getattr(self, name) < low:
                raise SpecError(f"{name} must be at least {low}, not {getattr(self, name)}")

    def cells(self) -> liberty.Library:
        """The library; raises as :func:`gen.liberty.read` and :func:`gen.toolchain.liberty`."""
        return liberty.read(self.library or toolchain.liberty())


def synthesise(product: Product, target: str, block: str | None = None, options: Options | None = None) -> Synthesis:
    """Synthesise the product, or the module of one kind of block with everything below it, for a target.

    Raises  :class:`~golden.spec.SpecError` for an unknown target or block and an unusable library,
            :class:`~gen.toolchain.ToolError` for a missing tool.
    """
    flows = {"ecp5": _ecp5, "asic": _asic, "lut6": _lut6, "generic": _generic}
    if target not in flows:
        raise SpecError(f"target must be one of {', '.join(TARGETS)}, not {target!r}")
    module = netlist.module_of(product, block)
    made, figures, notes = flows[target](product, module, options or Options())
    notes = {"yosys": toolchain.yosys().version, **notes}
    m = product.manifest
    return Synthesis(Report(m["unit"], m["configuration"], module, target, figures, notes), made)


def fmax(made: Netlist, frequency: int, seeds: int, say: Callable[[str], None]) -> list[float]:
    """MHz by nextpnr for each seed: LFE5U-85F, no pads, so paths begin and end at registers; 0 without such a path."""
    found = []
    for seed in range(1, seeds + 1):
        say(f"placing and routing {made.module}, seed {seed} of {seeds}")
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, "netlist.json").write_text(json.dumps({"modules": {made.module: made.design}}))
            options = (
                f"--85k --package CABGA756 --out-of-context --timing-allow-fail --freq {frequency} --seed {seed} -q"
            )
            files = ["--json", "netlist.json", "--report", "report.json"]
            _run([*toolchain.nextpnr_ecp5(), *options.split(), *files], folder)
            report = json.loads(Path(folder, "report.json").read_text())
        found.append(min((clock["achieved"] for clock in report["fmax"].values()), default=0.0))
    return found


def delay(made: Netlist, library: liberty.Library) -> float | None:
    """Longest path in ns. With OpenSTA from register to register, ports being registers without a delay; else ABC's
    word, for the gates between registers alone, and ``None`` where ABC cannot see through adder cells. ``None`` too for
    a library without delays."""
    sta = toolchain.opensta()
    if not library.timed:
        return None
    if sta is None:
        adders = library.adder is not None and library.adder[0].name in made.cells
        return None if adders else made.abc_delay
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "netlist.v").write_text(made.verilog)
        Path(folder, "script").write_text(
            f"read_liberty {{{library.path.absolute()}}}\nread_verilog netlist.v\nlink_design {made.module}\n"
            f"create_clock -name clk -period {PERIOD} [get_ports clk]\n"
            "set_input_delay 0 -clock clk [all_inputs]\nset_output_delay 0 -clock clk [all_outputs]\n"
            'puts "slack [worst_slack]"\n'
        )
        said = _run([sta, "-no_splash", "-exit", "script"], folder)
    slack = re.search(r"^slack (\S+)$", said, re.MULTILINE)
    if slack is None:
        raise RuntimeError(f"OpenSTA found no path:\n{said[-2000:]}")
    return round(PERIOD - float(slack[1]), 3)


def _lut6(product: Product, module: str, options: Options) -> tuple[Netlist, dict[str, float], dict[str, str]]:
    options.say(f"synthesising {module} for lut6")
    made = netlist.lut6(product, module)
    luts = _count(made, r"LUT[1-6]")
    return made, {"luts": luts, "ffs": _count(made, r"FD.E"), "carry4": made.cells["CARRY4"]}, {"recipe": made.recipe}


def _generic(product: Product, module: str, options: Options) -> tuple[Netlist, dict[str, float], dict[str, str]]:
    options.say(f"synthesising {module} for generic gates")
    made = netlist.generic(product, module)
    ffs = _count(made, r"\$_S?DFFE?_.*")
    return made, {"gates": made.cells.total() - ffs, "ffs": ffs}, {"recipe": made.recipe}


def _ecp5(product: Product, module: str, options: Options) -> tuple[Netlist, dict[str, float], dict[str, str]]:
    options.say(f"synthesising {module} for ecp5")
    made = netlist.ecp5(product, module, options.dsp)
    cells = made.cells
    figures: dict[str, float] = {
        "luts": cells["LUT4"] + 2 * cells["CCU2C"] + 6 * cells["TRELLIS_DPR16X4"],
        "lut4": cells["LUT4"],
        "ccu2c": cells["CCU2C"],
        "lutrams": cells["TRELLIS_DPR16X4"],
        "ffs": cells["TRELLIS_FF"],
        "dsps": cells["MULT18X18D"],
        "brams": cells["DP16KD"],
    }
    notes = {"recipe": made.recipe}
    if options.seeds:
        found = fmax(made, options.frequency, options.seeds, options.say)
        figures |= {"fmax_mhz": round(median(found), 1)}
        of = ", ".join(f"{f:.1f}" for f in found)
        notes |= {"fmax": f"{of} MHz with seeds 1 to {options.seeds}, {options.frequency} MHz asked"}
        notes |= {"nextpnr": toolchain.nextpnr_version()}
    return made, figures, notes


def _asic(product: Product, module: str, options: Options) -> tuple[Netlist, dict[str, float], dict[str, str]]:
    library = options.cells()
    made = []
    for recipe in netlist.recipes(library):
        options.say(f"synthesising {module} for {library.name}, recipe {recipe}")
        made.append(netlist.asic(product, module, library, recipe))
    best = min(made, key=lambda m: m.area(library))
    delays = [delay(m, library) for m in made]
    longest = delays[made.index(best)]
    figures: dict[str, float] = {
        "area": best.area(library),
        "cells": best.cells.total(),
        "ffs": sum(n for name, n in best.cells.items() if library.cells[name].sequential),
    }
    if longest is not None:
        figures["delay_ns"] = longest
    notes = {"library": library.name, "recipe": f"{best.recipe}, the smallest of"}
    for m, d in zip(made, delays, strict=True):
        notes[m.recipe] = f"area {m.area(library):,.10g}" + (f", {d} ns" if d else "")
    gates = "ABC, gates between registers alone; none through adder cells: OpenSTA is needed"
    notes["delay"] = "OpenSTA, register to register" if toolchain.opensta() else gates
    return best, figures, notes


def _count(made: Netlist, pattern: str) -> int:
    return sum(n for name, n in made.cells.items() if re.fullmatch(pattern, name))


def _run(command: list[str], folder: str) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{Path(command[0]).name} failed:\n{(done.stdout + done.stderr)[-2000:]}")
    return done.stdout + done.stderr
