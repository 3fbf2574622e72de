"""``senbazuru run``: a real model's matrix and real activations through the RTL, against the golden model."""

import argparse
import dataclasses
import functools
import json
import sys
from collections.abc import Callable

from gen.registry import unit
from golden.spec import SpecError
from scripts import configuration, kmeans_layer, layers, mixpe_layer, moe_layer, resident_layer

NAME = "run"
HELP = "push a real layer through the RTL and compare every output bit with the golden model"

Measure = Callable[[layers.Settings, Callable[[], layers.LinearLayer], int, float | None, layers.Say], layers.Report]

ENGINES: dict[str, tuple[str, Measure]] = {
    "mixpe": ("mixpe", mixpe_layer.measure),
    "kmeans": ("kmeans_linear", kmeans_layer.measure),
}
"""The unit, and what pushes a layer through it: settings, the layer, tokens, outliers, progress."""


LAYER: dict[str, object] = {"engine": "mixpe", "outliers": None, "model": "fixture", "layer": None, "matrix": "gate"}
"""Options of a single matrix, as they are unless given."""

MIXTURE: dict[str, object] = {"dynamic": False, "formats": None}
"""Likewise those of ``--moe`` alone, where the router decides."""

RESIDENT: dict[str, object] = {"cache": None, "predictor": "next-router", "batches": 4, "bandwidth": 16}
"""Likewise those of ``--cache``, and itself."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--engine", choices=tuple(ENGINES), default="mixpe", help="mixpe (default), or kmeans: unit kmeans_linear"
    )
    parser.add_argument(
        "--model", default="fixture", help="fixture (default), full (downloads 93 MB once), or the path of a GGUF file"
    )
    parser.add_argument("--layer", type=configuration.natural, metavar="L", help="which layer (default: 15)")
    parser.add_argument("--matrix", choices=layers.MATRICES, default="gate", help="of its FFN (default: gate)")
    parser.add_argument(
        "--tokens", type=configuration.natural, metavar="N", default=16, help="how many real tokens (default: 16)"
    )
    parser.add_argument("--json", action="store_true", help="for a program to read")
    parser.add_argument(
        "--outliers", type=configuration.to_hundred, metavar="PERCENT", help="of engine kmeans, both sides (default: 1)"
    )
    parser.add_argument(
        "--moe", metavar="NAME", help="the fixture's whole layer as a mixture of experts, such as S3A3E8: unit moe_ffn"
    )
    parser.add_argument(
        "--dynamic", action="store_true", help="of --moe: as many experts per token as reach the layer's threshold"
    )
    parser.add_argument(
        "--formats",
        metavar="NAME,...",
        help="of --moe: the experts' formats by turns, the shared one first, such as q4_1,lookup4x64,signed8",
    )
    parser.add_argument(
        "--substitute",
        action="store_true",
        help="of --moe S2A2E16: experts as each layer's router foretells them, by the input of the layer before",
    )
    parser.add_argument(
        "--cache", type=configuration.natural, metavar="N", help="of --moe S2A2E16: places on chip for N experts"
    )
    parser.add_argument(
        "--predictor",
        choices=[name for name in resident_layer.PREDICTORS if name != "none"],
        default=RESIDENT["predictor"],
        help="of --cache: what is prefetched, beside a run without prefetch (default: next-router)",
    )
    parser.add_argument(
        "--batches",
        type=configuration.natural,
        default=RESIDENT["batches"],
        metavar="N",
        help="of --cache (default: 4)",
    )
    parser.add_argument(
        "--bandwidth",
        type=configuration.natural,
        default=RESIDENT["bandwidth"],
        metavar="N",
        help="of --cache: bytes per cycle (default: 16)",
    )
    configuration.add_layers(parser)


def run(args: argparse.Namespace) -> int:
    from tb.build import BuildError
    from tb.transactions import CheckFailed

    if args.moe is not None:
        return _mixture(args) if args.cache is None else _resident(args)
    _alone(args, "without --moe", MIXTURE | RESIDENT | {"substitute": False})
    name, measure = ENGINES[args.engine]
    settings = configuration.settings(args, unit(name))
    load = functools.partial(layers.load, args.model, args.layer, args.matrix)
    try:
        report = measure(settings, load, args.tokens, args.outliers, _say)
    except (CheckFailed, BuildError) as e:
        print(e, file=sys.stderr)
        return 1
    print(json.dumps(dataclasses.asdict(report), indent=2) if args.json else report.text())
    return int(report.mismatches > 0)


def _alone(args: argparse.Namespace, where: str, usual: dict[str, object]) -> None:
    """:class:`SpecError` for options that mean nothing there."""
    for option, value in usual.items():
        if getattr(args, option) != value:
            raise SpecError(f"{option} must be left out {where}, not {getattr(args, option)!r}")


def _resident(args: argparse.Namespace) -> int:
    from tb.build import BuildError
    from tb.transactions import CheckFailed

    _alone(args, "with --cache", LAYER | MIXTURE)
    if args.substitute:
        _alone(args, "with --substitute", {"predictor": RESIDENT["predictor"]})
    settings = configuration.settings(args, unit("moe_resident"))
    runs = ("none", "oracle" if args.substitute else args.predictor)
    chosen = (args.moe, args.cache, args.tokens, args.batches, runs, args.bandwidth)
    try:
        report = resident_layer.measure(settings, *chosen, resident_layer.LATENCY, _say, args.substitute)
    except (CheckFailed, BuildError) as e:
        print(e, file=sys.stderr)
        return 1
    print(report.to_json() if args.json else report.text())
    return int(report.mismatches > 0)


def _mixture(args: argparse.Namespace) -> int:
    from tb.build import BuildError
    from tb.transactions import CheckFailed

    _alone(args, "with --moe", LAYER)
    _alone(args, "without --cache", RESIDENT)
    if args.substitute:
        _alone(args, "with --substitute", MIXTURE)
    settings = configuration.settings(args, unit("moe_ffn"))
    formats = () if args.formats is None else args.formats.split(",")
    try:
        report = moe_layer.measure(settings, args.moe, args.tokens, _say, args.dynamic, formats, args.substitute)
    except (CheckFailed, BuildError) as e:
        print(e, file=sys.stderr)
        return 1
    print(report.to_json() if args.json else report.text())
    return int(report.mismatches > 0 or (report.hidden and report.cycles != report.formula_cycles))


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
