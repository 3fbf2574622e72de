"""``senbazuru explore``: many configurations of a unit, what they compute well against what they cost."""

import argparse
import json
import os
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from gen import toolchain
from gen.registry import unit
from gen.synth import Options
from golden.files import write
from golden.spec import SpecError
from scripts import configuration
from scripts.explore import STUDIES, measures, pareto, plot, sweep
from scripts.explore.cost import Cost
from scripts.explore.pareto import Point
from scripts.explore.study import Study, label

NAME = "explore"
HELP = "sweep a unit's configurations and find those that no other one beats in accuracy and cost"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    units = parser.add_subparsers(required=True, metavar="UNIT", dest="unit")
    for study in STUDIES.values():
        one = units.add_parser(study.unit, help=unit(study.unit).summary, description=HELP, allow_abbrev=False)
        _add_axes(one, study)
        one.add_argument("--cost", metavar="FIGURES", help="such as area*energy (default; without cells LUT6), Fmax")
        one.add_argument("--liberty", metavar="FILE", type=Path, help="cell library")
        one.add_argument("--output", metavar="DIR", type=Path, default="build/explore", help="keeps what was measured")
        one.add_argument("--plot", metavar="FILE", type=Path, help="draw the points there, .svg or .png")
        where = one.add_mutually_exclusive_group()
        where.add_argument("--jobs", metavar="N", type=configuration.natural, help="processes (default: one per CPU)")
        where.add_argument("--dask", metavar="ADDRESS", help="of a Dask scheduler whose workers measure")


def _add_axes(parser: argparse.ArgumentParser, study: Study) -> None:
    group = parser.add_argument_group("axes", "values with commas between them, in place of the default sweep's")
    parameters = {p["name"]: p for p in unit(study.unit).spec.parameters()}
    for axis in study.axes:
        group.add_argument(f"--{axis.replace('_', '-')}", dest=axis, metavar="A,B", help=parameters[axis]["doc"])


def run(args: argparse.Namespace) -> int:
    study, options = STUDIES[args.unit], Options(args.liberty)
    cost = _cost(args.cost, options)
    if args.plot:
        plot.check(args.plot)
    for target in cost.targets:
        measures.tools(target, options)
    specs, refused = study.points(
        {a: study.values(a, getattr(args, a)) for a in study.axes if getattr(args, a) is not None}
    )
    if not specs:
        raise SpecError(f"sweep must have a valid point, not only refused ones: {next(iter(refused.values()))}")
    store = sweep.Store(args.output / "measured")
    with sweep.cluster(args.dask) if args.dask else sweep.local(_jobs(args.jobs)) as executor:
        store.folder.mkdir(parents=True, exist_ok=True)
        points, failed = measures.points(study, specs, cost, options, store, executor, _say)
    for sentence, count in Counter(refused.values()).most_common():
        _say(f"{count} refused: {sentence}")
    best = [points[i] for i in pareto.front([(-p.cost if cost.more else p.cost, p.quality) for p in points])]
    among = [study.configuration(spec) for spec in specs]
    sentences = {label(study.configuration(spec), among): sentence for spec, sentence in failed.items()}
    head = {"unit": study.unit, "cost": str(cost), "quality": study.quality.name}
    rows = [{**asdict(p), "front": p in best} for p in points]
    told = {**head, "refused": len(refused), "failed": sentences, "points": rows}
    write(args.output / "points.json", json.dumps(told, indent=2) + "\n")
    if best:
        _show(study, cost, points, best, args.plot)
    print(f"{len(best)} of {len(points)} points on the front; {len(refused)} combinations refused")
    for name, sentence in sentences.items():
        _say(f"failed: {name}: {sentence}")
    return int(bool(failed))


def _cost(text: str | None, options: Options) -> Cost:
    """As asked, else area x energy where there are cells, LUTs where not."""
    if text:
        return Cost.parse(text)
    try:
        options.cells()
    except toolchain.ToolError as e:
        _say(f"{e}; cost is LUT6")
        return Cost(("LUT6",))
    return Cost(("area", "energy"))


def _jobs(asked: int | None) -> int:
    return (os.cpu_count() or 1) if asked is None else asked


def _show(study: Study, cost: Cost, points: Sequence[Point], best: Sequence[Point], picture: Path | None) -> None:
    """The front as a table, all points as a plot."""
    print(pareto.table(best, study.quality.name, str(cost)))
    if picture:
        axes = {"cost": f"{cost} ({cost.unit})", "quality": f"{study.quality.name} ({study.quality.unit})"}
        title = f"{study.unit}: {len(points)} configurations, {len(best)} on the front"
        plot.draw(picture, points, best, title=title, less=not cost.more, **axes)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
