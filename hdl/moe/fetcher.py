"""Which tiles of weights are wanted next."""

from typing import Any

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from golden.moe.expert import ADDRESS_BITS, ExpertFFNSpec
from hdl.arith.bits import index_bits, named


def desc_layout(spec: ExpertFFNSpec) -> data.StructLayout:
    """An expert, as ``desc`` brings it."""
    return data.StructLayout({"up": ADDRESS_BITS, "down": ADDRESS_BITS, "neurons": spec.neurons.bit_length()})


def fetch_layout(spec: ExpertFFNSpec) -> data.StructLayout:
    """A tile, as ``fetch`` asks for it."""
    return data.StructLayout({"address": ADDRESS_BITS, "steps": spec.engine.k_max.bit_length()})


class Fetcher(wiring.Component):
    """Expert after expert, the shared one first: the tiles of its up matrix, then of its down matrix, each as soon as
    there is room for it.

    Members
    -------
    begin : In(1), a batch begins; ready : In(1), the table of experts is there; known : In(1), it is certain whose turn
    it is, or that it is nobody's; none : In(1), nobody's; expert : In, the table's entry; next : Out(1), on to the one
    after it; freed : In(1), a step of weights is free; o : Out(stream of tiles).
    """

    kind = "fetcher"

    def __init__(self, spec: ExpertFFNSpec):
        self.spec = spec
        super().__init__(
            {
                "begin": In(1),
                "ready": In(1),
                "known": In(1),
                "none": In(1),
                "expert": In(desc_layout(spec)),
                "next": Out(1),
                "freed": In(1),
                "o": Out(stream.Signature(fetch_layout(spec))),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        spec = self.spec
        # a ring of parameters has room, too: while it cannot go on it is ahead of the weights
        space = Signal(range(spec.ring + 1), init=spec.ring)
        busy = Signal()
        down = Signal()
        tile = Signal(index_bits(spec.most_tiles))
        offset = Signal(ADDRESS_BITS)
        half = spec.cols.bit_length() - 2  # of an expert's neurons, one in cols / 2 is a tile
        up_tiles = self.expert.neurons >> half
        steps = named(m, Mux(down, self.expert.neurons, spec.d), "steps")
        tiles = named(m, Mux(down, spec.d // spec.cols, up_tiles), "tiles")
        want = named(m, busy & self.ready & self.known & ~self.none & (space >= steps), "want")
        taken = named(m, want & self.o.ready, "taken")
        ends = named(m, tile + 1 == tiles, "ends")
        m.d.comb += [
            self.o.valid.eq(want),
            self.o.payload.steps.eq(steps),
            self.o.payload.address.eq(Mux(down, self.expert.down, self.expert.up) + offset),
            self.next.eq(taken & ends & down),
        ]
        m.d.sync += space.eq(space + self.freed - Mux(taken, steps, 0))
        with m.If(taken):
            m.d.sync += [tile.eq(Mux(ends, 0, tile + 1)), offset.eq(Mux(ends, 0, offset + steps))]
            m.d.sync += down.eq(down ^ ends)
        with m.If(self.begin):
            m.d.sync += busy.eq(1)
        with m.Elif(busy & self.known & self.none):
            m.d.sync += busy.eq(0)
        return m
