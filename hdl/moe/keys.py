"""From scores to keys and weights."""

from typing import Any

from amaranth.hdl import Cat, Module, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from golden import latency
from golden.moe.fp32 import ONE
from golden.moe.gate import GateSpec
from hdl.arith.bits import index_bits
from hdl.arith.delay import delay
from hdl.arith.floats import Add, Multiply
from hdl.shared import Shared


def sortable(code: Value) -> Value:
    """FP32 as an unsigned integer that sorts as :func:`golden.moe.softmax.order` says."""
    sign = code[-1]
    return Cat(code[:-1] ^ sign.replicate(31), ~sign)


class Keys(wiring.Component):
    """``key = s + b``, ``weight = 1 + s * u``, and whether ``s >= tau``: a pipeline, and the table of b and u.

    Latency     ``spec.depth`` cycles; a score per cycle.

    Members
    -------
    write, address, entry : In, of the table; tau : In(32), steady while scores come; valid, expert, score, last : In;
    o_valid, o_expert, o_last, key, weight, above : Out.
    """

    kind = "keys"

    def __init__(self, spec: GateSpec):
        self.spec = spec
        expert = index_bits(spec.experts)
        super().__init__(
            {
                "write": In(1),
                "address": In(expert),
                "entry": In(32 * max(1, len(spec.parameters_of_experts))),
                "tau": In(32),
                "valid": In(1),
                "expert": In(expert),
                "score": In(32),
                "last": In(1),
                "o_valid": Out(1),
                "o_expert": Out(expert),
                "o_last": Out(1),
                "key": Out(32),
                "weight": Out(32),
                "above": Out(1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        spec = self.spec
        entry = self._table(m) if spec.parameters_of_experts else Signal(32)
        above = sortable(self.score) >= sortable(self.tau)
        m.d.comb += [
            self.o_valid.eq(delay(m, self.valid, spec.depth, "valid_held", init=0)),
            Cat(self.o_last, self.above, self.o_expert).eq(
                delay(m, Cat(self.last, above, self.expert), spec.depth, "held")
            ),
            self.key.eq(self._key(m, entry[:32])),
            self.weight.eq(self._weight(m, entry[-32:])),
        ]
        return m

    def _table(self, m: Module) -> Value:
        """The entry of the score's expert: b below, u above."""
        m.submodules.table = table = Memory(shape=len(self.entry), depth=1 << len(self.expert), init=[])
        write, read = table.write_port(), table.read_port(domain="comb")
        m.d.comb += [
            write.en.eq(self.write),
            write.addr.eq(self.address),
            write.data.eq(self.entry),
            read.addr.eq(self.expert),
        ]
        return read.data

    def _key(self, m: Module, b: Value) -> Value:
        spec = self.spec
        if not spec.bias:
            return delay(m, self.score, spec.depth, "score_held")
        m.submodules.biased = biased = Shared(Add)
        m.d.comb += [biased.a.eq(self.score), biased.b.eq(b)]
        return delay(m, biased.o, spec.depth - latency.ADD, "key_held")

    def _weight(self, m: Module, u: Value) -> Value:
        if not self.spec.scaled:
            return Value.cast(ONE)
        m.submodules.product = product = Shared(Multiply, "fp32")
        m.submodules.plus_one = plus_one = Shared(Add)
        m.d.comb += [
            product.a.eq(self.score),
            product.b.eq(u),
            plus_one.a.eq(ONE),
            plus_one.b.eq(product.o),
        ]
        return plus_one.o
