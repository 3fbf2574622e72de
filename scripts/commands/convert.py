"""``senbazuru convert``: a dense model's feed-forward networks into shared and routed experts."""

import argparse
import json
import sys
import time
from pathlib import Path

from golden import model_store
from golden.spec import SpecError
from scripts import configuration, experts

NAME = "convert"
HELP = "split a model's feed-forward networks into shared and routed experts, without training (CMoE)"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    natural = configuration.natural
    parser.add_argument("--moe", metavar="NAME", default="S3A3E8", help="shared, active, all experts (default: S3A3E8)")
    experts.add_arguments(parser)
    parser.add_argument("--model", default="full", help="full (default; downloads 93 MB once), or a GGUF file's path")
    parser.add_argument("--layer", type=natural, metavar="L", help="this one alone, the others stay dense")
    parser.add_argument(
        "--tokens", type=natural, metavar="N", default=experts.TOKENS, help="to calibrate with (default: %(default)s)"
    )
    parser.add_argument(
        "-o", "--output", type=Path, metavar="FILE", help="npz file (default: in the cache, where eval --moe looks)"
    )
    what = "all experts in so many bytes at most, each matrix in the format that is best for that"
    parser.add_argument("--budget-bytes", type=natural, metavar="N", help=what)
    parser.add_argument("--json", action="store_true", help="for a program to read")


def run(args: argparse.Namespace) -> int:
    spec = experts.specification(args.moe, args)
    if args.model == "fixture":
        raise SpecError("model must be full or the path of a GGUF file, not 'fixture'")
    from golden.llama.tokenizer import Tokenizer
    from golden.llama.weights import ModelFile

    file = ModelFile(model_store.find(args.model))
    layers = range(file.config.layers) if args.layer is None else [args.layer]
    if layers[-1] >= file.config.layers:
        raise SpecError(f"layer must be an integer between 0 and {file.config.layers - 1}, not {args.layer}")
    spec.size(file.config.ffn)
    every = Tokenizer.of(file).encode(experts.text())
    most = min(len(every), file.config.context)
    if not 1 <= args.tokens <= most:
        raise SpecError(f"tokens must be an integer between 1 and {most}, not {args.tokens}")
    start = time.monotonic()
    job = (file, spec, every[: args.tokens], layers)
    formats: dict[str, object] = {}
    if args.budget_bytes is None:
        path, found = experts.converted(*job, args.output, _say)
    else:
        path, record = experts.budgeted(*job, args.budget_bytes, args.output, _say)
        found, formats = record.conversions, experts.summary(record, file.config)
    report: dict[str, object] = {
        "file": str(path),
        "moe": spec.name,
        "layers": len(found),
        "unmarked": sum(c.unmarked for c in found.values()),
        **formats,
        "seconds": round(time.monotonic() - start, 1),
    }
    print(json.dumps(report, indent=2) if args.json else "\n".join(f"{name:9} {v}" for name, v in report.items()))
    return 0


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
