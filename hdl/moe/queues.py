"""Who computes which tokens: the table of experts, the queues of a batch and their entries."""

from typing import Any

from amaranth.hdl import Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from golden.moe.expert import ExpertFFNSpec
from hdl.arith.bits import index_bits, named
from hdl.stream.signature import lane_shape, stream_signature


class Queues(wiring.Component):
    """Two readers take the experts in turn, the shared one first: ``fetch_...``, which runs ahead, and, without a
    prefix, the one that is computed.

    Members
    -------
    desc, job, entry : In(streams, as of the unit); begin, load : In(1), a batch begins, a table comes with it; end :
    In(1), it is over; ready : Out(1), the table is there; fetch_next, next : In(1), a reader goes on; fetch_known,
    known : Out(1), its expert is there (of the second reader with its entries), or it is certain that there is none:
    fetch_none, none : Out(1); fetch_number : Out, which expert; fetch_expert, expert : Out, from the table; count :
    Out, of the queue that is computed, not of the shared expert; place_0, place_1 : In, numbers in that queue; entry_0,
    entry_1 : Out, those entries in the next cycle.
    """

    kind = "queues"

    def __init__(self, spec: ExpertFFNSpec):
        self.spec = spec
        members: dict[str, Any] = {name: In(stream_signature(spec.port(name))) for name in ("desc", "job", "entry")}
        for name in ("begin", "load", "end", "next", "fetch_next"):
            members[name] = In(1)
        for name in ("ready", "known", "none", "fetch_known", "fetch_none"):
            members[name] = Out(1)
        for name in ("expert", "fetch_expert"):
            members[name] = Out(lane_shape(spec.port("desc")))
        members["fetch_number"] = Out(spec.experts.bit_length())
        for reader in range(2):
            members[f"place_{reader}"] = In(index_bits(spec.tokens))
            members[f"entry_{reader}"] = Out(lane_shape(spec.port("entry")))
        super().__init__(members | {"count": Out(spec.tokens.bit_length())})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        active = Signal()
        with m.If(self.begin):
            m.d.sync += active.eq(1)
        with m.If(self.end):
            m.d.sync += active.eq(0)
        table = self._table(m)
        self._jobs(m, active, table)
        return m

    def _table(self, m: Module) -> Any:
        """Experts as they come; two of them can be read in a cycle."""
        shape = lane_shape(self.spec.port("desc"))
        m.submodules.table = table = Memory(shape=shape, depth=self.spec.experts + 1, init=[])
        write = table.write_port()
        at = Signal.like(write.addr)
        coming = Signal()
        take = named(m, self.desc.valid & coming, "take_desc")
        m.d.comb += [
            self.ready.eq(~coming),
            self.desc.ready.eq(coming),
            write.addr.eq(at),
            write.data.eq(self.desc.payload.data[0]),
            write.en.eq(take),
        ]
        with m.If(take):
            m.d.sync += [at.eq(Mux(self.desc.payload.last, 0, at + 1)), coming.eq(~self.desc.payload.last)]
        with m.If(self.begin):
            m.d.sync += coming.eq(self.load)
        return table

    def _jobs(self, m: Module, active: Value, table: Any) -> None:
        spec = self.spec
        m.submodules.jobs = jobs = Memory(shape=lane_shape(spec.port("job")), depth=spec.experts + 1, init=[])
        write = jobs.write_port()
        stored = Signal(range(spec.experts + 2))
        complete = Signal()  # no more will come
        announced = Signal(range(spec.entries + 1))  # entries of the queues so far
        came, entries = self._entries(m, announced)
        take = named(m, self.job.valid & self.job.ready, "take_job")
        real = named(m, self.job.payload.data[0].valid & (stored <= spec.experts), "real")
        m.d.comb += [
            self.job.ready.eq(active & ~complete),
            write.addr.eq(stored),
            write.data.eq(self.job.payload.data[0]),
            write.en.eq(take & real),
        ]
        with m.If(take):
            m.d.sync += [stored.eq(stored + real), complete.eq(self.job.payload.last)]
            with m.If(real):
                m.d.sync += announced.eq(self.job.payload.data[0].first + self.job.payload.data[0].count)
        with m.If(self.end):
            m.d.sync += [stored.eq(0), complete.eq(0), announced.eq(0)]
        fetched, _, number = self._reader(m, "fetch_", jobs, table, stored, complete, self.fetch_next)
        there, job, _ = self._reader(m, "", jobs, table, stored, complete, self.next)
        m.d.comb += [
            self.fetch_number.eq(number),
            self.fetch_known.eq(fetched | self.fetch_none),
            self.known.eq((there & (came >= job.first + job.count)) | self.none),
            self.count.eq(job.count),
        ]
        for reader, memory in enumerate(entries):
            read = memory.read_port()
            m.d.comb += [
                read.addr.eq(job.first + getattr(self, f"place_{reader}")),
                Value.cast(getattr(self, f"entry_{reader}")).eq(read.data),
            ]

    def _reader(
        self, m: Module, name: str, jobs: Any, table: Any, stored: Value, complete: Value, next_: Value
    ) -> tuple[Value, Any, Value]:
        """Whether its queue has come, the queue, and whose it is."""
        turn = Signal(range(self.spec.experts + 2), name=f"{name}turn")
        shared = Signal(init=1, name=f"{name}shared")  # the expert that comes first
        reads = jobs.read_port(domain="comb"), table.read_port(domain="comb")
        m.d.comb += [
            reads[0].addr.eq(turn),
            reads[1].addr.eq(Mux(shared, 0, reads[0].data.expert + 1)),
            getattr(self, f"{name}expert").eq(reads[1].data),
            getattr(self, f"{name}none").eq(~shared & complete & (turn == stored)),
        ]
        with m.If(next_):
            m.d.sync += [shared.eq(0), turn.eq(turn + ~shared)]
        with m.If(self.end):
            m.d.sync += [shared.eq(1), turn.eq(0)]
        return named(m, shared | (turn < stored), f"{name}there"), reads[0].data, reads[1].addr

    def _entries(self, m: Module, announced: Value) -> tuple[Signal, list[Any]]:
        """How many have come, and a copy of them for each reader."""
        spec = self.spec
        shape = lane_shape(spec.port("entry"))
        memories = []
        came = Signal(range(spec.entries + 1))
        take = named(m, self.entry.valid & self.entry.ready, "take_entry")
        m.d.comb += self.entry.ready.eq(came < announced)
        for reader in range(2):
            m.submodules[f"entries_{reader}"] = memory = Memory(shape=shape, depth=max(2, spec.entries), init=[])
            write = memory.write_port()
            m.d.comb += [write.addr.eq(came), write.data.eq(self.entry.payload.data[0]), write.en.eq(take)]
            memories.append(memory)
        with m.If(take):
            m.d.sync += came.eq(came + 1)
        with m.If(self.end):
            m.d.sync += came.eq(0)
        return came, memories
