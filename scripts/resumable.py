"""Figures that take long: each is kept in a file as soon as it is there, and not measured again."""

import json
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
    found = _read(file) if file and file.exists() else {}
    for name, what, measure in measurements:
        figures = found.setdefault(name, {})
        if what not in figures:
            figures[what] = measure()
            print(f"{name:20} {what:20} {figures[what]:,.1f}", flush=True)
            if file:
                write(file, json.dumps(found, indent=1) + "\n")
    return found


def _read(file: Path) -> dict[str, Figures]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        return {name: {what: float(x) for what, x in figures.items()} for name, figures in found.items()}
    except OSError as e:
        raise SpecError(f"figures {file} must be readable: {e.strerror}") from None
    except (ValueError, AttributeError, TypeError, RecursionError, OverflowError):
        raise SpecError(f"figures {file} must be what --json has written, numbers by name and name") from None


def aligned(lines: list[list[str]]) -> str:
    """A table whose columns end under one another."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join(cell.rjust(w) for cell, w in zip(line, widths, strict=True)) for line in lines)
