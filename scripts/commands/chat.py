"""``senbazuru chat``: a language model speaks, its matrices computed by the RTL."""

import argparse
import json
import sys

from golden import model_store
from golden.spec import SpecError
from scripts import chat, configuration

NAME = "chat"
HELP = "the model goes on with a text, every matrix of all its layers computed by the RTL"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    natural = configuration.natural
    parser.add_argument("prompt", metavar="PROMPT", help="what the model goes on with")
    what = "the Verilog (default), its bit-true models, or float32"
    parser.add_argument("--engine", choices=chat.ENGINES, default="rtl", help=what)
    parser.add_argument("--model", default="full", help="full (default; downloads 93 MB once), or a GGUF file's path")
    parser.add_argument("--moe", metavar="NAME", help="with its feed-forward networks as experts, such as S3A3E8")
    parser.add_argument("--tokens", type=natural, metavar="N", default=8, help="new ones, at most (default: 8)")
    parser.add_argument("--template", action="store_true", help="the prompt is a question, in the model's chat format")
    what = "0 (default): always the likeliest token"
    parser.add_argument("--temperature", type=configuration.to_hundred, metavar="T", default=0.0, help=what)
    parser.add_argument("--seed", type=natural, metavar="N", default=1, help="of the choice (default: 1)")
    what = "engine rtl alone: results are not compared with the bit-true models"
    parser.add_argument("--no-verify", dest="verify", action="store_false", help=what)
    parser.add_argument("--json", action="store_true", help="for a program to read")


def run(args: argparse.Namespace) -> int:
    from golden.llama.weights import ModelFile
    from tb.build import BuildError
    from tb.transactions import CheckFailed

    if args.model == "fixture":
        raise SpecError("model must be full or the path of a GGUF file, not 'fixture'")
    if args.engine != "rtl" and not args.verify:
        raise SpecError(f"no-verify must be left out with engine {args.engine}")
    names = ("engine", "moe", "tokens", "temperature", "seed", "verify")
    options = chat.Options(**{name: getattr(args, name) for name in names})
    prompt = chat.TEMPLATE.format(args.prompt) if args.template else args.prompt
    file = ModelFile(model_store.find(args.model))
    try:
        report = chat.talk(file, prompt, options, (lambda _: None) if args.json else _emit, _say)
    except (CheckFailed, BuildError) as e:
        print(e, file=sys.stderr)
        return 1
    if sys.stderr.isatty():
        print("\x1b[K", end="", file=sys.stderr, flush=True)
    print(json.dumps(report.summary(), indent=2) if args.json else f"\n\n{report.table()}")
    return int(report.total.mismatches > 0)


def _emit(text: str) -> None:
    print(text, end="", flush=True)


def _say(line: str) -> None:
    """On a terminal behind the cursor, where the next piece of text replaces it."""
    if sys.stderr.isatty():
        print(f"\x1b[K\x1b7 [{line}]\x1b8", end="", file=sys.stderr, flush=True)
    else:
        print(line, file=sys.stderr, flush=True)
