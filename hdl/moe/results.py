"""Where the array's results belong."""

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from golden.moe.expert import ExpertFFNSpec
from hdl.arith.bits import index_bits, named


class Results(wiring.Component):
    """Counts the beats of a phase: columns of a token, tokens, tiles of tokens, tiles of columns.

    Members
    -------
    beat : In(1); tiles, passes : In, less one, count : In, steady: of the phase; place : Out, of the token in its
    queue; column : Out, beats before it of that token's; inside : Out(1), there is such a token; last : Out(1), it is
    the phase's last beat.
    """

    kind = "results"

    def __init__(self, spec: ExpertFFNSpec):
        self.spec = spec
        super().__init__(
            {
                "beat": In(1),
                "tiles": In(index_bits(spec.most_tiles)),
                "passes": In(index_bits(spec.most_passes)),
                "count": In(spec.tokens.bit_length()),
                "place": Out(index_bits(spec.tokens)),
                "column": Out(index_bits(spec.most_tiles * spec.cols // spec.words)),
                "inside": Out(1),
                "last": Out(1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        spec = self.spec
        beats = spec.cols // spec.words
        beat = Signal(index_bits(beats))
        row = Signal(index_bits(spec.rows))
        pass_ = Signal.like(self.passes)
        tile = Signal.like(self.tiles)
        place = named(m, Cat(row[: spec.rows.bit_length() - 1], pass_), "place_now")
        m.d.comb += [
            self.place.eq(place),
            self.column.eq(Cat(beat[: beats.bit_length() - 1], tile)),
            self.inside.eq(place < self.count),
        ]
        ended = self.beat
        for counter, most in ((beat, beats - 1), (row, spec.rows - 1), (pass_, self.passes), (tile, self.tiles)):
            end = named(m, counter == most, f"{counter.name}_ends")
            with m.If(ended):
                m.d.sync += counter.eq(Mux(end, 0, counter + 1))
            ended = named(m, ended & end, f"ended_{counter.name}")
        m.d.comb += self.last.eq(ended)
        return m
