"""Unit ``mixpe``: every two values of two fields, wherever a specification takes both, in small engines."""

import random
from collections.abc import Iterator
from functools import cache
from itertools import combinations
from typing import Any

import pytest

from golden.mixpe.formats import ALIGNED
from golden.mixpe.gemm import MixPESpec
from golden.spec import SpecError
from tb.runner import run_bulk
from tb.units import BENCHES

AXES: dict[str, tuple[Any, ...]] = {
    field["name"]: tuple(field["choices"]) for field in MixPESpec.parameters() if field["choices"]
} | {"align": (0, *ALIGNED), "stages": (1, 2, 3), "group": (0, 16, 32)}
SIZE = {"rows": 2, "cols": 2, "k_max": 48, "lanes": 2}
DRAWN = 100_000


def _drawn() -> Iterator[dict[str, Any]]:
    """Accepted values of all axes."""
    rng = random.Random(1)
    for _ in range(DRAWN):
        values = {axis: rng.choice(choices) for axis, choices in AXES.items()}
        if "aligned" not in values["act"]:
            values["align"] = 0
        elif values["align"] == 0:
            continue
        if not values["out"].startswith("int8"):
            values["rounding"] = "half_even"
        try:
            MixPESpec(**SIZE, **values)
        except SpecError:
            continue
        yield values


def _pairs(values: dict[str, Any]) -> set[object]:
    return set(combinations(values.items(), 2))


@cache
def _chosen() -> list[dict[str, Any]]:
    """Of what is drawn, in turn the best of a few hundred, until every pair that was drawn is there."""
    rng, candidates = random.Random(2), list(_drawn())
    missing = set[object]().union(*map(_pairs, candidates))
    chosen = []
    while missing:
        useful = [c for c in rng.sample(candidates, min(400, len(candidates))) if _pairs(c) & missing]
        if not useful:
            useful = [c for c in candidates if _pairs(c) & missing][:1]
        chosen.append(max(useful, key=lambda c: len(_pairs(c) & missing)))
        missing -= _pairs(chosen[-1])
    return chosen


PARTS = 16


@pytest.mark.slow
@pytest.mark.parametrize("part", range(PARTS))
def test_every_two_values_of_two_fields(part: int) -> None:
    for values in _chosen()[part::PARTS]:
        spec = MixPESpec(**SIZE, **values)
        run_bulk(spec, BENCHES["mixpe"](spec, 1), 1)
