"""A real layer through ``mixpe``: quantised, compared bit for bit, timed."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from gen.registry import unit
from golden import q4_1
from golden.mixpe.gemm import MixPESpec
from golden.mixpe.layer import real_gemm, sqnr
from golden.spec import SpecError
from scripts.layers import LinearLayer, Report, Say, Settings


@dataclass(frozen=True, kw_only=True)
class MixPEReport(Report):
    """``useful``: real multiply-accumulates / (rows * cols * cycles)."""

    useful: float

    def engine(self) -> str:
        c = self.configuration
        return f"{c['weight']} x {c['act']}, array {c['rows']} x {c['cols']}"

    def details(self) -> list[str]:
        elements = self.configuration["rows"] * self.configuration["cols"]
        return [
            f"cycles               {self.cycles:,}",
            f"busy                 {self.busy:.2%} of the cycles take a step",
            f"useful               {self.useful:.2%} of rows * cols * cycles are real multiply-accumulates",
            f"MACs per cycle       {self.macs_per_cycle:.1f} of {elements}",
        ]


def measure(
    settings: Settings, load: Callable[[], LinearLayer], tokens: int, outliers: float | None, say: Say
) -> MixPEReport:
    """Golden model, RTL and float32 of the layer's first tokens, timed."""
    from tb.cosim import compile

    spec = unit("mixpe").configure(layers=settings)
    assert isinstance(spec, MixPESpec)
    if outliers is not None:
        raise SpecError(f"outliers must be left out for engine mixpe, not {outliers:g}")
    layer = load().first(tokens)
    job, factor = real_gemm(spec, layer.x, layer.matrix)
    say(f"{layer.name}: {job.shape[1]} -> {job.shape[2]}, {job.shape[0]} tokens")
    say("generating Verilog and building it with Verilator (a minute or two for a new configuration) ...")
    start = time.monotonic()
    rtl = compile(spec, optimise=False)
    built = time.monotonic()
    say("golden model ...")
    golden = spec.compute(job)
    say(f"simulating {spec.cycles(job):,} cycles ...")
    y = rtl(job)
    real = layer.x @ q4_1.dequantise(*layer.matrix).T
    m, k, n = job.shape
    macs = m * k * n
    return MixPEReport(
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
