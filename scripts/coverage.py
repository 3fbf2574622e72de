"""``python -m scripts.coverage [UNIT ...]``: what the benches reach, at the preset ``tiny``, and what they do not.

Prints a line per unit, then every point and branch that is missed without a reason; exit code 1 when there is one. What
was counted is kept in ``docs/coverage.json``, from which, when no unit is named, ``docs/coverage.md`` is written.
"""

import json
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from gen.registry import UNITS, unit
from golden.spec import SpecError
from tb import coverage, line_coverage
from tb.points import UNREACHED, UNTAKEN
from tb.units import BENCHES

FILE = Path("docs/coverage.json")
PAGE = Path("docs/coverage.md")


@dataclass(frozen=True)
class Counted:
    """Of one unit: what there is, what was reached of it, and how much of the rest has which reason; ``holes`` have
    none."""

    cases: int
    cycles: int
    points: int
    points_reached: int
    points_excused: dict[str, int]
    branches: int
    branches_taken: int
    branches_excused: dict[str, int]
    toggles: int
    toggled: int
    holes: list[str]

    def row(self) -> list[str]:
        return [
            f"{self.cases}, {self.cycles:,}",
            f"{self.points_reached} of {self.points}",
            f"{self.branches_taken} of {self.branches}",
            f"{100 * self.branches_taken / self.branches:.1f}",
            f"{100 * self.toggled / self.toggles:.1f}" if self.toggles else "",
            str(len(self.holes)),
        ]


def count(name: str) -> Counted:
    spec = coverage.tiny(name)
    rtl = line_coverage.counting(spec)
    points = coverage.measure(rtl, BENCHES[name](spec, 1))
    lines = line_coverage.read(rtl)
    unreached, untaken = UNREACHED.get(name, {}), UNTAKEN.get(name, {})
    return Counted(
        cases=points.cases,
        cycles=points.cycles,
        points=len(points.reached),
        points_reached=sum(map(bool, points.reached.values())),
        points_excused=_counted(points.missed, unreached),
        branches=len(lines.branches),
        branches_taken=len(lines.branches) - len(lines.missed),
        branches_excused=_counted(lines.missed, untaken),
        toggles=lines.toggles,
        toggled=lines.toggled,
        holes=coverage.holes(points.missed, unreached) + coverage.holes(lines.missed, untaken),
    )


def _counted(missed: list[str], why: Mapping[str, str]) -> dict[str, int]:
    return dict(Counter(coverage.reasons(missed, why).values()))


def kept() -> dict[str, Counted]:
    found = json.loads(FILE.read_text(encoding="utf-8")) if FILE.exists() else {}
    return {name: Counted(**found[name]) for name in UNITS if name in found}


def page(found: dict[str, Counted]) -> str:
    """In Markdown."""
    rows = (f"| `{name}` | {' | '.join(c.row())} |" for name, c in found.items())
    return f"""\
# Coverage of the benches

    python -m scripts.coverage [UNIT ...]

plays each unit's own bench (seed 1, preset `tiny`) and counts what it reaches; this page is written by it. `make
test-all` fails when a point or a branch is missed that has no reason below.

*Points* (`tb/coverage.py`) are read off the ports in every cycle: each stream moves, moves in two cycles running, is
stalled and goes on, holds the other side up (an input that is full, an output that is empty), stalls while every other
stream moves; packets of one beat and of several; every field of an input at 0, at the ends of its range and, of floats,
-0, subnormal, negative, the largest, infinite, not a number; each cause of an error; a reset in mid-job. Units add
their own: ties, extremes of k and of lengths.

*Branches* are counted by Verilator in the unit's Verilog (`tb/line_coverage.py`): the ways through each `if`, `?:` and
`case`, once per module. Each is named with the Python line that it comes from, where Amaranth keeps it. *Toggles* are
bits that have risen, and bits that have fallen: no bound is asked for, since the high bits of addresses and counters
never move in short runs; whole layers have too many to count.

| unit | cases, cycles | points reached | branches taken | % | toggles % | without reason |
|---|---|---|---|---|---|---|
{chr(10).join(rows)}

## Not reached, and why

{chr(10).join(_reasons(found))}
"""


def _reasons(found: dict[str, Counted]) -> Iterator[str]:
    for name, c in found.items():
        for what, excused in (("points", c.points_excused), ("branches", c.branches_excused)):
            for reason, number in excused.items():
                yield f"- `{name}`, {number} {what}: {reason}."


def main(names: list[str]) -> int:
    try:
        chosen = [unit(name).name for name in names] or list(UNITS)
    except SpecError as e:
        print(e, file=sys.stderr)
        return 2
    holes = 0
    for name in chosen:
        counted = count(name)
        found = kept() | {name: counted}  # others may have added to it
        print(f"{name:18} {'  '.join(counted.row())}", flush=True)
        for hole in counted.holes:
            print(f"    {hole}", flush=True)
        holes += len(counted.holes)
        rows = {n: asdict(found[n]) for n in UNITS if n in found}
        FILE.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    if not names:
        PAGE.write_text(page(kept()), encoding="utf-8")
    return 1 if holes else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
