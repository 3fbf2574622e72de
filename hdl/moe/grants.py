"""Grants of an expert cache: who is next, and whose job is not done."""

from typing import Any

from amaranth.hdl import Module, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from golden.moe.cache import WAIT_BITS, ExpertCacheSpec
from hdl.arith.bits import choose, named
from hdl.shared import Shared
from hdl.stream.fifo import StreamFIFO
from hdl.stream.signature import stream_signature


def need_layout(spec: ExpertCacheSpec) -> data.StructLayout:
    """A need that is decided; ``valid`` 0: a list without needs."""
    flags = dict.fromkeys(("valid", "miss", "late", "last"), 1)
    return data.StructLayout({"key": spec.key_bits, "slot": spec.slot_bits, **flags})


class Grants(wiring.Component):
    """Needs in order, each out as soon as its slot is ready; a failed load is asked for once more.

    Members
    -------
    i : In(stream of needs); ready, loading : In, masks of slots; again : Out(1), again_slot : Out, load that once more;
    repeats : In(1), that goes out; grant : Out(stream), done : In(stream); over : Out(1), a job of over_slot : Out is
    done; strange : Out(1), ``done`` named another slot; empty : Out(1), no need waits.
    """

    kind = "grants"

    def __init__(self, spec: ExpertCacheSpec):
        self.spec = spec
        super().__init__(
            {
                "i": In(stream.Signature(need_layout(spec))),
                "ready": In(spec.slots),
                "loading": In(spec.slots),
                "again": Out(1),
                "again_slot": Out(spec.slot_bits),
                "repeats": In(1),
                "grant": Out(stream_signature(spec.port("grant"))),
                "done": In(stream_signature(spec.port("done"))),
                "over": Out(1),
                "over_slot": Out(spec.slot_bits),
                "strange": Out(1),
                "empty": Out(1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        spec = self.spec
        m.submodules.needs = needs = Shared(StreamFIFO, need_layout(spec), spec.queue)
        m.submodules.jobs = jobs = Shared(StreamFIFO, spec.slot_bits, spec.queue)
        wiring.connect(m, wiring.flipped(self.i), needs.i)
        head = needs.o.payload
        first = named(m, needs.o.valid & head.valid, "first")
        ready = named(m, choose(self.ready, 1, head.slot), "is_ready")
        nothing = named(m, first & ~ready & ~choose(self.loading, 1, head.slot), "nothing")
        tried = Signal()
        failed = named(m, nothing & tried, "failed")
        may = named(m, needs.o.valid & (~head.valid | ((ready | failed) & jobs.i.ready)), "may")
        out = named(m, may & self.grant.ready, "out")
        m.d.comb += [
            self.again.eq(nothing & ~tried),
            self.again_slot.eq(head.slot),
            self.empty.eq(~needs.o.valid),
            needs.o.ready.eq(out),
            jobs.i.valid.eq(out & head.valid),
            jobs.i.payload.eq(head.slot),
        ]
        m.d.sync += tried.eq((tried | self.repeats) & ~out)
        self._grant(m, head, may, failed, self._wait(m, first & ~ready & ~failed, out))
        self._done(m, jobs)
        return m

    def _wait(self, m: Module, waits: Value, out: Value) -> Signal:
        """Cycles for which the first need was not loaded."""
        wait = Signal(WAIT_BITS)
        with m.If(out):
            m.d.sync += wait.eq(0)
        with m.Elif(waits & ~wait.all()):
            m.d.sync += wait.eq(wait + 1)
        return wait

    def _grant(self, m: Module, head: Any, may: Value, failed: Value, wait: Value) -> None:
        fields = self.grant.payload.data[0]
        m.d.comb += [
            self.grant.valid.eq(may),
            self.grant.payload.last.eq(head.last),
            *(fields[name].eq(head[name]) for name in ("key", "slot", "valid", "miss", "late")),
            fields.failed.eq(failed),
            fields.wait.eq(wait),
        ]

    def _done(self, m: Module, jobs: Any) -> None:
        m.d.comb += [
            self.done.ready.eq(jobs.o.valid),
            self.over.eq(jobs.o.valid & self.done.valid),
            jobs.o.ready.eq(self.over),
            self.over_slot.eq(jobs.o.payload),
            self.strange.eq(self.over & (self.done.payload.data[0] != jobs.o.payload)),
        ]
