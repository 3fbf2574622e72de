"""Which tiles of weights are wanted next."""

from typing import Any

from amaranth.hdl import Array, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from golden.moe.expert import ExpertFFNSpec
from golden.moe.precision import BITS
from hdl.arith.bits import index_bits, named
from hdl.stream.signature import lane_shape


def precision_layout() -> data.StructLayout:
    """Of a matrix, as its descriptor says it."""
    return data.StructLayout({"bits": 2, "kind": 2, "share": 3})


class Fetcher(wiring.Component):
    """Expert after expert, the shared one first: the tiles of its up matrix, then of its down matrix, each as soon as
    there is room for it.

    Members
    -------
    begin : In(1), a batch begins; ready : In(1), the table of experts is there; known : In(1), it is certain whose turn
    it is, or that it is nobody's; none : In(1), nobody's; number, expert : In, which one, and the table's entry; next :
    Out(1), on to the one after it; freed : In(1), a step of weights is free; o : Out(stream of tiles, as ``fetch``);
    steps, precision : Out, of that tile.
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
                "number": In(spec.experts.bit_length()),
                "expert": In(lane_shape(spec.port("desc"))),
                "next": Out(1),
                "freed": In(1),
                "o": Out(stream.Signature(lane_shape(spec.port("fetch")))),
                "steps": Out(spec.engine.k_max.bit_length()),
                "precision": Out(precision_layout()),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        spec = self.spec
        # a ring of parameters has room, too: while it cannot go on it is ahead of the weights
        space = Signal(range(spec.depth + 1), init=spec.depth)
        busy = Signal()
        down = Signal()
        tile = Signal(index_bits(spec.most_tiles))
        half = spec.cols.bit_length() - 2  # of an expert's neurons, one in cols / 2 is a tile
        up_tiles = self.expert.neurons >> half
        tiles = named(m, Mux(down, spec.d // spec.cols, up_tiles), "tiles")
        want = named(m, busy & self.ready & self.known & ~self.none & (space >= self.steps), "want")
        taken = named(m, want & self.o.ready, "taken")
        ends = named(m, tile + 1 == tiles, "ends")
        m.d.comb += [
            self.steps.eq(Mux(down, self.expert.neurons, spec.d)),
            self.o.valid.eq(want),
            self.o.payload.expert.eq(self.number),
            self.o.payload.final.eq(ends & down),
            self.next.eq(taken & ends & down),
        ]
        self._place(m, down, taken, ends)
        m.d.sync += space.eq(space + self.freed - Mux(taken, self.steps, 0))
        with m.If(taken):
            m.d.sync += [tile.eq(Mux(ends, 0, tile + 1)), down.eq(down ^ ends)]
        with m.If(self.begin):
            m.d.sync += busy.eq(1)
        with m.Elif(busy & self.known & self.none):
            m.d.sync += busy.eq(0)
        return m

    def _place(self, m: Module, down: Value, taken: Value, ends: Value) -> None:
        """Where the tile's codes and parameters are, and how many."""
        spec, o = self.spec, self.o.payload
        groups = self.steps >> spec.group.bit_length() - 1
        if spec.mixed:
            names = self.precision.shape().members
            for name in names:
                up_value, down_value = (self.expert[f"{matrix}_{name}"] for matrix in ("up", "down"))
                m.d.comb += self.precision[name].eq(Mux(down, down_value, up_value))
            eighths = self.steps >> 3
            beats = Array(eighths * bits for bits in BITS)[self.precision.bits]
            more = (1 << self.precision.share) - 1
            sizes = {"address": ("beats", beats), "par": ("pars", (groups + more) >> self.precision.share)}
        else:
            sizes = {"address": ("beats", self.steps), "par": ("pars", groups)}
        for place, (count, value) in sizes.items():
            suffix = "_par" if place == "par" else ""
            offset = Signal.like(o[place], name=f"offset_{place}")
            m.d.comb += [
                o[count].eq(value),
                o[place].eq(Mux(down, self.expert[f"down{suffix}"], self.expert[f"up{suffix}"]) + offset),
            ]
            with m.If(taken):
                m.d.sync += offset.eq(Mux(ends, 0, offset + o[count]))
