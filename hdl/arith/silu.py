"""SiLU and SwiGLU of FP32 numbers: lock-step pipelines like those of :mod:`hdl.arith.floats`."""

from typing import Any

from amaranth.hdl import C, Cat, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from golden.formats import FLOATS
from golden.moe.swiglu import SiluSpec
from hdl.arith.bits import named
from hdl.arith.delay import delay
from hdl.arith.floats import FINITE, NAN, Convert, Multiply, Round, Unpacked, unpack
from hdl.shared import Shared


class Sigmoid(wiring.Component):
    """Sigmoid of an FP32 number as an integer of units of ``2^-bits``, 0 to 1 inclusive; of NaN it means nothing.

    Latency     ``latency`` = 4 cycles: fixed point, table, product, sum.

    Members
    -------
    z : In(32); o : Out(spec.bits + 1).
    """

    kind = "sigmoid"
    latency = 4

    def __init__(self, spec: SiluSpec):
        self.spec = spec
        super().__init__({"z": In(32), "o": Out(spec.bits + 1)})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        spec = self.spec
        z = unpack(self.z, "fp32")
        fixed = delay(m, self._fixed(m, z), 1, "fixed")
        base, rise = self._line(m, fixed[spec.place_bits :])
        place = delay(m, fixed[: spec.place_bits], 1, "place")
        product = delay(m, rise * place, 1, "product")
        base = delay(m, base, 1, "base")
        half = C(1 << (spec.place_bits - 1), spec.place_bits)
        rounded = Signal(spec.place_bits + spec.bits + 1)
        value = Signal(spec.bits + 1)
        one = C(1 << spec.bits)
        m.d.comb += [
            rounded.eq(Cat(half, base) + product),
            value.eq(Mux(delay(m, z.exponent >= 127 + spec.reach, 3, "beyond"), one, rounded[spec.place_bits :])),
            self.o.eq(delay(m, Mux(delay(m, z.negative, 3, "negative"), (one - value)[: len(value)], value), 1, "o")),
        ]
        return m

    def _fixed(self, m: Module, z: Unpacked) -> Value:
        """``|z|`` in fixed point; out of reach it means nothing."""
        width = self.spec.reach + self.spec.bits
        top = Cat(C(0, max(0, width - 24)), z.significand[max(0, 24 - width) :])
        down = Signal(range(width + 1))
        distance = named(m, 126 + self.spec.reach - z.exponent, "distance")
        m.d.comb += down.eq(Mux(distance > width, width, distance))
        return top >> down

    def _line(self, m: Module, index: Value) -> tuple[Value, Value]:
        """Value and rise of a line, a cycle later."""
        width = self.spec.bits + 1
        lines = [int(base) | int(rise) << width for base, rise in zip(*self.spec.table, strict=True)]
        m.submodules.lines = memory = Memory(shape=width + self.spec.rise_bits, depth=len(lines), init=lines)
        port = memory.read_port()
        m.d.comb += port.addr.eq(index)
        return port.data[:width], port.data[width:]


class Silu(wiring.Component):
    """``o = silu(z)``; the datasheet is :class:`golden.moe.swiglu.SiluSpec`.

    Latency     ``latency`` cycles: the sigmoid, its product with the significand, :class:`~hdl.arith.floats.Round`.

    Members
    -------
    z : In(32); o : Out(32).
    """

    kind = "silu"

    def __init__(self, spec: SiluSpec):
        self.spec = spec
        self.latency = spec.latency
        super().__init__({"z": In(32), "o": Out(32)})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        bits = self.spec.bits
        m.submodules.sigmoid = sigmoid = Shared(Sigmoid, self.spec)
        z = unpack(delay(m, self.z, Sigmoid.latency, "z_held"), "fp32")
        less = 127 + 23 + bits
        m.submodules.round = rounded = Shared(Round, 24 + bits + 1, 1 - less, 255 - less)
        # infinities need no care: times 1 they are too large, and times 0 nothing, for their significand is finite
        m.d.comb += [
            sigmoid.z.eq(self.z),
            rounded.magnitude.eq(delay(m, z.significand * sigmoid.o, 1, "product")),
            rounded.negative.eq(delay(m, z.negative, 1, "negative")),
            rounded.exponent.eq(delay(m, z.exponent, 1, "exponent") - less),
            rounded.special.eq(delay(m, Mux(z.kind == NAN, C(NAN, 2), C(FINITE, 2)), 1, "special")),
            self.o.eq(rounded.o),
        ]
        return m


class SwiGLU(wiring.Component):
    """``o = silu(g) * u`` as FP16 (``fmt``) or FP32: :func:`golden.moe.swiglu.swiglu`.

    Latency     ``latency`` cycles: :class:`Silu`, :class:`~hdl.arith.floats.Multiply` and, for FP16,
                :class:`~hdl.arith.floats.Convert`.

    ``SpecError`` for another format.

    Members
    -------
    g, u : In(32); o : Out(16 or 32).
    """

    kind = "swiglu"

    def __init__(self, spec: SiluSpec, fmt: str = "fp16"):
        self.spec = spec
        self.fmt = fmt
        self.latency = spec.swiglu_latency(fmt)
        super().__init__({"g": In(32), "u": In(32), "o": Out(FLOATS[fmt].bits)})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.silu = silu = Shared(Silu, self.spec)
        m.submodules.multiply = multiply = Shared(Multiply, "fp32")
        m.d.comb += [
            silu.z.eq(self.g),
            multiply.a.eq(silu.o),
            multiply.b.eq(delay(m, self.u, self.spec.latency, "u_held")),
        ]
        if self.fmt == "fp32":
            m.d.comb += self.o.eq(multiply.o)
            return m
        m.submodules.convert = convert = Shared(Convert, "fp16")
        m.d.comb += [convert.i.eq(multiply.o), self.o.eq(convert.o)]
        if self.spec.saturate:
            with m.If(convert.o[:15] == 0x7C00):
                m.d.comb += self.o[:15].eq(0x7BFF)
        return m
