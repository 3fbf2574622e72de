"""Which routed experts a token uses: scores of representatives, selection, and the balance of their load.

a_j = gate[R_j] x,  e_j = up[R_j] x         R_j: the representative of expert j; over the lengths of the rows (unit)
v_j = |silu(a_j) * e_j|                     or with its sign
p_j = softmax(v)_j                          or v_j itself
key_j = p_j + bias_j                        ranks: largest key first, ties to the lower expert
w_j = 1 + p_j * scale_j                     what the expert's result counts
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from golden.llama.forward import silu
from golden.moe.clusters import first
from golden.moe.ffn import Ffn, Int, Real
from golden.moe.spec import ConversionSpec

Mask = NDArray[np.bool_]


class Routing(NamedTuple):
    """Of T tokens to the routed experts."""

    chosen: Mask
    """``[T, routed]``"""
    weights: Real
    """``[T, routed]``: of the chosen ones, 0 of others"""
    order: Int
    """``[T, routed]``: experts by rank; with ``topk`` the first ``active`` are the chosen ones, best first"""


def scores(x: Real, representatives: Ffn, spec: ConversionSpec) -> Real:
    """v, ``[T, routed]``, of tokens ``x [T, d]`` as they are."""
    a, e = representatives.sums(x, unit=spec.rows == "unit")
    v = silu(a) * e
    return np.abs(v) if spec.score == "abs" else v


def route(
    v: Real, spec: ConversionSpec, threshold: float, bias: Real | float = 0.0, scale: Real | float = 0.0
) -> Routing:
    """Selection by scores ``v [T, routed]``; ``bias`` and ``scale``, ``[routed]``, are what training may have left.

    ``topk``        the ``active`` first by rank
    ``threshold``   those with ``v_j >= threshold``; of these no more than the ``most`` first by rank, and never fewer
                    than the ``least`` first
    """
    p = softmax(v) if spec.softmax else v
    order = first(-(p + bias), spec.routed)
    rank = np.argsort(order, axis=1)  # of permutations: no ties
    if spec.selection == "topk":
        chosen = rank < spec.active
    else:
        chosen = ((v >= threshold) & (rank < spec.most)) | (rank < spec.least)
    return Routing(chosen, np.where(chosen, 1 + p * scale, 0), order.astype(np.int64))


def softmax(v: Real) -> Real:
    """Over the last axis."""
    p: Real = np.exp(v - v.max(axis=-1, keepdims=True))
    return p / p.sum(axis=-1, keepdims=True)


def threshold(v: Real, active: int) -> float:
    """What ``active`` experts of a token reach on average: the ``active * T``-th largest of all scores
    ``v [T, routed]``. More reach it where scores tie."""
    falling = np.sort(v, axis=None)[::-1]
    return float(falling[active * len(v) - 1])


def balanced(bias: Real, chosen: Mask, step: float) -> Real:
    """Biases after a batch: less by ``step`` for experts that more tokens chose than the mean, more by it for those
    that fewer chose, as they were at the mean. Counts are compared as integers."""
    counts = chosen.sum(axis=0, dtype=np.int64)
    return bias - step * np.sign(counts * chosen.shape[1] - counts.sum())
