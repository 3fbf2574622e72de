"""Scores by more than one neuron of an expert: a few combinations of its rows, those that say most of its sums.

    v_j = |P_j x| |Q_j x|        P_j [rank, d]: rows of gate, combined; Q_j likewise of up; |.| Euclidean

P_j is ``U^T gate_j``, U the ``rank`` leading right singular vectors of the expert's sums ``gate_j x`` over calibration
tokens: of all combinations so many they keep most of the sums' squares. At full rank, v_j is the product of the two
vectors' lengths. Per token and routed expert that is ``2 rank d`` products, where a representative takes ``2 d``.
"""

from typing import NamedTuple

import numpy as np

from golden.moe.convert import Conversion
from golden.moe.ffn import Ffn, Real
from golden.spec import SpecError


class Projections(NamedTuple):
    """Of all routed experts, ``[routed, rank, d]`` each."""

    gate: Real
    up: Real


def learn(x: Real, ffn: Ffn, conversion: Conversion, rank: int) -> Projections:
    """From calibration tokens ``x [q, d]``; float64. Biases play no part.

    Raises :class:`~golden.spec.SpecError` for a rank below 1 or above an expert's neurons.
    """
    check(rank, conversion.size)
    x = x.astype(np.float64)
    gate, up = (
        np.stack([_leading(x, rows[neurons], rank) for neurons in conversion.experts]) for rows in (ffn.gate, ffn.up)
    )
    return Projections(gate, up)


def check(rank: int, size: int) -> None:
    """Raises :class:`~golden.spec.SpecError` where :func:`learn` would, for experts of ``size`` neurons."""
    if not 1 <= rank <= size:
        raise SpecError(f"rank must be an integer between 1 and {size}, the neurons of an expert, not {rank}")


def scores(x: Real, projections: Projections) -> Real:
    """v, ``[T, routed]``, of tokens ``x [T, d]``."""
    gate, up = (_lengths(x, p) for p in projections)
    return gate * up


def _leading(x: Real, rows: Real, rank: int) -> Real:
    sums = x @ rows.T
    _, vectors = np.linalg.eigh(sums.T @ sums)  # ascending
    combined: Real = vectors[:, -rank:].T @ rows
    return combined


def _lengths(x: Real, projection: Real) -> Real:
    routed, rank, width = projection.shape
    sums = (x @ projection.reshape(-1, width).T).reshape(len(x), routed, rank)
    length: Real = np.sqrt(np.square(sums).sum(axis=2))
    return length
