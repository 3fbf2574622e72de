"""A SwiGLU feed-forward network, real-valued, and parts of it."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from golden.llama.forward import silu

Real = NDArray[np.floating[Any]]
Int = NDArray[np.int64]

SMALLEST = 1e-12
"""Vectors are divided by their length or by this, so that zero stays zero."""


@dataclass(frozen=True, eq=False)
class Ffn:
    """``y = down (silu(gate x + gate_bias) * (up x + up_bias)) + down_bias``; a neuron is a row of gate and of up and a
    column of down. ``x [T, d]``, results ``[T, d]``, in the arithmetic of the arrays."""

    gate: Real
    """``[dh, d]``"""
    up: Real
    """``[dh, d]``"""
    down: Real
    """``[d, dh]``"""
    gate_bias: Real | float = 0.0
    """``[dh]``, or one number for all"""
    up_bias: Real | float = 0.0
    down_bias: Real | float = 0.0
    """``[d]``"""

    @property
    def neurons(self) -> int:
        """dh."""
        return len(self.gate)

    def part(self, neurons: Int, last: bool = True) -> "Ffn":
        """The network of those neurons, in that order. Parts that cover a network add up to it if one of them,
        ``last``, adds the bias of the down matrix."""
        return Ffn(
            self.gate[neurons],
            self.up[neurons],
            self.down[:, neurons],
            np.broadcast_to(self.gate_bias, self.neurons)[neurons],
            np.broadcast_to(self.up_bias, self.neurons)[neurons],
            self.down_bias if last else 0.0,
        )

    def sums(self, x: Real, unit: bool = False) -> tuple[Real, Real]:
        """``gate x + gate_bias`` and ``up x + up_bias``, ``[T, dh]`` each; ``unit``: over the length of the row."""
        a, e = x @ self.gate.T + self.gate_bias, x @ self.up.T + self.up_bias
        return (a / lengths(self.gate), e / lengths(self.up)) if unit else (a, e)

    def hidden(self, x: Real) -> Real:
        """``silu(...) * (...)``, ``[T, dh]``."""
        a, e = self.sums(x)
        return silu(a) * e

    def __call__(self, x: Real) -> Real:
        y: Real = self.hidden(x) @ self.down.T + self.down_bias
        return y


def lengths(rows: Real) -> Real:
    """Euclidean length of each row, :data:`SMALLEST` at least, in float64."""
    squared = np.square(rows, dtype=np.float64).sum(axis=1)
    return np.maximum(np.sqrt(squared), SMALLEST)
