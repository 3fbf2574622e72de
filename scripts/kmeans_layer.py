"""A real layer through ``kmeans_linear``: learned, compared bit for bit, timed with outliers and without."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from gen.registry import unit
from golden import q4_1
from golden.kmeans.layer import calibrate, fp16_codes, outliers_per_side, quantise_matrix
from golden.kmeans.linear import KMeansLinearSpec, LinearToken
from golden.mixpe.layer import sqnr
from golden.spec import SpecError
from scripts.layers import LinearLayer, Report, Say, Settings


@dataclass(frozen=True, kw_only=True)
class KMeansReport(Report):
    """``outliers``: of each side; ``cycles_per_token``: in the steady state."""

    outliers: int
    cycles_without_outliers: int
    cycles_per_token: int

    def engine(self) -> str:
        c = self.configuration
        lines = f"{c['lines']} lines of {c['codes']} codes, {c['reducer']}, orizuru {c['selector']}"
        return f"W{c['weight_bits']}A{c['act_bits']} indices, {lines}"

    def details(self) -> list[str]:
        most = self.configuration["lines"] * self.configuration["codes"]
        return [
            f"outliers             {self.outliers} largest and {self.outliers} smallest of each token",
            f"cycles               {self.cycles:,}, {self.cycles_without_outliers:,} without outliers",
            f"cycles per token     {self.cycles_per_token:,} in the steady state",
            f"busy                 {self.busy:.2%} of the cycles take a step of the main path",
            f"MACs per cycle       {self.macs_per_cycle:.1f} of {most}",
        ]


def configure(layer: LinearLayer, share: float, settings: Mapping[str, Any]) -> KMeansLinearSpec:
    """The unit for a layer: its size, room for the outliers, and what the user sets."""
    n, k = layer.matrix.codes.shape
    wanted = outliers_per_side(share, k)
    fitting = {"k_max": k, "n_max": n, "outliers": max(1, wanted)}
    spec = unit("kmeans_linear").spec.from_values(fitting | dict(settings))
    assert isinstance(spec, KMeansLinearSpec)
    if spec.k_max < k or spec.n_max < n:
        name, have, need = ("k_max", spec.k_max, k) if spec.k_max < k else ("n_max", spec.n_max, n)
        raise SpecError(f"{name} must be at least {need} for this layer, not {have}")
    if spec.outliers < wanted:
        asked = f"--outliers {100 * share:.4g} (percent of {k} activations)"
        raise SpecError(f"--set outliers must be at least {wanted} for {asked}, not {spec.outliers}")
    return spec


def jobs_of(spec: KMeansLinearSpec, layer: LinearLayer, count: int, share: float) -> list[LinearToken]:
    """The first activations as jobs; codebook and shift are learned from the others."""
    k = outliers_per_side(share, layer.x.shape[1])
    w = q4_1.dequantise(*layer.matrix)
    others = layer.x[count:]
    matrix = quantise_matrix(w, spec.weight_bits, "sensitivity", np.square(others.astype(np.float64)).mean(axis=0))
    found = calibrate(others, spec.act_bits, k, "sensitivity", np.square(matrix.values.astype(np.float64)).sum(axis=0))
    return [
        LinearToken(
            x=row,
            acts=found.book,
            shift=found.shift,
            weights=matrix.indices.astype(np.int64),
            weight_book=matrix.book,
            scale=matrix.scale,
            k=k,
            load=not i,
        )
        for i, row in enumerate(fp16_codes(layer.x[:count]))
    ]


def measure(
    settings: Settings, load: Callable[[], LinearLayer], tokens: int, outliers: float | None, say: Say
) -> KMeansReport:
    """Golden model, RTL and float32 of the layer's first tokens, timed; ``outliers`` in percent, 1 without it."""
    from tb.cosim import compile
    from tb.transactions import case_of, check

    layer, share = load(), (1.0 if outliers is None else outliers) / 100
    spec = configure(layer, share, {name: value for layers in settings for name, value in layers.items()})
    layer.first(tokens, learned=1)
    say(f"{layer.name}, {tokens} tokens; Verilator takes minutes for a new configuration ...")
    jobs = jobs_of(spec, layer, tokens, share)
    start = time.monotonic()
    rtl = compile(spec)
    built = time.monotonic()
    case = replace(case_of(spec, "layer", jobs), cycles=None)
    bare = replace(case_of(spec, "layer", [replace(job, k=0) for job in jobs]), cycles=None)
    without = rtl.play(bare)
    check(bare, without)
    played = rtl.play(case)
    check(replace(case, judged=False), played)
    expected, got = (spec.port("o").unpack(beats["o"])["y"] for beats in (case.outputs, played.outputs))
    mismatches = int((expected != got).sum()) if expected.shape == got.shape else expected.size
    results = np.stack([spec.compute(job).astype(np.float32) for job in jobs])
    m, (n, k) = len(jobs), layer.matrix.codes.shape
    cycles = played.cycles or 0
    return KMeansReport(
        layer=layer.name,
        shape=(m, k, n),
        configuration=spec.values(),
        outliers=jobs[0].k,
        outputs=results.size,
        mismatches=mismatches,
        sqnr_db=sqnr(layer.x[:m] @ q4_1.dequantise(*layer.matrix).T, results),
        cycles=cycles,
        cycles_without_outliers=without.cycles or 0,
        cycles_per_token=spec.interval,
        busy=m * -(-n // spec.lines) * -(-k // spec.codes) / cycles,
        macs_per_cycle=m * n * k / cycles,
        build_seconds=built - start,
        simulation_seconds=rtl.seconds,
        cycles_per_second=rtl.ran / rtl.seconds,
        total_seconds_after_build=time.monotonic() - built,
    )
