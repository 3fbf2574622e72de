"""The unit ``uart_bridge``: a request is collected and judged, executed, replied to."""

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.crc.catalog import CRC16_IBM_3740
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out, connect, flipped

from golden.axi import DECERR
from golden.soc import registers
from golden.soc.bridge import ANSWER, HEADER, START, WORD, BridgeSpec, Status
from golden.soc.descriptor import ADDRESS_BITS
from hdl.arith.bits import choose, named
from hdl.shared import Shared
from hdl.soc.access import ACCESS, ANSWERED, Access
from hdl.stream.signature import stream_members, stream_signature

STATUS = 4
"""Bits of a status."""


def request(spec: BridgeSpec) -> data.StructLayout:
    """A frame without its words, or why there is none."""
    count = spec.words.bit_length()
    return data.StructLayout(
        {"status": STATUS, "write": 1, "memory": 1, "fixed": 1, "count": count, "address": ADDRESS_BITS}
    )


def reply(spec: BridgeSpec) -> data.StructLayout:
    """A reply without its words."""
    return data.StructLayout({"status": STATUS, "count": spec.words.bit_length()})


def store(spec: BridgeSpec) -> data.StructLayout:
    """A word into the buffer."""
    return data.StructLayout({"en": 1, "index": (spec.words - 1).bit_length(), "word": 8 * WORD})


class Listener(wiring.Component):
    """Bytes to a request, whose words go to the buffer as they come.

    Latency     2 cycles from the last byte to the request, 1 from a gap.
    Throughput  a symbol per cycle; none while a request waits at ``o``.

    Members
    -------
    i : In(stream of symbols); o : Out(stream of requests); store : Out.
    """

    kind = "listener"

    def __init__(self, spec: BridgeSpec):
        self.spec = spec
        super().__init__(
            {
                "i": In(stream_signature(spec.port("i"))),
                "o": Out(stream.Signature(request(spec))),
                "store": Out(store(spec)),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        symbol, now = self.i.payload.data[0], self.o.payload
        place = Signal(range(max(HEADER, WORD * self.spec.words)))
        m.submodules.crc = crc = CRC16_IBM_3740(data_width=8).create()
        byte = named(m, self.i.valid & self.i.ready & ~symbol.gap, "is_byte")
        gap = named(m, self.i.valid & self.i.ready & symbol.gap, "is_gap")
        m.d.comb += [crc.data.eq(symbol.byte), crc.valid.eq(byte), self.i.ready.eq(1)]
        with m.FSM():
            with m.State("HEADER"):
                m.d.comb += crc.start.eq(~place.any())
                self._header(m, place, byte, symbol.byte)
                self._cut(m, gap & place.any())
            with m.State("WORDS"):
                self._words(m, place, byte, symbol.byte)
                self._cut(m, gap)
            for n in (1, 2):
                with m.State(f"CHECK_{n}"):
                    with m.If(byte):
                        m.next = "CHECK_2" if n == 1 else "JUDGE"
                    self._cut(m, gap)
            with m.State("JUDGE"):
                m.d.comb += self.i.ready.eq(0)
                m.next = "WAIT"
                with m.If(~crc.match_detected):
                    self._drop(m, Status.CHECKSUM)
            with m.State("DROP"), m.If(gap):
                m.next = "WAIT"
            with m.State("WAIT"):
                m.d.comb += [self.i.ready.eq(0), self.o.valid.eq(1)]
                with m.If(self.o.ready):
                    m.d.sync += [place.eq(0), now.status.eq(Status.OK)]
                    m.next = "HEADER"
        return m

    def _drop(self, m: Module, status: Status) -> None:
        m.d.sync += self.o.payload.status.eq(status)
        m.next = "DROP"

    def _cut(self, m: Module, gap: Any) -> None:
        with m.If(gap):
            m.d.sync += self.o.payload.status.eq(Status.CUT)
            m.next = "WAIT"

    def _header(self, m: Module, place: Signal, come: Any, byte: Any) -> None:
        """``A5 command count address``; the address is shifted in from the top."""
        now = self.o.payload
        address = named(m, Cat(now.address[8:], byte), "address_now")
        beyond = ~now.memory & address[registers.ADDRESS_BITS :].any()
        with m.If(come):
            m.d.sync += place.eq(place + 1)
            with m.Switch(place):
                with m.Case(0), m.If(byte != START):
                    self._drop(m, Status.BEGIN)
                with m.Case(1):
                    m.d.sync += Cat(now.write, now.memory, now.fixed).eq(byte)
                    with m.If((byte & ~self.spec.commands & 0xFF).any()):
                        self._drop(m, Status.COMMAND)
                with m.Case(2):
                    m.d.sync += now.count.eq(byte)
                    with m.If(~byte.any() | (byte > self.spec.words)):
                        self._drop(m, Status.COUNT)
                with m.Default():
                    m.d.sync += now.address.eq(address)
            with m.If(place == HEADER - 1):
                m.d.sync += place.eq(0)
                m.next = "CHECK_1"
                with m.If(now.write):
                    m.next = "WORDS"
                with m.If(address[:2].any() | beyond):
                    self._drop(m, Status.ADDRESS)

    def _words(self, m: Module, place: Signal, come: Any, byte: Any) -> None:
        """``place`` goes on through the bytes of the words."""
        word = Signal(8 * (WORD - 1), reset_less=True)
        part, index = place[:2], place[2:]
        m.d.comb += [
            self.store.en.eq(come & part.all()),
            self.store.index.eq(index),
            self.store.word.eq(Cat(word, byte)),
        ]
        with m.If(come):
            m.d.sync += [word.eq(Cat(word, byte)[8:]), place.eq(place + 1)]
            with m.If(part.all() & (index + 1 == self.o.payload.count)):
                m.next = "CHECK_1"


class Executor(wiring.Component):
    """A request's accesses one after the other, to the first that fails. The request is taken when its reply is.

    Latency     1 cycle from a request without accesses to its reply; 4 cycles an access, bus answering at once.

    Members
    -------
    i : In(stream of requests); o : Out(stream of replies); access : Out(stream); answer : In(stream); index : Out, of
    the word read from the buffer in this cycle; word : In, the one of the last cycle; store : Out.
    """

    kind = "executor"

    def __init__(self, spec: BridgeSpec):
        self.spec = spec
        into = store(spec)
        super().__init__(
            {
                "i": In(stream.Signature(request(spec))),
                "o": Out(stream.Signature(reply(spec))),
                "access": Out(stream.Signature(ACCESS)),
                "answer": In(stream.Signature(ANSWERED)),
                "index": Out(into["index"].shape),
                "word": In(8 * WORD),
                "store": Out(into),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        now, answer = self.i.payload, self.answer.payload
        stuck = Signal()
        waited = Signal(range(self.spec.patience + 1))
        done = Signal.like(now.count)
        late = named(m, waited == self.spec.patience, "late")
        m.d.comb += [
            self.index.eq(done),
            self.access.payload.write.eq(now.write),
            self.access.payload.memory.eq(now.memory),
            self.access.payload.address.eq(now.address + Mux(now.fixed, 0, done << 2)),
            self.access.payload.data.eq(Mux(now.write, self.word, 0)),
            self.store.index.eq(done),
            self.store.word.eq(answer.data),
        ]
        with m.FSM():
            with m.State("IDLE"), m.If(self.i.valid):
                m.d.sync += [done.eq(0), self.o.payload.count.eq(0), self.o.payload.status.eq(now.status)]
                m.next = "REPLY"
                with m.If(now.status == Status.OK):
                    m.next = "FETCH"
                    with m.If(stuck):
                        m.d.sync += self.o.payload.status.eq(Status.STUCK)
                        m.next = "REPLY"
            with m.State("FETCH"):
                m.next = "ACCESS"
            with m.State("ACCESS"):
                m.d.comb += self.access.valid.eq(1)
                m.d.sync += waited.eq(0)
                m.next = "ANSWER"
            with m.State("ANSWER"):
                m.d.comb += self.answer.ready.eq(1)
                m.d.sync += waited.eq(waited + 1)
                with m.If(self.answer.valid):
                    m.d.comb += self.store.en.eq(~now.write)
                    m.d.sync += done.eq(done + 1)
                    m.next = "FETCH"
                    with m.If(done + 1 == now.count):
                        m.d.sync += self.o.payload.count.eq(Mux(now.write, 0, now.count))
                        m.next = "REPLY"
                    with m.If(answer.resp[1]):
                        m.d.sync += [
                            self.o.payload.count.eq(0),
                            self.o.payload.status.eq(Mux(answer.resp == DECERR, Status.DECERR, Status.SLVERR)),
                        ]
                        m.next = "REPLY"
                with m.Elif(late):
                    m.d.sync += [stuck.eq(1), self.o.payload.status.eq(Status.STUCK)]
                    m.next = "REPLY"
            with m.State("REPLY"):
                m.d.comb += [self.o.valid.eq(1), self.i.ready.eq(self.o.ready)]
                with m.If(self.o.ready):
                    m.next = "IDLE"
        return m


class Teller(wiring.Component):
    """A reply to bytes. It is taken with its last byte.

    Latency     none.
    Throughput  a byte per cycle, but for one cycle before each word.

    Members
    -------
    i : In(stream of replies); index : Out, of the word read from the buffer in this cycle; word : In, the one of the
    last cycle; o : Out(stream of bytes).
    """

    kind = "teller"

    def __init__(self, spec: BridgeSpec):
        self.spec = spec
        into = store(spec)
        super().__init__(
            {
                "i": In(stream.Signature(reply(spec))),
                "o": Out(stream_signature(spec.port("o"))),
                "index": Out(into["index"].shape),
                "word": In(8 * WORD),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.crc = crc = CRC16_IBM_3740(data_width=8).create()
        byte = self.o.payload.data[0]
        told = Signal.like(self.i.payload.count)
        part = Signal(range(WORD))
        goes = named(m, self.o.valid & self.o.ready, "goes")
        m.d.comb += [crc.data.eq(byte), crc.valid.eq(goes), self.index.eq(told)]
        with m.FSM():
            for state, value, then in (
                ("BEGIN", ANSWER, "STATUS"),
                ("STATUS", self.i.payload.status, "COUNT"),
                ("COUNT", self.i.payload.count, "NEXT"),
                ("CHECK_1", crc.crc[8:], "CHECK_2"),
                ("CHECK_2", crc.crc[8:], "BEGIN"),  # the byte before has shifted it up
            ):
                with m.State(state):
                    if state == "BEGIN":
                        m.d.comb += crc.start.eq(1)
                        m.d.sync += told.eq(0)
                    if state == "CHECK_2":
                        m.d.comb += self.i.ready.eq(self.o.ready)
                    m.d.comb += [self.o.valid.eq(self.i.valid), byte.eq(value)]
                    with m.If(goes):
                        m.next = then
            with m.State("NEXT"):
                m.next = "CHECK_1"
                with m.If(told != self.i.payload.count):
                    m.next = "WORD"
            with m.State("WORD"):
                m.d.comb += [self.o.valid.eq(1), byte.eq(choose(self.word, 8, part))]
                with m.If(goes):
                    m.d.sync += part.eq(part + 1)
                    with m.If(part == WORD - 1):
                        m.d.sync += told.eq(told + 1)
                        m.next = "NEXT"
        return m


class Bridge(wiring.Component):
    """Datasheet: :class:`golden.soc.bridge.BridgeSpec`. One buffer holds a request's words or those of its reply."""

    kind = "bridge"

    def __init__(self, spec: BridgeSpec):
        self.spec = spec
        super().__init__(stream_members(spec.ports))

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        spec = self.spec
        m.submodules.listener = listener = Shared(Listener, spec)
        m.submodules.executor = executor = Shared(Executor, spec)
        m.submodules.teller = teller = Shared(Teller, spec)
        m.submodules.access = access = Shared(Access, spec)
        connect(m, flipped(self.i), listener.i)
        connect(m, listener.o, executor.i)
        connect(m, executor.o, teller.i)
        connect(m, flipped(self.o), teller.o)
        connect(m, executor.access, access.i)
        connect(m, access.o, executor.answer)
        for port in spec.ports[2:]:
            connect(m, flipped(getattr(self, port.name)), getattr(access, port.name))
        m.submodules.words = words = Memory(shape=8 * WORD, depth=spec.words, init=[])
        write, read = words.write_port(), words.read_port()
        of = executor.store
        into = named(m, Mux(of.en, of.as_value(), listener.store.as_value()), "into")
        m.d.comb += [
            Cat(write.en, write.addr, write.data).eq(into),
            read.en.eq(~write.en),  # a memory that may do both at once would cost more
            read.addr.eq(Mux(teller.i.valid, teller.index, executor.index)),
            executor.word.eq(read.data),
            teller.word.eq(read.data),
        ]
        return m
