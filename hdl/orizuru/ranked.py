"""Lists of keys by rank."""

from collections.abc import Sequence
from typing import Any

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hdl.orizuru.shape import Shape
from hdl.shared import Shared


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


class Ranked(wiring.Component):
    """A list that is handed out, the first place first.

    Members
    -------
    places : In(keys by rank); swap : In(1), they are the list; take : In(1), the first is gone; winner : Out.
    """

    kind = "ranked"

    def __init__(self, shape: Shape, size: int):
        key = shape.winner(shape.depth)
        super().__init__({"places": In(data.ArrayLayout(key, size)), "swap": In(1), "take": In(1), "winner": Out(key)})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        held = Signal(self.places.shape(), reset_less=True)
        with m.If(self.swap):
            m.d.sync += held.eq(self.places)
        with m.Elif(self.take):
            m.d.sync += held.eq(held.as_value() >> len(self.winner.as_value()))
        m.d.comb += self.winner.eq(held[0])
        return m


def hand_out(m: Module, shape: Shape, places: Sequence[Place], owner: Any) -> None:
    """Places a :class:`Ranked` for the list that ``owner`` keeps, on its ``swap``, ``take`` and ``winner``."""
    m.submodules.ranked = ranked = Shared(Ranked, shape, len(places))
    m.d.comb += [
        *(listed.eq(place.key) for listed, place in zip(ranked.places, places, strict=True)),
        ranked.swap.eq(owner.swap),
        ranked.take.eq(owner.take),
        owner.winner.eq(ranked.winner),
    ]
