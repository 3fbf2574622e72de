"""``senbazuru run``: a real model's matrix and real activations through the RTL, against the golden model."""

import argparse
import dataclasses
import json
import sys
import time
from dataclasses import dataclass

from gen.registry import unit
from golden import q4_1
from golden.mixpe.gemm import MixPESpec
from golden.mixpe.layer import real_gemm, sqnr
from golden.spec import SpecError
from scripts import configuration, layers

NAME = "run"
HELP = "push a real layer through the RTL and compare every output bit with the golden model"


@dataclass(frozen=True)
class Report:
    """What a run measured. ``busy``: cycles in which the array takes a step / cycles; ``useful``: real
    multiply-accumulates / (rows * cols * cycles)."""

    layer: str
    shape: tuple[int, int, int]
    configuration: dict[str, object]
    outputs: int
    mismatches: int
    sqnr_db: float
    cycles: int
    busy: float
    useful: float
    macs_per_cycle: float
    build_seconds: float
    simulation_seconds: float
    cycles_per_second: float
    total_seconds_after_build: float


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--model", default="fixture", help="fixture (default), full (downloads 93 MB once), or the path of a GGUF file"
    )
    parser.add_argument("--layer", type=configuration.natural, metavar="L", help="which layer (default: 15)")
    parser.add_argument("--matrix", choices=layers.MATRICES, default="gate", help="of its FFN (default: gate)")
    parser.add_argument(
        "--tokens", type=configuration.natural, metavar="N", default=16, help="how many real tokens (default: 16)"
    )
    parser.add_argument("--json", action="store_true", help="for a program to read")
    configuration.add_layers(parser)


def run(args: argparse.Namespace) -> int:
    from tb.build import BuildError
    from tb.transactions import CheckFailed

    spec = configuration.configured(args, unit("mixpe"))
    assert isinstance(spec, MixPESpec)
    layer = layers.load(args.model, args.layer, args.matrix)
    if not 1 <= args.tokens <= len(layer.x):
        raise SpecError(f"tokens must be an integer between 1 and {len(layer.x)}, not {args.tokens}")
    try:
        report = measure(spec, dataclasses.replace(layer, x=layer.x[: args.tokens]))
    except (CheckFailed, BuildError) as e:
        print(e, file=sys.stderr)
        return 1
    print(json.dumps(dataclasses.asdict(report), indent=2) if args.json else _text(report))
    return int(report.mismatches > 0)


def measure(spec: MixPESpec, layer: layers.LinearLayer) -> Report:
    """Golden model, RTL and float32 of the same product, timed."""
    from tb.cosim import compile

    job, factor = real_gemm(spec, layer.x, layer.matrix)
    _say(f"{layer.name}: {job.shape[1]} -> {job.shape[2]}, {job.shape[0]} tokens")
    _say("generating Verilog and building it with Verilator (a minute or two for a new configuration) ...")
    start = time.monotonic()
    rtl = compile(spec, optimise=False)
    built = time.monotonic()
    _say("golden model ...")
    golden = spec.compute(job)
    _say(f"simulating {spec.cycles(job):,} cycles ...")
    y = rtl(job)
    real = layer.x @ q4_1.dequantise(*layer.matrix).T
    m, k, n = job.shape
    macs = m * k * n
    return Report(
        layer=layer.name,
        shape=job.shape,
        configuration=spec.values(),
        outputs=y.size,
        mismatches=int((spec.out_format.code(y) != spec.out_format.code(golden)).sum()),
        sqnr_db=sqnr(real, y * factor),
        cycles=rtl.cycles,
        busy=spec.steps(job) / rtl.cycles,
        useful=macs / (spec.rows * spec.cols * rtl.cycles),
        macs_per_cycle=macs / rtl.cycles,
        build_seconds=built - start,
        simulation_seconds=rtl.seconds,
        cycles_per_second=rtl.ran / rtl.seconds,
        total_seconds_after_build=time.monotonic() - built,
    )


def _text(r: Report) -> str:
    c = r.configuration
    m, k, n = r.shape
    return "\n".join(
        [
            f"{r.layer}: [{m} x {k}] x [{k} x {n}], {c['weight']} x {c['act']}, array {c['rows']} x {c['cols']}",
            f"outputs compared     {r.outputs:,}",
            f"mismatches           {r.mismatches:,}",
            f"SQNR                 {r.sqnr_db:.1f} dB against float32 of the stored weights",
            f"cycles               {r.cycles:,}",
            f"busy                 {r.busy:.2%} of the cycles take a step",
            f"useful               {r.useful:.2%} of rows * cols * cycles are real multiply-accumulates",
            f"MACs per cycle       {r.macs_per_cycle:.1f} of {c['rows'] * c['cols']}",  # type: ignore[operator]
            f"simulated            {r.cycles_per_second:,.0f} cycles/s",
            f"time                 {r.build_seconds:.1f} s build, {r.total_seconds_after_build:.1f} s after it",
        ]
    )


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
