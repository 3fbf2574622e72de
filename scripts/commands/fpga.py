"""``senbazuru fpga``: a unit or the accelerator behind a serial line, for a board."""

import argparse
import sys
from pathlib import Path

from gen import fpga
from golden.files import write, write_all
from golden.spec import SpecError
from scripts import configuration, nodes

NAME = "fpga"
HELP = "a bitstream for a board, with what it takes of the device"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    configuration.add_arguments(parser)
    nodes.add_arguments(parser)
    often = f"nextpnr runs (default: {fpga.SEEDS})"
    parser.add_argument("--seeds", metavar="N", type=configuration.natural, default=fpga.SEEDS, help=often)
    parser.add_argument("-o", "--output", metavar="DIR", type=Path, help="default: build/fpga/BOARD-UNIT")
    parser.add_argument("--project", action="store_true", help="write the project alone, build nothing")


def run(args: argparse.Namespace) -> int:
    if args.seeds < 1:
        raise SpecError(f"seeds must be at least 1, not {args.seeds}")
    spec, board = configuration.configured(args), nodes.board(args)
    node, clock = nodes.node(args, board, spec), nodes.clock(args, board)
    folder = args.output or Path("build/fpga") / f"{board.name}-{spec.unit}"
    if args.project or board.family not in fpga.FLOWS:
        for path in write_all(folder, fpga.project(node, board, clock)):
            print(path)
        if board.family not in fpga.FLOWS:
            print(f"not built: {board.name} needs {board.family}, run {folder / 'build_top.sh'} there", file=sys.stderr)
        return 0
    try:
        report = fpga.build(node, board, clock, folder, fpga.Options(args.seeds, _say))
    except fpga.DoesNotFit as e:
        print(e, file=sys.stderr)
        return 1
    write(folder / "report.json", report.to_json())
    print(report.table())
    return 0 if report.met else 1


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
