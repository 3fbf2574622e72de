"""``senbazuru board``: a bench's cases on a board, or on a simulation of one, over its serial line; of the accelerator
lists of jobs, by its driver."""

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from gen import fpga
from golden.soc.accelerator import AcceleratorSpec
from golden.soc.board import NodeSpec
from golden.soc.image import lay_out
from golden.soc.uart import Line
from golden.spec import SpecError, UnitSpec
from scripts import configuration, nodes
from scripts.driver import PATIENCE, SIMULATED, Driver, Stopped, Stuck
from scripts.streams import Streams, playable
from scripts.uart import Host, LineError, Refused, Serial, Wire
from tb import board
from tb.accelerator_host import random_jobs
from tb.axi import Memory
from tb.cosim import Session
from tb.transactions import CheckFailed, check
from tb.units import BENCHES

NAME = "board"
HELP = "play a bench, or lists of jobs of the accelerator, on a board or a simulated one"

SHORT = Line(divisor=4, silence=64)
"""The line of a simulated board: as short as can be."""

CASES = 3
JOBS = 6
ROOM = 1 << 24
"""Bytes of memory in co-simulation."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    configuration.add_arguments(parser)
    nodes.add_arguments(parser, required=False)
    where = (
        "the serial port; sim: its RTL in Verilator; netlist: its ECP5 cells there; cosim: the accelerator alone, "
        "without board and line"
    )
    parser.add_argument("--port", required=True, help=where)
    parser.add_argument("--seed", metavar="N", type=configuration.natural, default=1, help="of the bench (default: 1)")
    often = f"the bench's first cases, or lists of jobs (default: {CASES})"
    parser.add_argument("--cases", metavar="N", type=configuration.natural, default=CASES, help=often)
    many = f"of a list of the accelerator (default: {JOBS})"
    parser.add_argument("--jobs", metavar="N", type=configuration.natural, default=JOBS, help=many)


def run(args: argparse.Namespace) -> int:
    if args.jobs < 1:
        raise SpecError(f"jobs must be at least 1, not {args.jobs}")
    spec, failed = configuration.configured(args), 0
    try:
        start = time.monotonic()
        for name, size, findings in _played(args, spec):
            failed += bool(findings)
            for finding in findings:
                print(f"{name}: {finding}", file=sys.stderr)
            print(f"{name:24} {size:30} {time.monotonic() - start:8.1f} s", flush=True)
            start = time.monotonic()
    except (LineError, Refused, Stuck, CheckFailed) as e:
        print(e, file=sys.stderr)
        return 1
    print(f"seed {args.seed}, {failed} of {args.cases} cases failed")
    return int(failed > 0)


Outcome = tuple[str, str, Sequence[str]]
"""Name, size, findings."""


def _played(args: argparse.Namespace, spec: UnitSpec) -> Iterator[Outcome]:
    if args.port == "cosim":
        if not isinstance(spec, AcceleratorSpec):
            raise SpecError(f"port must be sim, netlist or a serial port for {spec.unit}, not 'cosim'")
        memory = Memory(spec.ports, np.zeros(ROOM, np.uint8), longest=spec.burst, outstanding=spec.outstanding)
        return _lists(Driver(spec, Session(spec, memory), SIMULATED), args)
    on = nodes.board(args)
    wire, node = _wire(args, nodes.node(args, on, spec), nodes.baud(args, on))
    if node.mailbox:
        return _cases(Streams(Host(wire, node.frame), node.mailbox), args)
    assert node.accelerator and node.store
    patience = PATIENCE if isinstance(wire, Serial) else SIMULATED
    return _lists(Driver(node.accelerator, Host(wire, node.frame, node.store.bytes), patience), args)


def _cases(streams: Streams, args: argparse.Namespace) -> Iterator[Outcome]:
    spec = streams.spec.inner
    for case in [case for case in BENCHES[spec.unit](spec, args.seed) if playable(case)][: args.cases]:
        beats = sum(map(len, (*case.inputs.values(), *case.outputs.values())))
        try:
            check(*streams.play(case))
            yield case.name, f"{beats:,} beats", []
        except CheckFailed as e:
            yield case.name, f"{beats:,} beats", [str(e)]


def _lists(driver: Driver, args: argparse.Namespace) -> Iterator[Outcome]:
    rng = np.random.default_rng(args.seed)
    for n in range(args.cases):
        image = lay_out(driver.spec, random_jobs(driver.spec, rng, args.jobs), 0, rng)
        try:
            findings = image.findings(driver.execute(image))
        except Stopped as e:
            findings = [str(e)]
        cycles = driver.counters()["CYCLES"]
        yield f"list {n}", f"{len(image.before):,} bytes, {cycles:,} cycles", findings


def _wire(args: argparse.Namespace, node: NodeSpec, baud: int) -> tuple[Wire, NodeSpec]:
    if args.port not in ("sim", "netlist"):
        return Serial(args.port, baud, node.line.silence), node
    node = replace(node, line=SHORT)
    product = board.gates(node) if args.port == "netlist" else fpga.simulation(node)
    return board.Simulated(node, product), node
