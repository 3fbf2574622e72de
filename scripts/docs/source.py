"""Where the pages are."""

from pathlib import Path

from gen.registry import Unit

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"


def smallest(unit: Unit) -> str:
    """The preset of a unit that drawings and measurements are made of."""
    return "tiny" if "tiny" in unit.presets else next(iter(unit.presets))
