"""A unit with all channels of AXI4 and AXI4-Lite, for the tests of their export: each access to its registers is one of
one word of memory. Wires only."""

from typing import Any, ClassVar

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import Out

from gen.registry import Unit
from golden.axi import INCR, axi4_lite_slave, axi4_master
from golden.ports import StatusPort, StreamPort
from golden.spec import UnitSpec
from hdl.stream.signature import stream_members

WORD = 2  # log2 of the bytes of a word


class BridgeSpec(UnitSpec):
    unit: ClassVar[str] = "axi_bridge"

    @property
    def ports(self) -> tuple[StreamPort, ...]:
        return (*axi4_lite_slave("s_axil", 12), *axi4_master("m_axi", 32, 1, 40))

    @property
    def status(self) -> tuple[StatusPort, ...]:
        return (StatusPort("irq", ("an answer is there",), plain=True),)

    def figures(self) -> dict[str, Any]:
        return {}


class Bridge(wiring.Component):
    kind = "bridge"

    def __init__(self, spec: BridgeSpec):
        super().__init__({**stream_members(spec.ports), "irq": Out(1)})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        for near, far in ((self.s_axil_aw, self.m_axi_aw), (self.s_axil_ar, self.m_axi_ar)):
            m.d.comb += [
                far.payload.data[0].addr.eq(near.payload.data[0].addr),
                far.payload.data[0].prot.eq(near.payload.data[0].prot),
                far.payload.data[0].size.eq(WORD),
                far.payload.data[0].burst.eq(INCR),
            ]
        pairs = (
            (self.s_axil_aw, self.m_axi_aw),
            (self.s_axil_ar, self.m_axi_ar),
            (self.s_axil_w, self.m_axi_w),
            (self.m_axi_r, self.s_axil_r),
            (self.m_axi_b, self.s_axil_b),
        )
        for source, sink in pairs:
            m.d.comb += [sink.valid.eq(source.valid), source.ready.eq(sink.ready)]
        near, far = self.s_axil_w.payload.data[0], self.m_axi_w.payload.data[0]
        m.d.comb += [far.data.eq(near.data), far.strb.eq(near.strb), far.last.eq(1)]
        near, far = self.s_axil_r.payload.data[0], self.m_axi_r.payload.data[0]
        m.d.comb += [near.data.eq(far.data), near.resp.eq(far.resp)]
        m.d.comb += [
            self.s_axil_b.payload.data[0].eq(self.m_axi_b.payload.data[0].resp),
            self.irq.eq(self.m_axi_b.valid | self.m_axi_r.valid),
        ]
        return m


UNIT = Unit("axi_bridge", "AXI4-Lite to AXI4", "none", BridgeSpec, Bridge, {"tiny": {}}, "")
