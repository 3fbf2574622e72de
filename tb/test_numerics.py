"""Exact sums and their rounding, against Python's unbounded integers."""

import numpy as np
import pytest

from golden.numerics import NAN32, canonical, round_fp32, shifted

RNG = np.random.default_rng(1)


def _to_fp32(value: int, exponent: int) -> np.float32:
    """``value * 2**exponent`` to nearest even, by integer division."""
    size = max(0, abs(value).bit_length() - 24)
    kept, rest = divmod(abs(value), 1 << size)
    half = (1 << size) // 2
    if size and (rest > half or (rest == half and kept & 1)):
        kept += 1
    return np.float32(np.ldexp(-kept if value < 0 else kept, size + exponent))


@pytest.mark.parametrize("bits", [1, 8, 24, 25, 26, 32, 33, 40])
def test_sums_round_once(bits: int) -> None:
    values = RNG.integers(0, 1 << bits, (500, 6)) * RNG.choice([-1, 1], (500, 6))
    shifts = RNG.integers(0, 61, (500, 6))
    got = round_fp32(shifted(values, shifts).sum(axis=2), -24)
    for row, up, y in zip(values, shifts, got, strict=True):
        assert y == _to_fp32(sum(int(v) << int(s) for v, s in zip(row, up, strict=True)), -24)


def test_ties_round_to_even_at_every_position() -> None:
    base = np.array([(1 << 24) + 1, (1 << 24) + 3, (1 << 25) + 2, (1 << 25) + 6, (1 << 25) + 3])
    for shift in range(61):
        for sign in (-1, 1):
            got = round_fp32(shifted(sign * base, np.full(5, shift)), -40)
            assert got.tolist() == [_to_fp32(sign * int(v) << shift, -40) for v in base]


def test_a_bit_far_below_a_tie_decides() -> None:
    tie = shifted(np.array([(1 << 24) + 1]), np.array([60]))
    for sign in (-1, 1):
        got = round_fp32(tie + shifted(np.array([sign]), np.array([0])), -24)
        assert got[0] == _to_fp32((((1 << 24) + 1) << 60) + sign, -24)


def test_zero_is_positive() -> None:
    zero = round_fp32(shifted(np.array([5]), np.array([40])) + shifted(np.array([-5]), np.array([40])), -24)
    assert zero.view(np.uint32)[0] == 0


def test_canonical_nan() -> None:
    odd = np.array([0xFFC00001, 0x7F800001, 0x3F800000], np.uint32).view(np.float32)
    assert canonical(odd).view(np.uint32).tolist() == [NAN32, NAN32, 0x3F800000]
