"""``senbazuru predict``: experts foretold from embeddings alone (SiDA-MoE), and how often that is right."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from gen.registry import set_layer
from golden import model_store
from golden.llama.perplexity import perplexity
from golden.moe.distill import TrainingSpec
from golden.moe.foresight import Hits
from golden.moe.predictor import PredictorSpec
from golden.spec import SpecError
from scripts import configuration, experts, sida, traces
from scripts.resumable import aligned

NAME = "predict"
HELP = "train a predictor of experts on a model's routing (SiDA), and say how often it is right"

Row = dict[str, Any]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    natural = configuration.natural
    parser.add_argument("--moe", metavar="A,B", default="S2A2E16", help="as of convert (default: %(default)s)")
    experts.add_arguments(parser)
    parser.add_argument("--model", default="full", help="full (default; downloads 93 MB once), or a GGUF file's path")
    parser.add_argument("--tokens", type=natural, metavar="N", help="read only the first N tokens of each text")
    parser.add_argument("--text", type=Path, metavar="FILE", nargs="+", default=[], help="more to learn from")
    add_predictor(parser)
    parser.add_argument(
        "--substitute", action="store_true", help="perplexity with the prediction in place of the routers"
    )
    parser.add_argument("--json", action="store_true", help="for a program to read")


def add_predictor(parser: argparse.ArgumentParser) -> None:
    """What :func:`training` reads, and ``--hidden``."""
    fields = ", ".join(p["name"] for p in TrainingSpec.parameters())
    parser.add_argument("--train", metavar="key=value", nargs="+", default=[], help=f"among {fields}")
    width = configuration.natural
    parser.add_argument("--hidden", type=width, metavar="N", default=sida.HIDDEN, help="width (default: %(default)s)")
    parser.add_argument(
        "--weights", type=Path, metavar="FILE", help="the predictor: taken from there, or learned and written there"
    )


def training(args: argparse.Namespace) -> TrainingSpec:
    """:class:`~golden.spec.SpecError` for bad ones, and for a bad ``--hidden``."""
    PredictorSpec.parse("hidden", args.hidden)
    values: dict[str, Any] = {}
    for setting in args.train:
        values |= set_layer(setting)
    return TrainingSpec.from_values(values)


def run(args: argparse.Namespace) -> int:
    names = args.moe.split(",")
    specs = {name: experts.specification(name, args) for name in names}
    how = training(args)
    if args.weights and len(specs) > 1:
        raise SpecError(f"moe must be one configuration with --weights, not {args.moe}")
    if args.model == "fixture":
        raise SpecError("model must be full or the path of a GGUF file, not 'fixture'")
    more = [_read(path) for path in args.text]
    from golden.llama.weights import ModelFile

    file = ModelFile(model_store.find(args.model))
    found: list[Row] = []
    for name, spec in specs.items():
        both = traces.read(file, spec, _say, args.tokens, more)
        path, predictor = sida.predictor(both, args.hidden, how, args.weights, _say)
        _say(f"{name}: predictor {path}, {predictor.spec.parameters_in_all:,} parameters")
        if args.substitute:
            rows = sida.substituted(file, both, predictor, how.sequence, _say)
            found += [{"row": f"{name} {which}", "perplexity": round(perplexity(nats), 1)} for which, nats in rows]
        else:
            rates = sida.rates(both, predictor, how.sequence)
            found += [_rates(f"{name} {which}", hits, spec.active) for which, hits in rates.items()]
    print(json.dumps(found, indent=2) if args.json else _table(found))
    return 0


def _rates(name: str, hits: Hits, active: int) -> Row:
    heads = ("top-1", "recall@k", "recall@k+1", "whole set")
    return {"row": name, "k": active, **{head: round(share, 4) for head, share in zip(heads, hits, strict=True)}}


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise SpecError(f"text {path} must be UTF-8") from None
    except OSError as e:
        raise SpecError(f"text {path} cannot be read: {e.strerror}") from None


def _table(found: list[Row]) -> str:
    def cell(value: object) -> str:
        return f"{value:.3f}" if isinstance(value, float) else str(value)

    return aligned([list(found[0]), *([cell(value) for value in row.values()] for row in found)])


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
