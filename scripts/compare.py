"""Designs side by side on all targets: ``python -m scripts.compare [--json FILE] [--only NAME ...]``.

One row a design, and its ratios to the baseline, which is the first. A row of another unit joins by one more
:class:`Design`; energies need the unit's real data (``tb.units.REAL``).
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

from gen import toolchain
from gen.registry import unit
from gen.synth import Options
from golden.files import write
from golden.spec import SpecError
from scripts.figures import measured


@dataclass(frozen=True)
class Design:
    """A row: one kind of block of a unit in a configuration, with ``products`` per cycle, on ECP5 with DSP blocks or
    without."""

    name: str
    unit: str
    block: str
    configuration: Mapping[str, Any] = field(default_factory=dict)
    products: int = 1
    dsp: bool = False


def _pe(name: str, products: int = 1, **configuration: Any) -> Design:
    return Design(name, "mixpe_pe", "pe", {"group": 128, **configuration}, products)


def _mac(name: str, products: int = 1, **configuration: Any) -> Design:
    return Design(name, "pe_baseline", "mac", {"group": 128, **configuration}, products)


DESIGNS = [
    *(_pe(f"W8A8 {core}", weight="int8", core=core) for core in ("shift_add", "booth", "composed", "multiply")),
    _mac("BitFusion 8x8", design="bitfusion", narrowest="8x8"),
    _mac("BitFusion 8x4", 2, design="bitfusion", narrowest="8x4"),
    _mac("FP16", design="fp16"),
    _mac("FP16 dequant", design="fp16_dequant"),
    *(
        _pe(f"W4A8 {core} {stages}", core=core, stages=stages)
        for core in ("shift_add", "booth", "two_term", "multiply")
        for stages in (1, 2)
    ),
    *(
        Design(f"W4A8 packed {stages}", "mixpe_pe", "pe_pair", {"core": "packed", "stages": stages}, 2, dsp=True)
        for stages in (1, 2)
    ),
    _pe("W2A8", weight="int2"),
    _pe("W4A4 booth", act="int4", core="booth"),
    _pe("E2M1 x INT8", weight="e2m1", core="two_term"),
    *(_pe(f"W4A16 exact {stages}", act="fp16", core="booth", stages=stages) for stages in (1, 2, 3)),
    *(_pe(f"W4A16 aligned {bits}", act=f"aligned{bits}", core="booth") for bits in (8, 12, 16, 24)),
    _pe("W4 x E4M3", act="e4m3", core="booth"),
]
"""The first one, W8A8 by shift-and-add, is the baseline of the ratios."""

COLUMNS = {
    "LUT6": "{:,.0f}",
    "FF": "{:,.0f}",
    "LUT4": "{:,.0f}",
    "DSP": "{:,.0f}",
    "Fmax": "{:.1f}",
    "area": "{:,.0f}",
    "delay": "{:.2f}",
    "energy": "{:.2f}",
    "area*energy": "{:,.0f}",
}
"""LUT4 with carry cells as two, DSP blocks and Fmax in MHz on ECP5; in cells, area per product and cycle, delay in ns,
energy in pJ per product."""


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m scripts.compare", description="designs side by side")
    parser.add_argument("--json", metavar="FILE", help="write the rows there too")
    parser.add_argument("--only", metavar="NAME", nargs="+", help="these designs, the first one the baseline")
    args = parser.parse_args(argv)
    try:
        designs = chosen(args.only)
        options = Options(say=_say)
        options.cells()
        toolchain.nextpnr_ecp5()
        with ThreadPoolExecutor(2) as pool:
            rows = dict(zip([d.name for d in designs], pool.map(lambda d: row(d, options), designs), strict=True))
        print(table(rows))
        if args.json:
            write(args.json, json.dumps(rows, indent=2))
    except SpecError as e:
        print(e, file=sys.stderr)
        return 2
    return 0


def chosen(names: Sequence[str] | None) -> list[Design]:
    """The designs of those names, in that order; all of them for none."""
    known = {d.name: d for d in DESIGNS}
    for name in names or ():
        if name not in known:
            raise SpecError(f"design must be one of {', '.join(known)}, not {name!r}")
    return [known[name] for name in names] if names else DESIGNS


def row(design: Design, options: Options) -> dict[str, float]:
    """The figures of a design; what a tool or the unit does not give is absent."""
    spec = unit(design.unit).configure(layers=[design.configuration])
    options = replace(options, dsp=design.dsp)
    figures: dict[str, float] = {}
    for target in ("lut6", "ecp5", "asic"):
        figures |= measured(spec, design.block, target, options, design.products)
    if "energy" in figures:
        # area x power, both at one product a cycle of the same clock
        figures["area*energy"] = figures["area"] * figures["energy"]
    return figures


def table(rows: Mapping[str, Mapping[str, float]]) -> str:
    """Figures, then ratios to the first row, aligned."""
    names = list(rows)
    base = rows[names[0]]
    ratios = {
        name: {c: f"{figures[c] / base[c]:.2f}" for c in figures if base.get(c)} for name, figures in rows.items()
    }
    shown = {name: {c: COLUMNS[c].format(v) for c, v in figures.items()} for name, figures in rows.items()}
    width = max(len(f"x {name}") for name in names)
    lines = [f"{'':{width}}" + "".join(f"{c:>13}" for c in COLUMNS)]
    lines += [_line(name, shown[name], width) for name in names]
    lines += [f"ratio to {names[0]}"]
    lines += [_line(f"x {name}", ratios[name], width) for name in names[1:]]
    return "\n".join(lines)


def _line(name: str, cells: Mapping[str, str], width: int) -> str:
    return f"{name:{width}}" + "".join(f"{cells.get(c, '-'):>13}" for c in COLUMNS)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
