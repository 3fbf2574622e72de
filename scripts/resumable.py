"""Figures that take long: each is kept in a file as soon as it is there, and not measured again."""

import json
import math
from collections.abc import Callable, Iterable
from pathlib import Path

from golden.files import write
from golden.spec import SpecError

Figures = dict[str, float]
Measurement = tuple[str, str, Callable[[], float]]
"""What is measured, the name of the figure, and how."""


def collect(measurements: Iterable[Measurement], file: Path | None) -> dict[str, Figures]:
    """Every figure by what it is of and its name, printed as it comes. With ``file`` those in it are taken as they are:
    after a change of the hardware it must go."""
    found = read(file, "figures", "what --json has written") if file and file.exists() else {}
    for name, what, measure in measurements:
        figures = found.setdefault(name, {})
        if what not in figures:
            figures[what] = measure()
            print(f"{name:20} {what:20} {figures[what]:,.1f}", flush=True)
            if file:
                write(file, json.dumps(found, indent=1) + "\n")
    return found


def read(file: Path, what: str, rule: str) -> dict[str, Figures]:
    """Finite numbers by name and name; :class:`~golden.spec.SpecError` with ``what`` and ``rule`` for another file."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        made = {name: {figure: float(x) for figure, x in figures.items()} for name, figures in found.items()}
        if not all(math.isfinite(x) for figures in made.values() for x in figures.values()):
            raise ValueError
    except OSError as e:
        raise SpecError(f"{what} {file} must be readable: {e.strerror}") from None
    except (ValueError, AttributeError, TypeError, RecursionError, OverflowError):
        raise SpecError(f"{what} {file} must be {rule}") from None
    return made


def aligned(lines: list[list[str]]) -> str:
    """A table whose columns end under one another."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join(cell.rjust(w) for cell, w in zip(line, widths, strict=True)) for line in lines)
