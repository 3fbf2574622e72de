"""``python -m scripts.docs.measure``: what the smallest preset of each unit costs, for its page. Kept in
``docs/figures.json``, which must go after a change of the hardware. Half an hour on a busy machine."""

from collections.abc import Iterator, Mapping
from functools import cache, partial

from gen.export import export
from gen.registry import UNITS
from gen.synth import Options, synthesise
from scripts.docs.source import DOCS, smallest
from scripts.resumable import Measurement, collect

FILE = DOCS / "figures.json"
FIGURES = ("luts", "ffs", "brams", "dsps")
"""On ECP5, not placed (:class:`gen.synth.Report`)."""

LARGE = ("moe_ffn", "moe_resident", "expert_ffn")
"""Whole layers, which take too long to map; their pages have no figures of cost."""


def measurements() -> Iterator[Measurement]:
    for unit in (name for name in UNITS if name not in LARGE):
        for figure in FIGURES:
            yield unit, figure, partial(_figure, unit, figure)


@cache
def _measured(unit: str) -> Mapping[str, float]:
    product = export(UNITS[unit].configure(smallest(UNITS[unit])))
    return synthesise(product, "ecp5", options=Options(seeds=0)).report.figures


def _figure(unit: str, figure: str) -> float:
    return _measured(unit)[figure]


if __name__ == "__main__":
    collect(measurements(), FILE)
