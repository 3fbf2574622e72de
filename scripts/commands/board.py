"""``senbazuru board``: a bench's cases on a board, or on a simulation of one, over its serial line."""

import argparse
import sys
import time
from dataclasses import replace

from gen import fpga
from golden.soc.board import NodeSpec
from golden.soc.uart import Line
from scripts import configuration, nodes
from scripts.streams import Streams, playable
from scripts.uart import Host, LineError, Refused, Serial, Wire
from tb import board
from tb.transactions import CheckFailed, check
from tb.units import BENCHES

NAME = "board"
HELP = "play a bench on a board, or on a simulated one, over its serial line"

SIMULATED = Line(divisor=4, silence=64)
"""The line of a simulated board: as short as can be."""

CASES = 3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    configuration.add_arguments(parser)
    nodes.add_arguments(parser)
    where = "the serial port; sim: its RTL in Verilator; netlist: its ECP5 cells there"
    parser.add_argument("--port", required=True, help=where)
    parser.add_argument("--seed", metavar="N", type=configuration.natural, default=1, help="of the bench (default: 1)")
    often = f"of the bench, its first ones (default: {CASES}; 0: all)"
    parser.add_argument("--cases", metavar="N", type=configuration.natural, default=CASES, help=often)


def run(args: argparse.Namespace) -> int:
    spec, on = configuration.configured(args), nodes.board(args)
    node = nodes.node(args, on, spec)
    wire, node = _wire(args, node, nodes.baud(args, on))
    cases = [case for case in BENCHES[spec.unit](spec, args.seed) if playable(case)]
    failed = 0
    try:
        streams = Streams(Host(wire, node.frame), node.mailbox)
        for case in cases[: args.cases or None]:
            start = time.monotonic()
            try:
                check(*streams.play(case))
            except CheckFailed as e:
                failed += 1
                print(e, file=sys.stderr)
            beats = sum(map(len, (*case.inputs.values(), *case.outputs.values())))
            print(f"{case.name:24} {beats:8,} beats {time.monotonic() - start:8.1f} s", flush=True)
    except (LineError, Refused) as e:
        print(e, file=sys.stderr)
        return 1
    print(f"seed {args.seed}, {failed} of {len(cases[: args.cases or None])} cases failed")
    return int(failed > 0)


def _wire(args: argparse.Namespace, node: NodeSpec, baud: int) -> tuple[Wire, NodeSpec]:
    if args.port not in ("sim", "netlist"):
        return Serial(args.port, baud, node.line.silence), node
    node = replace(node, line=SIMULATED)
    product = board.gates(node) if args.port == "netlist" else fpga.simulation(node)
    return board.Simulated(node, product), node
