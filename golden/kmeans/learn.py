"""Codebooks learned offline: weighted K-Means of real numbers, deterministic."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from golden.spec import SpecError

Real = NDArray[np.float64]

RUNS = 4096
"""Seeds are drawn from at most so many means of neighbours."""


class Clusters(NamedTuple):
    """What was found."""

    centroids: Real
    """``[count]``, ascending"""
    inertia: float
    """``sum weight * (value - centroid)^2``, every value with its nearest centroid"""


class _Sorted(NamedTuple):
    """Values, ascending, and what the sums over any run of them are differences of, ``[n + 1]`` each."""

    values: Real
    weight: Real
    moment: Real
    square: Real

    def between(self, cuts: NDArray[np.intp]) -> tuple[Real, Real, Real]:
        """Sums of weight, weighted value and weighted square of each run ``cuts[i] .. cuts[i + 1]``."""
        return np.diff(self.weight[cuts]), np.diff(self.moment[cuts]), np.diff(self.square[cuts])


def kmeans(
    values: NDArray[np.floating[Any]],
    count: int,
    weights: NDArray[np.floating[Any]] | None = None,
    *,
    seed: int = 1,
    restarts: int = 4,
) -> Clusters:
    """The best of ``restarts`` runs of Lloyd's algorithm over ``values`` (any shape), seeded by k-means++.

    In one dimension clusters are runs of the sorted values, so an iteration is a binary search of ``count - 1``
    boundaries and a few differences of prefix sums, however many values there are. A run ends when no boundary moves
    any more, or the inertia falls no further. Values of weight 0 do not count; a cluster without values keeps its
    centroid, and with fewer different values than ``count`` some centroids are equal.

    The same values, weights and seed give the same centroids. It is a local optimum: k-means++ with restarts makes a
    bad one unlikely, nothing excludes it.

    Raises :class:`~golden.spec.SpecError` where count or restarts is below 1, values or weights are not finite, weights
    have another shape or a negative one, or nothing has weight.
    """
    if count < 1 or restarts < 1:
        raise SpecError(f"count and restarts must be at least 1, not {count} and {restarts}")
    ordered, centre = _prepared(values, weights)
    rng = np.random.default_rng(seed)
    runs = [_lloyd(ordered, _seeds(ordered, count, rng)) for _ in range(restarts)]
    best = min(runs, key=lambda run: run.inertia)
    return Clusters(best.centroids + centre, best.inertia)


def _prepared(values: NDArray[Any], weights: NDArray[Any] | None) -> tuple[_Sorted, float]:
    """Sorted, and less their mean, so that prefix sums of squares lose nothing that matters."""
    x = np.asarray(values, np.float64).ravel()
    w = np.ones_like(x) if weights is None else np.asarray(weights, np.float64).ravel()
    if x.shape != w.shape:
        raise SpecError(f"weights must be one per value ({len(x)}), not {len(w)}")
    if not (np.isfinite(x).all() and np.isfinite(w).all()):
        raise SpecError("values and weights must be finite, not infinite or NaN")
    if len(w) and w.min() < 0:
        raise SpecError(f"weights must be 0 or more, not {w.min():g}")
    if not w.any():
        raise SpecError(f"values must have weight, not {len(x)} values of weight 0")
    if weights is not None:
        x, w = x[w > 0], w[w > 0]
    order = np.argsort(x, kind="stable")
    x, w = x[order], w[order]
    centre = float((w * x).sum() / w.sum())
    x = x - centre
    return _Sorted(x, *(np.concatenate([[0.0], np.cumsum(a)]) for a in (w, w * x, w * x * x))), centre


def _seeds(data: _Sorted, count: int, rng: np.random.Generator) -> Real:
    """k-means++: each next seed is drawn with a probability that grows as its weight times its squared distance to the
    nearest seed. Long data are drawn from as the means of equally long runs."""
    n = len(data.values)
    cuts = np.linspace(0, n, min(n, RUNS) + 1).astype(np.intp)
    weight, moment, _ = data.between(cuts)
    points = moment / weight
    seeds = [points[_draw(weight, rng)]]
    distance = np.square(points - seeds[0])
    while len(seeds) < count:
        chance = weight * distance
        seeds.append(points[_draw(chance, rng)] if chance.any() else seeds[-1])
        distance = np.minimum(distance, np.square(points - seeds[-1]))
    return np.sort(seeds)


def _draw(chance: Real, rng: np.random.Generator) -> int:
    total = np.cumsum(chance)
    return int(np.searchsorted(total, rng.random() * total[-1], side="right"))


def _lloyd(data: _Sorted, centroids: Real) -> Clusters:
    cuts, inertia = None, np.inf
    while True:
        inner = np.searchsorted(data.values, (centroids[:-1] + centroids[1:]) / 2)
        new = np.concatenate([[0], inner, [len(data.values)]])
        if cuts is not None and np.array_equal(new, cuts):
            return Clusters(centroids, inertia)
        weight, moment, square = data.between(new)
        means = np.divide(moment, weight, out=centroids.copy(), where=weight > 0)
        left = float((square - 2 * means * moment + means * means * weight).sum())
        if not left < inertia:
            return Clusters(centroids, inertia)
        cuts, inertia, centroids = new, left, means
