"""Width converters: several items to one beat, and back.

With ``last`` the payloads on both sides are structs of ``data`` and ``last``, without it they are the data alone.
"""

from typing import Any

from amaranth.hdl import C, Cat, Module, Mux, Shape, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from golden.spec import SpecError


class _Converter(wiring.Component):
    """The ports of both directions: ``narrow`` and ``wide`` are the streams of items and of beats."""

    latency = 1

    def __init__(self, shape: Any, ratio: int, last: bool, narrow: str, wide: str):
        if ratio < 1:
            raise SpecError(f"ratio must be at least 1, not {ratio}")
        self.shape = shape
        self.ratio = ratio
        self.last = last
        shapes = {narrow: shape, wide: data.ArrayLayout(shape, ratio)}
        if last:
            shapes = {name: data.StructLayout({"data": s, "last": 1}) for name, s in shapes.items()}
        super().__init__({"i": In(stream.Signature(shapes["i"])), "o": Out(stream.Signature(shapes["o"]))})

    def _parts(self, payload: Any) -> tuple[Value, Value]:
        """Data bits and last of a payload; a stream without ``last`` never ends."""
        return (Value.cast(payload.data), payload.last) if self.last else (Value.cast(payload), C(0, 1))

    def _registers(self) -> list[Signal]:
        """One register per item of a beat."""
        width = Shape.cast(self.shape).width
        return [Signal(width, name=f"held_{k}", reset_less=True) for k in range(self.ratio)]


class Widen(_Converter):
    """Collects ``ratio`` items to one beat, an array with the first item in the low bits.

    With ``last``, an item that carries it ends its beat early: the missing items are 0, and the beat carries ``last``.

    Latency     1 cycle from the item that completes a beat to the beat.
    Throughput  one item per cycle while each beat is taken at once; ``i`` is refused only while a beat waits at ``o``,
                by way of ``o.ready`` without a register between.

    ``SpecError`` if ``ratio`` is less than 1.

    Members
    -------
    i : In(stream of shape, or of (data: shape, last: 1)).
    o : Out(stream of ArrayLayout(shape, ratio), or of (data: the array, last: 1)).
    """

    kind = "widen"

    def __init__(self, shape: Any, ratio: int, last: bool = False):
        super().__init__(shape, ratio, last, narrow="i", wide="o")

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        item, item_last = self._parts(self.i.payload)
        beat, beat_last = self._parts(self.o.payload)
        held = self._registers()
        slot = Signal(self.ratio, init=1)  # one-hot: where the next item goes
        ends = slot[-1] | item_last

        m.d.comb += [self.i.ready.eq(~self.o.valid | self.o.ready), beat.eq(Cat(held))]
        with m.If(self.i.ready):
            m.d.sync += self.o.valid.eq(self.i.valid & ends)
            with m.If(self.i.valid):
                m.d.sync += slot.eq(Mux(ends, 1, slot.rotate_left(1)))
                for k in range(self.ratio):
                    with m.If(slot[k]):
                        m.d.sync += held[k].eq(item)
                    if self.last:
                        with m.Elif(slot[0]):
                            m.d.sync += held[k].eq(0)
        if self.last:
            ended = Signal(reset_less=True)
            m.d.comb += beat_last.eq(ended)
            with m.If(self.i.ready):
                m.d.sync += ended.eq(item_last)
        return m


class Narrow(_Converter):
    """Hands out the ``ratio`` items of a beat one by one, the low bits first: the inverse of :class:`Widen`.

    With ``last``, the final item of a beat that carries it carries it.

    Latency     1 cycle from an accepted beat to its first item.
    Throughput  one item per cycle without a gap between beats; the next beat is accepted with the departure of the
                final item, by way of ``o.ready`` without a register between.

    ``SpecError`` if ``ratio`` is less than 1.

    Members
    -------
    i : In(stream of ArrayLayout(shape, ratio), or of (data: the array, last: 1)).
    o : Out(stream of shape, or of (data: shape, last: 1)).
    """

    kind = "narrow"

    def __init__(self, shape: Any, ratio: int, last: bool = False):
        super().__init__(shape, ratio, last, narrow="o", wide="i")

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        beat, beat_last = self._parts(self.i.payload)
        item, item_last = self._parts(self.o.payload)
        held = self._registers()
        slot = Signal(self.ratio, init=1)  # one-hot: which item of the beat stands at o
        leaves = self.o.valid & self.o.ready

        m.d.comb += [self.i.ready.eq(~self.o.valid | (self.o.ready & slot[-1])), item.eq(held[0])]
        with m.If(leaves):
            m.d.sync += [slot.eq(slot.rotate_left(1)), *(held[k].eq(held[k + 1]) for k in range(self.ratio - 1))]
        with m.If(self.i.ready):
            m.d.sync += [self.o.valid.eq(self.i.valid), Cat(held).eq(beat)]
        if self.last:
            ended = Signal(reset_less=True)
            m.d.comb += item_last.eq(ended & slot[-1])
            with m.If(self.i.ready):
                m.d.sync += ended.eq(beat_last)
        return m
