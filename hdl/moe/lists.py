"""What comes into an expert cache: the table of all experts, and list after list of keys."""

from typing import Any

from amaranth.hdl import Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from golden.moe.cache import ExpertCacheSpec
from hdl.arith.bits import index_bits, named
from hdl.stream.signature import lane_shape, stream_signature


class Lists(wiring.Component):
    """A table in a memory with synchronous read, one list in a small one; both only ever taken whole.

    Members
    -------
    desc, i : In(stream); table, collect : In(1), that comes now; table_ends : Out(1); free : In, so many keys of a
    list of needs are marked; begins : Out(1), a list's first beat comes; takes : Out(1), a key of it; ends :
    Out(1), its last beat; ended, need, final : Out(1), of the list; mark : Out(1), the key is marked; none :
    Out(1), it has no keys. marking : In(1): key : Out is that which came last, else that whose turn it is, with pin
    : Out(1), and ``place`` : Out a cycle later; next : In(1), on to the next; last : Out(1), there is none; close :
    In(1), the list is over. errors : Out(3), bits 0 to 2 of the unit's status.
    """

    kind = "lists"

    def __init__(self, spec: ExpertCacheSpec):
        self.spec = spec
        ins = ("table", "collect", "marking", "next", "close")
        outs = ("table_ends", "begins", "takes", "ends", "ended", "need", "final", "mark", "none", "pin", "last")
        super().__init__(
            dict.fromkeys(ins, In(1))
            | dict.fromkeys(outs, Out(1))
            | {name: In(stream_signature(spec.port(name))) for name in ("desc", "i")}
            | {
                "free": In(spec.slots.bit_length()),
                "key": Out(spec.key_bits),
                "place": Out(lane_shape(spec.port("desc"))),
                "errors": Out(3),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        spec = self.spec
        came = Signal(spec.key_bits, reset_less=True)  # the key that came last
        known = self._table(m)
        count, turn = Signal(range(spec.most + 1), name="count"), Signal(range(spec.most + 1), name="turn")
        self._collect(m, known, count, came)
        key = self._memory(m, count, turn)
        m.d.comb += [
            self.none.eq(count == 0),
            self.last.eq(turn + 1 == count),
            self.key.eq(Mux(self.marking, came, key)),
        ]
        with m.If(self.close):
            m.d.sync += [count.eq(0), turn.eq(0)]
        with m.Elif(self.takes):
            m.d.sync += count.eq(count + 1)
        with m.Elif(self.next):
            m.d.sync += turn.eq(turn + 1)
        return m

    def _table(self, m: Module) -> Signal:
        """Returns how many keys it has."""
        spec = self.spec
        m.submodules.table_memory = table = Memory(
            shape=lane_shape(spec.port("desc")), depth=max(2, spec.keys), init=[]
        )
        write, read = table.write_port(), table.read_port()
        known = Signal(range(spec.keys + 1))
        first = Signal(init=1, name="first_entry")
        at = named(m, Mux(first, 0, known), "at")
        full = named(m, at == spec.keys, "full")
        take = named(m, self.desc.valid & self.table, "take_desc")
        m.d.comb += [
            self.desc.ready.eq(self.table),
            self.table_ends.eq(take & self.desc.payload.last),
            write.en.eq(take & ~full),
            write.addr.eq(at),
            write.data.eq(self.desc.payload.data[0]),
            read.addr.eq(self.key),
            self.place.eq(read.data),
            self.errors[2].eq(take & full),
        ]
        with m.If(take):
            m.d.sync += [known.eq(at + ~full), first.eq(self.desc.payload.last)]
        return known

    def _collect(self, m: Module, known: Value, count: Value, came: Value) -> None:
        beat, last = self.i.payload.data[0], self.i.payload.last
        first = Signal(init=1)
        accept = named(m, self.i.valid & self.collect, "accept")
        names = named(m, accept & beat.valid, "names")
        need = named(m, Mux(first, beat.need, self.need), "now_need")
        m.d.comb += [
            self.i.ready.eq(self.collect),
            self.begins.eq(accept & first),
            self.errors[0].eq(names & (beat.key >= known)),
            self.errors[1].eq(names & ~self.errors[0] & (count == self.spec.most)),
            self.takes.eq(names & ~self.errors[:2].any()),
            self.ends.eq(accept & last),
        ]
        with m.If(accept):
            m.d.sync += [first.eq(last), self.need.eq(need), self.final.eq(beat.final), self.ended.eq(last)]
            m.d.sync += [came.eq(beat.key), self.mark.eq(~need | (count < self.free))]

    def _memory(self, m: Module, count: Value, turn: Value) -> Value:
        """The list's keys and pins. Returns the key whose turn it is."""
        spec, beat = self.spec, self.i.payload.data[0]
        m.submodules.list_memory = memory = Memory(shape=spec.key_bits + 1, depth=max(2, spec.most), init=[])
        write, read = memory.write_port(), memory.read_port(domain="comb")
        bits = index_bits(max(2, spec.most))
        m.d.comb += [
            write.en.eq(self.takes),
            write.addr.eq(count[:bits]),
            write.data.eq(Value.cast(beat.key) | (beat.pin << spec.key_bits)),
            read.addr.eq(turn[:bits]),
            self.pin.eq(read.data[-1]),
        ]
        return read.data[:-1]
