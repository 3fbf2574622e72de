"""``senbazuru synth``: area, speed and energy of a unit or of one kind of block in it."""

import argparse
import json
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from gen import netlist, parts
from gen.export import Product, export
from gen.synth import FREQUENCY, SEEDS, TARGETS, Options, synthesise
from golden.files import write
from golden.spec import SpecError, UnitSpec
from scripts import configuration

NAME = "synth"
HELP = "synthesise a unit or one kind of block: area, speed, energy per product"

OF_ONE_TARGET = {"liberty": "asic", "freq": "ecp5", "seeds": "ecp5", "dsp": "ecp5"}
"""Options that mean something for one target alone."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    configuration.add_arguments(parser)
    natural = configuration.natural
    parser.add_argument(
        "--target", choices=TARGETS, required=True, help="asic: standard cells; lut6, generic: no timing"
    )
    parser.add_argument(
        "--block", metavar="KIND", help="one kind of block, with what is below it (default: everything)"
    )
    parser.add_argument("--liberty", metavar="FILE", type=Path, help="cell library of target asic")
    parser.add_argument("--freq", metavar="MHZ", type=natural, help=f"asked of nextpnr (default: {FREQUENCY})")
    parser.add_argument("--seeds", metavar="N", type=natural, help=f"nextpnr runs, median (default: {SEEDS}; 0: none)")
    parser.add_argument("--dsp", action="store_true", help="allow DSP blocks on ecp5")
    parser.add_argument("--energy", action="store_true", help="play real data through the block's gates (target asic)")
    parser.add_argument("--parts", action="store_true", help="every kind of block alone, times its instances")
    parser.add_argument("--per", metavar="KIND", help="with --parts: also divided by the number of these blocks")
    parser.add_argument("--json", metavar="FILE", help="write the report there too")


def run(args: argparse.Namespace) -> int:
    if args.energy and (args.target != "asic" or not args.block):
        raise SpecError("energy must be measured of a block with target asic, give --block and --target asic")
    if args.energy and args.parts:
        raise SpecError("energy must be measured of a whole block, leave --parts out")
    if args.per and not args.parts:
        raise SpecError(f"per must be left out without --parts, not {args.per!r}")
    for name, target in OF_ONE_TARGET.items():
        given = getattr(args, name)
        if args.target != target and given is not None and given is not False:
            raise SpecError(f"{name} must be left out for target {args.target}, it is for {target}")
    if args.json and not os.access(Path(args.json).parent, os.W_OK):
        raise SpecError(f"json must be a file in a folder that can be written, not {args.json!r}")
    spec = configuration.configured(args)
    product = export(spec)
    frequency, seeds = (d if v is None else v for v, d in ((args.freq, FREQUENCY), (args.seeds, SEEDS)))
    options = Options(args.liberty, frequency, seeds, args.dsp, _say)
    return _parts(args, product, options) if args.parts else _whole(args, spec, product, options)


def _parts(args: argparse.Namespace, product: Product, options: Options) -> int:
    top = netlist.module_of(product, args.block)
    if args.per and netlist.module_of(product, args.per) not in parts.kinds(product, top):
        raise SpecError(f"per must be a kind of block inside {args.block}, not {args.per!r}")
    found = parts.parts(product, args.target, args.block, options)
    print(parts.table(found, args.target, args.per))
    _write(args, [asdict(part) for part in found])
    return 0


def _whole(args: argparse.Namespace, spec: UnitSpec, product: Product, options: Options) -> int:
    made = synthesise(product, args.target, args.block, options)
    result = asdict(made.report)
    print(made.report.table())
    if args.energy:
        from tb.build import BuildError
        from tb.energy import measure
        from tb.transactions import CheckFailed

        _say("playing real data through the gates")
        try:
            energy = measure(spec, product, made.netlist, options.cells())
        except (CheckFailed, BuildError) as e:
            print(e, file=sys.stderr)
            return 1
        print(energy.table())
        result["energy"] = asdict(energy)
    _write(args, result)
    return 0


def _write(args: argparse.Namespace, result: Any) -> None:
    if args.json:
        write(args.json, json.dumps(result, indent=2) + "\n")


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
