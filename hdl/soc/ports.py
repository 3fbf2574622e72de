"""The two sides of the bus: reads and writes, of all channels, in order.

Both go on, whatever happens to the units, until all that was begun has ended; nothing they do waits for a unit.
"""

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from golden.axi import INCR
from golden.ports import StreamPort
from golden.soc.accelerator import AcceleratorSpec
from golden.soc.descriptor import ADDRESS_BITS
from hdl.arith.bits import index_bits, named
from hdl.shared import Shared
from hdl.soc.bursts import Arbiter
from hdl.soc.layouts import burst, stored
from hdl.stream.fifo import StreamFIFO
from hdl.stream.signature import stream_members
from hdl.stream.skid import Skid

CACHE = 0b0011
"""Normal memory, not cached, writes may be buffered."""

FAULT = data.StructLayout({"valid": 1, "decode": 1, "address": ADDRESS_BITS})
"""An answer that is an error: SLVERR or DECERR, and the first address of its burst."""


class _Port(wiring.Component):
    """What both sides share.

    Members
    -------
    stop : In(1), begin nothing more; bursts_0, ... : In(stream), one per channel; busy : Out(1), something is under
    way; moved : Out(1), a beat was; stalled : Out(1); fault : Out; the channels of AXI4.
    """

    def __init__(self, spec: AcceleratorSpec, channels: int, axi: tuple[str, ...], members: dict[str, Any]):
        self.spec = spec
        self.channels = channels
        common = {f"bursts_{n}": In(stream.Signature(burst(spec))) for n in range(channels)}
        common |= {"stop": In(1)}
        common |= {"busy": Out(1), "moved": Out(1), "stalled": Out(1), "fault": Out(FAULT)}
        ports: list[StreamPort] = [spec.port(f"m_axi_{name}") for name in axi]
        super().__init__(common | stream_members(ports) | members)

    def _arbiter(self, m: Module, axi: Any, room: Any) -> Any:
        """The next burst, while there is ``room``; its address goes to ``axi``."""
        spec = self.spec
        m.submodules.arbiter = arbiter = Shared(Arbiter, spec, self.channels)
        for n in range(self.channels):
            wiring.connect(m, wiring.flipped(getattr(self, f"bursts_{n}")), getattr(arbiter, f"i_{n}"))
        chosen, to = arbiter.o.payload.burst, axi.payload.data[0]
        m.d.comb += [
            arbiter.go.eq(room & ~self.stop),
            axi.valid.eq(arbiter.o.valid),
            arbiter.o.ready.eq(axi.ready),
            to.addr.eq(chosen.word << spec.word_bits),
            to.len.eq((chosen.length - 1)[: spec.burst.bit_length() - 1]),
            to.size.eq(spec.word_bits),
            to.burst.eq(INCR),
            to.cache.eq(CACHE),
        ]
        return arbiter

    def _judge(self, m: Module, taken: Any, resp: Any, word: Any) -> None:
        m.d.comb += [
            self.fault.valid.eq(taken & resp[1]),
            self.fault.decode.eq(resp[0]),
            self.fault.address.eq(word << self.spec.word_bits),
        ]


class Reader(_Port):
    """Reads. A burst is begun when there is room for all of it, so every word that comes is taken at once.

    Members
    -------
    come : Out(channels), a word of that channel; word : Out; and those of both sides: ``stalled`` means that words are
    awaited and none comes.
    """

    kind = "reader"

    def __init__(self, spec: AcceleratorSpec):
        channels = spec.channels_in + 1
        super().__init__(spec, channels, ("ar", "r"), {"come": Out(channels), "word": Out(spec.bus)})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        spec = self.spec
        item = data.StructLayout({"channel": index_bits(self.channels), "word": spec.word_width})
        m.submodules.order = order = Shared(StreamFIFO, item, spec.outstanding)
        arbiter = self._arbiter(m, self.m_axi_ar, order.i.ready)
        answer = self.m_axi_r.payload.data[0]
        come = named(m, self.m_axi_r.valid, "a_word")
        m.d.comb += [
            order.i.valid.eq(arbiter.taken),
            order.i.payload.channel.eq(arbiter.next.channel),
            order.i.payload.word.eq(arbiter.next.burst.word),
            order.o.ready.eq(come & answer.last),
            self.m_axi_r.ready.eq(1),
            self.come.eq(come << order.o.payload.channel),
            self.word.eq(answer.data),
            self.busy.eq(order.o.valid),
            self.moved.eq(come),
            self.stalled.eq(order.o.valid & ~come),
        ]
        self._judge(m, come, answer.resp, order.o.payload.word)
        return m


class Writer(_Port):
    """Writes. A burst is begun when all its words are there; they follow its address.

    Members
    -------
    words_0, ... : In(stream), one per channel; and those of both sides: ``stalled`` means that an address or a word is
    not taken.
    """

    kind = "writer"

    def __init__(self, spec: AcceleratorSpec):
        channels = spec.channels_out
        words = {f"words_{n}": In(stream.Signature(stored(spec))) for n in range(channels)}
        super().__init__(spec, channels, ("aw", "w", "b"), words)

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        spec = self.spec
        m.submodules.unanswered = unanswered = Shared(StreamFIFO, spec.word_width, spec.outstanding)
        arbiter = self._arbiter(m, self.m_axi_aw, unanswered.i.ready)
        sent = named(m, self._send(m, arbiter), "sent")
        answer = named(m, self.m_axi_b.valid, "an_answer")
        m.d.comb += [
            unanswered.i.valid.eq(arbiter.taken),
            unanswered.i.payload.eq(arbiter.next.burst.word),
            unanswered.o.ready.eq(answer),
            self.m_axi_b.ready.eq(1),
            self.busy.eq(unanswered.o.valid),
            self.moved.eq(sent | answer),
            self.stalled.eq((self.m_axi_aw.valid & ~self.m_axi_aw.ready) | (self.m_axi_w.valid & ~self.m_axi_w.ready)),
        ]
        self._judge(m, answer, self.m_axi_b.payload.data[0].resp, unanswered.o.payload)
        return m

    def _send(self, m: Module, arbiter: Any) -> Any:
        """The words of the bursts whose addresses have gone, in order. Returns that one leaves."""
        spec = self.spec
        item = data.StructLayout({"channel": index_bits(self.channels), "length": spec.burst.bit_length()})
        m.submodules.announced = announced = Shared(StreamFIFO, item, spec.outstanding)
        beat = data.StructLayout({"word": stored(spec), "last": 1})
        m.submodules.skid = skid = Shared(Skid, beat)
        number = Signal(range(spec.burst))
        head, of = announced.o.payload, [getattr(self, f"words_{n}") for n in range(self.channels)]
        mine = [named(m, head.channel == n, f"mine_{n}") for n in range(self.channels)]
        there = named(m, Cat(one.valid & my for one, my in zip(of, mine, strict=True)).any(), "there")
        last = named(m, number == head.length - 1, "last")
        goes = named(m, announced.o.valid & there & skid.i.ready, "goes")
        word, to = skid.o.payload.word, self.m_axi_w.payload.data[0]
        m.d.comb += [
            announced.i.valid.eq(self.m_axi_aw.valid & self.m_axi_aw.ready),
            announced.i.payload.channel.eq(arbiter.o.payload.channel),
            announced.i.payload.length.eq(arbiter.o.payload.burst.length),
            announced.o.ready.eq(goes & last),
            skid.i.valid.eq(announced.o.valid & there),
            skid.i.payload.last.eq(last),
            *(one.ready.eq(announced.o.valid & my & skid.i.ready) for one, my in zip(of, mine, strict=True)),
            to.data.eq(word.data),
            to.strb.eq(word.strobe),
            to.last.eq(skid.o.payload.last),
            self.m_axi_w.valid.eq(skid.o.valid),
            skid.o.ready.eq(self.m_axi_w.ready),
        ]
        for one, my in zip(of, mine, strict=True):
            with m.If(my):
                m.d.comb += skid.i.payload.word.eq(one.payload)
        with m.If(goes):
            m.d.sync += number.eq(Mux(last, 0, number + 1))
        return self.m_axi_w.valid & self.m_axi_w.ready
