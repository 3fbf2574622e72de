"""What a point costs: figures of its element, or a product of some."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from golden.spec import SpecError
from scripts.figures import FIGURES


@dataclass(frozen=True)
class Cost:
    """The product of the figures ``names``; of a single one that is better larger, such as Fmax, more is better."""

    names: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> Self:
        """From names with ``*`` between them, in any case; :class:`SpecError` for anything else."""
        known = {name.lower(): name for name in FIGURES}
        names = [known.get(name.strip().lower()) for name in text.split("*")]
        if None in names or (len(names) > 1 and any(FIGURES[name].more for name in names if name)):
            less = [name for name, figure in FIGURES.items() if not figure.more]
            more = [name for name, figure in FIGURES.items() if figure.more]
            raise SpecError(
                f"cost must be one of {', '.join(less)}, products of them such as area*energy, "
                f"or {', '.join(more)}, not {text!r}"
            )
        return cls(tuple(name for name in names if name))

    def __str__(self) -> str:
        return "*".join(self.names)

    @property
    def unit(self) -> str:
        return " x ".join(FIGURES[name].unit for name in self.names)

    @property
    def targets(self) -> list[str]:
        """What an element must be synthesised for."""
        return list(dict.fromkeys(FIGURES[name].target for name in self.names))

    @property
    def more(self) -> bool:
        """Whether more is better."""
        return FIGURES[self.names[0]].more

    def of(self, figures: Mapping[str, float]) -> float:
        """The cost; :class:`SpecError` where a figure is missing."""
        missing = [name for name in self.names if name not in figures]
        if missing:
            raise SpecError(f"cost must be made of figures that the tools give, {', '.join(figures)}, not {missing[0]}")
        return math.prod(figures[name] for name in self.names)
