"""Points of a sweep, which of them no other one beats, and the table of these."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Point:
    """One configuration: its axes, all figures, and the two that are weighed."""

    configuration: dict[str, Any]
    figures: dict[str, float]
    cost: float
    quality: float


def front(weighed: Sequence[tuple[float, float]]) -> list[int]:
    """Positions of the pairs ``(cost, quality)`` that no other one dominates, the cheapest first.

    One dominates another that it does not exceed in cost nor fall short of in quality, and from which it differs. Equal
    pairs stay together.
    """
    order = sorted(range(len(weighed)), key=lambda i: (weighed[i][0], -weighed[i][1]))
    kept: list[int] = []
    best = -math.inf
    for i in order:
        if weighed[i][1] > best or (kept and weighed[i] == weighed[kept[-1]]):
            kept.append(i)
            best = weighed[i][1]
    return kept


def table(points: Sequence[Point], quality: str, cost: str) -> str:
    """One point a line, aligned: axes, quality, what the cost is made of, the cost."""
    heads = [*points[0].configuration, quality, *(n for n in points[0].figures if not n.startswith(quality)), cost]
    if len(set(heads)) < len(heads):  # a cost of a single figure
        heads.pop()
    rows = [heads]
    for point in points:
        shown = {**point.configuration, **point.figures, cost: point.cost}
        rows.append([_cell(shown.get(head)) for head in heads])
    widths = [max(len(row[i]) for row in rows) for i in range(len(heads))]
    lead = len(points[0].configuration)
    pads = [str.ljust] * lead + [str.rjust] * (len(heads) - lead)
    return "\n".join("  ".join(p(c, w) for p, c, w in zip(pads, row, widths, strict=True)).rstrip() for row in rows)


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if not isinstance(value, float):
        return str(value)
    return f"{value:,.0f}" if value.is_integer() or abs(value) >= 1000 else f"{value:,.2f}"
