"""The top level of the unit ``lutgemm``: memory of indices, table, lines, results."""

from typing import Any

from amaranth.hdl import Cat, Module, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import Out

from golden.kmeans import token
from golden.kmeans.lutgemm import LutGemmSpec
from hdl.arith.bits import named
from hdl.arith.delay import delay
from hdl.kmeans.line import Line
from hdl.kmeans.memory import TokenMemory
from hdl.kmeans.scaling import Scaling, sums_layout
from hdl.kmeans.sequencer import Sequencer
from hdl.kmeans.table import TABLES
from hdl.shared import Shared
from hdl.stream.credit import Credit
from hdl.stream.fifo import StreamFIFO
from hdl.stream.signature import stream_members
from hdl.stream.skid import skids


class LutGemm(wiring.Component):
    """Streams around the lines; the datasheet is :class:`golden.kmeans.lutgemm.LutGemmSpec`."""

    kind = "lutgemm"

    def __init__(self, spec: LutGemmSpec):
        self.spec = spec
        super().__init__(stream_members(spec.ports) | {f"sts_{s.name}": Out(s.width) for s in spec.status})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        spec = self.spec
        inside = skids(m, self, spec.ports)
        act, w, cfg = inside["act"], inside["w"], inside["cfg"].payload.data[0]
        m.submodules.memory = memory = Shared(TokenMemory, spec.port("act"), spec.rows)
        m.submodules.table = table = Shared(TABLES[spec.reducer], spec)
        m.submodules.sequencer = sequencer = Shared(Sequencer, spec)
        wiring.connect(m, act, memory.i)
        wiring.connect(m, inside["lut"], table.lut)
        m.d.comb += [
            memory.go.eq(sequencer.read),
            memory.read_bank.eq(sequencer.bank),
            memory.read_row.eq(sequencer.row),
            memory.done.eq(sequencer.done),
            table.swap.eq(sequencer.swap),
            table.index.eq(memory.row),
            table.row.eq(sequencer.reduce),
            *(getattr(sequencer, name).eq(getattr(memory, name)) for name in ("full", "rows")),
            sequencer.table_full.eq(table.full),
            sequencer.weights.eq(w.valid),
            w.ready.eq(sequencer.step),
            sequencer.cfg_valid.eq(inside["cfg"].valid),
            *(getattr(sequencer, name).eq(cfg[name]) for name in ("n", "load")),
            inside["cfg"].ready.eq(sequencer.begin),
        ]
        self._results(m, sequencer, self._lines(m, sequencer, table, w), inside)
        lost = memory.lost & Cat(lane.valid for lane in act.payload.data).any()
        wrong = sequencer.begin & (~cfg.n.any() | (cfg.n > spec.n_max))
        m.d.sync += self.sts_error.eq(self.sts_error | Cat(lost, wrong))
        return m

    def _lines(self, m: Module, sequencer: Any, table: Any, w: Any) -> Value:
        """Returns their sums."""
        spec, sums = self.spec, []
        weights = Cat(w.payload.data)
        for i in range(spec.lines):
            m.submodules[f"line_{i}"] = line = Shared(Line, spec)
            m.d.comb += [
                *(getattr(line, name).eq(getattr(sequencer, name)) for name in ("go", "hand_on", "first")),
                line.add.eq(sequencer.add[i]),
                line.row.eq(sequencer.reduce),
                line.operands.eq(table.operands),
                line.weights.eq(weights.word_select(i, len(line.weights))),
                line.factors.eq(table.factors),
            ]
            sums.append(line.o)
        return Cat(sums)

    def _results(self, m: Module, sequencer: Any, sums: Any, inside: Any) -> None:
        """Sums into a queue when they are complete, scaled behind it."""
        spec, o = self.spec, inside["o"]
        after = spec.back - spec.reduce - 1  # from the last row of a weighted sum
        depth = spec.back + 3
        m.submodules.credit = credit = Credit(depth)
        m.submodules.queue = queue = Shared(StreamFIFO, sums_layout(spec.lines, spec.sum_width), depth)
        m.d.comb += [
            sequencer.ready.eq(credit.ready),
            credit.take.eq(sequencer.hand_on),
            credit.give.eq(queue.o.valid & queue.o.ready),
            queue.i.valid.eq(delay(m, sequencer.result, after, "result", init=0)),
            queue.i.payload.data.eq(sums),
            queue.i.payload.last.eq(delay(m, sequencer.last, after, "last")),
        ]
        if spec.out == "raw":
            wiring.connect(m, queue.o, wiring.flipped(o))
            return
        low, high = (e + spec.grid for e in token.EXPONENTS)
        m.submodules.scaling = scaling = Shared(Scaling, spec.lines, spec.sum_width, low, high)
        wiring.connect(m, queue.o, scaling.i)
        wiring.connect(m, scaling.o, wiring.flipped(o))
        above = named(m, inside["exp"].payload.data[0] - token.GRID, "above")
        for stream, source in ((scaling.scale, inside["scl"]), (scaling.exponent, inside["exp"])):
            m.d.comb += [stream.valid.eq(source.valid), source.ready.eq(stream.ready)]
        m.d.comb += [scaling.scale.payload.eq(Cat(inside["scl"].payload.data)), scaling.exponent.payload.eq(above)]
