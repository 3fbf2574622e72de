"""How large a variant of the unit ``orizuru`` will be, before it is made: what ``variant=auto`` compares.

LUTs of an ECP5 (a carry cell counts as two, a LUT RAM as six), block RAM not counted, of the whole unit with its
streams. Fitted to syntheses of FP16 keys, both sides: trees at 16, 64 and 256 keys and 4 and 16 lanes; ``memory`` at 64
to 4,096 keys, 4 to 32 lanes; ``queue`` at k_max 8 to 41, 1 to 16 lanes; ``bitonic`` likewise: all of these within 15 %.
Other keys and sides are scaled by their bits; by how much that is off, ``docs/orizuru.md`` says. ``python -m
scripts.topk`` measures what it can be held against.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from golden.orizuru.engine import OrizuruSpec

LUTS_PER_KEY = {"systolic": 127, "comb": 122, "unit16": 125, "level": 94}
PER_LANE = 33
BY_PATH = ("systolic", "memory", "queue", "level", "unit16", "bitonic", "comb")
"""Shortest path first: one comparison in a cycle, four of them, those of a merge, or of all levels."""

ERROR = 0.15
"""Of the estimates."""

ONE_SIDE = {"memory": 0.6, "queue": 0.53}
"""A side alone, relative to both; 0.65 for the others."""


def luts(spec: "OrizuruSpec") -> float:
    """Estimate for a variant whose results come by rank."""
    if spec.variant in LUTS_PER_KEY:
        both_fp16 = LUTS_PER_KEY[spec.variant] * spec.n + PER_LANE * spec.lanes
    else:
        both_fp16 = {
            "memory": 295 + 211 * spec.lanes + 350 * spec.row_bits,
            "queue": 35 + 41 * spec.lanes + 222 * spec.k_max,
            "bitonic": 230 * spec.comparators,
        }[spec.variant]
    sides = 1 if spec.trees == 2 else ONE_SIDE.get(spec.variant, 0.65)
    return both_fp16 * (spec.key_format.bits + 1.5) / 17.5 * sides
