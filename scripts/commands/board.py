"""``senbazuru board``: a bench's cases on a board, or on a simulation of one, over its serial line."""

import argparse
import sys
import time
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from gen import fpga
from golden.soc.board import NodeSpec
from golden.soc.image import lay_out
from golden.soc.uart import Line
from scripts import configuration, nodes
from scripts.lists import Lists
from scripts.streams import Streams, playable
from scripts.uart import Host, LineError, Refused, Serial, Wire
from tb import board
from tb.accelerator_host import random_jobs
from tb.transactions import CheckFailed, check
from tb.units import BENCHES

NAME = "board"
HELP = "play a bench on a board, or on a simulated one, over its serial line"

SIMULATED = Line(divisor=4, silence=64)
"""The line of a simulated board: as short as can be."""

CASES = 3
JOBS = 6
"""Of a list of the accelerator."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    configuration.add_arguments(parser)
    nodes.add_arguments(parser)
    where = "the serial port; sim: its RTL in Verilator; netlist: its ECP5 cells there"
    parser.add_argument("--port", required=True, help=where)
    parser.add_argument("--seed", metavar="N", type=configuration.natural, default=1, help="of the bench (default: 1)")
    often = f"the bench's first cases, or lists of {JOBS} jobs (default: {CASES})"
    parser.add_argument("--cases", metavar="N", type=configuration.natural, default=CASES, help=often)


def run(args: argparse.Namespace) -> int:
    spec, on = configuration.configured(args), nodes.board(args)
    node = nodes.node(args, on, spec)
    wire, node = _wire(args, node, nodes.baud(args, on))
    host, failed = Host(wire, node.frame), 0
    try:
        played = (_lists if node.accelerator else _cases)(host, node, args.seed, args.cases)
        start = time.monotonic()
        for name, size, findings in played:
            failed += bool(findings)
            for finding in findings:
                print(f"{name}: {finding}", file=sys.stderr)
            print(f"{name:24} {size:14} {time.monotonic() - start:8.1f} s", flush=True)
            start = time.monotonic()
    except (LineError, Refused) as e:
        print(e, file=sys.stderr)
        return 1
    print(f"seed {args.seed}, {failed} of {args.cases} cases failed")
    return int(failed > 0)


Outcome = tuple[str, str, list[str]]
"""Name, size, findings."""


def _cases(host: Host, node: NodeSpec, seed: int, number: int) -> Iterator[Outcome]:
    assert node.mailbox
    streams = Streams(host, node.mailbox)
    for case in [case for case in BENCHES[node.inner.unit](node.inner, seed) if playable(case)][:number]:
        beats = sum(map(len, (*case.inputs.values(), *case.outputs.values())))
        try:
            check(*streams.play(case))
            yield case.name, f"{beats:,} beats", []
        except CheckFailed as e:
            yield case.name, f"{beats:,} beats", [str(e)]


def _lists(host: Host, node: NodeSpec, seed: int, number: int) -> Iterator[Outcome]:
    assert node.accelerator
    lists, rng = Lists(host, node), np.random.default_rng(seed)
    for n in range(number):
        image = lay_out(node.accelerator, random_jobs(node.accelerator, rng, JOBS), 0, rng)
        yield f"list {n}", f"{len(image.before):,} bytes", lists.run(image)


def _wire(args: argparse.Namespace, node: NodeSpec, baud: int) -> tuple[Wire, NodeSpec]:
    if args.port not in ("sim", "netlist"):
        return Serial(args.port, baud, node.line.silence), node
    node = replace(node, line=SIMULATED)
    product = board.gates(node) if args.port == "netlist" else fpga.simulation(node)
    return board.Simulated(node, product), node
