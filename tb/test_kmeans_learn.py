"""K-Means codebooks learned offline, against the optimum by dynamic programming; real layers as indices."""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from golden import fixture, q4_1
from golden.kmeans import layer, modes, token
from golden.kmeans.learn import kmeans
from golden.spec import SpecError

REPLAYABLE = settings(derandomize=True, deadline=None, database=None, max_examples=30)


def optimum(values: Any, weights: Any, count: int) -> float:
    """Least inertia of all ways to cut the sorted values into ``count`` runs."""
    order = np.argsort(values)
    x, w = values[order], weights[order]
    n = len(x)

    def cost(i: int, j: int) -> float:
        part, weight = x[i:j], w[i:j]
        return float((weight * np.square(part - np.average(part, weights=weight))).sum())

    best = [0.0] + [np.inf] * n
    for _ in range(count):
        best = [0.0] + [min([best[j], *(best[i] + cost(i, j) for i in range(j))]) for j in range(1, n + 1)]
    return best[n]


def inertia(values: Any, weights: Any, centroids: Any) -> float:
    return float((weights * np.square(values[:, None] - centroids).min(axis=1)).sum())


@REPLAYABLE
@given(st.integers(0, 999), st.integers(1, 5), st.booleans())
def test_kmeans_is_near_the_optimum_and_tells_its_inertia(seed: int, count: int, weighted: bool) -> None:
    rng = np.random.default_rng(seed)
    values = rng.standard_normal(25) * 10 + 1000
    weights = rng.random(25) + 0.1 if weighted else np.ones(25)
    found = kmeans(values, count, weights if weighted else None, restarts=16)
    least = optimum(values, weights, count)
    assert found.inertia == pytest.approx(inertia(values, weights, found.centroids), rel=1e-9, abs=1e-9)
    assert least * (1 - 1e-9) <= found.inertia <= 1.1 * least + 1e-9
    assert (np.diff(found.centroids) >= 0).all() and len(found.centroids) == count


def test_kmeans_finds_the_optimum_mostly() -> None:
    rng = np.random.default_rng(5)
    hits = 0
    for _ in range(20):
        values = rng.standard_normal(30)
        hits += kmeans(values, 4, restarts=16).inertia <= optimum(values, np.ones(30), 4) * (1 + 1e-9)
    assert hits >= 18


def test_a_fixed_point_of_lloyd_and_the_same_every_time() -> None:
    values = np.random.default_rng(6).standard_normal((300, 100))  # more than seeds are drawn from one by one
    found = kmeans(values, 16)
    cuts = np.concatenate([[-np.inf], (found.centroids[:-1] + found.centroids[1:]) / 2, [np.inf]])
    for c, (low, high) in zip(found.centroids, pairwise(cuts), strict=True):
        assert values[(values >= low) & (values < high)].mean() == pytest.approx(c, rel=1e-9)
    assert np.array_equal(kmeans(values, 16).centroids, found.centroids)
    assert np.array_equal(kmeans(values[::-1], 16).centroids, found.centroids)
    # the optimum for so many normal numbers: the tabulated distortion of 16 levels is 0.009497 (Max, 1960)
    assert found.inertia / values.size == pytest.approx(0.009497, rel=0.03)


def test_integer_weights_are_repetitions() -> None:
    rng = np.random.default_rng(7)
    values, weights = rng.standard_normal(12), rng.integers(0, 4, 12)
    ours, theirs = (
        kmeans(values, 3, weights.astype(float), restarts=16),
        kmeans(np.repeat(values, weights), 3, restarts=16),
    )
    np.testing.assert_allclose(ours.centroids, theirs.centroids)
    assert ours.inertia == pytest.approx(theirs.inertia)


def test_few_different_values_give_equal_centroids() -> None:
    found = kmeans(np.array([2.0, 2.0, 5.0]), 4)
    assert set(found.centroids.tolist()) == {2.0, 5.0} and found.inertia == 0
    assert kmeans(np.zeros((3, 3)), 2).centroids.tolist() == [0, 0]


@pytest.mark.parametrize(
    ("values", "count", "weights", "restarts", "sentence"),
    [
        ([1.0], 0, None, 1, "count and restarts must be at least 1, not 0 and 1"),
        ([1.0], 1, None, 0, "count and restarts must be at least 1, not 1 and 0"),
        ([1.0], 1, [1.0, 2.0], 1, "weights must be one per value (1), not 2"),
        ([np.nan], 1, None, 1, "values and weights must be finite, not infinite or NaN"),
        ([1.0], 1, [np.inf], 1, "values and weights must be finite, not infinite or NaN"),
        ([1.0, 2.0], 1, [1.0, -2.0], 1, "weights must be 0 or more, not -2"),
        ([1.0, 2.0], 1, [0.0, 0.0], 1, "values must have weight, not 2 values of weight 0"),
        ([], 1, None, 1, "values must have weight, not 0 values of weight 0"),
    ],
)
def test_bad_values_are_refused(values: Any, count: int, weights: Any, restarts: int, sentence: str) -> None:
    with pytest.raises(SpecError) as e:
        kmeans(np.array(values), count, None if weights is None else np.array(weights), restarts=restarts)
    assert str(e.value) == sentence


# Real layers


RNG = np.random.default_rng(8)
W = RNG.standard_normal((40, 64)) * RNG.uniform(0.01, 2, (40, 1))
X = RNG.standard_normal((50, 64)) * 2.0 ** RNG.integers(-3, 3, (50, 1))
X[:, 5] *= 50


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_a_matrix_has_the_nearest_centroids_and_the_best_scales(bits: int) -> None:
    q = layer.quantise_matrix(W, bits)
    assert q.book.bits == bits and np.abs(q.book.centroids).max() == 127 and q.scale.dtype == np.float32
    np.testing.assert_array_equal(q.values, q.book.centroids.astype(np.float32)[q.indices] * q.scale[:, None])
    for w, v, i, s in zip(W, q.values.astype(np.float64), q.indices, q.scale, strict=True):
        assert abs(((w - v) * v).sum()) <= 1e-6 * (v * v).sum()  # the error has nothing of the values left in it
        nearest = np.abs(w[:, None] - q.book.centroids * float(s)).argmin(axis=1)
        assert (nearest == i).mean() > 0.85  # the scale moved a little after indices were chosen
    assert 1 - np.square(W - q.values).sum() / np.square(W).sum() > {2: 0.87, 3: 0.96, 4: 0.988}[bits]


def test_rows_of_zeros_and_rows_without_a_scale() -> None:
    q = layer.quantise_matrix(np.zeros((3, 8)), 2)
    assert (q.values == 0).all() and (q.scale > 0).all()
    mixed = layer.quantise_matrix(np.concatenate([np.zeros((1, 64)), W]), 4)
    assert (mixed.scale > 0).all() and np.isfinite(mixed.values).all()


def test_sensitivity_makes_the_layers_error_smaller() -> None:
    x = X * np.exp(RNG.standard_normal(64) * 1.5)
    y = x @ W.T
    plain = layer.quantise_matrix(W, 3).values
    felt = layer.quantise_matrix(W, 3, "sensitivity", np.square(x).mean(axis=0)).values
    assert np.square(x @ felt.T - y).sum() < np.square(x @ plain.T - y).sum()


@pytest.mark.parametrize("bits", [2, 3, 4])
@pytest.mark.parametrize("k", [0, 2])
@pytest.mark.parametrize("weighting", layer.WEIGHTINGS)
def test_calibration_uses_the_range_of_int8(bits: int, k: int, weighting: str) -> None:
    found = layer.calibrate(X, bits, k, weighting, np.square(W).sum(axis=0))
    assert found.book.bits == bits and 63 <= np.abs(found.book.centroids).max() <= 127
    codes = layer.fp16_codes(X)
    keep = found.outliers(codes)
    assert (keep.sum(axis=1) == 2 * k).all()
    e = token.exponents(codes, found.shift)
    a = token.indices(codes, e, found.book)
    expected = np.where(keep, layer.values(codes), np.ldexp(1.0 * found.book.centroids[a], e[:, None]))
    assert np.array_equal(found.approximate(codes, keep), expected)


def test_codebooks_do_not_depend_on_how_large_the_tokens_are() -> None:
    x = X.astype(np.float16).astype(np.float64)
    small, large = (layer.calibrate(x * scale, 4, 2) for scale in (1, 64))  # sums on both sides of 2^12
    assert np.array_equal(small.book.centroids, large.book.centroids) and small.shift == large.shift


def test_outliers_help() -> None:
    errors = []
    for k in (0, 1, 2):
        found = layer.calibrate(X, 4, k)
        codes = layer.fp16_codes(X)
        errors.append(np.square(found.approximate(codes, found.outliers(codes)) - X).sum())
    assert errors[0] > 4 * errors[1] > 4 * errors[2] / 2


def test_static_thresholds_have_as_many_beyond_them_on_average() -> None:
    found = layer.calibrate(X, 4, 3, static=True)
    exact = layer.values(layer.fp16_codes(X))
    assert (exact >= found.upper).sum() == (exact <= found.lower).sum() == 3 * len(X)
    mask = found.outliers(layer.fp16_codes(X), static=True)
    assert mask.sum() == 6 * len(X) and len(set(mask.sum(axis=1))) > 1
    assert np.float16(found.upper) == found.upper and np.float16(found.lower) == found.lower
    none = layer.calibrate(X, 4, 0, static=True)
    assert (none.lower, none.upper) == (-np.inf, np.inf) and not none.outliers(layer.fp16_codes(X), static=True).any()


def test_a_share_is_rounded_up_on_each_side() -> None:
    shares = {
        (0, 576): 0,
        (0.005, 576): 2,
        (0.01, 576): 3,
        (0.02, 576): 6,
        (0.01, 1536): 8,
        (0.01, 4096): 21,
        (1, 9): 5,
        (0.07, 200): 7,
    }
    assert {key: layer.outliers_per_side(*key) for key in shares} == shares


def test_bad_layers_are_refused() -> None:
    def refused(sentence: str, call: Any) -> None:
        with pytest.raises(SpecError) as e:
            call()
        assert str(e.value) == sentence

    weighting = "weighting must be one of uniform, magnitude, sensitivity, not 'fisher'"
    refused(weighting, lambda: layer.quantise_matrix(W, 4, "fisher"))
    refused(weighting, lambda: layer.calibrate(X, 4, 0, "fisher"))
    needed = "sensitivity must be given for weighting sensitivity, not None"
    refused(needed, lambda: layer.quantise_matrix(W, 4, "sensitivity"))
    refused(needed, lambda: layer.calibrate(X, 4, 0, "sensitivity"))
    refused("activations must be finite in FP16", lambda: layer.calibrate(X * 1e5, 4))
    refused("share must be between 0 and 1, not 1.5", lambda: layer.outliers_per_side(1.5, 8))
    refused("outliers must leave some activations over, not 32 on each side of 64", lambda: layer.calibrate(X, 4, 32))


def test_float_products_are_the_exact_sums_of_a_real_layer() -> None:
    """What accuracy is measured with, against integers: a real matrix, real tokens, W4A4, 1 % outliers."""
    f = fixture.load()
    w = q4_1.dequantise(*f.gate)[:64]
    q = layer.quantise_matrix(w, 4)
    found = layer.calibrate(f.x[:100], 4, layer.outliers_per_side(0.01, f.x.shape[1]))
    codes = layer.fp16_codes(f.x[100:120])
    keep = found.outliers(codes)
    e = token.exponents(codes, found.shift)
    c = found.book.centroids[token.indices(codes, e, found.book)] << (e - token.GRID)[:, None]
    total = modes.look_ahead(token.steps(codes), c, q.book.centroids[q.indices], keep)
    exactly = modes.rounded(total, token.GRID) * q.scale
    floats = found.approximate(codes, keep) @ q.values.T
    assert np.abs(floats - exactly).max() <= 2e-6 * np.abs(exactly).max()
