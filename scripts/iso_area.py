"""Speed and energy at equal area on the paper's layers: ``python -m scripts.iso_area FILE.json``.

``FILE.json`` is what ``python -m scripts.compare --json FILE.json`` wrote: measured area and energy per product of
every element. An array has as many elements as fit into the area of 32 x 32 of the first one (W8A8), in the shape of up
to 64 rows that takes the fewest cycles; a tile of R x C results over K steps takes K cycles, without a pause between
tiles (:class:`golden.mixpe.schedule.Timing`; fill and drain are left out). All arrays run at the same clock and never
wait for memory. Elements alone are counted: no dequantiser, no buffers, no row decoders.

Layers: the feed-forward matrices of one block, 64 tokens, as in MixPE (arXiv 2411.16158), section on performance, with
LLaMA's three matrices.
"""

import argparse
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from golden.spec import SpecError
from scripts.resumable import read

TOKENS = 64
ELEMENTS = 32 * 32
MODELS: dict[str, list[tuple[int, int]]] = {
    "ViT-Base": [(768, 3072), (3072, 768)],
    "ViT-Huge": [(1280, 5120), (5120, 1280)],
    "OPT-6.7B": [(4096, 16384), (16384, 4096)],
    "LLaMA-2-13B": [(5120, 13824), (5120, 13824), (13824, 5120)],
}
"""``(K, N)`` of each matrix."""


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m scripts.iso_area", description="speed and energy at equal area")
    parser.add_argument("file", metavar="FILE.json", help="written by python -m scripts.compare --json")
    try:
        print(table(_read(parser.parse_args(argv).file)))
    except SpecError as e:
        print(e, file=sys.stderr)
        return 2
    return 0


def cycles(count: int, matrices: Sequence[tuple[int, int]]) -> int:
    """Cycles of the matrices one after another on the best array of at most ``count`` elements."""
    shapes = [(rows, count // rows) for rows in range(1, min(TOKENS, count) + 1)]
    return min(
        sum(math.ceil(TOKENS / rows) * math.ceil(n / cols) * k for k, n in matrices) for rows, cols in shapes if cols
    )


def table(rows: Mapping[str, Mapping[str, float]]) -> str:
    """For each design: its elements, and its speed and energy relative to the first one."""
    first = next(iter(rows.values()))
    budget = ELEMENTS * first["area"]
    base = {model: cycles(ELEMENTS, matrices) for model, matrices in MODELS.items()}
    width = max(map(len, rows))
    lines = [f"{'':{width}}{'elements':>10}" + "".join(f"{m:>13}" for m in MODELS) + f"{'energy':>9}"]
    for name, figures in rows.items():
        count = int(budget / figures["area"])
        speed = [base[model] / cycles(count, matrices) for model, matrices in MODELS.items()]
        energy = figures["energy"] / first["energy"] if "energy" in figures and "energy" in first else math.nan
        lines.append(f"{name:{width}}{count:>10,}" + "".join(f"{s:>12.2f}x" for s in speed) + f"{energy:>8.2f}x")
    return "\n".join(lines)


def _read(path: str) -> dict[str, dict[str, float]]:
    rule = "what scripts.compare --json writes"
    rows = read(Path(path), "comparison", rule)
    areas = [figures.get("area", 0) for figures in rows.values()]
    energies = [figures["energy"] for figures in rows.values() if "energy" in figures]
    if not areas or not 0 < min(areas) <= max(areas) <= ELEMENTS * areas[0] or min(energies, default=1) <= 0:
        raise SpecError(f"comparison {path} must be {rule}")
    return rows


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
