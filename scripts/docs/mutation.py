"""``python -m scripts.docs.mutation [UNIT ...]``: mutation scores of the benches of these units, or of all, at their
smallest preset. Kept in ``docs/mutation.json``; prints the table of ``docs/mutation.md`` from what is there."""

import json
import sys
from collections.abc import Iterable, Mapping
from typing import Any

from gen.registry import UNITS
from scripts.docs.source import DOCS, smallest
from tb.mutation import measure

FILE = DOCS / "mutation.json"


def kept() -> dict[str, Any]:
    """The record of each unit that was scored."""
    found: dict[str, Any] = json.loads(FILE.read_text())
    return found


def table(records: Mapping[str, Any]) -> str:
    lines = [
        "| unit | cases, cycles | killed | equivalent | open | score | seconds |",
        "|---|---|---|---|---|---|---|",
    ]
    for unit in (name for name in UNITS if name in records):
        r = records[unit]
        lines.append(
            f"| `{unit}` | {r['played']}, {r['cycles']:,} | {r['killed']} | {r['equivalent']} | {len(r['holes'])} "
            f"| {100 * r['score']:.1f} % | {r['seconds']} |"
        )
    return "\n".join(lines)


def main(units: Iterable[str]) -> None:
    for unit in units:
        score = measure(UNITS[unit].configure(smallest(UNITS[unit])), say=print)
        FILE.write_text(json.dumps(kept() | {unit: score.record()}, indent=1) + "\n")
    print(table(kept()))


if __name__ == "__main__":
    main(sys.argv[1:] or UNITS)
