"""``senbazuru sim``: a unit's bench under Verilator against the golden model."""

import argparse
import sys
import time

from golden.spec import SpecError
from scripts import configuration

NAME = "sim"
HELP = "play a unit's bench under Verilator against its golden model"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    configuration.add_arguments(parser)
    parser.add_argument(
        "--seed", type=configuration.natural, metavar="N", default=1, help="of all random choices (default: 1)"
    )
    parser.add_argument(
        "--vectors", type=configuration.natural, metavar="N", default=0, help="at least N input beats, over more seeds"
    )
    parser.add_argument("--waves", action="store_true", help="write waves beside the results")
    parser.add_argument("--player", choices=("cocotb", "bulk"), default="cocotb", help="bulk: C++, fast, no waves")


def run(args: argparse.Namespace) -> int:
    from tb.build import BuildError
    from tb.runner import PLAYERS
    from tb.transactions import CheckFailed
    from tb.units import BENCHES

    spec = configuration.configured(args)
    if args.waves and args.player != "cocotb":
        raise SpecError(f"waves need the player cocotb, not {args.player!r}")
    options = {"waves": True} if args.waves else {}
    beats, seed = 0, args.seed
    while seed == args.seed or beats < args.vectors:
        cases = BENCHES[spec.unit](spec, seed)
        print(f"playing {len(cases)} cases", file=sys.stderr)
        start = time.monotonic()
        try:
            results = PLAYERS[args.player](spec, cases, seed, **options)
        except (CheckFailed, BuildError) as e:
            print(e, file=sys.stderr)
            return 1
        beats += sum(len(b) for case in cases for b in case.inputs.values())
        print(
            f"{len(cases)} cases, {beats} input beats, {results.ran} cycles in {time.monotonic() - start:.1f} s: passed"
        )
        for path in filter(None, (results.xml, results.waves)):
            print(path)
        seed = (seed + 1) % (1 << 32)
    return 0
