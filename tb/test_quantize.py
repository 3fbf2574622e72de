"""Quantisers against a second definition in exact rational arithmetic, element by element; corners; bad input."""

import math
from fractions import Fraction

import numpy as np
import pytest
from numpy.typing import NDArray

from golden.formats import FLOATS
from golden.mixpe.formats import WEIGHTS
from golden.quantize import (
    FORMATS,
    Weights,
    dequantise_weights,
    quantise_tokens,
    quantise_tokens_pow2,
    quantise_weights,
)
from golden.spec import SpecError

RANGES = {name: (WEIGHTS[name].low, WEIGHTS[name].high) for name in FORMATS}
GROUPS = (0, 1, 16, 32, 50)
NONE = Fraction(0)


def rounded(x: Fraction, bits: int, lowest: int) -> Fraction:
    """The nearest float of ``bits`` significand bits and smallest quantum ``2**lowest``, ties to even."""
    if not x:
        return x
    exponent = math.frexp(float(x))[1]
    quantum = Fraction(2) ** max(exponent - bits, lowest)
    return round(x / quantum) * quantum


def clip(q: int, low: int, high: int) -> int:
    return max(low, min(high, q))


def groups(k: int, group: int) -> list[range]:
    size = group or k
    return [range(i, min(i + size, k)) for i in range(0, k, size)]


def samples(seed: int, rows: int, cols: int) -> NDArray[np.float32]:
    """Columns of very different magnitudes, with zeros, tiny values, one-sided columns and ties."""
    rng = np.random.default_rng(seed)
    a = rng.standard_normal((rows, cols)) * 2.0 ** rng.integers(-30, 12, cols)
    a[:, 0] = 0
    a[:, 1] = np.abs(a[:, 1])
    a[:, 2] = -np.abs(a[:, 2])
    a[:, 3] = np.arange(rows) % 15 - 7  # scale 1, every code
    a[:, 4] = rng.integers(-14, 15, rows) / 2  # scale 1 where 7 occurs: ties
    a[:16, 5] = 0
    a[:, 6] = 1e-7 * rng.standard_normal(rows)  # fp16 scale subnormal
    return a.astype(np.float32)


@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.parametrize("weight", FORMATS)
def test_weights_equal_exact_arithmetic(weight: str, group: int) -> None:
    w = samples(1, 82, 24)
    low, high = RANGES[weight]
    q = quantise_weights(w, weight, group)
    assert q.scale.dtype == np.float16
    zero_point = weight.endswith("zero")
    back = dequantise_weights(q, group)
    assert back.dtype == np.float32 and q.codes.shape == back.shape == w.shape
    spans = groups(82, group)
    assert q.scale.shape == q.zero.shape == (len(spans), 24)
    for n in range(w.shape[1]):
        for g, span in enumerate(spans):
            column = {k: Fraction(float(w[k, n])) for k in span}
            top, bottom = max(NONE, *column.values()), min(NONE, *column.values())
            ideal = (top - bottom) / (high - low) if zero_point else max(top / high, bottom / (low or 1))
            scale = rounded(ideal, 11, -24)
            zero = clip(round(-bottom / scale), low, high) if zero_point and scale else 0
            assert Fraction(float(q.scale[g, n])) == (scale or 1)
            assert q.zero[g, n] == zero
            for k, x in column.items():
                code = clip(round(x / scale) + zero, low, high) if scale else 0
                assert q.codes[k, n] == code
                assert Fraction(float(back[k, n])) == scale * (code - zero)


@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.parametrize(
    ("weight", "steps", "share"), [("int4", 8, 0.504), ("int4_sym", 7, 0.504), ("uint4_zero", 15, 0.508)]
)
def test_weights_keep_their_error_bound(weight: str, steps: int, share: float, group: int) -> None:
    w = samples(2, 82, 200)
    q = quantise_weights(w, weight, group)
    s = q.scale.astype(np.float64)
    error = np.abs(w - dequantise_weights(q, group).astype(np.float64))
    worst = np.maximum.reduceat(error, [span.start for span in groups(82, group)])
    largest = np.maximum.reduceat(np.abs(w), [span.start for span in groups(82, group)])
    lost = (largest > 0) & (largest < 1e-6) & (s == 1)  # tiny groups became zero
    assert (worst <= np.where(lost, steps * 2.0**-25, s / 2 + steps * np.maximum(s * 2.0**-11, 2.0**-25))).all()
    normal = s >= 2.0**-14
    assert (worst[normal] <= share * s[normal]).all()


def test_zero_and_tiny_groups_have_scale_1_and_code_0() -> None:
    w = np.zeros((4, 3), np.float32)
    w[2:, 1] = [1e-9, -1e-9]
    w[2, 2] = 7 * 2.0**-24
    for weight in FORMATS:
        q = quantise_weights(w, weight, 2)
        assert not q.codes[:, :2].any() and not q.zero.any()
        assert (q.scale[:, :2] == 1).all()
    q = quantise_weights(w, "int4", 2)
    assert q.scale[1, 2] == 2.0**-24 and q.codes[2, 2] == 7


def test_weight_ties_round_to_even_and_codes_use_the_whole_range() -> None:
    w = np.array([[7, 0.5, 1.5, 2.5, -0.5, -1.5, -8]], np.float32).T
    assert quantise_weights(w, "int4", 0).codes[:, 0].tolist() == [7, 0, 2, 2, 0, -2, -8]
    w = np.array([[-7.5, 7.5, 0.5]], np.float32).T  # zero point at a tie: 7.5 -> 8; the top clips
    q = quantise_weights(w, "uint4_zero", 0)
    assert (q.scale[0, 0], q.zero[0, 0], q.codes[:, 0].tolist()) == (1, 8, [0, 15, 8])
    q = quantise_weights(np.array([[-6.5, 8.5]], np.float32).T, "uint4_zero", 0)  # 6.5 -> 6
    assert (q.scale[0, 0], q.zero[0, 0], q.codes[:, 0].tolist()) == (1, 6, [0, 14])
    positive = quantise_weights(np.array([[3, 18]], np.float32).T, "uint4_zero", 0)
    assert positive.zero[0, 0] == 0  # the range always contains 0


def test_tokens_equal_exact_arithmetic() -> None:
    x = samples(3, 90, 40).T.copy()
    x[7] = 1e-44 * np.random.default_rng(4).integers(-20, 20, 90)  # scale subnormal or zero in float32
    x[8] = np.arange(90) - 44.5
    x[8, 0] = 127  # scale 1: ties
    step = np.float32(1.2345678)
    x[9] = np.nextafter(((np.arange(90) - 45.5) * float(step)).astype(np.float32), np.float32(0))
    x[9, 0] = 127 * step  # quotients that float32 would round to a tie
    q = quantise_tokens(x)
    assert [a.dtype.name for a in q] == ["int8", "float32"]
    assert q.codes.shape == x.shape and q.scale.shape == (40,)
    for t, row in enumerate(x):
        values = [Fraction(float(v)) for v in row]
        scale = rounded(max(abs(v) for v in values) / 127, 24, -149)
        assert Fraction(float(q.scale[t])) == (scale or 1)
        assert q.codes[t].tolist() == [clip(round(v / scale), -127, 127) if scale else 0 for v in values]
        error = max(abs(v - scale * int(c)) for v, c in zip(values, q.codes[t], strict=True))
        if scale >= Fraction(2) ** -126:
            assert error <= scale * (Fraction(1, 2) + Fraction(127, 2**24))
    assert q.scale[0] == 1 and not q.codes[0].any()


@pytest.mark.parametrize("group", GROUPS)
def test_power_of_two_tokens_equal_exact_arithmetic(group: int) -> None:
    x = samples(5, 82, 30).T.copy()
    x[7] = 2.0**22 * np.arange(-41, 41)  # beyond 127 * 2^15: clips
    for i, e in enumerate(range(-16, 6)):  # just at and just above the border of an exponent
        x[8 + i, ::2] = np.float32(127 * 2.0**e)
        x[8 + i, 1::2] = np.nextafter(np.float32(127 * 2.0**e), np.float32(np.inf))
    q = quantise_tokens_pow2(x, group)
    assert [a.dtype.name for a in q] == ["int8", "int8"]
    spans = groups(82, group)
    assert q.codes.shape == x.shape and q.exponent.shape == (30, len(spans))
    for t, row in enumerate(x):
        for g, span in enumerate(spans):
            values = [Fraction(float(row[k])) for k in span]
            largest = max(abs(v) for v in values)
            fits = (e for e in range(-16, 15) if largest <= 127 * Fraction(2) ** e)
            e = next(fits, 15)
            assert q.exponent[t, g] == e
            scale = Fraction(2) ** e
            assert [int(q.codes[t, k]) for k in span] == [clip(round(v / scale), -127, 127) for v in values]
            if largest <= 127 * 2**15:
                assert all(abs(v - scale * int(q.codes[t, k])) <= scale / 2 for v, k in zip(values, span, strict=True))
    assert (q.exponent[0] == -16).all() and not q.codes[0].any()


def test_dequantised_weights_of_given_codes() -> None:
    codes = np.array([[15], [0], [3]], np.int8)
    q = Weights(codes, np.array([[0.5], [2]], np.float16), np.array([[15], [1]], np.int8))
    assert dequantise_weights(q, 2)[:, 0].tolist() == [0, -7.5, 4]


def test_bad_input_is_refused_in_one_sentence() -> None:
    w = np.ones((4, 2), np.float32)
    for sentence, call in (
        (
            f"weight must be one of {', '.join(FORMATS)}, not 'uint4_min'",
            lambda: quantise_weights(w, "uint4_min", 2),
        ),
        ("group must be 0 (one group) or a positive integer, not -1", lambda: quantise_weights(w, "int4", -1)),
        ("group must be 0 (one group) or a positive integer, not -3", lambda: quantise_tokens_pow2(w, -3)),
        ("weights must be finite, not inf", lambda: quantise_weights(w * np.float32(np.inf), "int4", 2)),
        ("activations must be finite, not nan", lambda: quantise_tokens(w * np.float32(np.nan))),
        ("activations must be finite, not nan", lambda: quantise_tokens_pow2(w * np.float32(np.nan), 2)),
        ("scale must be at most 65504 (fp16), not 142857", lambda: quantise_weights(w * 1e6, "int4", 2)),
        ("weights must be a non-empty matrix, not of shape (4,)", lambda: quantise_weights(w[:, 0], "int4", 2)),
        ("activations must be a non-empty matrix, not of shape (4, 0)", lambda: quantise_tokens(w[:, :0])),
    ):
        with pytest.raises(SpecError) as e:
            call()
        assert str(e.value) == sentence


@pytest.mark.parametrize("scale", ["bf16", "fp32", "e4m3", "e8m0"])
def test_codes_fit_the_scale_that_is_stored(scale: str) -> None:
    """Scales are values of their format, and every code is the nearest for the rounded scale."""
    w = np.random.default_rng(5).normal(size=(64, 6)).astype(np.float32)
    q = quantise_weights(w, "int4", 16, scale)
    fmt = FLOATS[scale]
    assert (fmt.value(fmt.code(q.scale)) == q.scale).all()
    nearest = np.rint(w / np.repeat(q.scale.astype(np.float64), 16, axis=0)).clip(-8, 7)
    assert (q.codes == nearest).all()
