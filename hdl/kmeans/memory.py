"""Memory for tokens."""

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from golden.ports import StreamPort
from hdl.arith.bits import index_bits, named
from hdl.stream.signature import payload_layout


class TokenMemory(wiring.Component):
    """Rows of two tokens: one is written while the other one is read.

    Beats after the last row are lost, but tlast ends the token all the same.

    Members
    -------
    i : In(stream of ``port``); write, last, bank : Out, a beat comes in, its token's last one, and to which bank;
    lost : Out(1), it has no place; full : Out(2), per bank: a whole token is there; rows : Out, of its rows the last
    one's number; go, read_bank, read_row : In, that row stands at ``row`` from the next cycle on; done : In(1), the
    bank is free.
    """

    kind = "token_memory"

    def __init__(self, port: StreamPort, rows: int):
        self.depth = rows
        beat = payload_layout(port)
        row = index_bits(rows)
        super().__init__(
            {
                "i": In(stream.Signature(beat)),
                "write": Out(1),
                "last": Out(1),
                "bank": Out(1),
                "lost": Out(1),
                "go": In(1),
                "read_bank": In(1),
                "read_row": In(row),
                "row": Out(beat["data"].shape),
                "rows": Out(data.ArrayLayout(row, 2)),
                "full": Out(2),
                "done": In(1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        last, bits = self.i.payload.last, len(self.read_row)
        m.submodules.stored = memory = Memory(shape=self.row.shape(), depth=2 << bits, init=[])
        write, read = memory.write_port(), memory.read_port()
        place = Signal(bits)
        over = Signal()  # all rows are written
        accept = named(m, self.i.valid & ~self.full.bit_select(self.bank, 1), "accept")
        m.d.comb += [
            self.i.ready.eq(~self.full.bit_select(self.bank, 1)),
            self.write.eq(accept & (~over | last)),
            self.last.eq(last),
            self.lost.eq(accept & over),
            write.addr.eq(Cat(place, self.bank)),
            write.data.eq(self.i.payload.data),
            write.en.eq(accept & ~over),
            read.addr.eq(Cat(self.read_row, self.read_bank)),
            read.en.eq(self.go),
            self.row.eq(read.data),
        ]
        with m.If(self.done):
            m.d.sync += self.full.bit_select(self.read_bank, 1).eq(0)
        with m.If(accept):
            m.d.sync += [over.eq(~last & (over | (place == self.depth - 1))), place.eq(place + 1)]
            with m.If(last):
                m.d.sync += [
                    self.full.bit_select(self.bank, 1).eq(1),
                    self.rows[self.bank].eq(Mux(over, self.depth - 1, place)),
                    self.bank.eq(~self.bank),
                    place.eq(0),
                ]
        return m
