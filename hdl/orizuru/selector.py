"""What stands between loader and popper: every variant is a selector."""

from typing import Any

from amaranth.hdl import Module, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from golden.orizuru.engine import OrizuruSpec
from hdl.orizuru.shape import Shape


class Selector(wiring.Component):
    """Keeps a vector's keys and offers, per side, the next result; subclasses differ in how, and in when.

    A vector is written, then swapped in: from then on its winners are offered, and the next one is written, maybe in
    that very cycle. A winner stays until it is taken, which it is only while it is valid. Of ``results`` in all the
    first tree gives ``ceil(results / trees)``, the other one the rest; behind them anything may be offered, but never a
    key of the vector that is being written. What is taken in the cycle of a swap is of the vector that goes.

    Members
    -------
    write : In(1), with row : In(place of the beat), slots : In(its keys), last : In(1, the last one of the vector);
    hold : Out(1), no beat may be written; ready : Out(1), the vector that is written may be swapped in;
    swap : In(1), it is, with results : In(how many are wanted in all); take : In(1 per tree), the winner is gone;
    winners : Out(the winner of each tree): the word as :func:`hdl.orizuru.keys.encode` made it, and as index the lane,
    with the row above it.
    """

    def __init__(self, spec: OrizuruSpec):
        self.spec = spec
        self.shape = shape = Shape.of(spec)
        super().__init__(
            {
                "write": In(1),
                "row": In(range(max(2, spec.rows))),
                "slots": In(data.ArrayLayout(shape.slot, spec.lanes)),
                "last": In(1),
                "hold": Out(1),
                "ready": Out(1),
                "swap": In(1),
                "results": In(range(2 * spec.k_max + 1)),
                "take": In(spec.trees),
                "winners": Out(data.ArrayLayout(shape.winner(spec.depth), spec.trees)),
            }
        )

    def numbered(self, m: Module) -> list[Any]:
        """The beat's keys with their index, as winners are."""
        keys = []
        for lane in range(self.spec.lanes):
            key = Signal(self.shape.winner(self.spec.depth), name=f"key_{lane}")
            m.d.comb += [
                key.word.eq(self.slots[lane].word),
                key.valid.eq(self.slots[lane].valid),
                key.index.eq(lane | self.row << self.shape.lane_bits),
            ]
            keys.append(key)
        return keys
