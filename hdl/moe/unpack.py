"""Weights as memory has them become operands of the engine: narrow codes are told apart, shared parameters repeated."""

from typing import Any

from amaranth.hdl import Array, C, Cat, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from golden.moe.precision import BITS, ENTRIES, KINDS, SHARES
from hdl.arith.bits import named


def tile_layout(steps: int) -> data.StructLayout:
    """What is to be known of a tile of at most so many ``steps``: its length, and what its codes are."""
    return data.StructLayout({"steps": steps.bit_length(), "bits": 2, "kind": 2, "codebook": 8 * ENTRIES})


class Unpack(wiring.Component):
    """Codes of 2, 3, 4 or 8 bits to INT8 operands, column by column.

    ::

        i --> byte of each column, at hand .--> shift by the position --> code --> sign, or codebook --> o
                  `--- the next byte ------'

    Latency     2 cycles from a tile's first beat to its first step.
    Throughput  one step per cycle; tiles follow one another without a gap.

    Parameters
    ----------
    cols : columns; steps : most of a tile.

    Members
    -------
    tile : In(stream of tiles, in order); i : In(stream of a byte per column), refused without a tile, but for the one
    that is taken with a tile's last step; valid : Out(1), o : Out, an operand per column: there must be room for it.
    """

    kind = "unpack"

    def __init__(self, cols: int, steps: int):
        self.cols = cols
        self.shape = tile_layout(steps)
        super().__init__(
            {
                "tile": In(stream.Signature(self.shape)),
                "i": In(stream.Signature(8 * cols)),
                "valid": Out(1),
                "o": Out(8 * cols),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        tile = Signal(self.shape)
        left = Signal(self.shape["steps"].shape)
        busy = Signal()
        take = Signal()
        last = named(m, left == 1, "last")
        free = named(m, ~busy | (take & last), "free")
        m.d.comb += self.tile.ready.eq(free)
        with m.If(take):
            m.d.sync += left.eq(left - 1)
        with m.If(free):
            m.d.sync += [tile.eq(self.tile.payload), left.eq(self.tile.payload.steps), busy.eq(self.tile.valid)]
        self._operands(m, tile, take, *self._bytes(m, tile, busy, take))
        return m

    def _bytes(self, m: Module, tile: Any, busy: Signal, take: Signal) -> tuple[Signal, Signal]:
        """Shared control of all columns. Returns the bytes at hand, and where in each the next code begins."""
        there = Signal()
        position = Signal(3)
        at_hand = Signal(8 * self.cols)
        after = named(m, position + Array(C(bits, 4) for bits in BITS)[tile.bits], "after")
        m.d.comb += [
            # a code of three bits may go on in the next byte
            take.eq(busy & there & ((after <= 8) | self.i.valid)),
            self.i.ready.eq(busy & (~there | (take & (after >= 8)))),
        ]
        with m.If(take):
            m.d.sync += position.eq(after[:3])
            with m.If(after >= 8):
                m.d.sync += there.eq(0)
        with m.If(self.i.valid & self.i.ready):
            m.d.sync += [there.eq(1), at_hand.eq(self.i.payload)]
        return at_hand, position

    def _operands(self, m: Module, tile: Any, take: Signal, at_hand: Signal, position: Signal) -> None:
        m.d.sync += self.valid.eq(take)
        for column in range(self.cols):
            part = slice(8 * column, 8 * column + 8)
            code = named(m, (Cat(at_hand[part], self.i.payload[part]) >> position)[:8], f"code_{column}")
            operand = Array(self._operand(code[:bits], tile) for bits in BITS)[tile.bits]
            m.d.sync += self.o[part].eq(operand)

    def _operand(self, code: Value, tile: Any) -> Value:
        missing = 8 - len(code)
        signed = Cat(code, code[-1].replicate(missing))
        if not missing:
            return signed
        entries = Array(tile.codebook.word_select(n, 8) for n in range(1 << len(code)))
        lookup = tile.kind == KINDS.index("lookup")
        plain = Mux(tile.kind == KINDS.index("signed"), signed, Cat(code, C(0, missing)))
        return Mux(lookup, entries[code], plain)


class Spread(wiring.Component):
    """A beat of parameters for each of ``2**share`` groups, or for what is left of the tile.

    Throughput  one group per cycle, without latency.

    Parameters
    ----------
    width : of a beat; groups : most of a tile.

    Members
    -------
    tile : In(stream of groups and share, in order); i : In(stream of beats), refused while no tile needs it; o :
    Out(stream of beats, one per group).
    """

    kind = "spread"

    def __init__(self, width: int, groups: int):
        self.shape = data.StructLayout({"groups": groups.bit_length(), "share": 3})
        super().__init__(
            {
                "tile": In(stream.Signature(self.shape)),
                "i": In(stream.Signature(width)),
                "o": Out(stream.Signature(width)),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        left = Signal(self.shape["groups"].shape)
        same = Signal(SHARES - 1)  # groups that the beat has served
        tile = self.tile.payload
        busy = Signal()
        share = Signal(3)
        take = named(m, self.o.valid & self.o.ready, "take")
        last = named(m, left == 1, "last")
        full = named(m, same + 1 == (1 << share), "full")
        free = named(m, ~busy | (take & last), "free")
        m.d.comb += [
            self.o.payload.eq(self.i.payload),
            self.o.valid.eq(self.i.valid & busy),
            self.i.ready.eq(take & (full | last)),
            self.tile.ready.eq(free),
        ]
        with m.If(take):
            m.d.sync += [left.eq(left - 1), same.eq(Mux(full | last, 0, same + 1))]
        with m.If(free):
            m.d.sync += [left.eq(tile.groups), share.eq(tile.share), busy.eq(self.tile.valid)]
        return m
