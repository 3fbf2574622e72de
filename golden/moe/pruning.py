"""When the rows of a batch leave, some of whose tokens are finished: what ``moe_ffn`` takes with ``pruning``.

Finished tokens are dropped where they come in; the layer computes a batch of the others, which begins with the first of
them, and its results wait their turn among rows of zeros.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Int = NDArray[np.int64]
Live = NDArray[np.bool_]


class Sent(NamedTuple):
    """Of a batch, in cycles: when its last row leaves, and when the layer has handed on its last result, which may be
    before, as two beats of results have room behind it (0 without live tokens)."""

    last: int
    computed: int


def begins(live: Live, beats: int) -> int:
    """Cycles from the batch's beginning to the layer's: with the first live token's first beat, of ``beats`` each."""
    return 1 + beats * int(live.argmax())


def sent(live: Live, filled: int, first: int, row: int) -> Sent:
    """Rows of ``row`` beats each. Zeros may leave from cycle ``filled`` on; the layer's first result from ``first`` on,
    the others right behind it."""
    ends = filled - 1 + row * np.arange(1, len(live) + 1)  # of each row, if all were zeros
    if not live.any():
        return Sent(int(ends[-1]), 0)
    ahead = int(live.argmax())
    ends[ahead:] += max(0, first - filled - row * ahead)
    leaves = (ends[live, None] - np.arange(row)[::-1]).ravel()  # of each result
    computed = first - 1 + len(leaves) - 1
    if len(leaves) > 2:
        computed = max(computed, int(leaves[-3]) + 1)
    return Sent(int(ends[-1]), computed)
