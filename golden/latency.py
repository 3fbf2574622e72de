"""Latencies, in cycles, of the blocks that several units are built from: what a specification needs to know of them.

The blocks themselves are in ``hdl/arith`` and ``hdl/stream``; their tests hold them to these numbers.
"""

ROUND = 3
"""Exact integer to FP32: find the leading one, shift, round."""

MULTIPLY = 1 + ROUND
"""FP32 product."""

ADD = 3 + ROUND
"""FP32 sum: order, align, add, round."""

CONVERT = 2
"""FP32 to a narrower float: shift, round."""

SKID = 1
"""A beat through a skid buffer."""

QUEUE = 1
"""A beat through an empty queue."""

BLOCK_QUEUE = 2
"""A beat through an empty queue in block RAM."""

TREE_LEVELS = 2
"""Additions between two registers of a tree of adders."""


def tree(terms: int) -> int:
    """A sum of so many terms."""
    return -(-(terms - 1).bit_length() // TREE_LEVELS)
