"""Skid buffer: cuts every combinational path of a stream."""

from collections.abc import Sequence
from typing import Any

from amaranth.hdl import Module, Shape, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from golden import latency
from golden.ports import StreamPort
from hdl.shared import Shared
from hdl.stream.signature import stream_signature


class Skid(wiring.Component):
    """Two places between ``i`` and ``o``; payload, ``valid`` and ``ready`` all come out of registers.

    Latency     1 cycle from an accepted item to the same item at ``o``.
    Throughput  one item per cycle; ``i`` is refused only while both places are taken.

    Members
    -------
    i : In(stream of shape); o : Out(stream of shape).
    """

    kind = "skid"
    latency = latency.SKID
    depth = 2

    def __init__(self, shape: Any):
        self.shape = shape
        super().__init__({"i": In(stream.Signature(shape)), "o": Out(stream.Signature(shape))})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        width = Shape.cast(self.shape).width
        first = Signal(width, reset_less=True)
        second = Signal(width, reset_less=True)
        full = Signal()

        m.d.comb += [self.i.ready.eq(~full), Value.cast(self.o.payload).eq(first)]
        with m.If(~self.o.valid | self.o.ready):
            m.d.sync += [self.o.valid.eq(self.i.valid | full), full.eq(0)]
            with m.If(full):
                m.d.sync += first.eq(second)
            with m.Else():
                m.d.sync += first.eq(Value.cast(self.i.payload))
        with m.Elif(self.i.valid & self.i.ready):
            m.d.sync += [full.eq(1), second.eq(Value.cast(self.i.payload))]
        return m


def skid(m: Module, port: StreamPort, source: Any, sink: Any) -> None:
    """Place a skid buffer between two streams of ``port``, as ``skid_<name>``: it cuts all combinational paths."""
    m.submodules[f"skid_{port.name}"] = buffer = Shared(Skid, port.width + bool(port.last))
    m.d.comb += [
        buffer.i.payload.eq(source.payload.as_value()),
        buffer.i.valid.eq(source.valid),
        source.ready.eq(buffer.i.ready),
        sink.payload.as_value().eq(buffer.o.payload),
        sink.valid.eq(buffer.o.valid),
        buffer.o.ready.eq(sink.ready),
    ]


def skids(m: Module, component: Any, ports: Sequence[StreamPort]) -> dict[str, Any]:
    """Place a skid buffer at each of ``component``'s streams ``ports``. Returns the streams behind them, by name."""
    streams = {port.name: stream_signature(port).create() for port in ports}
    for port in ports:
        outside, inside = getattr(component, port.name), streams[port.name]
        skid(m, port, *((outside, inside) if port.direction == "in" else (inside, outside)))
    return streams
