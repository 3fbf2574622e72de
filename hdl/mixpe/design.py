"""What the baselines have in common: how a design is split between the edge of an array and its cells."""

from amaranth.hdl import Module, Value
from amaranth.lib import data

from golden.mixpe.baseline import BaselineSpec


class Design:
    """What a baseline computes, split where the array is: ``operands`` and ``result`` stand at its edge, once per row
    and column, ``product`` and ``add`` in every cell.

    ``x_width`` and ``w_width``: operands that travel; ``sum_width``: the accumulator. All three are bits in which a
    word of zeros is a zero.
    """

    x_width: int
    w_width: int
    sum_width: int

    def __init__(self, spec: BaselineSpec):
        self.spec = spec

    def operands(self, m: Module, beat: data.View) -> tuple[Value, Value]:
        """The operands that travel, of a beat of the stream."""
        raise NotImplementedError

    def product(self, m: Module, x: Value, w: Value) -> Value:
        """What is added; with ``stages`` = 3 it comes a cycle later."""
        raise NotImplementedError

    def add(self, m: Module, acc: Value, product: Value) -> Value:
        """The accumulator's next value."""
        raise NotImplementedError

    def result(self, total: Value) -> Value:
        """The sum as it leaves the unit."""
        raise NotImplementedError
