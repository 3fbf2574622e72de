"""What each variant of the unit ``orizuru`` costs, side by side: ``python -m scripts.topk [--json FILE]``.

FP16 keys, both sides. The table has the cells of every kind of block, times its instances (``senbazuru synth --parts``;
nothing is shared across blocks, memories are flip-flops but on ECP5), the cycles of the specification for vectors back
to back, and for the smallest size the energy of a vector of real activations through the gates. Fmax is that of the
whole unit, placed and routed. At the published size trees of registers are too large to place; the memory is not.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gen.export import export
from gen.parts import parts
from gen.synth import Options, synthesise
from gen.toolchain import ToolError
from golden.orizuru.engine import RANKED, TREES, VARIANTS, OrizuruSpec

K = 8
SIZES = {16: 16, 64: 16, 256: 16}
"""Lanes of each size."""

PUBLISHED = OrizuruSpec(n=4096, lanes=32, k_max=20)
SMALL = 16
PLACED = 64

BLOCKS = {"memory": "memory_tree", "queue": "queues", "threshold": "thresholds"}
"""The selector's kind of block, where it is not named as the variant is."""


@dataclass(frozen=True)
class Row:
    """A variant at a size, and its figures by name; what does not apply is missing."""

    spec: OrizuruSpec
    figures: dict[str, float]

    @property
    def name(self) -> str:
        return f"{self.spec.variant} n={self.spec.n}"


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m scripts.topk", description="what each variant of orizuru costs")
    parser.add_argument("--json", metavar="FILE", help="write the figures there, size by size")
    args = parser.parse_args(argv)
    specs = [OrizuruSpec(n=n, lanes=lanes, k_max=K, variant=v) for n, lanes in SIZES.items() for v in VARIANTS]
    values = PUBLISHED.values()
    specs += [OrizuruSpec(**values | {"variant": v}) for v in RANKED]
    rows = []
    try:
        for spec in specs:
            rows.append(Row(spec, measure(spec)))
            print(line(rows[-1]), flush=True)
            if args.json:
                Path(args.json).write_text(json.dumps({r.name: r.figures for r in rows}, indent=1) + "\n")
    except ToolError as e:
        print(e, file=sys.stderr)
        return 2
    return 0


def measure(spec: OrizuruSpec) -> dict[str, float]:
    """All that is measured of a specification, or follows from it."""
    product, published = export(spec), spec.n == PUBLISHED.n
    figures: dict[str, float] = {}
    for target in ("generic", "ecp5") if published else ("generic", "asic", "ecp5"):
        if published and spec.variant == "memory" and target == "generic":
            continue  # its memories would be 147,456 flip-flops
        figures |= {f"{target} {name}": value for name, value in parts(product, target)[0].below.items()}
    if spec.n == PLACED or (published and spec.variant == "memory"):
        placed = synthesise(product, "ecp5", options=Options(frequency=100)).report.figures
        figures |= {f"placed {name}": placed[name] for name in ("luts", "ffs", "brams", "fmax_mhz")}
    if spec.n == SMALL:
        figures["energy"] = energy(spec, product)
    if spec.variant != "threshold":
        figures |= {"interval": spec.interval, "span": spec.span}
    return figures


def energy(spec: OrizuruSpec, product: Any) -> float:
    """pJ per vector, of the selector alone."""
    from tb.energy import measure as measured

    kind = BLOCKS.get(spec.variant, "tournament" if spec.variant in TREES else spec.variant)
    made = synthesise(product, "asic", kind)
    return measured(spec, product, made.netlist, Options().cells()).total


def line(row: Row) -> str:
    """One row of the table."""
    f = row.figures
    shown = [row.name, *(f"{name} {value:,.1f}" for name, value in f.items())]
    if "interval" in f and "generic gates" in f:
        shown.append(f"gates x interval {f['generic gates'] * f['interval'] / 1e6:,.2f} M")
    return "  ".join(shown)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
