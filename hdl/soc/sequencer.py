"""Job after job: records to channels, until all have ended or one is stopped."""

from enum import IntEnum
from typing import Any

from amaranth.hdl import C, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from golden.soc.accelerator import AcceleratorSpec
from golden.soc.descriptor import ADDRESS_BITS, COUNT_BITS, RECORD, RECORD_SLOT
from golden.soc.registers import Error
from hdl.arith.bits import index_bits, named
from hdl.shared import Shared
from hdl.soc.decode import Decode
from hdl.soc.layouts import ENTRY_LAYOUT
from hdl.soc.ports import FAULT

SETTINGS = data.StructLayout({"list": ADDRESS_BITS, "records": COUNT_BITS, "timeout": 32})
"""What registers say."""

STATE = data.StructLayout(
    {"busy": 1, "done": 1, "failed": 1, "code": 4, "address": ADDRESS_BITS, "jobs": 32, "unit_error": 32}
)
"""What registers show. ``jobs`` are through, so it is the number of one that is stopped, too."""


class Step(IntEnum):
    """What it is at."""

    IDLE = 0
    HEADER = 1
    ENTRY = 2
    RUN = 3
    STOP = 4
    RENEW = 5


class Sequencer(wiring.Component):
    """Takes the records of a list and gives each entry to its channel. A job ends when all channels are idle and all
    writes are answered.

    ::

        IDLE --start--> HEADER --> ENTRY ... --> RUN --> HEADER ... --> IDLE
          |                `---------+------------+--error, reset--> STOP --quiet--> RENEW --> IDLE
          `--clear, reset---------------------------------------------^

    Members
    -------
    start, clear, reset : In(1), commands; settings : In; record : In(stream), of the list; idle, surplus, error : In,
    of the datapath; moved : In(1), a beat was, of the bus or of the unit; read_fault, write_fault : In; writing :
    In(1), answers are awaited; quiet : In(1), nothing is under way; unit, load_in, load_out, load_list, entry : Out, to
    the datapath; complete : Out(1), there are all entries of the job; stop : Out(1), nothing more may begin; renew :
    Out(1), the datapath is reset; begins, ends, fails : Out(1), events; state : Out.
    """

    kind = "sequencer"

    def __init__(self, spec: AcceleratorSpec):
        self.spec = spec
        events = ("begins", "ends", "fails")
        members: dict[str, Any] = {name: In(1) for name in ("start", "clear", "reset")}
        members |= {name: In(1) for name in ("idle", "surplus", "moved", "writing", "quiet")}
        members |= {name: Out(1) for name in ("load_list", "complete", "stop", "renew", *events)}
        members |= {f"{name}_fault": In(FAULT) for name in ("read", "write")}
        super().__init__(
            members
            | {
                "settings": In(SETTINGS),
                "record": In(stream.Signature(8 * RECORD)),
                "error": In(32),
                "unit": Out(index_bits(len(spec.engines))),
                "load_in": Out(spec.channels_in),
                "load_out": Out(spec.channels_out),
                "entry": Out(ENTRY_LAYOUT),
                "state": Out(STATE),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        step = Signal(Step)
        now = _Progress(self.spec)
        m.submodules.decode = decode = Shared(Decode, self.spec)
        m.d.comb += [
            decode.record.eq(self.record.payload),
            decode.unit.eq(self.unit),
            self.state.busy.eq(step != Step.IDLE),
            self.stop.eq((step == Step.STOP) | (step == Step.RENEW)),
            self.renew.eq(step == Step.RENEW),
            self.complete.eq(step == Step.RUN),
        ]
        with m.Switch(step):
            with m.Case(Step.IDLE), m.If(self.start & ~self.state.failed):
                self._begin(m, step, now)
            with m.Case(Step.HEADER), m.If(self.record.valid):
                self._header(m, step, now, decode)
            with m.Case(Step.ENTRY):
                m.d.comb += self.entry.eq(self.record.payload)
                with m.If(self.record.valid):
                    self._entry(m, step, now, decode)
            with m.Case(Step.RUN):
                self._run(m, step, now)
            with m.Case(Step.STOP), m.If(self.quiet):
                m.d.sync += step.eq(Step.RENEW)
            with m.Case(Step.RENEW):
                m.d.sync += step.eq(Step.IDLE)
        with m.If(self.record.valid & self.record.ready):
            m.d.sync += [now.at.eq(now.at + RECORD), now.left.eq(now.left - 1)]
        self._fail(m, step, now)
        self._forget(m, step)
        return m

    def _begin(self, m: Module, step: Signal, now: "_Progress") -> None:
        """The list is a row of records."""
        settings, entry = self.settings, self.entry
        m.d.comb += [
            self.begins.eq(1),
            self.load_list.eq(1),
            entry.address.eq(settings.list),
            entry.beats.eq(settings.records),
            entry.rows.eq(1),
            entry.repeats.eq(1),
            now.bad.eq(settings.list[:RECORD_SLOT].any() | ~settings.records.any()),
            now.record.eq(settings.list),
        ]
        m.d.sync += [
            step.eq(Step.HEADER),
            now.at.eq(settings.list),
            now.job.eq(settings.list),
            now.left.eq(settings.records),
            self.state.done.eq(0),
            self.state.jobs.eq(0),
        ]

    def _header(self, m: Module, step: Signal, now: "_Progress", decode: Any) -> None:
        m.d.comb += [
            self.record.ready.eq(1),
            now.bad.eq(~decode.header | (decode.entries >= now.left)),
            now.record.eq(now.at),
        ]
        m.d.sync += [
            step.eq(Step.ENTRY),
            self.unit.eq(decode.of),
            now.job.eq(now.at),
            now.entries.eq(decode.entries),
            now.stops.eq(decode.stops),
            now.inputs.eq(0),
            now.outputs.eq(0),
        ]

    def _entry(self, m: Module, step: Signal, now: "_Progress", decode: Any) -> None:
        inputs = named(m, now.inputs | decode.inputs, "inputs_now")
        outputs = named(m, now.outputs | decode.outputs, "outputs_now")
        last = named(m, now.entries == 1, "last_entry")
        twice = (now.inputs & decode.inputs).any() | (now.outputs & decode.outputs).any()
        m.d.comb += [
            self.record.ready.eq(1),
            self.load_in.eq(decode.inputs),
            self.load_out.eq(decode.outputs),
            now.bad.eq(~decode.entry | twice | (last & (outputs != decode.needed))),
            now.record.eq(now.at),
        ]
        m.d.sync += [
            step.eq(Mux(last, Step.RUN, Step.ENTRY)),
            now.inputs.eq(inputs),
            now.outputs.eq(outputs),
            now.entries.eq(now.entries - 1),
        ]

    def _run(self, m: Module, step: Signal, now: "_Progress") -> None:
        state = self.state
        ends = named(m, ~now.left.any(), "list_ends")
        m.d.sync += state.unit_error.eq(state.unit_error | self.error)
        with m.If(self.idle & ~self.writing & ~self.fails):
            m.d.comb += self.ends.eq(ends)
            m.d.sync += [
                state.jobs.eq(state.jobs + 1),
                state.done.eq(ends),
                step.eq(Mux(ends, Step.IDLE, Step.HEADER)),
            ]

    def _fail(self, m: Module, step: Signal, now: "_Progress") -> None:
        """The first error stops the job; of several in one cycle the first of these counts."""
        state, quiet_for = self.state, Signal(32)
        waits = named(m, (step == Step.HEADER) | (step == Step.RUN), "waits")
        active = named(m, waits | (step == Step.ENTRY), "active")
        late = named(m, self.settings.timeout.any() & (quiet_for == self.settings.timeout), "late")
        m.d.sync += quiet_for.eq(Mux(active & ~self.moved & ~self.record.ready, quiet_for + 1, 0))
        reasons: list[tuple[Value, Value | Error, Value]] = [
            (active & self.read_fault.valid, _fault(Error.READ_SLVERR, self.read_fault), self.read_fault.address),
            (active & self.write_fault.valid, _fault(Error.WRITE_SLVERR, self.write_fault), self.write_fault.address),
            (now.bad, Error.DESCRIPTOR, now.record),
            ((step == Step.RUN) & now.stops & self.error.any(), Error.UNIT, now.job),
            (waits & self.surplus, Error.SURPLUS, now.job),
            (active & late, Error.TIMEOUT, now.job),
        ]
        for reason, code, address in reversed(reasons):
            with m.If(reason):
                m.d.comb += self.fails.eq(1)
                m.d.sync += [state.failed.eq(1), state.code.eq(code), state.address.eq(address), step.eq(Step.STOP)]
                m.d.sync += state.done.eq(0)

    def _forget(self, m: Module, step: Signal) -> None:
        """Clear and reset: once the bus is quiet the units are reset, and nothing is known of the list any more."""
        state, forgets = self.state, Signal()
        with m.If((step == Step.RENEW) & forgets):
            m.d.sync += [forgets.eq(0), state.done.eq(0), state.failed.eq(0), state.code.eq(0), state.unit_error.eq(0)]
            m.d.sync += [state.jobs.eq(0), state.address.eq(0)]
        with m.If(self.reset | (self.clear & (step == Step.IDLE))):
            m.d.sync += [forgets.eq(1), step.eq(Step.STOP)]


class _Progress:
    """How far the list is."""

    def __init__(self, spec: AcceleratorSpec):
        self.at = Signal(ADDRESS_BITS, reset_less=True)
        """Address of the next record."""
        self.job = Signal(ADDRESS_BITS, reset_less=True)
        """Of the job's header."""
        self.left = Signal(COUNT_BITS)
        """Records that have not been taken."""
        self.entries = Signal(8)
        """The job's, likewise."""
        self.inputs, self.outputs = Signal(spec.channels_in, name="had_in"), Signal(spec.channels_out, name="had_out")
        """Streams that have an entry."""
        self.stops = Signal()
        """A status bit of the unit stops the job."""
        self.bad = Signal()
        """What is in hand is no such record as it must be."""
        self.record = Signal(ADDRESS_BITS)
        """Its address."""


def _fault(first: Error, fault: Any) -> Value:
    """The code of an answer: DECERR is the one after SLVERR."""
    return C(first, 4) + fault.decode
