"""The top level of the unit ``gate``.

::

    i -> [ scores of two tokens ] -> one by one --------------> keys, weights -> orizuru -> selected -> o
                                         `-> softmax, if asked for -^  ^
                                                                     table
"""

from typing import Any

from amaranth.hdl import C, Cat, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import Out

from golden.moe.gate import GateSpec
from hdl.arith.bits import choose, index_bits, named
from hdl.kmeans.memory import TokenMemory
from hdl.moe.keys import Keys
from hdl.moe.reader import Reader
from hdl.moe.select import Select
from hdl.moe.softmax import Softmax
from hdl.orizuru.engine import Engine
from hdl.shared import Shared
from hdl.stream.signature import stream_members
from hdl.stream.skid import skids

FIELDS = ("valid", "expert", "score", "last")
"""A score on its way."""


class Gate(wiring.Component):
    """Streams around the selector; the datasheet is :class:`golden.moe.gate.GateSpec`."""

    kind = "gate"

    def __init__(self, spec: GateSpec):
        self.spec = spec
        super().__init__(stream_members(spec.ports) | {f"sts_{s.name}": Out(s.width) for s in spec.status})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        spec = self.spec
        streams = skids(m, self, spec.ports)
        m.submodules.memory = memory = Shared(TokenMemory, spec.port("i"), spec.rows)
        m.submodules.keys = keys = Shared(Keys, spec)
        m.submodules.orizuru = engine = Shared(Engine, spec.engine)
        m.submodules.select = select = Shared(Select, spec)
        wiring.connect(m, streams["i"], memory.i)
        reads = Signal(init=1)  # whose scores are read, or were
        begin = self._turn(m, streams, memory, keys, reads)
        self._configure(m, streams["cfg"].payload.data[0], begin, (engine, keys, select))
        strange = self._scores(m, memory, begin, reads, keys)
        self._rank(m, keys, engine, select)
        wiring.connect(m, select.o, wiring.flipped(streams["o"]))
        short = begin & (choose(memory.rows.as_value(), index_bits(spec.rows), ~reads) != spec.rows - 1)
        errors = Cat(memory.lost, short, engine.sts_error[1], strange)[: len(self.sts_error)]
        m.d.sync += self.sts_error.eq(self.sts_error | errors)
        return m

    def _turn(self, m: Module, streams: Any, memory: Any, keys: Any, reads: Signal) -> Value:
        """One token at a time. Returns that one begins: its scores and its table are there, the one before is out."""
        cfg, o = streams["cfg"], streams["o"]
        busy = Signal()
        over = named(m, o.valid & o.ready & o.payload.last, "over")
        ready = self._table(m, streams["table"], cfg, ~busy, keys) if "table" in streams else 1
        begin = named(m, cfg.valid & choose(memory.full, 1, ~reads) & ready & (~busy | over), "begin")
        m.d.comb += [cfg.ready.eq(begin), memory.done.eq(over), memory.read_bank.eq(reads)]
        with m.If(begin):
            m.d.sync += [busy.eq(1), reads.eq(~reads)]
        with m.Elif(over):
            m.d.sync += busy.eq(0)
        return begin

    def _table(self, m: Module, table: Any, cfg: Any, idle: Value, keys: Any) -> Value:
        """Taken while no token is under way, when the next one asks for it. Returns that the next one has its table."""
        needed, place = Signal(init=1), Signal.like(keys.address)
        wants = named(m, cfg.valid & cfg.payload.data[0].load, "wants")
        complete = Signal()
        m.d.comb += [
            table.ready.eq(idle & (wants | (cfg.valid & needed)) & ~complete),
            keys.write.eq(table.valid & table.ready),
            keys.address.eq(place),
            keys.entry.eq(table.payload.data.as_value()),
        ]
        with m.If(keys.write):
            ends = place == self.spec.experts - 1
            m.d.sync += [place.eq(Mux(ends, 0, place + 1)), complete.eq(ends), needed.eq(needed & ~ends)]
        with m.Elif(cfg.ready):
            m.d.sync += complete.eq(0)
        return complete | ~(wants | needed)

    def _configure(self, m: Module, cfg: Any, begin: Value, parts: Any) -> None:
        """A token's configuration, held while it is under way."""
        engine, keys, select = parts
        k_min, tau = Signal.like(select.k_min, reset_less=True), Signal(32, reset_less=True)
        with m.If(begin):
            m.d.sync += [k_min.eq(cfg.k_min), tau.eq(cfg.tau)]
        m.d.comb += [
            engine.cfg.valid.eq(begin),
            engine.cfg.payload.data[0].eq(cfg.k_max),
            select.k_min.eq(k_min),
            keys.tau.eq(tau),
        ]

    def _scores(self, m: Module, memory: Any, begin: Value, reads: Signal, keys: Any) -> Value:
        """Out of the memory, through the softmax if there is one. Returns that one is not finite."""
        m.submodules.reader = reader = Shared(Reader, self.spec)
        again, strange, source, prefix = C(0, 1), C(0, 1), reader, ""
        if self.spec.softmax:
            m.submodules.softmax = source = Shared(Softmax, self.spec)
            again, strange, prefix = source.again, source.strange, "o_"
            m.d.comb += [getattr(source, name).eq(getattr(reader, name)) for name in FIELDS]
        m.d.comb += [
            reader.begin.eq(begin | again),
            reader.rows.eq(choose(memory.rows.as_value(), len(reader.rows), reads)),
            memory.go.eq(reader.go),
            memory.read_row.eq(reader.row),
            reader.values.eq(memory.row),
            *(getattr(keys, name).eq(getattr(source, f"{prefix}{name}")) for name in FIELDS),
        ]
        return strange

    def _rank(self, m: Module, keys: Any, engine: Any, select: Any) -> None:
        """The selector is idle when keys come and takes one in every cycle."""
        key, rank = engine.i.payload.data[0], engine.o.payload
        m.d.comb += [
            engine.i.valid.eq(keys.o_valid),
            engine.i.payload.last.eq(keys.o_last),
            key.key.eq(keys.key),
            key.valid.eq(1),
            select.write.eq(keys.o_valid),
            select.expert.eq(keys.o_expert),
            select.weight.eq(keys.weight),
            select.above.eq(keys.above),
            select.i.valid.eq(engine.o.valid),
            engine.o.ready.eq(select.i.ready),
            select.i.payload.valid.eq(rank.data[0].valid),
            select.i.payload.expert.eq(rank.data[0].index),
            select.i.payload.last.eq(rank.last),
        ]
