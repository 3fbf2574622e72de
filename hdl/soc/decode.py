"""What a record says, and whether it may."""

from typing import Any

from amaranth.hdl import Array, C, Cat, Module, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from golden.soc.accelerator import AcceleratorSpec
from golden.soc.descriptor import RECORD, STOP, UNNAMED
from hdl.arith.bits import index_bits
from hdl.soc.layouts import ENTRY_LAYOUT, HEADER_LAYOUT


class Decode(wiring.Component):
    """A record as a header, and as an entry of a job of ``unit``. No latency.

    Members
    -------
    record : In; unit : In; header : Out(1), it is one; of, entries, stops : Out, of a header: its unit, entries that
    follow, whether a status bit stops the job; entry : Out(1), it is one; inputs, outputs : Out, of an entry: its
    channel, one-hot; needed : Out, the outputs that such a job must have.
    """

    kind = "decode"

    def __init__(self, spec: AcceleratorSpec):
        self.spec = spec
        unit = index_bits(len(spec.engines))
        super().__init__(
            {
                "record": In(8 * RECORD),
                "unit": In(unit),
                "header": Out(1),
                "of": Out(unit),
                "entries": Out(8),
                "stops": Out(1),
                "entry": Out(1),
                "inputs": Out(spec.channels_in),
                "outputs": Out(spec.channels_out),
                "needed": Out(spec.channels_out),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        self._header(m)
        self._entry(m)
        return m

    def _header(self, m: Module) -> None:
        header = HEADER_LAYOUT(self.record)
        most = Signal(8)  # entries
        with m.Switch(header.kind):
            for n, engine in enumerate(self.spec.engines):
                with m.Case(engine.kind.number):
                    m.d.comb += [self.of.eq(n), most.eq(len(engine.inputs) + len(engine.outputs))]
        m.d.comb += [
            self.entries.eq(header.entries),
            self.stops.eq(header.flags[0]),
            self.header.eq(
                header.entries.any() & (header.entries <= most) & ~(header.flags & ~STOP).any() & _clean(header)
            ),
        ]

    def _entry(self, m: Module) -> None:
        spec, entry = self.spec, ENTRY_LAYOUT(self.record)
        places = [
            (n, lane, spec.channels_in * (side == "outputs") + channel)
            for n, engine in enumerate(spec.engines)
            for side in ("inputs", "outputs")
            for channel, lane in enumerate(getattr(engine, side))
        ]
        channels = Cat(self.inputs, self.outputs)
        low = max(lane.slot for _, lane, _ in places)  # bits of an address that a slot may have to have as 0
        inside = Signal(low)
        for n, lane, channel in places:
            with m.If((self.unit == n) & (entry.stream == lane.number)):
                m.d.comb += [channels.eq(1 << channel), inside.eq((1 << lane.slot) - 1)]
        askew = (entry.address[:low] | entry.stride[:low] | entry.repeat_stride[:low]) & inside
        given = entry.beats.any() & entry.rows.any() & entry.repeats.any()
        needed = Array(C((1 << len(engine.outputs)) - 1, spec.channels_out) for engine in spec.engines)
        m.d.comb += [
            self.entry.eq(channels.any() & ~askew.any() & given & _clean(entry)),
            self.needed.eq(needed[self.unit]),
        ]


def _clean(record: Any) -> Value:
    """Bits without a name are 0."""
    return ~Cat(record[name].any() for name in record.shape().members if name.startswith(UNNAMED)).any()
