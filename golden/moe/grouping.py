"""Batches of any length sorted by expert, as production systems run them: sort, compute expert by expert, put back.

What :class:`golden.moe.dispatch.DispatchSpec` is in hardware, for thousands of tokens, with the published conventions
(arXiv 2211.10017 and its code): a finished row has the expert number ``experts``, one beyond the last, so that it is
sorted behind all others and computed by none; offsets are inclusive.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from golden.moe.ffn import Int, Real
from golden.spec import SpecError


class Groups(NamedTuple):
    """The rows of a batch, a row being a token at one of its experts, expert after expert."""

    token: Int
    """``[rows]``: ascending within an expert"""
    slot: Int
    """``[rows]``: which of the token's experts it is"""
    ends: Int
    """``[experts]``: rows of this expert and all before it (published: ``total_rows_before_expert``)"""
    tokens: int
    slots: int

    @property
    def first(self) -> Int:
        """``[experts]``: rows of all experts before, as ``dispatch`` counts."""
        return np.concatenate([np.zeros(1, np.int64), self.ends[:-1]])

    @property
    def counts(self) -> Int:
        """``[experts]``"""
        return self.ends - self.first


def group(expert: Int, experts: int, finished: NDArray[np.bool_] | None = None) -> Groups:
    """Rows of tokens with the experts ``expert [T, slots]``; those of ``finished [T]`` tokens are none.

    A stable sort: rows of an expert are in the order of their tokens. (The published code has slot after slot there,
    which makes another order only where a token has several experts.) Raises :class:`~golden.spec.SpecError` for an
    expert number that is none, and for other shapes.
    """
    if expert.ndim != 2:
        raise SpecError(f"expert must have shape [tokens, slots], not {list(expert.shape)}")
    tokens, slots = expert.shape
    if finished is not None and finished.shape != (tokens,):
        raise SpecError(f"finished must have shape [{tokens}], not {list(finished.shape)}")
    if expert.size and not 0 <= expert.min() <= expert.max() < experts:
        raise SpecError(f"expert numbers must be between 0 and {experts - 1}, not {expert.min()} to {expert.max()}")
    rows = expert if finished is None else np.where(finished[:, None], experts, expert)
    order = np.argsort(rows, axis=None, kind="stable")
    ends = np.searchsorted(rows.ravel()[order], np.arange(experts), side="right")
    token, slot = np.divmod(order[: ends[-1]], slots)
    return Groups(token, slot, ends, tokens, slots)


def compute(groups: Groups, x: Real, networks: Sequence[Callable[[Real], Real]]) -> Real:
    """``[rows, d]``: each expert's network of its tokens among ``x [T, d]``, in one piece; experts without rows are not
    called."""
    y = np.zeros_like(x, shape=(len(groups.token), x.shape[1]))
    for network, first, end in zip(networks, groups.first, groups.ends, strict=True):
        if end > first:
            y[first:end] = network(x[groups.token[first:end]])
    return y


def put_back(groups: Groups, rows: Real) -> Real:
    """``[T, slots, d]`` of ``rows [rows, d]``: where they came from; 0 for finished tokens."""
    y = np.zeros_like(rows, shape=(groups.tokens, groups.slots, rows.shape[1]))
    y[groups.token, groups.slot] = rows
    return y


def combine(groups: Groups, rows: Real, weights: Real) -> Real:
    """``[T, d]``: the sum of each token's rows times their ``weights [T, slots]``, slot after slot; 0 for finished
    tokens."""
    apart = put_back(groups, rows)
    y = np.zeros_like(apart[:, 0])
    for slot in range(groups.slots):
        y += weights[:, slot, None] * apart[:, slot]
    return y
