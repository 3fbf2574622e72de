"""The power-of-two scale of a token: the logarithm of the sum of its magnitudes."""

from typing import Any

from amaranth.hdl import C, Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from golden.kmeans import token
from golden.kmeans.quantizer import SHIFT_BITS, QuantizerSpec
from hdl.arith.bits import leading_one, named, shift_left
from hdl.arith.delay import delay
from hdl.arith.tree import sum_tree
from hdl.shared import Shared
from hdl.stream.signature import payload_layout


class Magnitude(wiring.Component):
    """``|x|`` in steps of the smallest FP16 number.

    Latency     none, combinational.

    Members
    -------
    x : In(16), FP16; o : Out(41).
    """

    kind = "magnitude"

    def __init__(self) -> None:
        super().__init__({"x": In(16), "o": Out(token.X_BITS - 1)})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        field, fraction = self.x[10:15], self.x[:10]
        normal = named(m, field.any(), "normal")
        up = named(m, field - normal, "up")[:5]
        significand = Cat(fraction, normal, C(0, token.X_BITS - 1 - 11))
        m.d.comb += self.o.eq(shift_left(m, significand, up, "shifted"))
        return m


class MeanScale(wiring.Component):
    """Where the highest bit of a token's sum of magnitudes is.

    Latency     ``spec.settle`` cycles from a token's last row to ``done``.
    Throughput  a row per cycle.

    Members
    -------
    magnitudes : In(lanes of 41 bits), of a row; write, last : In(1), a row is there, the token's last one;
    done : Out(1); log : Out, of 0 if the sum is 0, while ``done``; zero : Out(1).
    """

    kind = "mean_scale"

    def __init__(self, spec: QuantizerSpec):
        self.spec = spec
        super().__init__(
            {
                "magnitudes": In(spec.lanes * (token.X_BITS - 1)),
                "write": In(1),
                "last": In(1),
                "done": Out(1),
                "log": Out(spec.log_width),
                "zero": Out(1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        spec = self.spec
        each = delay(m, self.magnitudes, 1, "held")
        terms = [each.word_select(i, token.X_BITS - 1) for i in range(spec.lanes)]
        row = sum_tree(m, terms, "row")
        before = spec.settle - 3  # cycles from a row to its sum
        write, last = (
            delay(m, s, before, n, init=0) for s, n in ((self.write, "write_then"), (self.last, "last_then"))
        )
        total = Signal(spec.sum_width)
        ended = Signal(init=1)  # the next row begins a token
        with m.If(write):
            m.d.sync += [total.eq(Mux(ended, 0, total) + row), ended.eq(last)]
        m.d.sync += [self.log.eq(leading_one(total)), self.zero.eq(~total.any())]
        m.d.comb += self.done.eq(delay(m, write & last, 2, "done_then", init=0))
        return m


class TokenScales(wiring.Component):
    """The scales of the tokens that are in memory, the older one first.

    Latency     ``spec.settle`` cycles from a token's last row to ``ready``.

    Members
    -------
    row : In(lanes of activations); write, last : In(1), a row is there, the token's last one; strange : Out(1), an
    activation of it is not finite; ready : Out(1), bank : Out(1), log, zero : Out, the older token's scale is there;
    taken : In(1), it is no longer needed.
    """

    kind = "token_scales"

    def __init__(self, spec: QuantizerSpec):
        self.spec = spec
        super().__init__(
            {
                "row": In(payload_layout(spec.port("i"))["data"].shape),
                "write": In(1),
                "last": In(1),
                "strange": Out(1),
                "ready": Out(1),
                "bank": Out(1),
                "log": Out(spec.log_width),
                "zero": Out(1),
                "taken": In(1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.mean = mean = Shared(MeanScale, self.spec)
        m.d.comb += [mean.write.eq(self.write), mean.last.eq(self.last)]
        for i, lane in enumerate(self.row):
            m.submodules[f"magnitude_{i}"] = magnitude = Shared(Magnitude)
            m.d.comb += [
                magnitude.x.eq(lane.x),
                mean.magnitudes.word_select(i, token.X_BITS - 1).eq(Mux(lane.valid, magnitude.o, 0)),
            ]
        m.d.comb += self.strange.eq(Cat(lane.valid & lane.x[10:15].all() for lane in self.row).any())
        logs = Signal(data.ArrayLayout(len(self.log), 2), reset_less=True)
        zeros, ready, newer = Signal(2, reset_less=True), Signal(2), Signal()
        m.d.comb += [
            self.ready.eq(ready.bit_select(self.bank, 1)),
            self.log.eq(logs[self.bank]),
            self.zero.eq(zeros.bit_select(self.bank, 1)),
        ]
        with m.If(self.taken):
            m.d.sync += [ready.bit_select(self.bank, 1).eq(0), self.bank.eq(~self.bank)]
        with m.If(mean.done):
            m.d.sync += [
                logs[newer].eq(mean.log),
                zeros.bit_select(newer, 1).eq(mean.zero),
                ready.bit_select(newer, 1).eq(1),
                newer.eq(~newer),
            ]
        return m


class Exponent(wiring.Component):
    """``e - GRID``, of 0 to 35: from the logarithm of the sum of a token's magnitudes, in steps, and its shift.

    Latency     none, combinational.

    Members
    -------
    log : In; zero : In(1), the sum is zero; shift : In; o : Out(6).
    """

    kind = "exponent"

    def __init__(self, log_width: int):
        self.log_width = log_width
        super().__init__({"log": In(log_width), "zero": In(1), "shift": In(SHIFT_BITS), "o": Out(6)})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        above = Signal(signed(max(self.log_width, SHIFT_BITS) + 2))
        most = token.EXPONENTS[1] - token.GRID
        m.d.comb += above.eq(self.log - self.shift)
        with m.If((above > 0) & ~self.zero):
            m.d.comb += self.o.eq(Mux(above > most, most, above))
        return m


def signed_exponent(above: Value) -> Value:
    """``e`` itself."""
    return (above + token.GRID)[:6]
