"""What narrow weights save in memory traffic and time: ``python -m scripts.expert_precision``.

32 experts of 192 neurons, 576 inputs, one expert per token, each as likely as the others; bytes and cycles are expected
ones. Formulas, not a run: a job, an expert with its tokens, takes

    max(compute, bytes / bandwidth) cycles

*compute* is the two phases of ``expert_ffn`` (``ExpertFFNSpec.dense_cycles`` of the expert's neurons and tokens less
loading and sending them), which the benches hold the RTL to, and is the same for all formats: the engine takes INT8
operands whatever the memory holds. It has no FP16 weights: W16 is the same time with 2 bytes per weight. Loading of the
next expert's weights is taken to overlap completely.
"""

import argparse
import math
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from typing import NamedTuple

from golden.moe.expert import ExpertFFNSpec
from golden.moe.mixed import Formats
from golden.moe.quantizers import named
from golden.spec import SpecError
from scripts.resumable import aligned

WIDTH, NEURONS, EXPERTS = 576, 192, 32
BATCHES = (1, 8, 32, 40, 256, 1024)
RARE = 1e-9
FORMATS = {"W8": "signed8", "W4": "signed4", "Q4_1": "q4_1"}
"""Beside W16; the first two have one scale per output channel, as published."""


def size(name: str) -> int:
    """Bytes of an expert."""
    if name == "W16":
        return 2 * 3 * WIDTH * NEURONS
    form = named(FORMATS[name])
    return Formats(form, form).size(NEURONS, WIDTH)


class Point(NamedTuple):
    """Of a batch, expected: bytes and cycles per token."""

    bytes: float
    cycles: float


def likely(tokens: int) -> dict[int, float]:
    """How many experts have so many tokens, expected; none and what practically does not occur left out."""
    chance, found = (1 - 1 / EXPERTS) ** tokens, {}
    for n in range(1, tokens + 1):
        chance *= (tokens + 1 - n) / n / (EXPERTS - 1)
        if EXPERTS * chance > RARE:
            found[n] = EXPERTS * chance
    return found


@cache
def compute(rows: int, cols: int, tokens: int) -> int:
    """Cycles of an expert with so many tokens."""
    spec = ExpertFFNSpec(d=WIDTH, neurons=NEURONS, experts=EXPERTS, rows=rows, cols=cols)
    assert spec.lanes
    moved = tokens * WIDTH // spec.lanes + tokens * WIDTH // spec.words
    return spec.dense_cycles(NEURONS, tokens) - moved


def point(rows: int, cols: int, tokens: int, name: str, bandwidth: float) -> Point:
    """``bandwidth`` in bytes per cycle."""
    bytes, experts = size(name), likely(tokens)
    cycles = sum(many * max(compute(rows, cols, n), bytes / bandwidth) for n, many in experts.items())
    return Point(sum(experts.values()) * bytes / tokens, cycles / tokens)


def table(rows: int, cols: int, bandwidths: Sequence[float]) -> list[Mapping[str, str]]:
    """A line per batch and bandwidth."""
    lines: list[Mapping[str, str]] = []
    for tokens in BATCHES:
        for bandwidth in bandwidths:
            at = {name: point(rows, cols, tokens, name, bandwidth) for name in ("W16", *FORMATS)}
            lines.append(
                {
                    "tokens": f"{tokens}",
                    "experts": f"{sum(likely(tokens).values()):.1f}",
                    "bytes/cycle": f"{bandwidth:g}",
                }
                | {f"{name} bytes": f"{p.bytes:,.0f}" for name, p in at.items()}
                | {f"{name} cycles": f"{p.cycles:,.0f}" for name, p in at.items()}
                | {f"{name} faster": f"{at['W16'].cycles / at[name].cycles:.2f}" for name in FORMATS}
            )
    return lines


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m scripts.expert_precision", description="W16, W8, W4 experts")
    parser.add_argument("--rows", type=int, default=4, help="of the array (default: %(default)s)")
    parser.add_argument("--cols", type=int, default=64, help="likewise (default: %(default)s)")
    parser.add_argument(
        "--bandwidth", type=float, nargs="+", default=[16, 32, 64, 96, 128], help="bytes per cycle (default: 16 to 128)"
    )
    args = parser.parse_args(argv)
    try:
        if not all(0 < b < math.inf for b in args.bandwidth):
            raise SpecError(f"bandwidth must be positive and finite, not {min(args.bandwidth):g}")
        lines = table(args.rows, args.cols, args.bandwidth)
    except SpecError as e:
        print(e, file=sys.stderr)
        return 2
    print(aligned([list(lines[0]), *(list(line.values()) for line in lines)]))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
