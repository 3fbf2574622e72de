"""The unit ``load_balance``: counts and biases are kept until the sum is known."""

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from golden import latency
from golden.moe.balance import BalanceSpec
from hdl.arith.bits import index_bits, named
from hdl.arith.delay import delay
from hdl.arith.floats import Add
from hdl.shared import Shared
from hdl.stream.fifo import StreamFIFO
from hdl.stream.signature import payload_layout, stream_members, stream_signature
from hdl.stream.skid import skid


class Compare(wiring.Component):
    """Whether a count is more or less than the mean. Combinational.

    Members
    -------
    count, total : In; more, less : Out(1).
    """

    kind = "compare_to_mean"

    def __init__(self, spec: BalanceSpec):
        self.spec = spec
        super().__init__({"count": In(spec.count_bits), "total": In(spec.total_bits), "more": Out(1), "less": Out(1)})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        mine = named(m, self.count * self.spec.experts, "mine")
        m.d.comb += [self.more.eq(mine > self.total), self.less.eq(mine < self.total)]
        return m


class Gather(wiring.Component):
    """A batch, once it is complete, beat by beat again, with the sum of its counts.

    Members
    -------
    i : In(stream of counts and biases); open : In(1), beats may come; valid : Out(1), the batch is there; then count,
    b, last, total : Out, and go : In(1), to its next beat; wrong : Out(1), it ends with too many beats or too few.
    """

    kind = "gather"

    def __init__(self, spec: BalanceSpec):
        self.spec = spec
        super().__init__(
            {
                "i": In(stream.Signature(payload_layout(spec.port("i")))),
                "open": In(1),
                "valid": Out(1),
                "count": Out(spec.count_bits),
                "b": Out(32),
                "last": Out(1),
                "total": Out(spec.total_bits),
                "go": In(1),
                "wrong": Out(1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        beat, last = self.i.payload.data[0], self.i.payload.last
        place, final = Signal(index_bits(self.spec.experts)), Signal(index_bits(self.spec.experts))
        over = Signal()  # all places are taken
        some = Signal()  # one is
        ends = named(m, place == self.spec.experts - 1, "ends")
        accept = named(m, self.i.valid & self.i.ready, "accept")
        keep = named(m, accept & ~over, "keep")
        m.submodules.beats = beats = Memory(shape=len(beat.as_value()), depth=1 << len(place), init=[])
        write, read = beats.write_port(), beats.read_port(domain="comb")
        m.d.comb += [
            self.i.ready.eq(self.open & ~self.valid),
            self.wrong.eq(accept & last & (over | ~ends)),
            self.last.eq(place == final),
            Cat(write.addr, write.data, write.en).eq(Cat(place, beat.as_value(), keep)),
            read.addr.eq(place),
            Cat(self.count, self.b).eq(read.data),
        ]
        with m.If(accept):
            m.d.sync += [self.valid.eq(last), some.eq(~last), over.eq(~last & (over | ends))]
            m.d.sync += place.eq(Mux(last, 0, place + (keep & ~ends)))
        with m.Elif(self.go):
            m.d.sync += [self.valid.eq(~self.last), place.eq(Mux(self.last, 0, place + 1))]
        with m.If(keep):
            m.d.sync += [final.eq(place), self.total.eq(Mux(some, self.total, 0) + beat.count)]
        return m


class Balance(wiring.Component):
    """Streams around an adder and a queue for all that comes out of it; the datasheet is
    :class:`golden.moe.balance.BalanceSpec`."""

    kind = "load_balance"

    def __init__(self, spec: BalanceSpec):
        self.spec = spec
        super().__init__(stream_members(spec.ports) | {f"sts_{s.name}": Out(s.width) for s in spec.status})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        i, cfg, o = (stream_signature(port).create() for port in self.spec.ports)
        skid(m, self.spec.port("i"), self.i, i)
        skid(m, self.spec.port("cfg"), self.cfg, cfg)
        skid(m, self.spec.port("o"), o, self.o)
        m.submodules.gather = gather = Shared(Gather, self.spec)
        wiring.connect(m, i, gather.i)
        waits = Signal()  # for the last bias to go out
        go = named(m, gather.valid & cfg.valid, "go")
        m.d.comb += [gather.go.eq(go), gather.open.eq(~waits), cfg.ready.eq(go & gather.last)]
        with m.If(cfg.ready):
            m.d.sync += waits.eq(1)
        with m.Elif(o.valid & o.ready & o.payload.last):
            m.d.sync += waits.eq(0)
        self._step(m, gather, go, cfg.payload.data[0], o)
        m.d.sync += self.sts_error.eq(self.sts_error | gather.wrong)
        return m

    def _step(self, m: Module, gather: Any, go: Value, gamma: Value, o: Any) -> None:
        """A bias a cycle; the queue has room for all of a batch."""
        m.submodules.compare = compare = Shared(Compare, self.spec)
        m.submodules.add = add = Shared(Add)
        m.submodules.queue = queue = Shared(StreamFIFO, o.payload.shape(), self.spec.experts)
        tag = Cat(gather.last, compare.more | compare.less, gather.b)
        held = delay(m, tag, latency.ADD, "held")
        m.d.comb += [
            compare.count.eq(gather.count),
            compare.total.eq(gather.total),
            add.a.eq(gather.b),
            add.b.eq(Cat(gamma[:31], gamma[31] ^ compare.more)),
            queue.i.valid.eq(delay(m, go, latency.ADD, "valid", init=0)),
            queue.i.payload.last.eq(held[0]),
            queue.i.payload.data[0].eq(Mux(held[1], add.o, held[2:])),
        ]
        wiring.connect(m, queue.o, wiring.flipped(o))
