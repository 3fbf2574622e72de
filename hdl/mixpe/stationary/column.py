"""Below a column of the array: group sums per token, dequantisation, finished words."""

from typing import Any

from amaranth.hdl import C, Cat, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from golden.mixpe.formats import EXPONENTS
from golden.mixpe.stationary import WeightStationary
from hdl.arith.bits import add_modulo, index_bits, named
from hdl.arith.delay import delay
from hdl.mixpe.dequant import ExactDequantiser, Fp32Dequantiser
from hdl.mixpe.lane import finish
from hdl.mixpe.row import needs_row_sum
from hdl.mixpe.stationary.feeder import slot_layout
from hdl.shared import Shared
from hdl.stream.fifo import StreamFIFO


class GroupSum(wiring.Component):
    """Adds the passes of one group, per token: ``o`` is ``i`` plus what the token's passes before it gave.

    A token may come again after two cycles.

    Latency     1 cycle from ``i`` to ``o``.

    Members
    -------
    early : the token of the next cycle; valid, start, token : there is one, in its group's first pass, which;
    i, o : sums, with their marks above.

    Parameters
    ----------
    narrow, wide : bits of a pass's and of a group's sum; marks : above both; depth : tokens; 0 where a group is one
    pass, and nothing has to be kept.
    """

    kind = "group_sum"

    def __init__(self, narrow: int, wide: int, marks: int, depth: int):
        self.narrow, self.wide, self.marks, self.depth = narrow, wide, marks, depth
        bits = index_bits(depth)
        members = {"early": In(bits), "valid": In(1), "start": In(1), "token": In(bits)} if depth else {}
        super().__init__(members | {"i": In(narrow + marks), "o": Out(wide + marks)})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        total = Signal(self.wide + self.marks)
        old = self._old(m, total) if self.depth else C(0, len(total))
        added = add_modulo(self.wide, self.i[: self.narrow].as_signed(), old[: self.wide])
        m.d.comb += [
            total.eq(Cat(added, self.i[self.narrow :] | old[self.wide :])),
            self.o.eq(delay(m, total, 1, "sum")),
        ]
        return m

    def _old(self, m: Module, total: Any) -> Any:
        """The token's sum so far, read a cycle early; ``total`` takes its place."""
        m.submodules.sums = memory = Memory(shape=len(total), depth=max(2, self.depth), init=[])
        reader, writer = memory.read_port(domain="comb"), memory.write_port()
        m.d.comb += [
            reader.addr.eq(self.early),
            writer.addr.eq(self.token),
            writer.en.eq(self.valid),
            writer.data.eq(total),
        ]
        return named(m, Mux(self.start, 0, delay(m, reader.data, 1, "old")), "so_far")


def group_sum(m: Module, spec: WeightStationary, widths: tuple[int, int], early: Any, slot: Any, i: Any) -> Any:
    """Place the :class:`GroupSum` of sums that come with ``slot``, which stood at ``early`` a cycle before."""
    depth = 0 if spec.group_passes == 1 else spec.slots
    m.submodules.group_sum = block = Shared(GroupSum, *widths, spec.special_width, depth)
    m.d.comb += block.i.eq(i)
    if depth:
        m.d.comb += [
            block.early.eq(early.token),
            block.valid.eq(slot.valid),
            block.start.eq(slot.mark.start),
            block.token.eq(slot.token),
        ]
    return block.o


class Column(wiring.Component):
    """The foot of a column, in step with the wave; to the right stands the same a cycle later.

    ::

        slot --+--[reg]--> to the right
               |
        a -----> group sum -> dequantise -> (x token scale) -> queue of words -> o
                                  ^              ^
        parameters -> queue ------+     s, scl --+--[reg]--> to the right

    It never stops: the feeder admits a token only while its word is sure to find room in the queue.

    Latency     ``spec.lane_depth`` cycles from a slot at ``slot_i`` to its word's entry into the queue.

    Members
    -------
    slot_i -> slot_o : the token whose sum comes in the next cycle; a : sum of a pass;
    s_i -> s_o : the group's sum of activations, two cycles after its slot (only where the weight format needs it);
    scl_i -> scl_o : the token's scale, with the dequantised sum; exponents with ``s_i``;
    par, push : the column's parameters for the next group; o : words, above them whether they are a tile's last.
    """

    kind = "column"

    def __init__(self, spec: WeightStationary):
        self.spec = spec
        slot = slot_layout(spec)
        members: dict[str, Any] = {
            "slot_i": In(slot),
            "slot_o": Out(slot),
            "a": In(spec.element.sum_width + spec.special_width),
            "par": In(spec.port("par").lane_width),
            "push": In(1),
            "o": Out(stream.Signature(spec.out_format.bits + 1)),
        }
        travelling = {}
        if needs_row_sum(spec):
            travelling["s"] = spec.row_sum_width + spec.special_width
        if spec.act_scale != "none":
            travelling["scl"] = spec.port("scl").lane_width
        members |= {f"{name}_i": In(width) for name, width in travelling.items()}
        members |= {f"{name}_o": Out(width) for name, width in travelling.items()}
        super().__init__(members)

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        spec, slot = self.spec, self.slot_o
        m.d.sync += slot.eq(self.slot_i)

        widths = (spec.element.sum_width, spec.pe.sum_width)
        dequantiser = ExactDequantiser if spec.accumulate == "exact" else Fp32Dequantiser
        m.submodules.dequant = dequant = Shared(dequantiser, spec)
        ends = slot.valid & slot.mark.ends
        m.d.comb += [
            dequant.a.eq(group_sum(m, spec, widths, self.slot_i, slot, self.a)),
            dequant.par.eq(delay(m, self._parameters(m, ends & slot.end), 1, "par_late")),
            dequant.valid.eq(delay(m, ends, 1, "valid", init=0)),
            dequant.first.eq(delay(m, slot.mark.first, 1, "first")),
            dequant.slot.eq(delay(m, slot.token, 1, "slot")),
        ]
        if needs_row_sum(spec):
            m.d.comb += [dequant.s.eq(self.s_i), self.s_o.eq(delay(m, self.s_i, 1, "s"))]
        if spec.act_scale != "none":
            m.d.comb += self.scl_o.eq(delay(m, self.scl_i, 1, "scl"))
        if spec.act_scale == "pow2":
            m.d.comb += dequant.up.eq((self.scl_i.as_signed() - EXPONENTS[0])[: spec.exponent_bits])

        word = finish(m, spec, dequant.o, C(0, 0), self.scl_i if spec.act_scale == "token" else C(0, 0))
        final = slot.valid & slot.mark.final
        done = delay(m, Cat(final, slot.end), 1 + spec.dequant_latency + spec.finish_latency, "done", init=0)
        self._queue(m, word, done)
        return m

    def _parameters(self, m: Module, pop: Any) -> Any:
        """Parameters of the oldest group under way."""
        m.submodules.parameters = queue = Shared(StreamFIFO, len(self.par), self.spec.passes.groups)
        m.d.comb += [queue.i.payload.eq(self.par), queue.i.valid.eq(self.push), queue.o.ready.eq(pop)]
        return queue.o.payload

    def _queue(self, m: Module, word: Any, done: Any) -> None:
        """The finished words; ``done`` says which are, and which are a tile's last."""
        m.submodules.results = results = Shared(StreamFIFO, len(word) + 1, self.spec.passes.places)
        m.d.comb += [
            results.i.payload.eq(Cat(word, done[1])),
            results.i.valid.eq(done[0]),
            self.o.payload.eq(results.o.payload),
            self.o.valid.eq(results.o.valid),
            results.o.ready.eq(self.o.ready),
        ]
