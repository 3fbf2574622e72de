"""What is proved of the experts' weights on their way in: codes to operands, shared parameters to each group."""

from functools import partial
from typing import Any

from amaranth.hdl import Array, Assert, Assume, C, Cat, Module, Mux, Signal

from golden.moe.precision import BITS
from hdl.moe.unpack import Spread, Unpack
from tb.formal import Claim, Property
from tb.formal.dispatch import wire


class Unpacked(Property):
    """One column; tiles of any multiple of 8 steps and any format, bytes at any time. Bits that have come and have not
    been used are kept in a word; a code is its lowest bits."""

    def __init__(self, dut: Unpack):
        super().__init__()
        self.dut = dut
        self.inputs += [dut.tile.valid, dut.tile.payload.as_value(), dut.i.valid, dut.i.payload]

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.dut = dut = self.dut
        given, came = dut.tile.payload, wire(m, dut.i.valid & dut.i.ready, "came")
        tile, left = Signal(dut.shape, name="their_tile"), Signal.like(given.steps, name="their_left")
        bits, number = Signal(16, name="their_bits"), Signal(5, name="their_number")
        width = wire(m, Array(C(b, 4) for b in BITS)[tile.bits], "their_width")
        take = wire(m, left.any() & number.any() & (number + Mux(dut.i.valid, 8, 0) >= width), "their_take")
        known = wire(m, (bits | Mux(came, dut.i.payload << number, 0))[:16], "known")
        m.d.sync += [
            bits.eq(Mux(take, known >> width, known)),
            number.eq(number + Mux(came, 8, 0) - Mux(take, width, 0)),
            left.eq(left - take),
        ]
        with m.If(dut.tile.valid & dut.tile.ready):
            m.d.sync += [tile.eq(given), left.eq(given.steps)]
        m.d.comb += [
            Assume(given.steps.any() & ~given.steps[:3].any()),
            Assume((given.bits != BITS.index(8)) | (given.kind == 1)),
            # nothing comes without a tile, and a tile stays until it is through
            Assert(~came | left.any()),
            Assert(~(dut.tile.valid & dut.tile.ready) | ~left.any() | ((left == 1) & take)),
        ]
        self._operand(m, tile, known, width, take)
        self._relate(m, tile, left, bits, number, width)
        return m

    def _operand(self, m: Module, tile: Any, known: Signal, width: Signal, take: Signal) -> None:
        """One cycle later, by the definition: sign extended, as it is, or from the codebook."""
        code = wire(m, known & ((1 << width) - 1), "their_code")[:8]
        sign = (code >> (width - 1)[:3])[0]
        signed = (code | Mux(sign, ~((1 << width) - 1), 0))[:8]
        entry = Array(tile.codebook.word_select(n, 8) for n in range(16))[code[:4]]
        wanted, there = Signal(8, name="wanted"), Signal(name="wanted_there")
        m.d.sync += [wanted.eq(Mux(tile.kind == 2, entry, Mux(tile.kind == 1, signed, code))), there.eq(take)]
        m.d.comb += [Assert(self.dut.valid == there), Assert(~there | (self.dut.o == wanted))]

    def _relate(self, m: Module, tile: Any, left: Signal, bits: Signal, number: Signal, width: Signal) -> None:
        """The unit's state in terms of that word, for the induction."""
        there, position = self.probe("dut.there"), self.probe("dut.position", 3)
        left_bits = wire(m, (left * width)[:3], "left_bits")  # of the last byte
        m.d.comb += [
            Assert(self.probe("dut.busy") == left.any()),
            Assert(~left.any() | (self.probe("dut.left", len(left)) == left)),
            Assert(~left.any() | (self.probe("dut.tile", len(Cat(tile))) == tile.as_value())),
            Assert(number == Mux(there, 8 - position, 0)),
            Assert(~there | (bits == (self.probe("dut.at_hand", 8) >> position))),
            Assert(there | ~bits.any()),
            Assert((position + left_bits)[:3] == 0),
            Assert(~left.any() | (tile.bits != BITS.index(8)) | (tile.kind == 1)),
        ]


class Spreads(Property):
    """Tiles and beats at any time: group g of a tile has its beat ``g >> share``."""

    def __init__(self, dut: Spread):
        super().__init__()
        self.dut = dut
        self.inputs += [dut.tile.valid, dut.tile.payload.as_value(), dut.i.valid, dut.i.payload, dut.o.ready]

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.dut = dut = self.dut
        given = dut.tile.payload
        groups, share = Signal.like(given.groups, name="their_groups"), Signal(3, name="their_share")
        group, beats = Signal.like(given.groups, name="their_group"), Signal.like(given.groups, name="their_beats")
        active = wire(m, group < groups, "active")
        out, came = wire(m, dut.o.valid & dut.o.ready, "out"), wire(m, dut.i.valid & dut.i.ready, "came")
        m.d.sync += [group.eq(group + out), beats.eq(beats + came)]
        with m.If(dut.tile.valid & dut.tile.ready):
            m.d.sync += [groups.eq(given.groups), share.eq(given.share), group.eq(0), beats.eq(0)]
        ends = wire(m, ((group + 1) >> share) != (group >> share), "ends")
        m.d.comb += [
            Assume(given.groups.any()),
            Assert(dut.o.valid == (dut.i.valid & active)),
            Assert(dut.o.payload == dut.i.payload),
            Assert(~active | (beats == (group >> share))),
            Assert(came == (out & (ends | (group + 1 == groups)))),
            Assert(~(dut.tile.valid & dut.tile.ready) | ~active | (out & (group + 1 == groups))),
            # the unit's state, for the induction
            Assert(self.probe("dut.busy") == active),
            Assert(~active | (self.probe("dut.left", len(groups)) == groups - group)),
            Assert(~active | (self.probe("dut.share", 3) == share)),
            Assert(self.probe("dut.same", 7) == Mux(active, group & ((1 << share) - 1), 0)),
        ]
        return m


CODES = "codes of 2, 3, 4 and 8 bits become their operands, one by one, and a tile takes its own bytes"
PARAMETERS = "each group has the parameters that it shares, and a tile takes its own beats"


def _unpacked(steps: int) -> Unpacked:
    return Unpacked(Unpack(1, steps))


def _spreads(groups: int) -> Spreads:
    return Spreads(Spread(2, groups))


CLAIMS = (
    *(Claim("expert_ffn", CODES, f"a column, tiles of up to {n} steps", partial(_unpacked, n)) for n in (16, 56)),
    *(Claim("expert_ffn", PARAMETERS, f"up to {n} groups", partial(_spreads, n)) for n in (7, 18)),
)
