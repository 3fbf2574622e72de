"""A unit that another unit works with, too."""

from typing import Any

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from golden.spec import UnitSpec
from hdl.arith.bits import named
from hdl.shared import Shared
from hdl.stream.away import PREFIX
from hdl.stream.signature import stream_members


class Lent(wiring.Component):
    """A unit with its streams twice: its own, and under ``engine_...`` those of the unit that works with it.

    Whenever it changes hands it is reset, in the first cycle, so that nothing of a job is left in it for one of another
    kind. No beat may come in that cycle. No latency.

    Members
    -------
    the unit's; engine_... : the same again; lends : In(1), these are connected, else the unit's own.
    """

    kind = "lent"

    def __init__(self, component: Any, spec: UnitSpec):
        self.component = component
        self.spec = spec
        members = stream_members(spec.ports) | {s.signal: Out(s.width) for s in spec.status}
        super().__init__(members | {f"{PREFIX}{name}": member for name, member in members.items()} | {"lends": In(1)})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        before = Signal()
        m.d.sync += before.eq(self.lends)
        changes = named(m, self.lends ^ before, "changes")
        m.submodules.unit = unit = Shared(self.component, self.spec, reset=changes)
        for port in self.spec.ports:
            inner = getattr(unit, port.name)
            mine, other = (getattr(self, f"{prefix}{port.name}") for prefix in ("", PREFIX))
            if port.direction == "in":
                m.d.comb += [
                    inner.payload.eq(Mux(self.lends, other.payload, mine.payload)),
                    inner.valid.eq(Mux(self.lends, other.valid, mine.valid)),
                    mine.ready.eq(inner.ready & ~self.lends),
                    other.ready.eq(inner.ready & self.lends),
                ]
            else:
                m.d.comb += [
                    *(to.payload.eq(inner.payload) for to in (mine, other)),
                    mine.valid.eq(inner.valid & ~self.lends),
                    other.valid.eq(inner.valid & self.lends),
                    inner.ready.eq(Mux(self.lends, other.ready, mine.ready)),
                ]
        for status in self.spec.status:
            m.d.comb += [getattr(self, f"{p}{status.signal}").eq(getattr(unit, status.signal)) for p in ("", PREFIX)]
        return m
