"""Exact sums to FP32 results."""

from typing import Any

from amaranth.hdl import Cat, Module, Mux, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from golden import latency
from golden.formats import FLOATS
from hdl.arith.bits import named
from hdl.arith.delay import delay
from hdl.arith.floats import FINITE, Convert, Multiply, Round
from hdl.shared import Shared
from hdl.stream.credit import Credit
from hdl.stream.fifo import StreamFIFO


def sums_layout(lanes: int, width: int) -> data.StructLayout:
    """Exact sums side by side, and whether they are their token's last."""
    return data.StructLayout({"data": data.ArrayLayout(signed(width), lanes), "last": 1})


class Scaling(wiring.Component):
    """``fp32(fp32(y * 2**(e + grid)) * scale)``, of several sums side by side, or that rounded to FP16.

    Latency     ``ROUND + MULTIPLY + QUEUE`` cycles, for FP16 ``CONVERT`` more.
    Throughput  a beat per cycle.

    Parameters
    ----------
    lanes : sums per beat.
    width : of a sum, with its sign.
    low, high : range of ``e + grid``.
    out : format of the results.

    Members
    -------
    i : In(stream of sums with last); scale : In(stream of FP32), as the sums; exponent : In(stream), one for all beats
    up to ``last``, ``e + grid - low``; o : Out(stream of results with last).
    """

    kind = "scaling"

    def __init__(self, lanes: int, width: int, low: int, high: int, out: str = "fp32"):
        self.lanes, self.width = lanes, width
        self.low, self.high = low, high
        self.out = FLOATS[out]
        results = data.StructLayout({"data": data.ArrayLayout(self.out.bits, lanes), "last": 1})
        super().__init__(
            {
                "i": In(stream.Signature(sums_layout(lanes, width))),
                "scale": In(stream.Signature(data.ArrayLayout(32, lanes))),
                "exponent": In(stream.Signature(6)),
                "o": Out(stream.Signature(results)),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        narrow = self.out.bits < 32
        under_way = latency.ROUND + latency.MULTIPLY + (latency.CONVERT if narrow else 0)
        depth = under_way + latency.QUEUE + 2
        m.submodules.credit = credit = Credit(depth)
        m.submodules.queue = queue = Shared(StreamFIFO, self.o.payload.shape(), depth)
        take = named(m, self.i.valid & self.scale.valid & self.exponent.valid & credit.ready, "take")
        results = []
        for lane in range(self.lanes):
            m.submodules[f"round_{lane}"] = rounded = Shared(Round, self.width, self.low, self.high)
            m.submodules[f"multiply_{lane}"] = multiply = Shared(Multiply, "fp32")
            y = self.i.payload.data[lane]
            scale = delay(m, self.scale.payload[lane], latency.ROUND, f"scale_{lane}")
            m.d.comb += [
                rounded.magnitude.eq(Mux(y[-1], -y, y)),
                rounded.negative.eq(y[-1]),
                rounded.exponent.eq(self.exponent.payload + self.low),
                rounded.special.eq(FINITE),
                multiply.a.eq(rounded.o),
                multiply.b.eq(scale),
            ]
            results.append(multiply.o)
            if narrow:
                m.submodules[f"convert_{lane}"] = convert = Shared(Convert, self.out.name)
                m.d.comb += convert.i.eq(multiply.o)
                results[lane] = convert.o
        m.d.comb += [
            *(s.ready.eq(take) for s in (self.i, self.scale)),
            self.exponent.ready.eq(take & self.i.payload.last),
            credit.take.eq(take),
            credit.give.eq(self.o.valid & self.o.ready),
            queue.i.valid.eq(delay(m, take, under_way, "there", init=0)),
            queue.i.payload.data.eq(Cat(results)),
            queue.i.payload.last.eq(delay(m, self.i.payload.last, under_way, "last")),
        ]
        wiring.connect(m, queue.o, wiring.flipped(self.o))
        return m
