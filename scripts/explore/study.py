"""What a sweep of one unit is: its axes, its grids, how good a configuration is and which block costs something."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gen.registry import unit
from golden.spec import SpecError, UnitSpec

Grid = Mapping[str, Sequence[Any]]


@dataclass(frozen=True)
class Quality:
    """How good the results of a configuration are: more is better.

    ``figures(spec)`` are numbers by name, of which ``name`` counts. They depend on the fields in ``axes`` alone, and on
    the source files of ``packages`` and of the function's module, at whose top level it stands for other processes to
    find it.
    """

    name: str
    unit: str
    axes: tuple[str, ...]
    figures: Callable[[Any], dict[str, float]]
    packages: tuple[str, ...]


@dataclass(frozen=True)
class Study:
    """The sweep of a unit.

    ``axes`` are fields of the unit's specification. Every combination of each of the ``grids`` is a point; a field that
    a grid leaves out has its default. ``check(spec)`` raises :class:`SpecError` for points that the specification
    allows and ``quality`` does not. ``element(spec)`` is what costs: a unit and one kind of its blocks, ``None`` for
    all of it; points with equal elements share its figures.
    """

    unit: str
    axes: tuple[str, ...]
    grids: tuple[Grid, ...]
    check: Callable[[Any], None]
    quality: Quality
    element: Callable[[Any], tuple[UnitSpec, str | None]]
    dependent: Mapping[str, str] = field(default_factory=dict)
    """Axes that mean something only for some values of another, which is chosen without them: then they are derived."""

    def values(self, axis: str, text: str) -> list[Any]:
        """The values of an axis from a list with commas; :class:`SpecError` for one that the field forbids."""
        parse = unit(self.unit).spec.parse
        return list(dict.fromkeys(parse(axis, value) for value in text.split(",")))

    def points(self, chosen: Grid) -> tuple[list[UnitSpec], dict[tuple[Any, ...], str]]:
        """The points of all grids, whose values the ``chosen`` ones replace; and why the others are refused."""
        found: dict[UnitSpec, None] = {}
        refused: dict[tuple[Any, ...], str] = {}
        for grid in self.grids:
            own = {a: values for a, values in grid.items() if self.dependent.get(a) not in chosen}
            axes = {**own, **chosen}
            for values in itertools.product(*axes.values()):
                configuration = dict(zip(axes, values, strict=True))
                try:
                    spec = unit(self.unit).spec(**configuration)
                    self.check(spec)
                except SpecError as e:
                    refused[tuple(configuration.get(axis) for axis in self.axes)] = str(e)
                else:
                    found[spec] = None
        return list(found), refused

    def configuration(self, spec: UnitSpec) -> dict[str, Any]:
        """The values of all axes, derived ones included."""
        return {axis: getattr(spec, axis) for axis in self.axes}


def label(configuration: Mapping[str, Any], among: Sequence[Mapping[str, Any]]) -> str:
    """The values that differ ``among`` several configurations."""
    varied = [axis for axis in configuration if len({other[axis] for other in among}) > 1]
    return " ".join(str(configuration[axis]) for axis in varied or configuration)
