"""What a GEMM on indices costs, beside MixPE and FP16: ``python -m scripts.kmeans_cost [--json FILE] [--plot FILE]``.

A line of ``lutgemm`` for each reducer, with what belongs to it (units, bins, weighted sum; not the table, which all
lines share), beside the elements of as many products per cycle: all figures but MHz are per product and cycle, areas
the sum of every kind of block times its instances; *estimate* is what ``reducer=auto`` takes for the LUTs. Then the
cost of one result, area times cycles, over the length of the sum, as a ratio to ``direct`` with as many codes: where
one reducer becomes better than another. Clustering: what a lane takes. With ``--json`` every figure is kept as soon as
it is there, and not measured again: after a change of the hardware the file must go.
"""

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

from gen.export import export
from gen.parts import parts
from gen.registry import unit
from gen.synth import Options
from golden.kmeans import area
from golden.kmeans.lutgemm import REDUCERS, LutGemmSpec
from golden.spec import SpecError, UnitSpec
from scripts.explore import plot
from scripts.figures import measured
from scripts.resumable import Figures, Measurement, aligned, collect

CODES = (16, 64)
LENGTHS = tuple(1 << n for n in range(5, 14))
"""Of the sums whose cost is compared."""


def spec(reducer: str, codes: int) -> LutGemmSpec:
    """One line for sums of up to 4,096, four bits on both sides."""
    return LutGemmSpec(reducer=reducer, codes=codes, lines=1, n_max=16)


ELEMENTS: dict[str, tuple[str, str, Mapping[str, Any]]] = {
    "MixPE W4A8": ("mixpe_pe", "pe", {"core": "booth"}),
    "MixPE W4A4": ("mixpe_pe", "pe", {"core": "booth", "act": "int4"}),
    "MixPE W8A8": ("mixpe_pe", "pe", {"core": "booth", "weight": "int8"}),
    "FP16": ("pe_baseline", "mac", {"design": "fp16"}),
    "clustering": ("kmeans_quantizer", "cluster", {"lanes": 1, "k_max": 576}),
}
"""What makes one product per cycle, or one index: unit, kind of block, configuration."""


PLAYED = ("direct 16", *ELEMENTS)
"""What is placed and routed, and plays real data: lines with bins have too many nets for either."""


def rows() -> dict[str, tuple[UnitSpec, str, int]]:
    """By name: a unit, its kind of block, and products per cycle."""
    lines = {f"{reducer} {codes}": (reducer, codes) for codes in CODES for reducer in REDUCERS}
    found: dict[str, tuple[UnitSpec, str, int]] = {
        name: (spec(reducer, codes), "line", codes) for name, (reducer, codes) in lines.items()
    }
    for name, (of, block, values) in ELEMENTS.items():
        found[name] = unit(of).configure(layers=[values]), block, 1
    return found


def measurements() -> Iterator[Measurement]:
    """What is quick comes first."""
    for target, what, figure in (("lut6", "LUT6", "luts"), ("lut6", "FF", "ffs"), ("asic", "area", "area")):
        for name, (of, block, products) in rows().items():
            yield name, what, partial(_parts, of, block, products, target, figure)
    for name in PLAYED:
        of, block, products = rows()[name]
        yield name, "MHz", partial(_mhz, of, block)
        if name != "clustering":
            yield name, "energy", partial(_energy, of, block, products)


@cache
def _all_parts(of: UnitSpec, block: str, target: str) -> Figures:
    return dict(parts(export(of), target, block)[0].below)


def _parts(of: UnitSpec, block: str, products: int, target: str, figure: str) -> float:
    """Every kind of block inside, times its instances."""
    return _all_parts(of, block, target)[figure] / products


def _mhz(of: UnitSpec, block: str) -> float:
    return measured(of, block, "ecp5", Options(seeds=1))["Fmax"]


def _energy(of: UnitSpec, block: str, products: int) -> float:
    return measured(of, block, "asic", Options(), products)["energy"]


def cost(found: Mapping[str, Figures], reducer: str, codes: int, length: int) -> float:
    """Of one result: um^2 times cycles."""
    of = spec(reducer, codes)
    return found[f"{reducer} {codes}"]["area"] * codes * max(-(-length // codes), of.reduce)


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m scripts.kmeans_cost", description="what a GEMM on indices costs")
    parser.add_argument("--json", metavar="FILE", type=Path, help="keep the figures there, and go on from there")
    parser.add_argument("--plot", metavar="FILE", type=Path, help="draw the cost of a result there (.svg, .png)")
    args = parser.parse_args(argv)
    try:
        if args.plot:
            plot.check(args.plot)
        found = collect(measurements(), args.json)
    except SpecError as e:
        print(e, file=sys.stderr)
        return 2
    for name, (of, _, products) in rows().items():
        if isinstance(of, LutGemmSpec):
            found[name]["estimate"] = area.luts(of) / products
    columns = ("LUT6", "estimate", "FF", "area", "MHz", "energy")
    lines = [["", *columns]]
    lines += [[name, *(f"{f[c]:,.1f}" if c in f else "" for c in columns)] for name, f in found.items()]
    print(aligned(lines))
    heads = [f"{reducer} {codes}" for codes in CODES for reducer in REDUCERS]
    lines = [["area x cycles, K =", *heads]]
    for length in LENGTHS:
        costs = {(r, c): cost(found, r, c, length) for c in CODES for r in REDUCERS}
        lines.append([f"{length}", *(f"{value / costs['direct', codes]:.2f}" for (_, codes), value in costs.items())])
    print(aligned(lines))
    if args.plot:
        _draw(args.plot, found)
    return 0


def _draw(path: Path, found: Mapping[str, Figures]) -> None:
    curves: dict[str, Any] = {
        f"{reducer}, {codes} codes": [cost(found, reducer, codes, length) / length for length in LENGTHS]
        for codes in CODES
        for reducer in REDUCERS
    }
    flat = {name: [found[name]["area"]] * len(LENGTHS) for name in ("MixPE W4A8", "MixPE W4A4", "FP16")}
    plot.curves(path, LENGTHS, curves | flat, "Cost of a product", "products of a sum, K", "um^2 x cycles per product")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
