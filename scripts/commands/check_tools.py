"""``senbazuru doctor``: tools found, versions, what is missing and how to get it."""

import argparse
import dataclasses
import json
import shlex

from gen.toolchain import doctor, verilator

NAME = "doctor"
HELP = "show the tools found, and how to get what is missing"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--json", action="store_true", help="for a program to read")
    shell = "for a shell to evaluate: environment in which `verilator` and the makefiles it writes work"
    group.add_argument("--env", action="store_true", help=shell)


def run(args: argparse.Namespace) -> int:
    if args.env:
        tool = verilator()
        # a makefile's own sub-makes take variables from MAKEFLAGS as if they stood on their command lines
        variables = tool.environment | {"MAKEFLAGS": " ".join(tool.make)}
        print("\n".join(f"export {name}={shlex.quote(value)}" for name, value in variables.items()))
        return 0
    checks = doctor()
    if args.json:
        print(json.dumps([dataclasses.asdict(c) for c in checks], indent=2))
    else:
        for c in checks:
            print(f"{c.name:14} {c.found or 'not found'}{'' if c.found else ': ' + c.advice}")
    return int(any(c.needed and c.found is None for c in checks))
