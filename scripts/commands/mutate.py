"""``senbazuru mutate``: the mutation score of a unit's bench."""

import argparse
import json
import os
import sys
from pathlib import Path

from gen.registry import unit
from golden.files import write
from golden.spec import SpecError
from scripts import configuration

NAME = "mutate"
HELP = "play a unit's bench against wrong bits in the unit's netlist, and list those that it does not see"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    configuration.add_arguments(parser)
    natural = configuration.natural
    parser.add_argument("--count", metavar="N", type=natural, default=1000, help="mutants (default: 1000)")
    parser.add_argument("--seed", metavar="N", type=natural, default=1, help="of the sample (default: 1)")
    parser.add_argument("--json", metavar="FILE", help="write the score there too")


def run(args: argparse.Namespace) -> int:
    from tb.build import BuildError
    from tb.mutation import ENOUGH, measure
    from tb.transactions import CheckFailed

    if not args.count:
        raise SpecError("count must be at least 1, not 0")
    if args.json and not os.access(Path(args.json).parent, os.W_OK):
        raise SpecError(f"json must be a file in a folder that can be written, not {args.json!r}")
    if not hasattr(args, "layers"):
        args.layers = [("preset", "tiny")]
    spec = configuration.configured(args, unit(args.unit))
    try:
        score = measure(spec, args.count, args.seed, lambda line: print(line, file=sys.stderr, flush=True))
    except (CheckFailed, BuildError) as e:
        print(e, file=sys.stderr)
        return 1
    print(score.table())
    if args.json:
        write(args.json, json.dumps(score.record(), indent=2) + "\n")
    return 0 if score.share >= ENOUGH else 1
