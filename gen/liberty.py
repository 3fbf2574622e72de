"""Cell libraries: what area and energy figures need of a Liberty file.

library = liberty.read(path)
library.cells["NAND2X1"].area
"""

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from golden.spec import SpecError

_COMMENT = re.compile(r"/\*.*?\*/|//[^\n]*|\\\r?\n", re.DOTALL)
_TOKEN = re.compile(r'"([^"]*)"|([(){};:,])|([^\s"(){};:,]+)')
_PICO = {"f": 1e-3, "p": 1.0, "n": 1e3}


@dataclass
class Group:
    """A Liberty group as written: ``kind (arguments) { attributes, groups }``."""

    kind: str
    arguments: list[str]
    attributes: dict[str, list[str]] = field(default_factory=dict)
    groups: list["Group"] = field(default_factory=list)

    def all(self, *kinds: str) -> Iterator["Group"]:
        return (g for g in self.groups if g.kind in kinds)

    def text(self, name: str, default: str = "") -> str:
        return " ".join(self.attributes.get(name, [default]))

    def number(self, name: str, default: float = 0.0) -> float:
        return float(self.text(name, str(default)))

    def numbers(self, name: str) -> list[float]:
        return [float(n) for text in self.attributes.get(name, ()) for n in text.replace(",", " ").split()]


@dataclass(frozen=True)
class Energy:
    """Internal energy of one transition in pJ, against the load in pF; constant where ``loads`` has one entry."""

    loads: tuple[float, ...]
    energies: tuple[float, ...]

    def at(self, load: float) -> float:
        """Linear between the points of the table, its ends beyond them."""
        return float(np.interp(load, self.loads, self.energies))


@dataclass(frozen=True)
class Pin:
    """``capacitance`` in pF; ``energy`` per table of internal power: every related pin, condition, rise and fall."""

    name: str
    direction: str
    capacitance: float
    function: str
    energy: tuple[Energy, ...]

    def internal(self, load: float = 0.0) -> float:
        """Mean internal energy of one transition of this pin in pJ; 0 where the library has none."""
        return sum(e.at(load) for e in self.energy) / len(self.energy) if self.energy else 0.0


@dataclass(frozen=True)
class Cell:
    """``area`` in the library's unit; ``sequential``: a flip-flop or latch."""

    name: str
    area: float
    sequential: bool
    pins: dict[str, Pin]


@dataclass(frozen=True)
class Library:
    """A cell library at its nominal voltage, in pF, V and pJ; ``timed``: it has delays."""

    path: Path
    name: str
    voltage: float
    timed: bool
    cells: dict[str, Cell]

    @cached_property
    def adder(self) -> tuple[Cell, list[str]] | None:
        """The smallest full adder and its pins: three inputs, then carry and sum; ``None`` where there is none."""
        found = [(cell, pins) for cell in self.cells.values() if (pins := _adder_pins(cell))]
        return min(found, key=lambda f: f[0].area, default=None)


def read(path: Path | str) -> Library:
    """The library in a Liberty file.

    Internal power is read at the second point of the tables' input transition. Units are the file's own, by the
    convention that the energy's unit is ``capacitive_load_unit * voltage_unit^2``; the voltage's unit must be 1 V.

    Raises  :class:`~golden.spec.SpecError` for a file that cannot be read or is not Liberty.
    """
    path = Path(path)
    try:
        root = parse(path.read_text(encoding="utf-8", errors="replace"))
    except OSError as e:
        raise SpecError(f"Liberty file {path} must be readable: {e.strerror}") from None
    except ValueError as e:
        raise SpecError(f"Liberty file {path} must hold a library of cells: {e}") from None
    try:
        return _library(path, root)
    except (ValueError, IndexError) as e:
        raise SpecError(f"Liberty file {path} must hold numbers and units in their places: {e}") from None


def parse(text: str) -> Group:
    """The ``library`` group of a Liberty text; ``ValueError`` where there is none, or it does not end."""
    tokens = [_Token(m) for m in _TOKEN.finditer(_COMMENT.sub(" ", text))]
    root = Group("", [])
    at = _body(tokens, 0, root)
    libraries = list(root.all("library"))
    if len(libraries) != 1 or at != len(tokens):
        raise ValueError("it is not one group 'library'")
    return libraries[0]


class _Token(str):
    """``mark``: punctuation, not a string that looks like it."""

    mark: bool

    def __new__(cls, m: re.Match[str]) -> "_Token":
        token = super().__new__(cls, m[m.lastindex or 0])
        token.mark = m.lastindex == 2
        return token

    def is_(self, mark: str) -> bool:
        return self.mark and self == mark


def _body(tokens: list[_Token], at: int, group: Group) -> int:
    """Statements up to the closing brace or the end; where they end."""
    while at < len(tokens) and not tokens[at].is_("}"):
        if tokens[at].is_(";"):
            at += 1
            continue
        name, colon = tokens[at], tokens[at + 1 : at + 2]
        if colon and colon[0].is_(":"):
            values, at = _until(tokens, at + 2, ";")
            group.attributes[name] = values
        elif colon and colon[0].is_("("):
            values, at = _until(tokens, at + 2, ")")
            if at < len(tokens) and tokens[at].is_("{"):
                inner = Group(name, values)
                at = _body(tokens, at + 1, inner)
                if at == len(tokens):
                    raise ValueError(f"group {name} does not end")
                group.groups.append(inner)
                at += 1
            else:
                group.attributes[name] = values
        else:
            raise ValueError(f"{name!r} is neither an attribute nor a group")
    return at


def _until(tokens: list[_Token], at: int, mark: str) -> tuple[list[str], int]:
    values = []
    while at < len(tokens) and not tokens[at].is_(mark):
        if not tokens[at].is_(","):
            values.append(str(tokens[at]))
        at += 1
    return values, at + 1


def _library(path: Path, root: Group) -> Library:
    factor, unit = root.attributes.get("capacitive_load_unit", ["1", "pf"])
    pico = float(factor) * _PICO[unit[0].lower()] if unit[0].lower() in _PICO else float(factor)
    templates = {g.arguments[0]: g for g in root.all("power_lut_template")}
    cells = {}
    for g in root.all("cell"):
        pins = {name: _pin(p, name, pico, templates) for p in g.all("pin") for name in p.arguments}
        cells[g.arguments[0]] = Cell(g.arguments[0], g.number("area"), any(g.all("ff", "latch")), pins)
    if not cells:
        raise ValueError("it has no cell")
    timed = any(any(p.all("timing")) for g in root.all("cell") for p in g.all("pin"))
    return Library(path, root.arguments[0], root.number("nom_voltage"), timed, cells)


def _pin(pin: Group, name: str, pico: float, templates: dict[str, Group]) -> Pin:
    edges = [pin.number(f"{edge}_capacitance") for edge in ("rise", "fall")]
    tables = [
        _energy(table, pico, templates)
        for power in pin.all("internal_power")
        for table in power.all("power", "rise_power", "fall_power")
    ]
    return Pin(
        name=name,
        direction=pin.text("direction"),
        capacitance=pin.number("capacitance", sum(edges) / 2) * pico,
        function=pin.text("function"),
        energy=tuple(tables),
    )


def _energy(table: Group, pico: float, templates: dict[str, Group]) -> Energy:
    """The table's column at its second input transition."""
    template = templates.get(table.arguments[0] if table.arguments else "", Group("", []))
    axes = [table.numbers(f"index_{i}") or template.numbers(f"index_{i}") for i in (1, 2)]
    axes = [axis for axis in axes if axis]
    values: NDArray[np.float64] = np.array(table.numbers("values")).reshape([len(axis) for axis in axes]) * pico
    loads: tuple[float, ...] = (0.0,)
    for i in reversed(range(len(axes))):
        if "capacitance" in template.text(f"variable_{i + 1}"):
            loads = tuple(pico * load for load in axes[i])
        else:
            values = np.take(values, [min(1, len(axes[i]) - 1)], axis=i)
    return Energy(loads, tuple(float(v) for v in values.ravel()))


def _adder_pins(cell: Cell) -> list[str]:
    inputs = [p.name for p in cell.pins.values() if p.direction == "input"]
    outputs = [p for p in cell.pins.values() if p.direction == "output"]
    if len(inputs) != 3 or len(outputs) != 2 or cell.sequential:
        return []
    tables = {_truth(p.function, inputs): p.name for p in outputs}
    bits = list(itertools.product((0, 1), repeat=3))
    wanted = tuple(int(sum(b) > 1) for b in bits), tuple(sum(b) % 2 for b in bits)
    return [*inputs, *(tables[t] for t in wanted)] if set(tables) == set(wanted) else []


def _truth(function: str, inputs: list[str]) -> tuple[int, ...]:
    """The values of a Liberty function over all inputs, the last input fastest; empty where it is not understood."""
    text = _prefixed(re.sub(r"\s+'", "'", function.strip())).replace("!", "~")
    text = re.sub(r"(?<=[\w)])\s+(?=[\w(~])", "&", text)  # a space between operands is a product
    text = text.replace("*", "&").replace("+", "|")
    if not re.fullmatch(r"[\w\s()&|^~]+", text):
        return ()
    rows = itertools.product((0, 1), repeat=len(inputs))
    try:
        names = [{"__builtins__": {}, **dict(zip(inputs, row, strict=True))} for row in rows]
        return tuple(eval(text, values) & 1 for values in names)
    except (SyntaxError, NameError, TypeError):
        return ()


def _prefixed(text: str) -> str:
    """``A'`` and ``(...)'`` as ``(~A)`` and ``(~(...))``."""
    while (end := text.find("'")) > 0:
        start = end - 1
        if text[start] == ")":
            while start > 0 and text[start:end].count("(") < text[start:end].count(")"):
                start -= 1
        else:
            while start > 0 and re.match(r"\w", text[start - 1]):
                start -= 1
        text = f"{text[:start]}(~{text[start:end]}){text[end + 1 :]}"
    return text
