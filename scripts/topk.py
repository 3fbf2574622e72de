"""What each variant of the unit ``orizuru`` costs, side by side: ``python -m scripts.topk [--json FILE]``.

FP16 keys, both sides. Areas are the sum of every kind of block, times its instances (as ``senbazuru synth --parts``;
nothing is shared across blocks, memories are flip-flops but on ECP5); cycles are the specification's, for vectors back
to back. Fmax is that of the whole unit, placed and routed; energy that of a vector of real activations through the
selector's gates, at the smallest size. With ``--json`` every figure is kept as soon as it is there, and not measured
again: after a change of the hardware the file must go.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from gen.export import export
from gen.parts import parts
from gen.synth import Options, synthesise
from golden.orizuru.engine import RANKED, TREES, VARIANTS, OrizuruSpec
from golden.spec import SpecError
from scripts.resumable import Figures, Measurement, aligned, collect

K = 8
LANES = 16
SMALL, PLACED, _ = SIZES = (16, 64, 256)
PUBLISHED = OrizuruSpec(n=4096, lanes=32, k_max=20)

BLOCKS = {"memory": "memory_tree", "queue": "queues", "threshold": "thresholds"}
BLOCKS |= dict.fromkeys(TREES, "register_trees")
"""The selector's kind of block, where it is not named as the variant is."""


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m scripts.topk", description="what each variant of orizuru costs")
    parser.add_argument("--json", metavar="FILE", type=Path, help="keep the figures there, and go on from there")
    file = parser.parse_args(argv).json
    try:
        found = collect(measurements(), file)
    except SpecError as e:
        print(e, file=sys.stderr)
        return 2
    print(table(found))
    return 0


def measurements() -> Iterator[Measurement]:
    """Of variants and sizes; what is quick comes first."""
    small = [OrizuruSpec(n=n, lanes=LANES, k_max=K, variant=v) for n in SIZES for v in VARIANTS]
    large = [OrizuruSpec(**PUBLISHED.values() | {"variant": v}) for v in RANKED]
    for target, column, specs in (
        ("generic", "gates", [s for s in small + large if (s.variant, s.n) != ("memory", PUBLISHED.n)]),
        ("ecp5", "luts", small + large),
    ):
        for spec in specs:
            yield _name(spec), f"{target} {column}", partial(_parts, spec, target, column)
    for spec in small + large:
        if spec.variant != "threshold":
            yield _name(spec), "interval", partial(float, spec.interval)
            yield _name(spec), "span", partial(float, spec.span)
    for spec in small:
        if spec.n == PLACED:
            yield _name(spec), "MHz", partial(_placed, spec)
    for spec in small:
        if spec.n == SMALL:
            yield _name(spec), "pJ per vector", partial(_energy, spec)
    for spec in small:
        yield _name(spec), "asic area", partial(_parts, spec, "asic", "area")


def _name(spec: OrizuruSpec) -> str:
    return f"{spec.variant} {spec.n}"


def _parts(spec: OrizuruSpec, target: str, column: str) -> float:
    return parts(export(spec), target)[0].below[column]


def _placed(spec: OrizuruSpec) -> float:
    return synthesise(export(spec), "ecp5", options=Options(frequency=100, seeds=1)).report.figures["fmax_mhz"]


def _energy(spec: OrizuruSpec) -> float:
    from tb.energy import measure

    product = export(spec)
    made = synthesise(product, "asic", BLOCKS.get(spec.variant, spec.variant))
    return measure(spec, product, made.netlist, Options().cells()).total


def table(found: dict[str, Figures]) -> str:
    """A line per variant and size; the last column is relative to the systolic tree of that size."""
    columns = list(dict.fromkeys(what for figures in found.values() for what in figures))
    lines = [["", *columns, "gates x interval"]]
    for name, figures in found.items():
        line = [name, *(f"{figures[c]:,.0f}" if c in figures else "" for c in columns)]
        base = found.get(f"systolic {name.split()[1]}", {})
        cost, unit = (f.get("generic gates", 0) * f.get("interval", 0) for f in (figures, base))
        lines.append([*line, f"{cost / unit:.2f}" if cost and unit else ""])
    return aligned(lines)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
