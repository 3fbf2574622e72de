"""Branches and toggles of a unit's Verilog that its bench reaches, by Verilator, with the Python lines they are of.

What Verilator counts here is the product before its text pass, with Amaranth's ``src`` attributes: the same modules,
the same circuit. A branch is one way through an ``if``, a ``?:`` or a ``case``, or a block; it counts once per module,
whichever instance takes it. Left out is what is no branch: initial values, conditions that are constants, and the
``default`` of a multiplexer all of whose selects are listed, which Yosys gives the value x. Toggles are bits that have
risen and bits that have fallen. A Python line is that of an operator or ``Mux``; branches of ``m.If`` and ``m.Switch``,
which have none, get that of the signal that they assign, where it has a name. Branches that cannot be taken are in
:data:`tb.points.UNTAKEN`.
"""

import re
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import hdl
from gen.export import annotated_verilog
from golden.spec import UnitSpec
from tb import products
from tb.cosim import Rtl, compile

_RECORD = re.compile(r"C '(.*)' (\d+)$")
_SOURCE = re.compile(r'\(\* src = "([^"]*)" \*\)')
_NONE = re.compile(r"^ *((input|output|wire|reg) .*=.*;|initial begin|.*\$auto\$verilog_backend.*|.* 1'h[01] \? .*)$")
_FUNCTION = re.compile(r"^ *function .*?(\S+) *;$")
_CALL = re.compile(r" = (\S+) \(\d+'[bh]x+, ")
_ROOT = Path(hdl.__file__).parents[1]


@dataclass(frozen=True)
class Branch:
    """One way through the Verilog of a module. ``source``: ``file:line`` of Python, where there is one."""

    module: str
    line: int
    column: int
    what: str
    text: str
    source: str | None

    def __str__(self) -> str:
        return f"{self.module}: {self.what} of {self.text} [{self.python}]"

    @property
    def python(self) -> str:
        """The Python line's file and text."""
        if self.source is None or not (_ROOT / self.source.partition(":")[0]).exists():
            return self.source or "no line known"
        file, _, line = self.source.partition(":")
        return f"{file}: {(_ROOT / file).read_text(encoding='utf-8').splitlines()[int(line) - 1].strip()}"


@dataclass(frozen=True)
class Lines:
    """How often each branch was taken, and how many bits have risen or fallen, of all that could."""

    branches: Mapping[Branch, int]
    toggled: int
    toggles: int

    @property
    def missed(self) -> list[str]:
        return [str(b) for b, hits in self.branches.items() if not hits]


LARGE = ("moe_ffn", "moe_resident")
"""Units whose toggles are not counted: a counter per bit of a whole layer takes too long to compile."""


def counting(spec: UnitSpec) -> Rtl:
    """The unit with Verilator's counters."""
    annotated = replace(products.of(spec), verilog=annotated_verilog(spec))
    return compile(spec, product=annotated, coverage=("line",) if spec.unit in LARGE else ("line", "toggle"))


def read(rtl: Rtl) -> Lines:
    """Of all that a player of :func:`counting` has played."""
    text = annotated_verilog(rtl.spec).splitlines()
    with tempfile.TemporaryDirectory(prefix="senbazuru-coverage-") as folder:
        rtl.coverage(Path(folder, "coverage.dat"))
        records = Path(folder, "coverage.dat").read_text(encoding="utf-8").splitlines()
    left_out = _no_branches(text)
    branches, bits = Counter[Branch](), Counter[tuple[str, str]]()
    for fields, hits in _records(records):
        module = fields["page"].partition("/")[2]
        if fields["page"].startswith("v_toggle"):
            bits[module, fields["o"]] += hits
        elif (at := int(fields["l"])) not in left_out:
            written, column = _SOURCE.sub("", text[at - 1]).strip(), int(fields["n"])
            branches[Branch(module, at, column, fields["o"], written, _source(text, at))] += hits
    return Lines(branches, sum(map(bool, bits.values())), len(bits))


def _no_branches(text: list[str]) -> set[int]:
    """Numbers of lines."""
    unknown = {m[1] for line in text if (m := _CALL.search(line))}
    found, function = set(), ""
    for number, line in enumerate(text, 1):
        if m := _FUNCTION.match(line):
            function = m[1]
        if _NONE.match(line) or (line.strip() == "default:" and function in unknown):
            found.add(number)
    return found


def _records(lines: list[str]) -> Iterator[tuple[dict[str, str], int]]:
    for line in lines:
        if found := _RECORD.match(line):
            pairs = (pair.split("\x02", 1)[:2] for pair in found[1].split("\x01") if "\x02" in pair)
            yield dict(pairs), int(found[2])


def _source(text: list[str], line: int) -> str | None:
    """Of an expression the attribute behind the operator, else that of the signal; of a block, the one above it."""
    written = text[line - 1]
    if written.lstrip().startswith("assign") and "?" in written:
        if found := _SOURCE.search(written.partition("?")[2]):
            return found[1]
        return _declared(text, line, written.split()[1])
    above = line - 1
    while above and not text[above].lstrip().startswith(("always", "(*")):
        above -= 1
    found = _SOURCE.search(text[above] if "(*" in text[above] else text[above - 1])
    return found[1] if found else None


def _declared(text: list[str], line: int, name: str) -> str | None:
    """The attribute of a signal of the module that the line is in."""
    for at in range(line - 1, 0, -1):
        if text[at].startswith("module "):
            return None
        if re.match(rf"  (wire|reg|output|input) .*(?<!\S){re.escape(name)} ?;", text[at]):
            found = _SOURCE.search(text[at - 1])
            return found[1] if found else None
    return None
