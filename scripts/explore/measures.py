"""The two things that are measured of a point: how good its results are, and what its element costs on a target."""

import functools
import importlib.util
import math
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

from gen import __version__, toolchain
from gen.export import export
from gen.registry import unit
from gen.synth import Options
from golden.spec import SpecError, UnitSpec
from scripts.explore.cost import Cost
from scripts.explore.pareto import Point
from scripts.explore.study import Quality, Study
from scripts.explore.sweep import Figures, Measure, Store, digest, sweep
from scripts.figures import measured

Values = tuple[Any, ...]
Element = tuple[UnitSpec, str | None]

MEASURING = ("gen.netlist", "gen.synth", "gen.liberty", "tb.energy")
"""Modules on which costs depend beside the Verilog and the tools."""


def quality(study: Study) -> Measure[Values]:
    """Of the values of the quality's axes."""
    bound: dict[str, Any] = {"name": study.unit, "quality": study.quality}
    return Measure(
        study.quality.name, functools.partial(_quality_identity, **bound), functools.partial(_quality_figures, **bound)
    )


def costs_of(target: str, options: Options) -> Measure[Element]:
    """Of an element, all figures of a target."""
    bound: dict[str, Any] = {"target": target, "options": options}
    return Measure(
        f"{target} figures", functools.partial(_cost_identity, **bound), functools.partial(_cost_figures, **bound)
    )


def points(
    study: Study,
    specs: Sequence[UnitSpec],
    cost: Cost,
    options: Options,
    store: Store,
    executor: Executor,
    say: Callable[[str], None],
) -> tuple[list[Point], dict[UnitSpec, str]]:
    """Everything that the points need, each thing measured once; and for each point that failed a sentence."""
    wanted = {spec: values(study, spec) for spec in specs}
    qualities, failed = sweep(quality(study), list(dict.fromkeys(wanted.values())), store, executor, say)
    measured = {spec: dict(qualities[item]) for spec, item in wanted.items() if item in qualities}
    failures = {spec: failed[item] for spec, item in wanted.items() if item in failed}
    for target in cost.targets:
        elements = {spec: study.element(spec) for spec in measured}
        costs, broken = sweep(costs_of(target, options), list(dict.fromkeys(elements.values())), store, executor, say)
        for spec, element in elements.items():
            if element in costs:
                measured[spec] |= costs[element]
            else:
                failures[spec] = broken[element]
                del measured[spec]
    found = []
    for spec, figures in measured.items():
        try:
            found.append(_point(study, spec, figures, cost))
        except SpecError as e:
            failures[spec] = str(e)
    return found, failures


def _point(study: Study, spec: UnitSpec, figures: Figures, cost: Cost) -> Point:
    good = figures[study.quality.name]
    if not math.isfinite(good):
        raise SpecError(f"{study.quality.name} must be finite, not {good}")
    return Point(study.configuration(spec), figures, cost.of(figures), good)


def values(study: Study, spec: UnitSpec) -> Values:
    """The item of :func:`quality` that a point needs."""
    return tuple(getattr(spec, axis) for axis in study.quality.axes)


def tools(target: str, options: Options) -> dict[str, Any]:
    """Versions of what measures on a target; :class:`~gen.toolchain.ToolError` for what is missing."""
    found: dict[str, Any] = {"yosys": toolchain.yosys().version}
    if target == "ecp5":
        found |= {"nextpnr": toolchain.nextpnr_version(), "frequency": options.frequency, "seeds": options.seeds}
    if target == "asic":
        library = options.cells()
        found |= {"library": library.name, "cells": digest(library.path.read_text())}
        found |= {"opensta": toolchain.opensta() is not None, "verilator": toolchain.verilator().version}
    return found


def _quality_identity(item: Values, name: str, quality: Quality) -> dict[str, Any]:
    configuration = dict(zip(quality.axes, item, strict=True))
    made = {"version": __version__, "sources": _sources((*quality.packages, quality.figures.__module__))}
    return {"unit": name, "quality": quality.name, "configuration": configuration, **made}


def _quality_figures(item: Values, name: str, quality: Quality) -> Figures:
    return quality.figures(unit(name).spec(**dict(zip(quality.axes, item, strict=True))))


def _cost_identity(item: Element, target: str, options: Options) -> dict[str, Any]:
    spec, block = item
    made = {"version": __version__, "sources": _sources(MEASURING), "verilog": digest(export(spec).verilog)}
    of = {"unit": spec.unit, "configuration": spec.values(), "block": block, "target": target}
    return {**of, **made, "tools": tools(target, options)}


def _cost_figures(item: Element, target: str, options: Options) -> Figures:
    spec, block = item
    return measured(spec, block, target, options)


@functools.cache
def _sources(names: Sequence[str]) -> str:
    """Digest of the Python and data files of packages and modules."""
    files: list[Path] = []
    for name in names:
        found = importlib.util.find_spec(name)
        assert found and found.origin
        origin = Path(found.origin)
        files += (
            [f for f in origin.parent.rglob("*") if f.suffix in (".py", ".npz")] if found.parent == name else [origin]
        )
    return digest(*(f.read_bytes().hex() for f in sorted(files)))
