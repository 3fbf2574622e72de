"""``senbazuru gen``: write a unit's product."""

import argparse

from gen.export import export
from scripts import configuration

NAME = "gen"
HELP = "write a unit's Verilog, manifest, lint waivers, and files for FuseSoC, make and LiteX"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    configuration.add_arguments(parser)
    parser.add_argument("-o", "--output", metavar="DIR", default=".", help="folder to write to (default: this one)")
    parser.add_argument("--top", metavar="NAME", help="name of the module and the files (default: the unit's)")


def run(args: argparse.Namespace) -> int:
    product = export(configuration.configured(args), args.top)
    for path in product.write(args.output):
        print(path)
    return 0
