"""``senbazuru eval``: what quantisation costs in accuracy."""

import argparse
import json
import sys
import time
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from golden import fixture, model_store
from golden.kmeans.layer import WEIGHTINGS
from golden.llama.perplexity import perplexity
from golden.moe import spectral
from golden.spec import SpecError
from scripts import configuration, evaluation, experts

NAME = "eval"
HELP = "accuracy of K-Means, MixPE, experts: a whole model's perplexity, or the fixture layer's signal to noise"

WINDOW = 512


def add_arguments(parser: argparse.ArgumentParser) -> None:
    natural = configuration.natural
    what = "fixture (default): SQNR of one layer; full (downloads 93 MB once), or a GGUF file's path: perplexity"
    parser.add_argument("--model", default="fixture", help=what)
    parser.add_argument("--rows", metavar="A,B", help=f"some of {', '.join(evaluation.ROWS)}".replace("%", "%%"))
    parser.add_argument(
        "--weighting", choices=WEIGHTINGS, default="sensitivity", help="of K-Means (default: %(default)s)"
    )
    parser.add_argument("--window", type=natural, metavar="N", help=f"tokens that see one another (default: {WINDOW})")
    parser.add_argument("--tokens", type=natural, metavar="N", help="read only the text's first N tokens")
    parser.add_argument("--json", action="store_true", help="for a program to read")
    moe = parser.add_argument_group("experts", "in place of rows: the model converted, and ways to choose its experts")
    moe.add_argument("--moe", metavar="A,B", help="such as S3A3E8,S2A2E16 (shared, active, experts in all)")
    experts.add_arguments(moe)
    moe.add_argument(
        "--rank",
        type=natural,
        metavar="R",
        help=f"of spectral scores (default: {experts.RANK}, or an expert's neurons)",
    )


def run(args: argparse.Namespace) -> int:
    if args.moe is not None:
        found = _experts(args)
    else:
        for option in ("variant", "set", "rank"):
            if getattr(args, option) not in (None, []):
                raise SpecError(f"{option} must be left out without --moe, not {getattr(args, option)!r}")
        rows = evaluation.chosen(args.rows, args.weighting)
        found = _layer(args, rows) if args.model == "fixture" else _model(args, rows)
    print(json.dumps(found, indent=2) if args.json else _table(found))
    return 0


def _layer(args: argparse.Namespace, rows: dict[str, evaluation.Row]) -> list[dict[str, object]]:
    for option in ("window", "tokens"):
        if getattr(args, option) is not None:
            raise SpecError(f"{option} must be left out with the fixture, it is for --model full")
    compared = {name: row for name, row in rows.items() if name != evaluation.REFERENCE}
    if not compared:
        raise SpecError(
            f"rows must not be {evaluation.REFERENCE} alone with the fixture, it is what others are held to"
        )
    found: list[dict[str, object]] = []
    for name, columns in evaluation.layer_sqnr(compared):
        found.append({"row": name, **{column: round(value, 3) for column, value in columns.items()}})
        _say(name)
    return found


def _model(args: argparse.Namespace, rows: dict[str, evaluation.Row]) -> list[dict[str, object]]:
    from golden.llama.tokenizer import Tokenizer
    from golden.llama.weights import ModelFile

    file = ModelFile(model_store.find(args.model))
    tokenizer = Tokenizer.of(file)
    tokens = tokenizer.encode(evaluation.text())[: args.tokens]
    calibration = tokenizer.encode(fixture.load().text)
    window = WINDOW if args.window is None else args.window
    _say(f"{len(tokens)} tokens in windows of {window}, {len(calibration)} to learn from")
    found: list[dict[str, object]] = []
    start, first = time.monotonic(), None
    for name, nats, outliers in evaluation.foretold(file.weights(), calibration, tokens, window, rows, _say):
        first = nats if first is None else first
        found.append({"row": name, **_compared(nats, first), "outliers %": round(outliers, 3)})
        _say(f"{name}: perplexity {found[-1]['perplexity']}, {time.monotonic() - start:.0f} s")
    return found


def _experts(args: argparse.Namespace) -> list[dict[str, object]]:
    specs = {name: experts.specification(name, args) for name in args.moe.split(",")}
    if args.rows:
        raise SpecError(f"rows must be left out with --moe, not {args.rows!r}")
    if args.model == "fixture":
        raise SpecError("model must be full or the path of a GGUF file with --moe, not 'fixture'")
    from golden.llama.perplexity import check
    from golden.llama.tokenizer import Tokenizer
    from golden.llama.weights import ModelFile

    file = ModelFile(model_store.find(args.model))
    for spec in specs.values():
        size = spec.size(file.config.ffn)
        spectral.check(size if args.rank is None else args.rank, size)
    tokenizer = Tokenizer.of(file)
    tokens = tokenizer.encode(evaluation.text())[: args.tokens]
    calibration = tokenizer.encode(experts.text())[: min(experts.TOKENS, file.config.context)]
    window = WINDOW if args.window is None else args.window
    check(tokens, window)
    _say(f"{len(tokens)} tokens in windows of {window}, {len(calibration)} to calibrate with")
    layers = range(file.config.layers)
    made = {name: experts.converted(file, spec, calibration, layers, None, _say)[1] for name, spec in specs.items()}
    found: list[dict[str, object]] = []
    first = None
    for name, nats, used in experts.read(file.weights(), made, calibration, tokens, window, args.rank, _say):
        first = nats if first is None else first
        found.append({"row": name, **_compared(nats, first), "routed experts": round(used, 3)})
        _say(f"{name}: perplexity {found[-1]['perplexity']}")
    return found


def _compared(nats: NDArray[np.float64], first: NDArray[np.float64]) -> dict[str, float]:
    """Perplexity; and, token by token, how much more surprise than in the first row, with the standard error of that
    mean."""
    more = nats - first
    error = more.std() / np.sqrt(len(more))
    return {
        "perplexity": round(perplexity(nats), 3),
        "nats more": round(more.mean(), 4),
        "standard error": round(error, 4),
    }


def _table(found: Sequence[dict[str, object]]) -> str:
    """Columns, names to the left, numbers to the right."""
    cells = [list(found[0]), *([v if isinstance(v, str) else f"{v:,.3f}" for v in row.values()] for row in found)]
    first, *others = (max(len(row[i]) for row in cells) for i in range(len(cells[0])))
    lines = [
        "  ".join([row[0].ljust(first), *(c.rjust(w) for c, w in zip(row[1:], others, strict=True))]) for row in cells
    ]
    return "\n".join(lines)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
