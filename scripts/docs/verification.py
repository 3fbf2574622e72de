"""How far each unit is verified, counted from what there is: tests, by their names, and claims that are proved."""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from gen.registry import UNITS
from scripts.docs.source import ROOT
from tb import formal
from tb.formal.__main__ import MODULES

BELOW = {"cores": ("mixpe_pe", "mixpe"), "unpack": ("moe_ffn", "expert_ffn")}
"""Units whose blocks a module of :mod:`tb.formal` is about, beside claims that name their unit."""


@dataclass(frozen=True)
class Evidence:
    """What speaks for a unit: test functions by file, and claims."""

    tests: dict[str, list[str]]
    claims: list[formal.Claim]

    @property
    def count(self) -> int:
        return sum(map(len, self.tests.values()))

    @property
    def proved(self) -> int:
        return sum(c.cycles is None for c in self.claims)

    @property
    def bounded(self) -> int:
        return len(self.claims) - self.proved

    def section(self) -> Iterator[str]:
        """Lists, in Markdown."""
        yield "Every preset is exported and linted, its port table read by a foreign parser, and its bench played bit"
        yield "for bit; the smallest is elaborated by LiteX. The tests of this unit alone, by their names:\n"
        for file, names in self.tests.items():
            yield f"- `tb/{file}.py`: " + "; ".join(name.removeprefix("test_").replace("_", " ") for name in names)
        if self.claims:
            yield "\nProved, or checked for so many cycles from reset where that is said:\n"
            by_text: dict[tuple[str, str], list[str]] = {}
            for c in self.claims:
                size = c.size + (f" ({c.cycles} cycles)" if c.cycles else "")
                by_text.setdefault((c.subject, c.text), []).append(size)
            for (subject, text), sizes in by_text.items():
                yield f"- {subject}, {plain(text)}: {plain('; '.join(sizes))}"


def evidence() -> dict[str, Evidence]:
    """By unit."""
    tests: dict[str, dict[str, list[str]]] = {name: {} for name in UNITS}
    for path in sorted((ROOT / "tb").glob("test_*.py")):
        text = path.read_text(encoding="utf-8")
        names = [f.name for f in ast.parse(text).body if isinstance(f, ast.FunctionDef) and f.name.startswith("test_")]
        for unit in _units(path, text):
            tests[unit][path.stem] = names
    claims = {name: [c for m in MODULES for c in m.CLAIMS if _about(name, m.__name__, c)] for name in UNITS}
    return {name: Evidence(tests[name], claims[name]) for name in UNITS}


def table() -> Iterator[str]:
    """A row per unit, in Markdown."""
    yield "| unit | status | presets | tests of its own | proved | bounded |"
    yield "|---|---|---|---|---|---|"
    for name, e in evidence().items():
        unit = UNITS[name]
        numbers = " | ".join(map(str, (len(unit.presets), e.count, e.proved, e.bounded)))
        yield f"| [{name}](units/{name}.md) | {unit.status} | {numbers} |"


def shared() -> Iterator[str]:
    """Claims that are about no unit but about what they are all built of."""
    for module in MODULES:
        rest = [c for c in module.CLAIMS if not any(_about(name, module.__name__, c) for name in UNITS)]
        for subject in dict.fromkeys(c.subject for c in rest):
            texts = dict.fromkeys(c.text for c in rest if c.subject == subject)
            yield f"- {subject}: {plain('; '.join(texts))}"


def _units(path: Path, text: str) -> set[str]:
    """The unit that a test file is called after, and those whose bench it plays."""
    called = [u for u in sorted(UNITS, key=len, reverse=True) if path.stem.removeprefix("test_").startswith(u)]
    plays = [u for u in UNITS if re.search(rf"\btb\.{u}\b|from tb import [^\n]*\b{u}\b", text)]
    return set(called[:1]) | set(plays)


def _about(unit: str, module: str, claim: formal.Claim) -> bool:
    return claim.subject == unit or unit in BELOW.get(module.rpartition(".")[2], ())


def plain(text: str) -> str:
    return re.sub(r"([*_<\[\]|])", r"\\\1", text)
