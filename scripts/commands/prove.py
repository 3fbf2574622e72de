"""``senbazuru formal``: the proofs, printed as a table."""

import argparse

NAME = "formal"
HELP = "run the proofs and print what was proved, how and for which size"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("subject", nargs="*", metavar="SUBJECT", help="blocks to prove (default: all)")


def run(args: argparse.Namespace) -> int:
    from tb.formal.__main__ import main

    return main(args.subject)
