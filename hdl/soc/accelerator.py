"""The top level of the unit ``accelerator``.

::

    s_axil --> registers --> sequencer --entries--> datapath: channels, units
                                 ^                   | ^        | ^
                                 `----- records -----' |        v |
                                                      reader   writer  --> m_axi

What stands left of the datapath goes on while that is reset: a burst that has begun ends.
"""

from typing import Any

from amaranth.hdl import Cat, Module
from amaranth.lib import wiring
from amaranth.lib.wiring import Out

from golden.soc.accelerator import AcceleratorSpec
from hdl.arith.bits import named
from hdl.shared import Shared
from hdl.soc.datapath import Datapath
from hdl.soc.ports import Reader, Writer
from hdl.soc.registers import Counters, Registers
from hdl.soc.sequencer import Sequencer
from hdl.stream.signature import stream_members


class Accelerator(wiring.Component):
    """The parts and what is between them; the datasheet is :class:`golden.soc.accelerator.AcceleratorSpec`."""

    kind = "accelerator"

    def __init__(self, spec: AcceleratorSpec):
        self.spec = spec
        super().__init__(stream_members(spec.ports) | {s.signal: Out(s.width) for s in spec.status})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        spec = self.spec
        m.submodules.registers = registers = Shared(Registers, spec)
        m.submodules.sequencer = sequencer = Shared(Sequencer, spec)
        m.submodules.datapath = datapath = Shared(Datapath, spec, reset=sequencer.renew)
        m.submodules.reader = reader = Shared(Reader, spec)
        m.submodules.writer = writer = Shared(Writer, spec)
        m.submodules.counters = counters = Shared(Counters)
        for port in spec.ports:
            owner = registers if port.name.startswith("s_axil") else reader if port.name[-2:] in _READS else writer
            outer, inner = getattr(self, port.name), getattr(owner, port.name)
            wiring.connect(
                m, *((wiring.flipped(outer), inner) if port.direction == "in" else (inner, wiring.flipped(outer)))
            )
        for n in range(spec.channels_in + 1):
            wiring.connect(m, getattr(datapath, f"read_{n}"), getattr(reader, f"bursts_{n}"))
        for n in range(spec.channels_out):
            wiring.connect(m, getattr(datapath, f"write_{n}"), getattr(writer, f"bursts_{n}"))
            wiring.connect(m, getattr(datapath, f"words_{n}"), getattr(writer, f"words_{n}"))
        wiring.connect(m, datapath.record, sequencer.record)
        quiet = named(m, ~(reader.busy | writer.busy), "quiet")
        m.d.comb += [
            self.irq.eq(registers.irq),
            datapath.come.eq(reader.come),
            datapath.word.eq(reader.word),
            *(getattr(datapath, name).eq(getattr(sequencer, name)) for name in _TO_DATAPATH),
            *(getattr(sequencer, name).eq(getattr(datapath, name)) for name in _FROM_DATAPATH),
            *(getattr(sequencer, name).eq(getattr(registers, name)) for name in _COMMANDS),
            *(getattr(registers, name).eq(getattr(sequencer, name)) for name in _EVENTS),
            *(side.stop.eq(sequencer.stop) for side in (reader, writer)),
            sequencer.read_fault.eq(reader.fault),
            sequencer.write_fault.eq(writer.fault),
            sequencer.moved.eq(datapath.moved | reader.moved | writer.moved),
            sequencer.writing.eq(writer.busy),
            sequencer.quiet.eq(quiet),
            registers.quiet.eq(quiet),
            registers.counts.eq(counters.o),
            counters.clear.eq(sequencer.begins),
            counters.count.eq(self._events(sequencer, reader, writer, datapath)),
        ]
        return m

    def _events(self, sequencer: Any, reader: Any, writer: Any, datapath: Any) -> Any:
        """What is counted, in the order of the counters, while a list runs."""
        read, written = reader.moved, self.m_axi_w.valid & self.m_axi_w.ready
        counted = Cat(1, read, written, reader.stalled, writer.stalled, datapath.moved)
        return counted & sequencer.state.busy.replicate(len(counted))


_READS = ("ar", "_r")
_TO_DATAPATH = ("unit", "load_in", "load_out", "load_list", "entry", "complete")
_FROM_DATAPATH = ("idle", "surplus", "error")
_COMMANDS = ("start", "clear", "reset", "settings")
_EVENTS = ("state", "ends", "fails")
