"""Unit ``kmeans_linear``: the exported Verilog against its golden model, and that against plain arithmetic."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from golden import fixture, q4_1
from golden.kmeans import layer, token
from golden.kmeans.codebook import Codebook
from golden.kmeans.layer import calibrate, outliers_per_side, quantise_matrix
from golden.kmeans.linear import KMeansLinearSpec, LinearToken
from golden.mixpe.layer import sqnr
from golden.spec import SpecError
from hdl.kmeans.compensate import Column, Compensation, Partials
from hdl.kmeans.merge import Merge
from hdl.kmeans.residual import Residuals
from hdl.layers.kmeans_linear import KMeansLinear
from tb.cosim import compile
from tb.faults import one_in, turns_red
from tb.kmeans_linear import random_job
from tb.runner import both_see_the_same, run_bulk
from tb.transactions import case_of
from tb.units import BENCHES

TINY = KMeansLinearSpec(
    act_bits=2, weight_bits=2, k_max=16, n_max=8, lanes=2, lines=2, codes=4, outliers=2, selector="systolic"
)
ODD = KMeansLinearSpec(
    act_bits=3,
    weight_bits=2,
    k_max=63,
    n_max=40,
    lanes=7,
    lines=3,
    codes=7,
    width=4,
    reducer="bucket",
    outliers=9,
    macs=2,
    out="fp16",
)
COUNTS = KMeansLinearSpec(
    act_bits=2,
    weight_bits=3,
    k_max=64,
    n_max=32,
    lanes=8,
    lines=1,
    codes=16,
    width=8,
    reducer="histogram",
    outliers=32,
    selector="memory",
    macs=3,
)
SPECS = [TINY, ODD]
MORE = [COUNTS, KMeansLinearSpec(k_max=64, n_max=64, outliers=5, selector="radix")]
SMOLLM2 = KMeansLinearSpec(lines=8, codes=32, outliers=6)


def _id(spec: KMeansLinearSpec) -> str:
    return f"{spec.reducer}-{spec.selector}-{spec.act_bits}{spec.weight_bits}-{spec.lines}x{spec.codes}-{spec.out}"


@pytest.mark.parametrize("spec", SPECS, ids=_id)
def test_bulk(spec: KMeansLinearSpec) -> None:
    run_bulk(spec, BENCHES["kmeans_linear"](spec, 1), 1)


@pytest.mark.slow
@pytest.mark.parametrize("spec", MORE, ids=_id)
def test_bulk_of_more(spec: KMeansLinearSpec) -> None:
    run_bulk(spec, BENCHES["kmeans_linear"](spec, 1), 1)


def test_cocotb_sees_what_bulk_sees() -> None:
    cases = [c for c in BENCHES["kmeans_linear"](TINY, 2) if c.name in ("alone-16-8-2", "mixed-both", "small-back")]
    both_see_the_same(TINY, cases, 2)


@pytest.mark.parametrize("spec", SPECS, ids=_id)
def test_weights_of_what_is_not_there_may_be_anything(spec: KMeansLinearSpec) -> None:
    """Of activations that are left out, of channels beyond the last, of outputs beyond the last."""
    rng = np.random.default_rng(4)
    length, n, lanes = spec.codes + 1, spec.lines + 1, spec.lines * spec.macs
    job = replace(random_job(spec, rng, length, n, 1), present=np.arange(length) % 3 > 0)
    case = case_of(spec, "anything", [job])
    groups, rows = 2, 2
    channel = np.arange(rows * spec.codes).reshape(rows, 1, spec.codes)
    output = np.arange(groups * spec.lines).reshape(groups, 1, spec.lines, 1)
    there = (output < n) & (channel < length) & (channel % 3 > 0)
    given = {
        "w": there.reshape(groups * rows, -1),
        "col": np.arange(-(-groups // spec.macs) * lanes).reshape(-1, lanes) < n,
    }
    inputs = dict(case.inputs)
    for name, counts in given.items():
        port = spec.port(name)
        index = port.unpack(inputs[name])["index"]
        counts = np.tile(counts, (len(index) // len(counts), 1))
        inputs[name] = port.pack(index=np.where(counts, index, rng.integers(0, 1 << spec.weight_bits, index.shape)))
    run_bulk(spec, [replace(case, inputs=inputs)], 0)


@pytest.mark.parametrize("spec", SPECS, ids=_id)
def test_latency(spec: KMeansLinearSpec) -> None:
    """Of a token of one beat, one group and no outliers."""
    job = replace(random_job(spec, np.random.default_rng(0), 1, 1, 0), load=False)
    played = compile(spec).play(case_of(spec, "one", [job]))  # without a table: only the cycle is looked at
    assert played.last_out == spec.latency


@pytest.mark.parametrize("spec", SPECS, ids=_id)
def test_interval(spec: KMeansLinearSpec) -> None:
    """Full tokens back to back: one every ``interval`` cycles, with outliers or without."""
    rng = np.random.default_rng(1)
    first = replace(random_job(spec, rng, spec.k_max, spec.n_max, spec.engine.k_max), present=None)
    for k in (0, spec.engine.k_max):
        jobs = [replace(first, k=k)] + [replace(first, k=k, load=False)] * 7
        ends = []
        for count in (6, 8):
            played = run_bulk(spec, [replace(case_of(spec, "steady", jobs[:count]), cycles=None)], 0).played[0]
            assert played.last_out is not None
            ends.append(played.last_out)
        wanted = spec.interval if k else max(spec.main_interval, spec.quantizer.rows)
        assert ends[1] - ends[0] == 2 * wanted


def test_the_published_worked_example() -> None:
    """Outliers 5.07 and -3.01 in channels 2 and 4 of six, one bit each: the centroids 0.13 and 0.78 take their places
    in the main path, 4.29 and -3.14 are made up for. (In INT8: hundredths, halved.)"""
    spec = KMeansLinearSpec(act_bits=1, weight_bits=1, k_max=8, n_max=4, lanes=1, lines=1, codes=1, outliers=1)
    x = np.array([0.70, 5.07, 0.20, -3.01, 0.75, 0.10], np.float16)
    acts, book = Codebook(np.array([13, 78])), Codebook(np.array([-50, 100]))
    codes = x.view(np.uint16).astype(np.int64)
    total = int(np.abs(token.steps(codes)).sum())
    shift = (total.bit_length() - 1 + token.GRID) + 7  # e = -7: centroids count 128ths
    weights = np.array([[0, 1, 1, 0, 1, 0], [1, 1, 0, 0, 0, 1], [0, 0, 0, 1, 1, 1], [1, 0, 1, 1, 0, 0]])
    job = LinearToken(codes, acts, shift, weights, book, np.ones(4, np.float32), 1)
    e = token.exponents(codes[None], shift)
    assert e[0] == -7
    exact = np.where(
        np.isin(np.arange(6), (1, 3)),
        x.astype(np.float64),
        acts.centroids[token.indices(codes[None], e, acts)[0]] / 128,
    )
    assert np.allclose(spec.compute(job), book.centroids[weights] @ exact, rtol=1e-7)


@pytest.mark.parametrize("k", [0, 1, 7, 200, 288])
def test_look_ahead_is_isolation(k: int) -> None:
    """Main path and compensation give what leaving the outliers out of the codebook gives, rounded once."""
    rng = np.random.default_rng(k)
    spec = KMeansLinearSpec(outliers=288)
    job = replace(random_job(spec, rng, 576, 33, k), present=None, scale=np.ones(33, np.float32))
    e = token.exponents(job.x[None], job.shift)
    keep = layer.outliers(job.x[None], k)[0]
    steps = np.where(
        keep, token.steps(job.x), job.acts.centroids[token.indices(job.x[None], e, job.acts)[0]] << (e[0] + 24)
    )
    exact = [
        int(sum(int(c) * int(s) for c, s in zip(row, steps, strict=True)))
        for row in job.weight_book.centroids[job.weights]
    ]
    assert np.array_equal(spec.compute(job), np.array([np.float32(np.ldexp(np.float64(v), -24)) for v in exact])) or k


@pytest.mark.parametrize(("matrix", "share"), [("gate", 0.0), ("up", 0.01), ("down", 0.02)])
def test_a_real_layer(matrix: str, share: float) -> None:
    """The golden model on a real matrix against float32: outliers help."""
    f = fixture.load()
    stored = getattr(f, matrix)
    w = q4_1.dequantise(*stored)
    x = f.x
    if matrix == "down":
        gate, up = (f.x @ q4_1.dequantise(*m).T for m in (f.gate, f.up))
        x = gate / (1 + np.exp(-gate)) * up
    quantised = quantise_matrix(w, 4)
    ratios = []
    for part in (0.0, share):
        k = outliers_per_side(part, w.shape[1])
        found = calibrate(x[:200], 4, k)
        spec = KMeansLinearSpec(k_max=w.shape[1], n_max=w.shape[0], outliers=max(1, k))
        codes = layer.fp16_codes(x[200:208])
        jobs = [
            LinearToken(
                row, found.book, found.shift, quantised.indices.astype(np.int64), quantised.book, quantised.scale, k
            )
            for row in codes
        ]
        ratios.append(sqnr(x[200:208] @ w.T, np.stack([spec.compute(job) for job in jobs])))
    assert ratios[0] > 10 and (share == 0 or ratios[1] > ratios[0] + 1)


def test_the_selector_is_the_smallest_that_is_fast_enough() -> None:
    """A tree in block RAM where the main path takes long; the fastest one where it is soon done."""
    assert SMOLLM2.selector == "memory" and SMOLLM2.engine.span < SMOLLM2.main_interval
    assert KMeansLinearSpec(n_max=8, lines=8, codes=64, lanes=64, outliers=64).selector == "comb"
    assert KMeansLinearSpec(selector="radix").selector == "radix"


def test_the_example_of_the_documentation() -> None:
    """From weights to beats."""
    text = (Path(__file__).parents[1] / "docs" / "kmeans.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    exec(example, {})


def test_what_each_status_bit_says() -> None:
    (port,) = TINY.status
    assert port.causes == (
        "a token had more beats than k_max activations need",
        "an activation was not finite",
        "n was 0 or above n_max",
        "k was above outliers",
    )


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"codes": 24}, "codes must be a multiple of lanes = 16, not 24"),
        ({"k_max": 600}, "k_max must be a multiple of codes = 16, not 600"),
        ({"k_max": 64, "outliers": 65}, "outliers must be at most k_max = 64, not 65"),
        ({"codes": 48, "lanes": 3, "k_max": 576, "width": 12}, "width must be a power of two, not 12"),
        ({"lines": 64, "macs": 10}, "macs must be at most 9 with 64 lines, not 10"),
        ({"lanes": 17, "codes": 17}, "k_max must be a multiple of codes = 17, not 576"),
    ],
)
def test_bad_values_are_refused(values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(SpecError) as e:
        KMeansLinearSpec(**values)
    assert str(e.value) == sentence


# name: configuration, class, method, what stands there, what stands there instead
FAULTS: dict[str, tuple[KMeansLinearSpec, Any, str, str, str]] = {
    "a value on a boundary goes down": (TINY, Residuals, "_centroid", "value >= limit", "value > limit"),
    "an outlier's sign is lost": (TINY, Residuals, "_residual", "Mux(x[-1], -magnitude.o, magnitude.o)", "magnitude.o"),
    "the centroid stays in": (TINY, Residuals, "_residual", "exact - shift_left", "exact - 0 * shift_left"),
    "sums of the token before": (TINY, Column, "_accumulate", "Mux(fresh, 0, self.old)", "self.old"),
    "a row is read before it is written": (TINY, Column, "elaborate", "gap.eq(ACCUMULATE - 1 - self.row)", "gap.eq(0)"),
    "a column ends too early": (ODD, Column, "elaborate", "left <= lanes", "left <= 2 * lanes"),
    "outputs beyond the last": (TINY, Column, "_accumulate", "Mux(inside[lane], factor, 0)", "factor"),
    "no outliers is not told": (
        TINY,
        Compensation,
        "elaborate",
        "none.bit_select(bank, 1).eq(column.none)",
        "none.bit_select(bank, 1).eq(0)",
    ),
    "the next token's outliers under this one's scale": (
        TINY,
        Compensation,
        "elaborate",
        "self.ready & ~through",
        "self.ready",
    ),
    "outliers over sums that wait": (TINY, Compensation, "elaborate", " & ~full.bit_select(bank, 1)", ""),
    "a bank is free while its row is used": (TINY, Merge, "elaborate", "there & ended & go", "self.next"),
    "the wrong bank is read": (TINY, Partials, "elaborate", "Mux(out_bank, reads[1], reads[0])", "reads[0]"),
    "the wrong part of a row": (
        ODD,
        Merge,
        "elaborate",
        "spec.lines * spec.side_width, now",
        "spec.lines * spec.side_width, now & 0",
    ),
    "main sums without their scale": (
        TINY,
        Merge,
        "elaborate",
        "self.exponent.payload, f",
        "self.exponent.payload & 1, f",
    ),
    "results before the outliers": (
        TINY,
        Merge,
        "elaborate",
        "self.exponent.valid & self.full & go",
        "self.exponent.valid & go",
    ),
    "the engine's other status": (TINY, KMeansLinear, "elaborate", "engine.sts_error[1]", "engine.sts_error[0]"),
    "n is not limited": (TINY, KMeansLinear, "_compensate", "clamped_n(m, spec.gemm, given.n)", "given.n"),
}


@pytest.mark.parametrize("name", one_in(6, FAULTS))
def test_fault_is_caught(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    turns_red(monkeypatch, *FAULTS[name])
