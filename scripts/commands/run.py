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
from scripts import configuration, kmeans_layer, layers

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

    def text(self) -> str:
        c, after = self.configuration, self.total_seconds_after_build
        m, k, n = self.shape
        return "\n".join(
            [
                f"{self.layer}: [{m} x {k}] x [{k} x {n}], {c['weight']} x {c['act']}, array {c['rows']} x {c['cols']}",
                f"outputs compared     {self.outputs:,}",
                f"mismatches           {self.mismatches:,}",
                f"SQNR                 {self.sqnr_db:.1f} dB against float32 of the stored weights",
                f"cycles               {self.cycles:,}",
                f"busy                 {self.busy:.2%} of the cycles take a step",
                f"useful               {self.useful:.2%} of rows * cols * cycles are real multiply-accumulates",
                f"MACs per cycle       {self.macs_per_cycle:.1f} of {c['rows'] * c['cols']}",  # type: ignore[operator]
                f"simulated            {self.cycles_per_second:,.0f} cycles/s",
                f"time                 {self.build_seconds:.1f} s build, {after:.1f} s after it",
            ]
        )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--engine", choices=("mixpe", "kmeans"), default="mixpe", help="mixpe (default), or kmeans: unit kmeans_linear"
    )
    parser.add_argument(
        "--model", default="fixture", help="fixture (default), full (downloads 93 MB once), or the path of a GGUF file"
    )
    parser.add_argument("--layer", type=configuration.natural, metavar="L", help="which layer (default: 15)")
    parser.add_argument("--matrix", choices=layers.MATRICES, default="gate", help="of its FFN (default: gate)")
    parser.add_argument(
        "--tokens", type=configuration.natural, metavar="N", default=16, help="how many real tokens (default: 16)"
    )
    parser.add_argument("--json", action="store_true", help="for a program to read")
    parser.add_argument(
        "--outliers", type=_percent, metavar="PERCENT", default=1.0, help="of engine kmeans, both sides (default: 1)"
    )
    configuration.add_layers(parser)


def _percent(text: str) -> float:
    """0 to 100."""
    try:
        value = float(text)
    except ValueError:
        value = -1
    if not 0 <= value <= 100:
        raise argparse.ArgumentTypeError(f"must be a number between 0 and 100, not {text!r}")
    return value


def run(args: argparse.Namespace) -> int:
    from tb.build import BuildError
    from tb.transactions import CheckFailed

    chosen = unit("kmeans_linear" if args.engine == "kmeans" else "mixpe")
    settings = configuration.settings(args, chosen)
    spec = None if args.engine == "kmeans" else chosen.configure(layers=settings)
    layer = layers.load(args.model, args.layer, args.matrix)
    learned = args.engine == "kmeans"  # from a token at least
    if not 1 <= args.tokens <= len(layer.x) - learned:
        raise SpecError(f"tokens must be an integer between 1 and {len(layer.x) - learned}, not {args.tokens}")
    report: Report | kmeans_layer.KMeansReport
    try:
        if isinstance(spec, MixPESpec):
            report = measure(spec, dataclasses.replace(layer, x=layer.x[: args.tokens]))
        else:
            share = args.outliers / 100
            linear = kmeans_layer.configure(layer, share, {k: v for values in settings for k, v in values.items()})
            _say(f"{layer.name}, {args.tokens} tokens; Verilator takes minutes for a new configuration ...")
            report = kmeans_layer.measure(linear, layer, args.tokens, share)
    except (CheckFailed, BuildError) as e:
        print(e, file=sys.stderr)
        return 1
    print(json.dumps(dataclasses.asdict(report), indent=2) if args.json else report.text())
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


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
