"""The first of many keys."""

from typing import Any

from amaranth.hdl import C, Cat, Module, Mux, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hdl.arith.bits import named


class First(wiring.Component):
    """The first of ``size`` keys that is there, or with ``backwards`` the last; by a tree of two-way choices.

    Members
    -------
    there : In(1 per key); keys : In(words); take : In(1); one : Out(1 per key), the first, if it is taken;
    winner : Out(word), place : Out(its number), valid : Out(1), there is one.
    """

    kind = "first"

    def __init__(self, word: int, size: int, backwards: bool):
        self.size = size
        self.backwards = backwards
        members = {"there": In(size), "keys": In(data.ArrayLayout(word, size)), "take": In(1), "one": Out(size)}
        members |= {"winner": Out(word), "place": Out(range(max(2, size))), "valid": Out(1)}
        super().__init__(members)

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        valid, winner, place = self._choose(m, 0, self.size, self.take)
        m.d.comb += [self.valid.eq(valid), self.winner.eq(winner), self.place.eq(place)]
        return m

    def _choose(self, m: Module, start: int, size: int, take: Value) -> tuple[Value, Value, Value]:
        """Of ``size`` keys from ``start`` on: whether one is there, the key, its number among them."""
        if size == 1:
            m.d.comb += self.one[start].eq(take)
            return self.there[start], Value.cast(self.keys[start]), C(0, 0)
        half = 1 << ((size - 1).bit_length() - 1)
        take_left, take_right = Signal(name=f"take_{start}_{half}"), Signal(name=f"take_{start + half}_{size - half}")
        left, left_key, left_place = self._choose(m, start, half, take_left)
        right, right_key, right_place = self._choose(m, start + half, size - half, take_right)
        goes_right = named(m, right if self.backwards else ~left, f"right_{start}_{size}")
        key = named(m, Mux(goes_right, right_key, left_key), f"key_{start}_{size}")
        m.d.comb += [take_left.eq(take & ~goes_right), take_right.eq(take & goes_right)]
        place = Cat(Mux(goes_right, right_place, left_place)[: half.bit_length() - 1], goes_right)
        padded = named(m, Cat(place, C(0, half.bit_length() - len(place))), f"place_{start}_{size}")
        return named(m, left | right, f"any_{start}_{size}"), key, padded
