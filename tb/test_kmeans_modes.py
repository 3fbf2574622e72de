"""K-Means GEMM in its numerics modes: the identities between the ways to compute it, and what rounding costs."""

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from golden.formats import FLOATS
from golden.kmeans import modes, token
from golden.kmeans.codebook import Codebook
from golden.kmeans.layer import fp16_codes, outlier_order, outliers, values
from golden.orizuru.engine import OrizuruSpec, Vector
from golden.spec import SpecError

REPLAYABLE = settings(derandomize=True, deadline=None, database=None, max_examples=40)
SIZES = st.tuples(st.integers(1, 3), st.integers(1, 40), st.integers(1, 3), st.integers(1, 4), st.integers(1, 4))
"""M, K, N, bits of an activation's index, of a weight's."""


class Case:
    """Random indices and codebooks; FP16 activations, some of which are outliers."""

    def __init__(self, sizes: tuple[int, int, int, int, int], seed: int) -> None:
        m, k, n, self.a_bits, self.w_bits = sizes
        rng = np.random.default_rng(seed)
        self.a = rng.integers(0, 1 << self.a_bits, (m, k))
        self.w = rng.integers(0, 1 << self.w_bits, (n, k))
        self.ints = tuple(np.sort(rng.integers(-128, 128, 1 << bits)) for bits in (self.a_bits, self.w_bits))
        # of all magnitudes down to subnormal, so that sums need the whole grid
        self.halves = tuple(
            np.sort(rng.standard_normal(1 << bits) * 2.0 ** rng.integers(-24, 5, 1 << bits)).astype(np.float16)
            for bits in (self.a_bits, self.w_bits)
        )
        self.x = (rng.standard_normal((m, k)) * 2.0 ** rng.integers(-20, 10, (m, k))).astype(np.float16)
        self.outlier = rng.random((m, k)) < 0.3
        self.histogram = modes.counts(self.a, self.w, self.a_bits, self.w_bits)


def whole(halves: Any) -> Any:
    return modes.exact(fp16_codes(halves))


@REPLAYABLE
@given(SIZES, st.integers(0, 999))
def test_counts_add_up_to_the_length_and_are_those_of_a_loop(sizes: Any, seed: int) -> None:
    case = Case(sizes, seed)
    m, k, n, *_ = sizes
    assert (case.histogram.sum(axis=-1) == k).all() and case.histogram.dtype == np.int64
    naive = np.zeros_like(case.histogram)
    for i in range(m):
        for j in range(n):
            for at in range(k):
                naive[i, j, case.a[i, at] * (1 << case.w_bits) + case.w[j, at]] += 1
    assert np.array_equal(case.histogram, naive)


@REPLAYABLE
@given(SIZES, st.integers(0, 999), st.booleans())
def test_histogram_look_up_and_multiplication_agree_bit_for_bit(sizes: Any, seed: int, integer: bool) -> None:
    case = Case(sizes, seed)
    ca, cw = case.ints if integer else map(whole, case.halves)
    table = modes.product_table(ca, cw)
    by_count = modes.counted(case.histogram, table)
    assert np.array_equal(by_count, modes.looked_up(case.a, case.w, case.w_bits, table))
    assert np.array_equal(by_count, modes.multiplied(ca[case.a], cw[case.w]))


@REPLAYABLE
@given(SIZES, st.integers(0, 999), st.booleans())
def test_look_ahead_equals_isolating_bit_for_bit(sizes: Any, seed: int, integer: bool) -> None:
    case = Case(sizes, seed)
    ca, cw = case.ints if integer else map(whole, case.halves)
    x = token.steps(fp16_codes(case.x)) >> 20 if integer else whole(case.x)
    c, w = ca[case.a], cw[case.w]
    ahead, apart = (f(x, c, w, case.outlier) for f in (modes.look_ahead, modes.isolated))
    assert np.array_equal(ahead, apart)
    assert np.array_equal(ahead, np.where(case.outlier, x, c) @ w.T)
    grid = 0 if integer else -48
    ours, theirs = modes.rounded(ahead, grid), modes.rounded(apart, grid)
    assert np.array_equal(ours.view(np.uint32), theirs.view(np.uint32))


@REPLAYABLE
@given(st.lists(st.integers(-(1 << 100), 1 << 100) | st.integers(-(1 << 27), 1 << 27), min_size=1))
def test_an_exact_sum_is_rounded_once(totals: list[int]) -> None:
    for total, y in zip(totals, modes.rounded(np.array(totals, object), -48), strict=True):
        up, down = (Fraction(float(np.nextafter(y, np.float32(to)))) for to in (np.inf, -np.inf))
        value = Fraction(total, 1 << 48)
        error = abs(Fraction(float(y)) - value)
        assert error <= abs(up - value) and error <= abs(down - value)
        tie = error in (abs(up - value), abs(down - value))
        assert not (tie and error) or y.view(np.uint32) % 2 == 0


def test_rounding_before_the_sum_is_something_else() -> None:
    """1 + 2^-24 twice is above 1 by more than half a step; rounded one by one nothing is left of it."""
    one, tiny = 1 << 48, 1 << 24
    assert modes.rounded(np.array([one + 2 * tiny]), -48)[0] == np.nextafter(np.float32(1), np.float32(2))
    assert modes.rounded(np.array([one + tiny]), -48)[0] == 1


@REPLAYABLE
@given(SIZES, st.integers(0, 999))
def test_fp16_entries_stay_within_their_bound(sizes: Any, seed: int) -> None:
    case = Case(sizes, seed)
    ca, cw = case.halves
    products = np.multiply.outer(ca.astype(np.float64), cw.astype(np.float64)).ravel()
    bound = modes.entry_bound(products)
    table = modes.entry_steps(modes.entries(ca, cw))
    summed = modes.counted(case.histogram, table)
    assert np.array_equal(summed, modes.looked_up(case.a, case.w, case.w_bits, table))
    exactly = modes.counted(case.histogram, modes.product_table(whole(ca), whole(cw)))
    for i in np.ndindex(summed.shape):
        error = abs(Fraction(int(summed[i]), 1 << 24) - Fraction(int(exactly[i]), 1 << 48))
        assert error <= sum(int(c) * Fraction(b) for c, b in zip(case.histogram[i], bound.tolist(), strict=True))


def test_fp16_entries_reach_their_bound() -> None:
    """Half a step off: the bound cannot be smaller, and the identity with isolating does not hold in this mode."""
    ca = np.array([1 + 2**-10, 1 + 2**-10], np.float16)
    cw = np.array([0.5 + 2**-11, 1], np.float16)  # (1 + 2^-10)^2 / 2 lies 2^-21 above an FP16 number
    entry = float(modes.entries(ca, cw)[0])
    product = float(ca[0]) * float(cw[0])
    assert 0 < abs(entry - product) <= modes.entry_bound(np.array([product]))[0]
    tiny = np.array([2**-12], np.float16), np.array([2**-13], np.float16)  # 2^-25 is a tie and becomes zero
    assert modes.entries(*tiny)[0] == 0 and modes.entry_bound(np.array([2.0**-25]))[0] == 2.0**-25


def test_products_beyond_fp16_are_refused() -> None:
    with pytest.raises(SpecError, match=r"^products of centroids must be below 65520 in magnitude, not 66049$"):
        modes.entries(np.array([0, 257], np.float16), np.array([0, 257], np.float16))


def naive_tree(counts: Any, table: Any) -> Any:
    """One output of the tree, by scalars; FP16 additions through float32, as IEEE hardware rounds them."""

    def add(a: Any, b: Any) -> Any:
        return np.float16(np.float32(a) + np.float32(b))

    def level(terms: list[Any]) -> Any:
        half = len(terms) // 2
        if not half:
            return terms[0]
        return add(level(terms[:half]), level(terms[half:]))

    total = np.float16(0)
    for start in range(0, len(table), 32):
        terms = [
            FLOATS["fp16"].rounded(np.array(int(c) * float(t)))[()]
            for c, t in zip(counts[start : start + 32], table[start : start + 32], strict=True)
        ]
        total = add(total, level(terms + [np.float16(0)] * (32 - len(terms))))
    return total


@REPLAYABLE
@given(SIZES, st.integers(0, 999))
def test_the_tree_rounds_after_every_addition_in_its_order(sizes: Any, seed: int) -> None:
    case = Case(sizes, seed)
    table = modes.entries(*case.halves)
    y = modes.tree_sum(case.histogram, table)
    assert y.dtype == np.float16
    for i in np.ndindex(y.shape):
        assert y[i].view(np.uint16) == naive_tree(case.histogram[i], table).view(np.uint16)


def test_the_order_of_the_tree_is_part_of_it() -> None:
    """2,048 + 1 is a tie in FP16: whether ones meet one another first decides."""
    table = np.array([2048, 1, 1, 1] + [0] * 28, np.float16)
    ones = np.ones((1, 1, 32), np.int64)
    assert modes.tree_sum(ones, table)[0, 0] == 2050  # (2048 + 1) + (1 + 1)
    assert modes.tree_sum(ones, np.roll(table, 1))[0, 0] == 2052  # (0 + 2048) + (1 + 1), then + 1: 2051 is a tie
    late = np.concatenate([table[:1], np.zeros(31, np.float16), np.ones(32, np.float16)])
    assert modes.tree_sum(np.ones((1, 1, 64), np.int64), late)[0, 0] == 2080


def test_counts_above_2048_are_not_rounded_before_they_multiply() -> None:
    count, entry = np.array([[[2049, 0]]]), np.array([1.5, 0], np.float16)
    assert modes.tree_sum(count, entry)[0, 0] == 3074 != np.float16(2049) * np.float16(1.5)


def test_too_large_is_infinite_and_zeros_are_positive() -> None:
    table = np.array([-60000, 60000], np.float16)
    assert modes.tree_sum(np.array([[[0, 2]]]), table)[0, 0] == np.inf
    zero = modes.tree_sum(np.array([[[0, 0]]]), table)[0, 0]
    assert zero == 0 and not np.signbit(zero)


@REPLAYABLE
@given(SIZES, st.integers(0, 999), st.integers(0, 6))
def test_tree_compensation_takes_outliers_as_they_come(sizes: Any, seed: int, k: int) -> None:
    case = Case(sizes, seed)
    ca, cw = case.halves
    total = modes.tree_sum(case.histogram, modes.entries(ca, cw))
    order = outlier_order(fp16_codes(case.x), k)
    y = modes.tree_compensation(total, case.x, ca[case.a], cw[case.w], order)
    for m, n in np.ndindex(y.shape):
        sum_: Any = total[m, n]
        for channel in order[m]:
            residual = np.float16(np.float32(case.x[m, channel]) - np.float32(ca[case.a[m, channel]]))
            product = np.float16(np.float32(residual) * np.float32(cw[case.w[n, channel]]))
            sum_ = np.float16(np.float32(sum_) + np.float32(product))
        assert y[m, n].view(np.uint16) == sum_.view(np.uint16)


@pytest.mark.parametrize("k", [0, 1, 3, 4, 5, 8, 9])
def test_outliers_are_those_of_orizuru_in_its_order(k: int) -> None:
    rng = np.random.default_rng(k)
    codes = fp16_codes(rng.integers(-2, 3, (20, 9)) * 0.5)  # many ties
    codes[rng.random(codes.shape) < 0.1] = 0x8000  # -0
    order, mask = outlier_order(codes, k), outliers(codes, k)
    spec = OrizuruSpec(n=9, k_max=9)
    for row, channels, chosen in zip(codes, order, mask, strict=True):
        assert channels.tolist() == spec.compute(Vector(row, k))[:, 1].tolist()
        assert np.flatnonzero(chosen).tolist() == sorted(channels)
    assert order.shape[1] == min(2 * k, 9)


def test_the_papers_example() -> None:
    """Six channels, indices of one bit; 5.07 and -3.01 are outliers and leave 4.29 and -3.14 over."""
    hundredths = np.array([[20, 507, 70, -301, 60, 10]])
    book = Codebook(np.array([13, 78]))
    a = book.index(2 * hundredths)
    assert a.tolist() == [[0, 1, 1, 0, 1, 0]]
    c = book.centroids[a]
    outlier = outliers(fp16_codes(hundredths / 100), 1)
    assert np.flatnonzero(outlier[0]).tolist() == [1, 3]
    assert (hundredths - c)[outlier].tolist() == [429, -314]
    cw, w = (
        np.array([-5, 7]),
        np.array([[0, 0, 1, 1, 0, 1], [1, 1, 1, 0, 0, 0], [0, 1, 0, 1, 0, 1], [1, 0, 0, 0, 1, 1]]),
    )
    table = modes.product_table(book.centroids, cw)
    assert table.tolist() == [-65, 91, -390, 546]
    main = modes.counted(modes.counts(a, w, 1, 1), table)
    total = main + modes.compensation(hundredths, c, cw[w], outlier)
    kept = np.array([[13, 507, 78, -301, 78, 13]])
    assert np.array_equal(total, kept @ cw[w].T) and np.array_equal(
        total, modes.isolated(hundredths, c, cw[w], outlier)
    )
    assert total.tolist() == [(kept @ cw[w].T)[0].tolist()]


def test_tokens_and_their_powers_of_two_keep_the_identity() -> None:
    """The whole layer in integers: indices from real FP16 tokens, centroids shifted by e, residuals of the outliers."""
    rng = np.random.default_rng(3)
    x = rng.standard_normal((5, 40)) * 2.0 ** rng.integers(-6, 6, (5, 1))
    x[:, 7] *= 300
    codes = fp16_codes(x)
    book = Codebook(np.array([-120, -50, -22, -7, 5, 20, 48, 110]))
    cw = np.array([-127, -31, 3, 90])
    w = cw[rng.integers(0, 4, (6, 40))]
    e = token.exponents(codes, 3)
    a = token.indices(codes, e, book)
    c = book.centroids[a] << (e - token.GRID)[:, None]
    outlier = outliers(codes, 2)
    main = (book.centroids[a] @ w.T) << (e - token.GRID)[:, None]
    side = np.where(outlier, token.residuals(codes, e, book), 0) @ w.T
    ahead = modes.look_ahead(token.steps(codes), c, w, outlier)
    assert np.array_equal(main + side, ahead)
    assert np.array_equal(ahead, modes.isolated(token.steps(codes), c, w, outlier))
    kept = np.where(outlier, values(codes).astype(np.float64), np.ldexp(1.0 * book.centroids[a], e[:, None]))
    assert np.array_equal(modes.rounded(ahead, token.GRID), (kept @ w.T).astype(np.float32))
