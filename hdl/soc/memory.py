"""The unit ``axi_memory``."""

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory

from golden.axi import DECERR, INCR, OKAY, SLVERR
from golden.soc.memory import MemorySpec
from hdl.arith.bits import index_bits, named
from hdl.stream.signature import stream_members


class AxiMemory(wiring.Component):
    """Datasheet: :class:`golden.soc.memory.MemorySpec`.

    ::

        cycle  0        1           2
               ar taken read word 0 r: word 0
               aw taken w taken ... b: answer        a burst is taken while the last word of the one before is
    """

    kind = "axi_memory"

    def __init__(self, spec: MemorySpec):
        self.spec = spec
        super().__init__(stream_members(spec.ports))

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        spec = self.spec
        now = Signal(
            data.StructLayout(
                {
                    "write": 1,
                    "owner": spec.masters,  # one-hot
                    "word": index_bits(spec.words),
                    "left": 8,
                    "resp": 2,
                    "id": 1,
                }
            )
        )
        active = Signal()
        m.submodules.words = words = Memory(shape=spec.bus, depth=spec.words, init=[])
        write, read = words.write_port(granularity=8), words.read_port()
        last = named(m, ~now.left.any(), "last")
        readable, written = self._read(m, now, last, read), self._written(m, active, now, last, write)
        step = named(m, Mux(now.write, written, active & readable), "step")
        m.d.comb += [
            write.addr.eq(now.word),
            read.addr.eq(now.word),
            read.en.eq(step & ~now.write),  # never both in one cycle: the memory has one port
        ]
        with m.If(step):
            m.d.sync += [now.word.eq(now.word + 1), now.left.eq(now.left - 1)]
        free = named(m, ~active | (step & last), "free")
        with m.If(free):
            m.d.sync += active.eq(self._next(m, now, free))
        return m

    def _channels(self, name: str) -> list[Any]:
        return [getattr(self, f"{of}_{name}") for of in self.spec.prefixes]

    def _next(self, m: Module, now: Any, free: Any) -> Any:
        """A burst is taken, by turns. Returns that there is one."""
        asks = [*self._channels("ar"), *self._channels("aw")]
        wants, after = Signal(len(asks)), Signal(len(asks))  # after: those behind the one that went last
        m.d.comb += wants.eq(Cat(one.valid for one in asks))
        turn = named(m, Mux((wants & after).any(), wants & after, wants), "turn")
        first = named(m, turn & (~turn + 1)[: len(asks)], "first")  # one-hot: the lowest
        masters = self.spec.masters
        for n, one in enumerate(asks):
            m.d.comb += one.ready.eq(free & first[n])
            with m.If(one.ready):
                m.d.sync += self._burst(now, one.payload.data[0])
        with m.If(free & wants.any()):
            m.d.sync += [
                after.eq(~(first | (first - 1)[: len(asks)])),
                now.write.eq(first[masters:].any()),
                now.owner.eq(first[:masters] | first[masters:]),
            ]
        return wants.any()

    def _burst(self, now: Any, address: Any) -> list[Any]:
        spec = self.spec
        word_bits = spec.bus_bytes.bit_length() - 1
        narrow = address.len.any() & (address.size != word_bits)
        wrong = Mux((address.burst != INCR) | narrow, SLVERR, OKAY)
        return [
            now.word.eq(address.addr[word_bits:]),
            now.left.eq(address.len),
            now.id.eq(address.id),
            now.resp.eq(Mux(address.addr[spec.bytes.bit_length() - 1 :].any(), DECERR, wrong)),
        ]

    def _read(self, m: Module, now: Any, last: Any, read: Any) -> Any:
        """The word that is read in this cycle is at ``r`` from the next one on. Returns that one can be."""
        owner, resp, ends, number = Signal(self.spec.masters), Signal(2), Signal(), Signal()
        channels = self._channels("r")
        taken = named(m, Cat(r.valid & r.ready for r in channels).any(), "read_taken")
        room = named(m, ~owner.any() | taken, "read_room")
        with m.If(taken):
            m.d.sync += owner.eq(0)
        with m.If(read.en):
            m.d.sync += [owner.eq(now.owner), resp.eq(now.resp), ends.eq(last), number.eq(now.id)]
        for n, r in enumerate(channels):
            to = r.payload.data[0]
            m.d.comb += [
                r.valid.eq(owner[n]),
                to.data.eq(read.data),
                to.resp.eq(resp),
                to.last.eq(ends),
                to.id.eq(number),
            ]
        return room

    def _written(self, m: Module, active: Any, now: Any, last: Any, write: Any) -> Any:
        """Takes a word, and with the last one gives the answer in the next cycle. Returns that one is taken."""
        owner, resp, number = Signal(self.spec.masters), Signal(2), Signal()
        answers, channels = self._channels("b"), self._channels("w")
        answered = named(m, Cat(b.valid & b.ready for b in answers).any(), "answered")
        ready = named(m, active & now.write & (~last | ~owner.any() | answered), "write_ready")
        taken = Signal()
        with m.If(answered):
            m.d.sync += owner.eq(0)
        with m.If(taken & last):
            m.d.sync += [owner.eq(now.owner), resp.eq(now.resp), number.eq(now.id)]
        for n, (w, b) in enumerate(zip(channels, answers, strict=True)):
            answer, word = b.payload.data[0], w.payload.data[0]
            m.d.comb += [w.ready.eq(ready & now.owner[n]), b.valid.eq(owner[n])]
            m.d.comb += [answer.resp.eq(resp), answer.id.eq(number)]
            with m.If(now.owner[n]):
                m.d.comb += [
                    taken.eq(w.valid & w.ready),
                    write.data.eq(word.data),
                    write.en.eq(Mux(taken & ~now.resp.any(), word.strb, 0)),
                ]
        return taken
