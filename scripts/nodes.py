"""``--board`` and what else describes a node on a command line."""

import argparse

from gen.boards import BOARDS, Board
from golden.soc.board import NodeSpec
from golden.soc.uart import Line, divisor
from golden.spec import SpecError, UnitSpec
from scripts.configuration import natural


def add_arguments(parser: argparse.ArgumentParser, required: bool = True) -> None:
    group = parser.add_argument_group("node")
    group.add_argument("--board", metavar="NAME", required=required, help=f"one of {', '.join(BOARDS)}")
    group.add_argument(
        "--clock", metavar="MHZ", type=float, help="by a PLL (ECP5 alone; default: the board's own clock)"
    )
    group.add_argument("--baud", metavar="N", type=natural, help="bits per second of the line (default: the board's)")
    group.add_argument(
        "--memory", metavar="WORDS", type=natural, default=4096, help="of the accelerator (default: 4096)"
    )


def board(args: argparse.Namespace) -> Board:
    """The board; :class:`~golden.spec.SpecError` for an unknown one."""
    if args.board not in BOARDS:
        raise SpecError(f"board must be one of {', '.join(BOARDS)}, not {args.board!r}")
    return BOARDS[args.board]


def clock(args: argparse.Namespace, on: Board) -> float:
    """In Hz; :class:`~golden.spec.SpecError` for one that the board cannot have."""
    wanted = on.clock if args.clock is None else args.clock * 1e6
    if wanted != on.clock and on.family != "ecp5":
        raise SpecError(f"clock must be {on.clock / 1e6:g} MHz on {on.name}, not {args.clock:g}")
    return wanted


def baud(args: argparse.Namespace, on: Board) -> int:
    return on.baud if args.baud is None else int(args.baud)


def node(args: argparse.Namespace, on: Board, inner: UnitSpec) -> NodeSpec:
    """The node that the arguments describe; :class:`~golden.spec.SpecError` for bad ones."""
    line = Line(divisor=divisor(clock(args, on), baud(args, on)))
    return NodeSpec(inner=inner, line=line, depth=on.depth, memory=args.memory)
