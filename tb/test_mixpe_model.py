"""Golden model of the GEMM engine: against real arithmetic, against NumPy's own FP32, and its refusals."""

import dataclasses
import time
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from golden import fixture, q4_1
from golden.mixpe import model
from golden.mixpe.formats import WEIGHTS, signed_bits
from golden.mixpe.gemm import MixPESpec
from golden.mixpe.job import Gemm
from golden.mixpe.layer import gemm, real_gemm, sqnr
from golden.mixpe.schedule import grids
from golden.numerics import canonical
from golden.spec import SpecError
from tb.mixpe import random_job

MODES: list[dict[str, Any]] = [
    {"weight": w, "scale": s, "accumulate": a, "act_scale": x}
    for w in WEIGHTS
    for s, a in (("fp16", "exact"), ("fp16", "fp32"), ("fp32", "fp32"))
    for x in ("token", "pow2")
]


def _spec(**values: Any) -> MixPESpec:
    return MixPESpec(**({"rows": 3, "cols": 4} | values))


@pytest.mark.parametrize("mode", MODES, ids=lambda m: "-".join(m.values()))
def test_within_its_error_budget(mode: dict[str, Any]) -> None:
    spec = _spec(**mode)
    rng = np.random.default_rng(1)
    used = 0.0
    for k in (1, 31, 32, 100, 1000):
        job = random_job(spec, rng, 5, k, 9)
        error = np.abs(spec.compute(job) - model.reference(spec, job))
        budget = model.budget(spec, job)
        assert (error <= budget).all(), f"K={k}: {(error / budget).max()} of the budget"
        used = max(used, float((error[budget > 0] / budget[budget > 0]).max(initial=0)))
    assert used > 0.02, "a budget that is never used says nothing"


@pytest.mark.parametrize("act_scale", ["token", "pow2"])
@pytest.mark.parametrize("weight", WEIGHTS)
def test_exact_mode_rounds_rational_arithmetic_once(weight: str, act_scale: str) -> None:
    """The formula of the datasheet in Python's fractions, element by element."""
    spec = _spec(weight=weight, act_scale=act_scale)
    job = random_job(spec, np.random.default_rng(2), 2, 75, 3)
    f = spec.weight_format
    unit = Fraction(2) ** f.exponent
    assert job.x_scale is not None
    y = spec.compute(job)
    for m in range(2):
        for n in range(3):
            total = Fraction(0)
            for k in range(75):
                g = k // 32
                d, q = Fraction(float(job.scale[g, n])), Fraction(int(f.operand(job.w[k, n])) + f.offset) * unit
                if spec.weight_format.correction == "zero":
                    assert job.extra is not None
                    w = d * (q - int(job.extra[g, n]))
                elif spec.weight_format.correction == "min":
                    assert job.extra is not None
                    w = d * q + Fraction(float(job.extra[g, n]))
                else:
                    w = d * q
                up = Fraction(2) ** int(job.x_scale[m, g]) if act_scale == "pow2" else 1
                total += w * int(job.x[m, k]) * up
            rounded = _nearest_fp32(total)
            expected = rounded if act_scale == "pow2" else rounded * job.x_scale[m]
            assert y[m, n] == expected


def _nearest_fp32(value: Fraction) -> np.float32:
    """The nearest of float(value)'s neighbours in FP32, ties to the even one."""
    near = np.float32(float(value))
    candidates = [np.nextafter(near, np.float32(s)) for s in (-np.inf, np.inf)] + [near]
    return min(candidates, key=lambda c: (abs(Fraction(float(c)) - value), int(c.view(np.uint32)) & 1))


def test_fp32_mode_is_what_a_loop_of_float32_operations_gives() -> None:
    spec = _spec(scale="fp32")
    job = random_job(spec, np.random.default_rng(3), 2, 100, 3)
    assert job.extra is not None
    y = spec.compute(job)
    for m in range(2):
        for n in range(3):
            acc = np.float32(0)
            for g in range(4):
                ks = slice(32 * g, min(32 * g + 32, 100))
                a, s = int(job.x[m, ks] @ job.w[ks, n]), int(job.x[m, ks].sum())
                acc = acc + (job.scale[g, n] * np.float32(a) + job.extra[g, n] * np.float32(s))
            assert y[m, n] == acc * job.x_scale[m]


@pytest.mark.parametrize("mode", MODES, ids=lambda m: "-".join(m.values()))
def test_tiling_changes_no_bit(mode: dict[str, Any]) -> None:
    """Rows and columns are independent; in exact mode the order of the groups does not matter either."""
    spec = _spec(**mode)
    job = random_job(spec, np.random.default_rng(4), 4, 96, 6)
    whole = spec.compute(job)
    extra = None if job.extra is None else job.extra[:, 2:5]
    part = Gemm(x=job.x[1:3], w=job.w[:, 2:5], scale=job.scale[:, 2:5], x_scale=job.x_scale[1:3], extra=extra)
    assert np.array_equal(spec.compute(part), whole[1:3, 2:5])
    if mode["accumulate"] == "exact":
        turned = dataclasses.replace(
            job,
            x=np.roll(job.x, 32, axis=1),
            w=np.roll(job.w, 32, axis=0),
            scale=np.roll(job.scale, 1, axis=0),
            extra=None if job.extra is None else np.roll(job.extra, 1, axis=0),
            x_scale=np.roll(job.x_scale, 1, axis=1) if mode["act_scale"] == "pow2" else job.x_scale,
        )
        assert np.array_equal(spec.compute(turned), whole)


def test_unsigned_with_zero_point_equals_signed_operands() -> None:
    """uint4 with z = 8 is int4; uint4 with minimum m = -z*d is uint4 with zero point z, where m is exact."""
    rng = np.random.default_rng(5)
    zero, plain, minimum = (_spec(weight=w) for w in ("uint4_zero", "int4", "uint4_min"))
    job = random_job(zero, rng, 3, 80, 4)
    assert job.extra is not None
    eight = dataclasses.replace(job, extra=np.full_like(job.extra, 8))
    assert np.array_equal(zero.compute(eight), plain.compute(dataclasses.replace(job, w=job.w - 8, extra=None)))
    scale = rng.choice(np.array([0.5, 1, 2, 4], np.float16), job.scale.shape)
    job = dataclasses.replace(job, scale=scale)
    as_minimum = dataclasses.replace(job, extra=(-scale * job.extra).astype(np.float16))
    assert np.array_equal(zero.compute(job), minimum.compute(as_minimum))


def test_specials_are_those_of_float32() -> None:
    """With one step and one group the exact mode is a plain float32 expression."""
    spec = _spec(weight="int4")
    pool = np.array([0, -0.0, 1, -1, np.inf, -np.inf, np.nan, 65504, 2.0**-24], np.float16)
    for x in (-3, 0, 5):
        job = Gemm(
            x=np.full((len(pool), 1), x),
            w=np.full((1, len(pool)), 7),
            scale=pool[None],
            x_scale=pool.astype(np.float32),
        )
        with np.errstate(invalid="ignore"):
            total = pool.astype(np.float32)[None] * np.float32(7 * x) + np.float32(0)  # +0: the sum's zero is positive
            expected = canonical(total * job.x_scale[:, None])
        assert np.array_equal(spec.compute(job).view(np.uint32), expected.view(np.uint32))


def test_widths_are_those_of_the_published_table() -> None:
    """Minimal accumulator widths of INT4 x INT8 sums, by length; all (-8, -128) costs the last bit."""
    for length, bits in {32: 17, 64: 18, 128: 19, 256: 20}.items():
        assert MixPESpec(weight="int4", group=length).pe.sum_width == bits
        assert MixPESpec(weight="int4_sym", group=length).pe.sum_width == bits - 1
        assert signed_bits(0, length * 1024) == bits
    assert MixPESpec(weight="uint4_zero", group=128).corrected_width == 19
    assert MixPESpec(group=128).row_sum_width == 15
    assert MixPESpec(k_max=1536).total_width == 63
    assert MixPESpec(k_max=4096).total_width == 64


def test_real_layer_is_close_to_float32() -> None:
    """Q4_1 as stored against float32 of the same weights: only the activations are rounded."""
    f = fixture.load()
    for matrix in (f.gate, f.up):
        job = gemm(MixPESpec(), f.x[:64], matrix)
        assert sqnr(f.x[:64] @ q4_1.dequantise(*matrix).T, MixPESpec().compute(job)) > 30


def test_large_product_in_reasonable_time() -> None:
    """4096 x 4096 by 16 tokens, groups of 128. Loose: only an accidental loop in Python would fail."""
    spec = MixPESpec(group=128)
    job = random_job(spec, np.random.default_rng(6), 16, 4096, 4096)
    start = time.monotonic()
    spec.compute(job)
    assert time.monotonic() - start < 60


@pytest.mark.parametrize("values", [{}, {"rows": 7, "cols": 5, "group": 16}, {"act_scale": "pow2"}, {"scale": "fp32"}])
def test_streams_carry_results_both_ways(values: dict[str, Any]) -> None:
    spec = MixPESpec(**values)
    job = random_job(spec, np.random.default_rng(7), spec.rows + 2, 40, 2 * spec.cols + 1)
    y = spec.compute(job)
    assert np.array_equal(spec.result(job, spec.outputs(job, y)), y)
    assert {name: len(b) for name, b in spec.inputs(job).items()} == {
        "act": 6 * 40,
        "wgt": 6 * 40,
        "par": 6 * -(-40 // spec.group),
        "scl": 6 * (-(-40 // spec.group) if spec.act_scale == "pow2" else 1),
    }


@pytest.mark.parametrize("rows", [1, 2, 3, 7, 16, 64])
@pytest.mark.parametrize("cols", [1, 4, 5, 60, 64])
@pytest.mark.parametrize("group", [16, 32, 100])
def test_derived_lanes_never_slow_the_array_down(rows: int, cols: int, group: int) -> None:
    spec = MixPESpec(rows=rows, cols=cols, group=group)
    t = spec.timing
    assert t.grid.depth <= group
    assert t.beats <= t.grid.depth
    assert spec.lanes == min(n for n in grids(rows, cols) if n * group >= rows * cols)
    # one tile every K cycles, drain and results included
    k = 2 * group
    assert t.cycles([k] * 9, group) - t.cycles([k] * 8, group) == k


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"rows": 0}, "rows must be an integer between 1 and 64, not 0"),
        ({"cols": 65}, "cols must be an integer between 1 and 64, not 65"),
        ({"group": 8}, "group must be 0 or an integer between 16 and 256, not 8"),
        ({"weight": "int5"}, f"weight must be one of {', '.join(WEIGHTS)}, not 'int5'"),
        ({"scale": "fp32", "accumulate": "exact"}, "accumulate must be fp32 where scale is fp32, not 'exact'"),
        (
            {"rows": 4, "cols": 4, "lanes": 5},
            "lanes must be one of 1, 2, 4, 8, 16 for a 4 x 4 array, not 5",
        ),
        (  # with 5 lanes a row's sum of activations would be overwritten before its last column is dequantised
            {"rows": 10, "cols": 2, "lanes": 5},
            "lanes must be one of 1, 2, 4, 10, 20 for a 10 x 2 array, not 5",
        ),
        (
            {"rows": 2, "cols": 2, "group": 0},
            "lanes must be given where group is 0; a 2 x 2 array can have 1, 2, 4",
        ),
        (
            {"rows": 17, "cols": 61, "group": 16},
            "lanes must be given where none drain a group of 16 steps in its own time; "
            "a 17 x 61 array can have 1, 17, 61",
        ),
        (
            {"rows": 2, "cols": 2, "words": 3},
            "words must be one of 1, 2, 4 for a 2 x 2 array with 1 lanes, not 3",
        ),
        (
            {"act": "bf16_aligned", "accumulate": "exact"},
            "accumulate must be fp32 where act is bf16_aligned, not 'exact'",
        ),
        (
            {"act": "bf16_aligned", "act_scale": "pow2"},
            "act_scale must be token or none where act is bf16_aligned, not 'pow2'",
        ),
        ({"act": "bf16_aligned", "align": 9}, "align must be one of 8, 12, 16, 20, 24, not 9"),
        ({"align": 16}, "align must not be given where act is int8, not 16"),
        ({"scale": "uint8"}, "scale must have a sign for the minima of uint4_min, not 'uint8'"),
        ({"rounding": "half_up"}, "rounding must be half_even where out is fp32, not 'half_up'"),
        ({"out": "int32", "act": "fp16"}, "act must be an integer format where out is int32, not 'fp16'"),
        ({"out": "int32", "weight": "int4"}, "scale must be uint8 where out is int32, not 'fp16'"),
        (
            {"out": "int32", "weight": "int4", "scale": "uint8", "act_scale": "token"},
            "act_scale must be none where out is int32, not 'token'",
        ),
        (
            {"out": "int32", "weight": "int8", "scale": "uint8"},
            "out must have at least 35 bits for tiles of k_max = 4096, not 'int32'",
        ),
        ({"core": "packed", "cols": 5}, "cols must be even for core packed, not 5"),
        (  # a segment of 3 columns would cut a pair
            {"core": "packed", "rows": 1, "cols": 6, "lanes": 2},
            "lanes must be one of 1, 3 for a 1 x 6 array, not 2",
        ),
        (
            {"core": "packed", "weight": "int8"},
            "weight must be one of int2, int3, int4, int4_sym, uint2_zero, uint3_zero, uint4_zero, uint4_min, e2m1 "
            "for core packed, not 'int8'",
        ),
        ({"core": "packed", "act": "int16"}, "act must be one of int4, int8 for core packed, not 'int16'"),
        ({"core": "composed"}, "weight must be one of int8, uint8_zero, int8_min for core composed, not 'uint4_min'"),
        ({"lanes": 1025}, "lanes must be an integer between 1 and 1024, not 1025"),
        ({"words": 1025}, "words must be an integer between 1 and 1024, not 1025"),
        (
            {"rows": 32, "cols": 61, "lanes": 61, "group": 256, "k_max": 65536},
            "lanes must be fewer than 61 for a 32 x 61 array: its read-out would have 70272 bits",
        ),
    ],
)
def test_bad_values_are_refused_with_a_sentence(values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(SpecError) as e:
        MixPESpec(**values)
    assert str(e.value) == sentence


def test_jobs_that_do_not_fit_are_refused_with_a_sentence() -> None:
    spec = _spec(k_max=64)
    job = random_job(spec, np.random.default_rng(8), 2, 40, 3)
    assert job.extra is not None
    refused: list[tuple[dict[str, Any], str]] = [
        ({"x": job.x[:0], "x_scale": job.x_scale[:0]}, "M and N must be at least 1, not 0 and 3"),
        (
            {"w": job.w[:, :0], "scale": job.scale[:, :0], "extra": job.extra[:, :0]},
            "M and N must be at least 1, not 2 and 0",
        ),
        ({"w": job.w[:-1]}, "x and w must be matrices [M, K] and [K, N], not [2, 40] and [39, 3]"),
        ({"x": job.x + 128}, f"x must lie between -128 and 127, not {job.x.min() + 128}..{job.x.max() + 128}"),
        ({"w": job.w - 1}, f"w must lie between 0 and 15, not {job.w.min() - 1}..{job.w.max() - 1}"),
        ({"x": job.x * 1.0}, "x must be integers, not float64"),
        ({"scale": job.scale[:1]}, "scale must have shape [2, 3], not [1, 3]"),
        ({"scale": job.scale.astype(np.float32)}, "scale must be of type float16, not float32"),
        ({"extra": None}, "extra must be given for weight format uint4_min"),
        ({"x_scale": job.x_scale[:1]}, "x_scale must have shape [2], not [1]"),
    ]
    for change, sentence in refused:
        with pytest.raises(SpecError) as e:
            spec.compute(dataclasses.replace(job, **change))
        assert str(e.value) == sentence
    with pytest.raises(SpecError) as e:
        _spec(k_max=39).compute(job)
    assert str(e.value) == "K must be between 1 and k_max = 39, not 40"


def test_real_layers_in_groups_that_are_not_stored_are_refused() -> None:
    f = fixture.load()
    with pytest.raises(SpecError) as e:
        gemm(MixPESpec(group=64), f.x[:1], f.gate)
    assert str(e.value) == "group must be 32, as the weights are stored, not 64"


OTHERS: list[dict[str, Any]] = [
    {"act": "fp16"},
    {"act": "fp16", "weight": "int4", "accumulate": "exact", "group": 16, "k_max": 128},
    {"act": "e4m3", "weight": "uint8_zero", "scale": "bf16"},
    {"act": "e4m3", "weight": "e2m1", "scale": "e4m3", "accumulate": "exact", "act_scale": "token"},
    {"act": "e5m2", "weight": "e2m1", "scale": "e8m0"},
    {"act": "int16", "weight": "e2m1", "scale": "e4m3"},
    {"act": "int16", "weight": "int8", "act_scale": "pow2"},
    {"act": "int8", "weight": "int4", "out": "bf16"},
    {"act": "bf16_aligned", "weight": "uint4_min", "align": 8},
    {"act": "bf16_aligned", "weight": "int8", "align": 24, "act_scale": "token"},
    {"act": "fp16_aligned", "weight": "uint4_zero", "align": 12, "accumulate": "exact"},
    {"act": "fp16_aligned", "weight": "e2m1", "align": 16, "scale": "uint8", "out": "bf16"},
    {"act": "int8", "weight": "uint4_zero", "scale": "uint8"},
    {"act": "int8", "weight": "int4", "scale": "uint8", "accumulate": "fp32", "act_scale": "pow2"},
]


@pytest.mark.parametrize("mode", OTHERS, ids=lambda m: "-".join(map(str, m.values())))
def test_other_formats_keep_their_budget(mode: dict[str, Any]) -> None:
    """Where results and reference are normal FP32 numbers."""
    spec = _spec(**mode)
    rng = np.random.default_rng(5)
    for k in (1, 31, 32, 100):
        job = random_job(spec, rng, 5, k, 9)
        with np.errstate(over="ignore", invalid="ignore"):
            y, exact, budget = spec.compute(job), model.reference(spec, job), model.budget(spec, job)
            normal = np.isfinite(y) & (np.abs(exact) > 2.0**-126)
            assert (np.abs(y - exact) <= budget)[normal].all()


@pytest.mark.parametrize("accumulate", ["exact", "fp32"])
def test_sums_of_fp16_activations_are_the_correctly_rounded_ones(accumulate: str) -> None:
    """One group with scale 1, against fractions."""
    spec = _spec(act="fp16", weight="int4", group=128, accumulate=accumulate, k_max=128)
    rng = np.random.default_rng(6)
    x = (rng.normal(size=(20, 128)) * 2.0 ** rng.integers(-14, 12, (20, 128))).astype(np.float16)
    w = rng.integers(-8, 8, (128, 10))
    job = Gemm(x=x.view(np.uint16).astype(np.int64), w=w, scale=np.ones((1, 10), np.float16))
    y = spec.compute(job)
    for m in range(20):
        for n in range(10):
            products = [Fraction(float(a)) * int(b) for a, b in zip(x[m], w[:, n], strict=True)]
            assert y[m, n] == _nearest_fp32(sum(products, Fraction(0)))


def test_a_special_activation_makes_its_results_special() -> None:
    spec = _spec(act="fp16", weight="int4")
    x = np.array([[0x7C00, 0x3C00], [0x7C00, 0xFC00], [0x7E00, 0x3C00], [0xFC00, 0x0000]])
    w = np.array([[1, -1, 0], [1, 1, 1]])
    y = spec.compute(Gemm(x=x, w=w, scale=np.ones((1, 3), np.float16)))
    inf, nan = np.inf, np.nan
    expected = [[inf, -inf, nan], [nan, -inf, nan], [nan, nan, nan], [-inf, inf, nan]]
    assert np.array_equal(y, np.array(expected, np.float32), equal_nan=True)
    low = _spec(act="fp16").compute(
        Gemm(x=x, w=w + 8, scale=np.ones((1, 3), np.float16), extra=np.zeros((1, 3), np.float16))
    )
    assert np.isnan(low).all()


def test_raw_sums_are_those_of_unbounded_integers() -> None:
    spec = _spec(weight="uint8_zero", act="int16", scale="uint8", out="int64")
    job = random_job(spec, np.random.default_rng(7), 3, 100, 5)
    assert job.extra is not None and spec.compute(job).dtype == np.int64
    y = spec.compute(job).tolist()
    for m in range(3):
        for n in range(5):
            terms = [
                int(job.x[m, k]) * (int(job.w[k, n]) - int(job.extra[k // 32, n])) * int(job.scale[k // 32, n])
                for k in range(100)
            ]
            assert y[m][n] == sum(terms)


def test_bytes_as_scales_are_what_the_same_numbers_in_fp16_are() -> None:
    bytes_, halves = _spec(weight="int4", scale="uint8"), _spec(weight="int4")
    job = random_job(bytes_, np.random.default_rng(8), 4, 96, 5)
    plain = dataclasses.replace(job, channel=np.ones(5, np.float32))
    same = dataclasses.replace(job, scale=job.scale.astype(np.float16), channel=None)
    assert np.array_equal(bytes_.compute(plain), halves.compute(same))


def test_alignment_loses_nothing_where_it_is_wide_enough() -> None:
    """FP16 within 12 binades in 24 bits."""
    aligned = _spec(weight="int4", act="fp16_aligned", align=24, accumulate="exact")
    exact = _spec(weight="int4", act="fp16", accumulate="exact")
    rng = np.random.default_rng(9)
    x = (rng.choice([-1, 1], (4, 96)) * rng.uniform(1, 2, (4, 96)) * 2.0 ** rng.integers(-6, 6, (4, 96))).astype("f2")
    job = dataclasses.replace(random_job(exact, rng, 4, 96, 5), x=x.view(np.uint16).astype(np.int64))
    assert np.array_equal(aligned.compute(job), exact.compute(job))


def test_results_of_eight_bits_of_a_real_layer() -> None:
    """Rounding to 255 steps of the token's largest result, beside the noise of INT8 activations."""
    f = fixture.load()
    real = f.x[:16] @ q4_1.dequantise(*f.gate).T
    wide = sqnr(real, MixPESpec().compute(gemm(MixPESpec(), f.x[:16], f.gate)))
    for out in ("int8", "int8_sym"):
        spec = MixPESpec(out=out)
        job, factor = real_gemm(spec, f.x[:16], f.gate)
        y = spec.compute(job)
        assert y.dtype == np.int8 and np.abs(y.astype(int)).max() >= 127
        assert wide - 6 < sqnr(real, y * factor) < wide


def test_raw_results_of_a_real_layer_are_the_scaled_ones() -> None:
    f = fixture.load()
    raw, scaled = (MixPESpec(weight="int4", scale="uint8", out=out, k_max=576) for out in ("int32", "fp32"))
    job, factor = real_gemm(raw, f.x[:4], f.gate)
    y = scaled.compute(gemm(scaled, f.x[:4], f.gate))
    assert np.allclose(raw.compute(job) * factor, y, rtol=3e-7)
