"""The golden model of ``kmeans_function`` and its tables: against real arithmetic, and what is exact, exactly."""

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from golden import fixture
from golden.kmeans.codebook import Codebook
from golden.kmeans.function import VALUES, Group, KMeansFunctionSpec, Table, Vector
from golden.kmeans.layer import calibrate
from golden.kmeans.tables import FUNCTIONS, cell_errors, exact_values, fixed, moments, values
from golden.kmeans.token import indices, steps
from golden.quantize import float_codes
from golden.spec import SpecError
from scripts.kmeans_functions import errors, rms
from tb.kmeans_function import random_group

BOOK = Codebook(np.array([-90, -41, -23, -7, 7, 22, 40, 101]))
"""Zero is a boundary."""

SLOPES = {"silu": 1.0999, "gelu": 1.1290, "relu": 1.0, "exp": 1.0}
"""The steepest that each function is anywhere; of exp where no x is above the largest centroid."""


def spec(**values: Any) -> KMeansFunctionSpec:
    return KMeansFunctionSpec(**{"bits": 3, **values})


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), lanes=st.integers(1, 9), n=st.sampled_from([20, 64, 700]))
def test_the_histogram_is_the_direct_sum(seed: int, lanes: int, n: int) -> None:
    """Sums of up to n entries, one after another, in Python's integers."""
    unit, rng = spec(lanes=lanes, n=n, moment_bits=9), np.random.default_rng(seed)
    job = random_group(unit, rng, 3)
    got = unit.compute(job)
    assert job.table.first is not None and job.table.second is not None
    for vector, stats in zip(job.vectors, got.stats.tolist(), strict=True):
        there = vector.index[vector.mask].tolist()
        assert stats == [len(there), *(sum(int(t[j]) for j in there) for t in (job.table.first, job.table.second))]
    assert got.values.tolist() == [int(job.table.value[j]) for v in job.vectors for j in v.index]


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), value=st.sampled_from(sorted(VALUES)), with_moments=st.booleans())
def test_beats_and_back(seed: int, value: str, with_moments: bool) -> None:
    unit = spec(lanes=3, value=value, moments=with_moments)
    job = random_group(unit, np.random.default_rng(seed), 4)
    want = unit.compute(job)
    got = unit.result(job, unit.outputs(job, want))
    assert np.array_equal(got.values, want.values) and np.array_equal(got.stats, want.stats)


def test_longer_vectors_wrap_as_declared() -> None:
    unit = spec(n=8, lanes=4, moment_bits=4)
    table = Table(np.zeros(8, np.int64), np.full(8, 7), np.full(8, -8))
    assert (unit.count_bits, unit.sum_bits) == (4, 7)
    stats = unit.compute(Group(table, (Vector(np.zeros(8, np.int64)), Vector(np.zeros(17, np.int64))))).stats
    assert stats.tolist() == [[8, 56, -64], [1, 7, -8]]


@pytest.mark.parametrize("bits", [2, 8, 16])
@pytest.mark.parametrize("n", [1, 2, 63, 64, 65])
def test_sums_are_as_wide_as_needed(bits: int, n: int) -> None:
    low, high = -n << (bits - 1), n * ((1 << (bits - 1)) - 1)
    width = spec(n=n, lanes=1, moment_bits=bits).sum_bits
    assert -(1 << (width - 1)) <= low and high < 1 << (width - 1)
    assert low < -(1 << (width - 2))


@pytest.mark.parametrize("e", [-12, -6, 0])
def test_moments_are_those_of_the_quantised_numbers_exactly(e: int) -> None:
    """Sum and sum of squares of 2**e * C[i], in fractions."""
    rng = np.random.default_rng(0)
    index = rng.integers(0, 8, 300)
    stats = spec().compute(Group(Table(np.zeros(8, np.int64), *moments(BOOK)), (Vector(index),))).stats
    count, first, second = stats[0].tolist()
    numbers = [Fraction(2) ** e * int(BOOK.centroids[j]) for j in index]
    assert count == 300
    assert Fraction(2) ** e * first == sum(numbers)
    assert Fraction(2) ** (2 * e) * second == sum(x * x for x in numbers)


def test_softmax_adds_up_to_one_exactly() -> None:
    """The denominator is the sum of the numerators that came out; both are near those of the quantised numbers."""
    e, index = -5, np.random.default_rng(0).integers(0, 8, 200)
    table = values("exp", BOOK, e, "int16")
    unit = spec(value="int16")
    got = unit.compute(Group(Table(table.codes, table.codes, table.codes), (Vector(index),)))
    assert got.values.sum() == got.stats[0, 1]
    x = np.ldexp(BOOK.centroids[index].astype(float), e)
    want = np.exp(x) / np.exp(x).sum()
    assert np.abs(got.values / got.stats[0, 1] - want).max() < 200 * 2.0**table.exponent


@pytest.mark.parametrize("function", FUNCTIONS)
def test_turning_points(function: str) -> None:
    """Each function falls below the declared place and rises above it, on a fine grid."""
    f, x = FUNCTIONS[function], np.linspace(-6, 6, 20001)
    rising = np.diff(f.of(x)) >= 0
    turns = -np.inf if f.turns is None else f.turns
    assert rising[x[:-1] > turns].all() and not rising[x[1:] < turns].any()


def test_functions_at_known_places() -> None:
    x = np.array([-1000.0, -1, 0, 1, 1000])
    assert np.allclose(FUNCTIONS["silu"].of(x), [0, -0.2689414213699951, 0, 0.7310585786300049, 1000], atol=1e-300)
    assert np.allclose(FUNCTIONS["gelu"].of(x), [0, -0.15865525393145707, 0, 0.8413447460685429, 1000])
    assert FUNCTIONS["relu"].of(x).tolist() == [0, 0, 0, 1, 1000]


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("e", [-9, -5, -2])
@pytest.mark.parametrize(("value", "half_step"), [("int8", 0.5), ("int16", 0.5), ("fp16", None)])
def test_an_entry_is_the_function_at_the_centroid_rounded_once(
    function: str, e: int, value: str, half_step: float | None
) -> None:
    table, exact = values(function, BOOK, e, value), exact_values(function, BOOK, e)
    error = np.abs(table.numbers - exact)
    if half_step is None:
        assert (error <= np.maximum(np.abs(exact) * 2.0**-11, 2.0**-25)).all()
        assert np.array_equal(table.codes.astype(np.uint16).view(np.float16), table.numbers.astype(np.float16))
    else:
        bits = VALUES[value].width
        assert (error <= half_step * 2.0**table.exponent).all()
        assert np.array_equal(table.numbers, table.codes * 2.0**table.exponent)
        assert 1 << (bits - 2) <= np.abs(table.codes).max() < 1 << (bits - 1)


@settings(max_examples=80, deadline=None)
@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=8), st.sampled_from([2, 8, 16]))
def test_fixed_has_the_smallest_exponent(numbers: list[float], bits: int) -> None:
    top = (1 << (bits - 1)) - 1
    codes, exponent = fixed(np.array(numbers), bits)
    assert np.abs(codes).max() <= top
    if any(numbers):
        assert np.abs(np.rint(np.ldexp(np.array(numbers), 1 - exponent))).max() > top


def test_indices_of_another_codebook_are_the_nearest_or_the_upper_one() -> None:
    output = Codebook(np.array([-9, 0, 3, 50]))
    table, exact = values("silu", BOOK, -4, "index2", (output, -3)), exact_values("silu", BOOK, -4)
    grid = np.ldexp(output.centroids.astype(float), table.exponent)
    distance = np.abs(grid - exact[:, None])
    assert np.array_equal(distance[np.arange(8), table.codes], distance.min(axis=1))
    assert np.array_equal(table.numbers, grid[table.codes])
    assert table.exponent == -3


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("e", [-8, -5, -3])
def test_cell_errors_bound_every_number_and_are_reached(function: str, e: int) -> None:
    """On a fine grid of numbers, assigned as activations are."""
    table = values(function, BOOK, e, "int16")
    low, high = np.ldexp([-127.0, 127.0], e)
    x = np.linspace(low, high, 200001)
    index = BOOK.index(np.floor(np.ldexp(x, 1 - e)).astype(np.int64))
    shift = np.ldexp(float(BOOK.centroids[-1]), e) if function == "exp" else 0
    errors = np.abs(FUNCTIONS[function].of(x - shift) - table.numbers[index])
    bound = cell_errors(function, BOOK, e, table.numbers, low, high)
    for j in range(8):
        most = errors[index == j].max()
        assert bound[j] * 0.999 - 1e-9 <= most <= bound[j] + 1e-12


@pytest.mark.parametrize("function", ["silu", "gelu", "relu"])
def test_the_error_is_at_most_the_slope_times_the_distance_from_the_centroid(function: str) -> None:
    e, x = -5, np.linspace(-4, 4, 4001)
    index = BOOK.index(np.floor(np.ldexp(x, 1 - e)).astype(np.int64))
    distance = np.abs(x - np.ldexp(BOOK.centroids[index].astype(float), e))
    errors = np.abs(FUNCTIONS[function].of(x) - exact_values(function, BOOK, e)[index])
    assert (errors <= SLOPES[function] * distance + 1e-12).all()


def test_relu_is_exact_on_indices() -> None:
    """The same codes for every e, nothing rounded; with zero a boundary, all negative activations give 0."""
    tables = [values("relu", BOOK, e, "int8") for e in range(-20, 12)]
    assert all(np.array_equal(t.codes, tables[0].codes) for t in tables)
    for e, table in zip(range(-20, 12), tables, strict=True):
        assert np.array_equal(table.numbers, np.ldexp(np.maximum(BOOK.centroids, 0).astype(float), e))
    codes = float_codes(np.random.default_rng(0).normal(size=(1, 4000)), "fp16")
    index = indices(codes, np.array([-5]), BOOK)
    assert (tables[15].numbers[index][steps(codes) < 0] == 0).all()
    output = Codebook(np.array([0, 0, 7, 22, 40, 101, 101, 101]))
    to_indices = values("relu", BOOK, -5, "index3", (output, -5))
    assert np.array_equal(to_indices.numbers, tables[15].numbers)


@pytest.mark.parametrize("function", ["silu", "gelu", "relu"])
def test_real_tokens_within_their_bounds(function: str) -> None:
    """Every activation of 32 real tokens: within the bound of its cell."""
    x = fixture.load().x[:32]
    learned = calibrate(x, 4)
    book = learned.book
    for row, index, e in zip(x.astype(np.float64), *learned.indices(x), strict=True):
        table = values(function, book, int(e), "int16")
        bound = cell_errors(function, book, int(e), table.numbers, row.min(), row.max())
        assert (np.abs(FUNCTIONS[function].of(row) - table.numbers[index]) <= bound[index]).all()


def test_what_the_report_says() -> None:
    """No error is above its bound; finer entries and more bits do not hurt; moments are near, since indices are."""
    coarse, fine = errors("silu", 3, "int8"), errors("silu", 3, "int16")
    for rounding, bound, largest, sqnr, sqnr_in in (coarse, fine):
        assert rounding < bound and largest <= bound and 5 < sqnr < sqnr_in
    assert fine[0] < coarse[0] / 100
    assert errors("relu", 3, "int8")[0] == 0
    assert abs(rms(4).mean() - 1) < abs(rms(3).mean() - 1) < 0.1


REFUSALS = [
    ({"bits": 9}, "bits must be an integer between 1 and 8, not 9"),
    ({"lanes": 0}, "lanes must be an integer between 1 and 64, not 0"),
    ({"value": "fp32"}, f"value must be one of {', '.join(VALUES)}, not 'fp32'"),
    ({"moment_bits": 33}, "moment_bits must be an integer between 2 and 32, not 33"),
    ({"n": 0}, "n must be an integer between 1 and 65536, not 0"),
    ({"n": 4}, "lanes must be at most n = 4, not 8"),
    ({"moments": "maybe"}, "moments must be true or false, not 'maybe'"),
]


@pytest.mark.parametrize(("given", "sentence"), REFUSALS)
def test_refused(given: dict[str, Any], sentence: str) -> None:
    with pytest.raises(SpecError) as e:
        KMeansFunctionSpec.from_values(given)
    assert str(e.value) == sentence


def test_without_moments_n_does_not_matter() -> None:
    assert KMeansFunctionSpec(n=4, moments=False).status == ()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("tanh", BOOK, 0, "int8"), "function must be one of silu, gelu, relu, exp, not 'tanh'"),
        (("silu", BOOK, 0, "fp32"), f"value must be one of {', '.join(VALUES)}, not 'fp32'"),
        (("silu", BOOK, 0, "index3"), "output must be a codebook for index3, not none"),
        (("silu", BOOK, 0, "index2", (BOOK, 0)), "output must be a codebook for index2, not one of 3 bits"),
    ],
)
def test_tables_refused(arguments: Any, sentence: str) -> None:
    with pytest.raises(SpecError) as e:
        values(*arguments)
    assert str(e.value) == sentence
