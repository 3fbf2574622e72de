"""Neurons that are active for the same tokens, found by counting: marks, balanced clusters, representatives.

Everything is an exact integer until a distance is a square root, so that results depend on no order of additions. Ties
go to the lower index.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from golden.moe.ffn import Int, Real

Marks = NDArray[np.uint8]
"""``[tokens, neurons]``, 0 or 1."""


def marks(hidden: Real, count: int) -> Marks:
    """1 for the ``count`` largest magnitudes of each row of ``hidden [q, dh]``."""
    largest = first(-np.abs(hidden), count)
    found = np.zeros(hidden.shape, np.uint8)
    np.put_along_axis(found, largest, 1, axis=1)
    return found


def first(keys: NDArray[Any], count: int) -> NDArray[np.intp]:
    """Indices of the ``count`` smallest keys along the last axis, ascending by (key, index)."""
    return np.argsort(keys, axis=-1, kind="stable")[..., :count]


class Centroids(NamedTuple):
    """Cluster j's centroid is ``sums[:, j] / members``."""

    sums: Real
    """``[tokens, clusters]``, integers between 0 and ``members``"""
    members: int


def distances(marked: Marks, centroids: Centroids, kind: str) -> Real:
    """Of every neuron to every centroid, ``[neurons, clusters]``, times ``members`` (l2_squared: times its square).

    ``l1``          ``sum |A - C|`` over tokens
    ``l2``          the root of ``l2_squared``
    ``l2_squared``  ``sum (A - C)^2``

    A mark is 0 or 1 and a centroid in between, so that each is a sum over all tokens and a correction where there is a
    mark: one product of matrices, exact in float64 while ``tokens * members^2`` is below 2^53.
    """
    a, s, m = marked.T.astype(np.float64), centroids.sums, centroids.members
    if kind == "l1":
        return s.sum(axis=0) + a @ (m - 2 * s)
    squared = np.square(s).sum(axis=0) + a @ (m * m - 2 * m * s)
    return np.sqrt(squared) if kind == "l2" else squared


class Clusters(NamedTuple):
    """What was found; neurons are columns of the marks."""

    members: Int
    """``[clusters, size]``, ascending in each cluster"""
    representatives: Int
    """``[clusters]``, one of the members each: the nearest to the centroid"""
    cost: float
    """of the last assignment: the distances summed, in the unit of :func:`distances`"""


def cluster(marked: Marks, count: int, distance: str, iterations: int) -> Clusters:
    """``count`` clusters of equal size whose members were marked by the same tokens.

    Centroids begin as the ``count`` neurons that were marked most. Neurons are then assigned so that the sum of
    distances is the smallest that clusters of equal size allow; each centroid becomes its members' mean, and so on,
    ``iterations`` times or until no neuron moves.

    Needs the package ``lap`` (Jonker and Volgenant's algorithm): other solvers reach the same cost, with other members
    where several assignments cost the same. ``marked`` must have a multiple of ``count`` columns.
    """
    seeds = first(-marked.sum(axis=0, dtype=np.int64), count)
    centroids = Centroids(marked[:, seeds].astype(np.float64), 1)
    members, cost = None, 0.0
    for _ in range(iterations):
        new, cost = assign(distances(marked, centroids, distance))
        if members is not None and np.array_equal(new, members):
            break
        members, centroids = new, _means(marked, new)
    assert members is not None  # iterations >= 1
    own = distances(marked, centroids, distance)
    nearest = [group[np.argmin(own[group, j])] for j, group in enumerate(members)]
    return Clusters(members, np.array(nearest, np.int64), cost)


def assign(distance: Real) -> tuple[Int, float]:
    """Clusters of equal size with the smallest sum of ``distance [n, clusters]``: members ``[clusters, size]`` and that
    sum. Each cluster stands for ``size`` columns of a square assignment problem."""
    from lap import lapjv

    size = len(distance) // distance.shape[1]
    cost, column, _ = lapjv(np.repeat(distance, size, axis=1))
    order = np.argsort(column // size, kind="stable")
    return order.reshape(-1, size).astype(np.int64), float(cost)


def _means(marked: Marks, members: Int) -> Centroids:
    sums = [marked[:, group].sum(axis=1, dtype=np.int64) for group in members]
    return Centroids(np.stack(sums, axis=1).astype(np.float64), members.shape[1])
