"""``senbazuru doctor``: tools found, versions, what is missing and how to get it."""

import argparse
import dataclasses
import json

from gen.toolchain import doctor

NAME = "doctor"
HELP = "show the tools found, and how to get what is missing"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="for a program to read")


def run(args: argparse.Namespace) -> int:
    checks = doctor()
    if args.json:
        print(json.dumps([dataclasses.asdict(c) for c in checks], indent=2))
    else:
        for c in checks:
            print(f"{c.name:14} {c.found or 'not found'}{'' if c.found else ': ' + c.advice}")
    return int(any(c.needed and c.found is None for c in checks))
