"""Figures that take long: each is kept in a file as soon as it is there, and not measured again."""

import json
from collections.abc import Callable, Iterable
from pathlib import Path

Figures = dict[str, float]
Measurement = tuple[str, str, Callable[[], float]]
"""What is measured, the name of the figure, and how."""


def collect(measurements: Iterable[Measurement], file: Path | None) -> dict[str, Figures]:
    """Every figure by what it is of and its name, printed as it comes. With ``file`` those in it are taken as they are:
    after a change of the hardware it must go."""
    found: dict[str, Figures] = json.loads(file.read_text()) if file and file.exists() else {}
    if file:
        file.parent.mkdir(parents=True, exist_ok=True)
    for name, what, measure in measurements:
        figures = found.setdefault(name, {})
        if what not in figures:
            figures[what] = measure()
            print(f"{name:20} {what:20} {figures[what]:,.1f}", flush=True)
            if file:
                file.write_text(json.dumps(found, indent=1) + "\n")
    return found


def aligned(lines: list[list[str]]) -> str:
    """A table whose columns end under one another."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join(cell.rjust(w) for cell, w in zip(line, widths, strict=True)) for line in lines)
