"""What stands between loader and popper: every variant is a selector."""

from typing import Any

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from golden.orizuru.engine import OrizuruSpec
from hdl.orizuru.shape import Shape


class Place:
    """A key in a register; only its valid bit is reset. ``key`` is what it holds."""

    def __init__(self, m: Module, shape: Any, name: str):
        self.key = Signal(shape, name=name)
        self.valid = Signal(name=f"{name}_valid")
        self.held = Signal(len(self.key.as_value()) - 1, name=f"{name}_held", reset_less=True)
        m.d.comb += [Cat(self.key.word, self.key.index).eq(self.held), self.key.valid.eq(self.valid)]

    def eq(self, key: Any) -> list[Any]:
        """Assignments, as :meth:`Signal.eq` has one."""
        return [self.held.eq(Cat(key.word, key.index)), self.valid.eq(key.valid)]


class Selector(wiring.Component):
    """Keeps a vector's keys and offers, per side, the next result; subclasses differ in how, and in when.

    A vector is written, then exchanged: from then on its winners are offered, and the next one is written. A winner
    stays until it is taken. As many are offered as were asked for; behind them anything.

    Members
    -------
    write : In(1), with row : In(place of the beat), slots : In(its keys), last : In(1, it ends the vector);
    hold : Out(1), no beat may be written; ready : Out(1), the vector that is written may be exchanged;
    swap : In(1), it is, with results : In(how many are wanted in all); take : In(1 per tree), the winner is gone;
    winners : Out(the winner of each tree).
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
                "results": In(range(2 * spec.n + 1)),
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
