"""The registers: AXI4-Lite on one side, commands and states on the other."""

from typing import Any

from amaranth.hdl import C, Cat, Module, Mux, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from golden.axi import LITE_BYTES, OKAY, SLVERR
from golden.soc.accelerator import AcceleratorSpec
from golden.soc.registers import COUNTERS, REGISTERS, Register
from hdl.arith.bits import named
from hdl.soc.sequencer import SETTINGS, STATE
from hdl.stream.signature import stream_members

COUNTS = data.StructLayout(dict.fromkeys(COUNTERS, 64))


class Registers(wiring.Component):
    """The datasheet is :data:`golden.soc.registers.REGISTERS`: which there are and what they do.

    A write takes effect byte by byte as its strobes say; an address without a register is answered with SLVERR, and
    changes nothing. One write and one read at a time.

    Latency     1 cycle from a request to its answer; start, clear, reset with the answer to their write.

    Members
    -------
    s_axil_... : the channels; state : In; quiet : In(1); counts : In; ends, fails : In(1), events; start, clear, reset
    : Out(1), commands; settings : Out; irq : Out(1).
    """

    kind = "registers"

    def __init__(self, spec: AcceleratorSpec):
        self.spec = spec
        channels = [port for port in spec.ports if port.name.startswith("s_axil")]
        super().__init__(
            stream_members(channels)
            | {"state": In(STATE), "counts": In(COUNTS), "settings": Out(SETTINGS)}
            | {name: In(1) for name in ("quiet", "ends", "fails")}
            | {name: Out(1) for name in ("start", "clear", "reset", "irq")}
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        kept = {r.name: Signal(32, name=r.name.lower()) for r in REGISTERS if r.access != "ro"}
        self._write(m, kept)
        self._read(m, {r.name: self._shown(r, kept) for r in REGISTERS})
        settings, command = self.settings, kept["CONTROL"]
        m.d.comb += [
            settings.list.eq(Cat(kept["LIST"], kept["LIST_HIGH"])),
            settings.records.eq(kept["LIST_RECORDS"]),
            settings.timeout.eq(kept["TIMEOUT"]),
            Cat(self.start, self.clear, self.reset).eq(command),
            self.irq.eq((kept["IRQ_STATUS"] & kept["IRQ_ENABLE"]).any()),
        ]
        return m

    def _write(self, m: Module, kept: dict[str, Signal]) -> None:
        aw, w, b = self.s_axil_aw, self.s_axil_w, self.s_axil_b
        go = named(m, aw.valid & w.valid & (~b.valid | b.ready), "write")
        m.d.comb += [aw.ready.eq(go), w.ready.eq(go)]
        found = self._find(aw.payload.data[0].addr)
        known = named(m, Cat(found.values()).any(), "write_known")
        strobes = w.payload.data[0].strb
        mask = named(m, Cat(strobes[n].replicate(8) for n in range(LITE_BYTES)), "mask")
        value = named(m, w.payload.data[0].data & mask, "value")
        for register in REGISTERS:
            if register.access == "ro":
                continue
            signal, hit = kept[register.name], go & found[register.name]
            # what stays where nothing is written, and what hardware sets
            stays = {"rw": signal & ~Mux(hit, mask, 0), "wo": C(0), "w1c": signal & ~Mux(hit, value, 0)}
            comes = {"rw": Mux(hit, value, 0), "wo": Mux(hit, value, 0), "w1c": Cat(self.ends, self.fails)}
            m.d.sync += signal.eq((stays[register.access] | comes[register.access]) & register.mask)
        with m.If(~b.valid | b.ready):
            m.d.sync += [b.valid.eq(go), b.payload.data[0].eq(Mux(known, OKAY, SLVERR))]

    def _read(self, m: Module, shown: dict[str, Value]) -> None:
        ar, r = self.s_axil_ar, self.s_axil_r
        found = self._find(ar.payload.data[0].addr)
        known = named(m, Cat(found.values()).any(), "read_known")
        to, answer = Signal(32), r.payload.data[0]
        for name, hit in found.items():
            with m.If(hit):
                m.d.comb += to.eq(shown[name])
        m.d.comb += ar.ready.eq(~r.valid | r.ready)
        with m.If(ar.ready):
            m.d.sync += [r.valid.eq(ar.valid), answer.data.eq(to), answer.resp.eq(Mux(known, OKAY, SLVERR))]

    def _find(self, address: Value) -> dict[str, Value]:
        """The register at that address; the two lowest bits do not matter."""
        low = LITE_BYTES.bit_length() - 1
        return {r.name: address[low:] == r.address >> low for r in REGISTERS}

    def _shown(self, register: Register, kept: dict[str, Signal]) -> Value:
        """What is read there."""
        if register.access != "ro":
            return kept[register.name] if register.access != "wo" else C(0)
        state = self.state
        status = Cat(state.busy, state.done, state.failed, self.quiet)
        shown: dict[str, Value] = {name: C(value, 32) for name, value in self.spec.constants.items()} | {
            "STATUS": status,
            "ERROR": state.code,
            "ERROR_JOB": Mux(state.failed, state.jobs, 0),
            "ERROR_ADDRESS": state.address[:32],
            "ERROR_ADDRESS_HIGH": state.address[32:],
            "JOBS_DONE": state.jobs,
            "UNIT_STATUS": state.unit_error,
        }
        for name in COUNTERS:
            shown |= {name: self.counts[name][:32], f"{name}_HIGH": self.counts[name][32:]}
        return shown[register.name]


class Counters(wiring.Component):
    """What happened while a list ran.

    Members
    -------
    clear : In(1); count : In, one bit per counter; o : Out, 64 bits each.
    """

    kind = "counters"

    def __init__(self) -> None:
        super().__init__({"clear": In(1), "count": In(len(COUNTERS)), "o": Out(COUNTS)})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        for n, name in enumerate(COUNTERS):
            m.d.sync += self.o[name].eq(Mux(self.clear, 0, self.o[name] + self.count[n]))
        return m
