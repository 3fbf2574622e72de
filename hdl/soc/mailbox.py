"""The streams of any unit as registers."""

from typing import Any

from amaranth.hdl import C, Cat, Module, Mux, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from golden.axi import OKAY, SLVERR
from golden.ports import StreamPort
from golden.soc.mailbox import (
    CONFIGURATION,
    CONTROL,
    DATA,
    ID,
    IDENTIFIER,
    LEVEL,
    SLACK,
    STATUS,
    WORD_BITS,
    MailboxSpec,
)
from hdl.arith.bits import named
from hdl.shared import Shared
from hdl.stream.fifo import BlockFIFO
from hdl.stream.signature import stream_members
from hdl.stream.width import Narrow, Widen


class Queue(wiring.Component):
    """Words to beats of an input, or beats of an output to words, with a queue of words between.

    ``level`` counts at once what ``word`` takes, and what leaves the queue at its other side later, never too early:
    that many words can be written, or read, without waiting.

    Members
    -------
    level : Out; word : In or Out(stream of 32 bits); beat : Out or In(stream of the port's payload, as bits).
    """

    kind = "mailbox_queue"

    def __init__(self, spec: MailboxSpec, port: StreamPort):
        self.spec = spec
        self.port = port
        width = port.width + bool(port.last)
        word, beat = (In, Out) if port.direction == "in" else (Out, In)
        super().__init__(
            {
                "level": Out(range(spec.depth + 1), init=spec.depth - SLACK if port.direction == "in" else 0),
                "word": word(stream.Signature(WORD_BITS)),
                "beat": beat(stream.Signature(width)),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        count = self.spec.words(self.port)
        m.submodules.queue = queue = Shared(BlockFIFO, WORD_BITS, self.spec.depth)
        if self.port.direction == "in":
            m.submodules.widen = widen = Shared(Widen, WORD_BITS, count)
            wiring.connect(m, wiring.flipped(self.word), queue.i)
            wiring.connect(m, queue.o, widen.i)
            m.d.comb += [
                self.beat.payload.eq(widen.o.payload.as_value()),
                self.beat.valid.eq(widen.o.valid),
                widen.o.ready.eq(self.beat.ready),
            ]
            more, less = queue.o, self.word
        else:
            m.submodules.narrow = narrow = Shared(Narrow, WORD_BITS, count)
            wiring.connect(m, narrow.o, queue.i)
            wiring.connect(m, queue.o, wiring.flipped(self.word))
            m.d.comb += [
                narrow.i.payload.as_value().eq(self.beat.payload),
                narrow.i.valid.eq(self.beat.valid),
                self.beat.ready.eq(narrow.i.ready),
            ]
            more, less = queue.i, self.word
        m.d.sync += self.level.eq(self.level + (more.valid & more.ready) - (less.valid & less.ready))
        return m


class Mailbox(wiring.Component):
    """Datasheet: :class:`golden.soc.mailbox.MailboxSpec`. ``unit`` is the component of ``spec.inner``.

    Members
    -------
    s_axil_... : the channels.
    """

    kind = "mailbox"

    def __init__(self, spec: MailboxSpec, unit: Any):
        self.spec = spec
        self.unit = unit
        super().__init__(stream_members(spec.ports))

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        inner = self.spec.inner
        renew = Signal()
        m.submodules.unit = unit = Shared(self.unit, inner, reset=renew)
        queues = []
        for port in inner.ports:
            queue = Shared(Queue, self.spec, port, reset=renew)
            m.submodules[f"queue_{port.name}"] = queue
            outer, mine = getattr(unit, port.name), queue.beat
            source, sink = (mine, outer) if port.direction == "in" else (outer, mine)
            m.d.comb += [
                Value.cast(sink.payload).eq(Value.cast(source.payload)),
                sink.valid.eq(source.valid),
                source.ready.eq(sink.ready),
            ]
            queues.append(queue)
        status = Cat(getattr(unit, s.signal) for s in inner.status)
        self._write(m, renew, queues)
        self._read(m, status, queues)
        return m

    def _write(self, m: Module, renew: Signal, queues: list[Any]) -> None:
        aw, w, b = self.s_axil_aw, self.s_axil_w, self.s_axil_b
        address, data = aw.payload.data[0].addr, w.payload.data[0].data
        go = named(m, aw.valid & w.valid & (~b.valid | b.ready), "write")
        done = Signal()
        m.d.comb += [aw.ready.eq(go), w.ready.eq(go)]
        m.d.sync += renew.eq(0)
        with m.Switch(address[2:]):
            with m.Case(CONTROL >> 2):
                m.d.comb += done.eq(1)
                m.d.sync += renew.eq(go & data[0])
            for n, (port, queue) in enumerate(zip(self.spec.inner.ports, queues, strict=True)):
                if port.direction == "in":
                    with m.Case((DATA >> 2) + n):
                        m.d.comb += [done.eq(queue.level.any()), queue.word.valid.eq(go & done)]
                    m.d.comb += queue.word.payload.eq(data)
        with m.If(~b.valid | b.ready):
            m.d.sync += [b.valid.eq(go), b.payload.data[0].eq(Mux(done, OKAY, SLVERR))]

    def _read(self, m: Module, status: Value, queues: list[Any]) -> None:
        ar, r = self.s_axil_ar, self.s_axil_r
        go = named(m, ar.valid & ar.ready, "read")
        shown, done = Signal(WORD_BITS), Signal()
        m.d.comb += [ar.ready.eq(~r.valid | r.ready), done.eq(1)]
        plain = {
            ID: C(IDENTIFIER, 32),
            CONFIGURATION: C(self.spec.inner.fingerprint, 32),
            STATUS: status,
            CONTROL: C(0),
        }
        plain |= {LEVEL + 4 * n: queue.level for n, queue in enumerate(queues)}
        with m.Switch(ar.payload.data[0].addr[2:]):
            for address, value in plain.items():
                with m.Case(address >> 2):
                    m.d.comb += shown.eq(value)
            for n, (port, queue) in enumerate(zip(self.spec.inner.ports, queues, strict=True)):
                if port.direction == "out":
                    with m.Case((DATA >> 2) + n):
                        m.d.comb += [shown.eq(queue.word.payload), done.eq(queue.word.valid), queue.word.ready.eq(go)]
            with m.Default():
                m.d.comb += done.eq(0)
        with m.If(ar.ready):
            m.d.sync += [r.valid.eq(ar.valid), r.payload.data[0].eq(Cat(shown, Mux(done, OKAY, SLVERR)))]
