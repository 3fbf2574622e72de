"""Number formats against independent implementations (ml_dtypes, fractions, decimal), exhaustively where small."""

from decimal import ROUND_HALF_EVEN, ROUND_HALF_UP, Decimal
from fractions import Fraction
from math import floor
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from golden.formats import FLOATS, OUTPUTS, ROUNDINGS, IntegerOutput
from golden.mixpe.formats import ACT_FLOATS, ACTS, ALIGNED, SOURCES, WEIGHTS, align, signed_bits, sum_range
from golden.quantize import float_codes, quantise_e2m1

ORACLE: dict[str, Any] = {
    "fp16": np.float16,
    "bf16": ml_dtypes.bfloat16,
    "e4m3": ml_dtypes.float8_e4m3fn,
    "e5m2": ml_dtypes.float8_e5m2,
    "e8m0": ml_dtypes.float8_e8m0fnu,
}


def every(fmt: str, bits: int) -> tuple[Any, Any]:
    """All codes and their values."""
    codes = np.arange(1 << bits)
    with np.errstate(invalid="ignore"):
        return codes, codes.astype(f"u{bits // 8}").view(ORACLE[fmt]).astype(np.float64)


@pytest.mark.parametrize("name", [f.name for f in ACTS.values() if f.floating])
def test_activation_operands(name: str) -> None:
    f = ACTS[name]
    codes, values = every(name, f.bits)
    special = f.special(codes)
    assert (special == ~np.isfinite(values)).all()
    assert (f.operand(codes) * 2.0**f.exponent)[~special].tolist() == values[~special].tolist()
    infinite, nan = np.isinf(values), np.isnan(values)
    assert (f.operand(codes)[infinite] == np.sign(values[infinite])).all()
    assert not f.operand(codes)[nan].any()
    assert f.low <= f.operand(codes).min() and f.operand(codes).max() <= f.high


def test_e2m1_operands_are_twice_the_values() -> None:
    values = np.arange(16, dtype=np.uint8).view(ml_dtypes.float4_e2m1fn).astype(np.float64)
    assert (WEIGHTS["e2m1"].operand(np.arange(16)) / 2).tolist() == values.tolist()


@pytest.mark.parametrize("name", ["fp16", "bf16", "e4m3", "e8m0"])
def test_scale_codes_and_values(name: str) -> None:
    f = FLOATS[name]
    codes, values = every(name, f.bits)
    got = f.value(codes)
    numbers = ~np.isnan(values)
    assert (got[numbers].astype(np.float64) == values[numbers]).all()
    assert (np.isnan(got) == ~numbers).all()
    back = f.code(np.where(numbers, got, 0).astype(f.dtype))
    assert (back == np.where(numbers, codes, f.code(np.zeros(1, f.dtype)))).all()
    assert f.largest == values[np.isfinite(values)].max()


@pytest.mark.parametrize("name", ["fp16", "bf16", "e4m3", "e8m0"])
def test_rounding_to_a_format(name: str) -> None:
    rng = np.random.default_rng(1)
    x = (rng.normal(size=100_000) * 2.0 ** rng.integers(-45, 20, 100_000)).astype(np.float32)
    x = np.abs(x) if name == "e8m0" else x
    with np.errstate(over="ignore", invalid="ignore"):
        expected = x.astype(ORACLE[name]).astype(np.float32)
    assert np.array_equal(FLOATS[name].rounded(x).astype(np.float32), expected, equal_nan=True)


@pytest.mark.parametrize("name", ACT_FLOATS)
def test_float_codes_of_activations(name: str) -> None:
    rng = np.random.default_rng(2)
    x = (rng.normal(size=(10, 1000)) * 2.0 ** rng.integers(-12, 7, (10, 1000))).astype(np.float32)
    expected = x.astype(ORACLE[name]).view(f"u{ACT_FLOATS[name].bits // 8}")
    assert (float_codes(x, name) == expected).all()
    assert float_codes(np.array([[1e99, -1e99]]), name).tolist() == [
        [int(ACT_FLOATS[name].code(np.array([s * ACT_FLOATS[name].largest]))[0]) for s in (1, -1)]
    ]


@pytest.mark.parametrize("scale", ["e8m0", "e4m3", "fp16"])
def test_e2m1_weights_are_the_nearest(scale: str) -> None:
    w = np.random.default_rng(3).normal(size=(64, 5)).astype(np.float32) / 50
    q = quantise_e2m1(w, 16, scale)
    step = q.tensor * np.repeat(q.scale.astype(np.float64), 16, axis=0)
    clipped = (w / step).clip(-6, 6)
    values = np.arange(16, dtype=np.uint8).view(ml_dtypes.float4_e2m1fn).astype(np.float64)
    distance = np.abs(clipped[..., None] - values)
    assert (np.abs(clipped - values[q.codes]) <= distance.min(axis=-1) + 1e-12).all()
    assert (FLOATS[scale].value(FLOATS[scale].code(q.scale)) == q.scale).all()


def test_accumulator_widths_are_those_of_the_table() -> None:
    """Exact sums of G products, for instance 19 bits for INT4 x INT8 at G = 128 and 51 for INT4 x FP16."""

    def width(weight: str, act: str, group: int) -> int:
        x = ACTS[act]
        return signed_bits(*sum_range(WEIGHTS[weight].operands, (x.low, x.high), group))

    table = {"int8": 19, "fp16": 51, "e4m3": 29, "e5m2": 43}
    assert {act: width("int4", act, 128) for act in table} == table
    assert [width("int4", "int8", g) for g in (1, 32, 64, 256, 4096)] == [12, 17, 18, 20, 24]
    assert [width("int8", "int8", g) for g in (1, 32, 128, 4096)] == [16, 21, 23, 28]
    assert [width("e2m1", "fp16", g) for g in (32, 128, 4096)] == [50, 52, 57]


def test_unsigned_bytes_as_scales() -> None:
    f, codes = FLOATS["uint8"], np.arange(256)
    significand, shift = f.parts(codes)
    assert significand.tolist() == codes.tolist() == f.value(codes).tolist() == f.code(f.value(codes)).tolist()
    assert not shift.any() and f.largest == 255 and f.least_exponent == 0 and f.max_shift == 0
    assert f.rounded(np.array([0.5, 1.5, 254.5, 300.0])).tolist() == [0, 2, 254, 255]


@pytest.mark.parametrize("bits", ALIGNED)
@pytest.mark.parametrize("source", SOURCES)
def test_alignment_is_one_rounding(source: str, bits: int) -> None:
    """Against fractions, whose ``round`` goes to nearest even."""
    fmt, numbers = SOURCES[source], ACT_FLOATS[SOURCES[source].name]
    rng = np.random.default_rng(4)
    x = numbers.rounded(rng.normal(size=(6, 50)) * 2.0 ** rng.integers(-12, 3, (6, 50)))
    x[0] *= 0
    x[1, 20:] = numbers.value(rng.integers(0, 1 << fmt.fraction_bits, 30))  # subnormal
    x[2, :20] = numbers.largest
    significands, exponents = align(numbers.code(x), fmt, bits, np.array([0, 20, 40]))
    assert np.abs(significands).max() <= ALIGNED[bits].high
    for row in range(6):
        for g, ks in enumerate((slice(0, 20), slice(20, 40), slice(40, 50))):
            largest = max(float(np.abs(x[row, ks]).max()), 2.0 ** (1 - numbers.bias))
            exponent = int(np.frexp(np.float64(largest))[1]) - 1
            assert exponents[row, g] == exponent + numbers.bias - 1
            unit = Fraction(2) ** (exponent + 2 - bits)
            for value, got in zip(x[row, ks], significands[row, ks], strict=True):
                wanted = round(Fraction(float(value)) / unit)
                assert got == max(-ALIGNED[bits].high, min(ALIGNED[bits].high, wanted))


def test_alignment_leaves_special_activations_alone() -> None:
    codes = np.array([[0x7F80, 0xFF80, 0x7FC0, 0x3F80, 0x4080]])  # both infinities, NaN, 1, 4
    significands, exponents = align(codes, SOURCES["bf16_aligned"], 8, np.array([0]))
    assert significands.tolist() == [[1, -1, 0, 16, 64]] and exponents.tolist() == [[128]]


@pytest.mark.parametrize("out", ["int8", "int8_sym"])
@pytest.mark.parametrize("rounding", ROUNDINGS)
def test_rounding_to_integers(out: str, rounding: str) -> None:
    f = OUTPUTS[out]
    assert isinstance(f, IntegerOutput)
    halves = np.arange(-300, 301) / 2
    x = np.concatenate([halves, np.nextafter(halves, 1e9), np.nextafter(halves, -1e9), [1e20, -1e20, 1e-40]])
    x = x.astype(np.float32)
    for value, got in zip(x, f.rounded(x, rounding), strict=True):
        if rounding == "half_up":
            wanted = floor(Fraction(float(value)) + Fraction(1, 2))
        else:
            mode = ROUND_HALF_EVEN if rounding == "half_even" else ROUND_HALF_UP  # decimal's goes away from zero
            wanted = int(Decimal(float(value)).quantize(Decimal(1), mode))
        assert got == max(f.low, min(127, wanted))
    assert f.rounded(np.array([np.nan, np.inf, -np.inf], np.float32), rounding).tolist() == [0, 127, f.low]
