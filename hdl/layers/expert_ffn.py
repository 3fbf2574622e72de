"""The top level of the unit ``expert_ffn``.

::

    i --> activations --.                         .--> swiglu --> hidden --.
                        +--> gather --> engine --+                         +--> gather
    entry --> queues ---'                 ^       `--> combine --> o
                                          |
    desc, job --> fetcher --> fetch   wgt, par, in rings

The sequencer takes one expert after the other, first up (tokens from ``activations``), then down (from ``hidden``).
"""

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import Out

from golden.moe.expert import ExpertFFNSpec
from golden.moe.fp32 import ONE
from golden.moe.precision import ENTRIES
from hdl.arith.bits import index_bits, named
from hdl.arith.delay import delay
from hdl.arith.silu import SwiGLU
from hdl.mixpe.engine import Engine
from hdl.moe.combine import Combine
from hdl.moe.fetcher import Fetcher
from hdl.moe.gather import Gather
from hdl.moe.queues import Queues
from hdl.moe.results import Results
from hdl.moe.ring import Ring
from hdl.moe.sequencer import Sequencer
from hdl.moe.unpack import Spread, Unpack
from hdl.shared import Shared
from hdl.stream.away import Away, away
from hdl.stream.fifo import StreamFIFO
from hdl.stream.signature import lane_field, stream_members
from hdl.stream.skid import skids

AHEAD = 4
"""Tiles that are asked for while one is unpacked."""


class ExpertFFN(wiring.Component):
    """Memories and blocks between them; the datasheet is :class:`golden.moe.expert.ExpertFFNSpec`.

    With ``outside`` the engine stands elsewhere, and its streams are members: ``engine_act``, ``engine_wgt``,
    ``engine_par`` : Out, ``engine_o`` : In, which is always ready.
    """

    kind = "expert_ffn"

    def __init__(self, spec: ExpertFFNSpec, outside: bool = False):
        self.spec = spec
        self.outside = outside
        engine = stream_members(away(spec.engine.ports)) if outside else {}
        super().__init__(stream_members(spec.ports) | {f"sts_{s.name}": Out(s.width) for s in spec.status} | engine)

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        spec = self.spec
        m.submodules.sequencer = sequencer = Shared(Sequencer, spec)
        m.submodules.queues = queues = Shared(Queues, spec)
        engine: Any = Away(self)
        if not self.outside:
            m.submodules.engine = engine = Shared(Engine, spec.engine)
        inner = skids(m, self, spec.ports)
        for name in ("desc", "job", "entry"):
            wiring.connect(m, inner[name], getattr(queues, name))
        self._batch(m, inner, sequencer, queues, engine)
        self._weights(m, inner, sequencer, queues, engine)
        x = self._load(m, inner["i"], sequencer, queues)
        self._compute(m, inner, sequencer, queues, engine, x)
        return m

    def _batch(self, m: Module, inner: Any, sequencer: Any, queues: Any, engine: Any) -> None:
        """From its configuration to its counters."""
        cfg, o, stats = inner["cfg"], inner["o"], inner["stats"]
        begin = named(m, sequencer.idle & cfg.valid, "begin")
        sent = named(m, o.valid & o.ready & o.payload.last, "sent")
        m.d.comb += [
            cfg.ready.eq(sequencer.idle),
            sequencer.begin.eq(begin),
            sequencer.known.eq(queues.known),
            sequencer.none.eq(queues.none),
            sequencer.neurons.eq(queues.expert.neurons),
            sequencer.queued.eq(queues.count),
            sequencer.sent.eq(sent),
            sequencer.reported.eq(stats.ready),
            stats.valid.eq(sequencer.report),
            queues.begin.eq(begin),
            queues.load.eq(cfg.payload.data[0]),
            queues.next.eq(sequencer.next),
            queues.end.eq(sent),
        ]
        fetch = inner["fetch"]
        counted = {
            "steps": engine.act.valid & engine.act.ready,
            "fetches": fetch.valid & fetch.ready,
            "cycles": ~sequencer.report,
            "stalls": engine.act.valid & ~engine.wgt.valid,
        }
        for name, event in counted.items():
            counter = Signal(32, name=name)
            m.d.comb += stats.payload.data[0][name].eq(counter)
            m.d.sync += counter.eq(Mux(begin, 0, counter + event))

    def _weights(self, m: Module, inner: Any, sequencer: Any, queues: Any, engine: Any) -> None:
        """Tiles are asked for ahead, come into rings and go into the array."""
        spec = self.spec
        fetch = inner["fetch"]
        m.submodules.fetcher = fetcher = Shared(Fetcher, spec)
        room = Signal(init=1)
        taken = named(m, fetch.valid & fetch.ready, "taken")
        m.d.comb += [
            fetcher.ready.eq(queues.ready),
            fetcher.known.eq(queues.fetch_known),
            fetcher.none.eq(queues.fetch_none),
            fetcher.number.eq(queues.fetch_number),
            fetcher.expert.eq(queues.fetch_expert),
            queues.fetch_next.eq(fetcher.next),
            fetcher.begin.eq(sequencer.begin),
            Value.cast(fetch.payload).eq(Value.cast(fetcher.o.payload)),
            fetch.valid.eq(fetcher.o.valid & room),
            fetcher.o.ready.eq(fetch.ready & room),
        ]
        group = spec.group.bit_length() - 1
        most = (spec.engine.k_max, spec.most_tiles, spec.most_passes)
        sources = self._unpacked(m, inner, fetcher, taken, room) if spec.mixed else inner
        for name, shift in (("wgt", 0), ("par", group)):
            port, sink = sources[name], getattr(engine, name)
            of = (most[0] >> shift, *most[1:])
            m.submodules[f"ring_{name}"] = ring = Shared(Ring, spec.engine.port(name).width, spec.depth >> shift, of)
            m.d.comb += [
                ring.due.eq(taken),
                ring.more.eq(fetcher.steps >> shift),
                ring.i.payload.eq(Value.cast(port.payload)),
                ring.i.valid.eq(port.valid),
                port.ready.eq(ring.i.ready),
                ring.start.eq(sequencer.start),
                ring.length.eq(sequencer.steps >> shift),
                ring.tiles.eq(sequencer.tiles),
                ring.passes.eq(sequencer.passes),
                Value.cast(sink.payload.data).eq(ring.o.payload.data),
                sink.valid.eq(ring.o.valid),
                ring.o.ready.eq(sink.ready),
            ]
            if name == "wgt":
                m.d.comb += [fetcher.freed.eq(ring.freed), sink.payload.last.eq(ring.o.payload.last)]

    def _unpacked(self, m: Module, inner: Any, fetcher: Any, taken: Value, room: Signal) -> dict[str, Any]:
        """Operands and each group's parameters, as the rings take them; ``room`` for the tile that is taken."""
        spec, expert = self.spec, fetcher.expert
        groups = spec.engine.k_max // spec.group
        m.submodules.unpack = unpack = Shared(Unpack, spec.cols, spec.engine.k_max)
        m.submodules.spread = spread = Shared(Spread, spec.port("par").width, groups)
        wgt, par = inner["wgt"], inner["par"]
        waiting = {}
        for name, block in (("unpack", unpack), ("spread", spread)):
            shape = block.tile.payload.shape()
            m.submodules[f"{name}_tiles"] = queue = Shared(StreamFIFO, shape, AHEAD)
            wiring.connect(m, queue.o, block.tile)
            m.d.comb += queue.i.valid.eq(taken)
            waiting[name] = queue.i
        codes, shared = waiting["unpack"].payload, waiting["spread"].payload
        m.d.comb += [
            room.eq(waiting["unpack"].ready & waiting["spread"].ready),
            codes.steps.eq(fetcher.steps),
            codes.bits.eq(fetcher.precision.bits),
            codes.kind.eq(fetcher.precision.kind),
            codes.codebook.eq(Cat(expert[f"code_{n}"] for n in range(ENTRIES))),
            shared.groups.eq(fetcher.steps >> spec.group.bit_length() - 1),
            shared.share.eq(fetcher.precision.share),
            unpack.i.payload.eq(Value.cast(wgt.payload)),
            unpack.i.valid.eq(wgt.valid),
            wgt.ready.eq(unpack.i.ready),
            spread.i.payload.eq(Value.cast(par.payload)),
            spread.i.valid.eq(par.valid),
            par.ready.eq(spread.i.ready),
        ]
        operands = stream.Signature(unpack.o.shape()).create(path=("operands",))
        m.d.comb += [operands.payload.eq(unpack.o), operands.valid.eq(unpack.valid)]
        return {"wgt": operands, "par": spread.o}

    def _load(self, m: Module, source: Any, sequencer: Any, queues: Any) -> Any:
        """The batch's activations into their memory, whose read port is returned."""
        spec = self.spec
        assert spec.lanes
        words = spec.d // spec.lanes
        m.submodules.activations = memory = Memory(shape=16 * spec.lanes, depth=spec.tokens * words, init=[])
        write = memory.write_port()
        at = Signal(range(spec.tokens * words))
        word = Signal(index_bits(words))
        tokens = Signal(range(spec.tokens + 1))
        coming = Signal()
        take = named(m, source.valid & coming, "take")
        full = named(m, (tokens == spec.tokens) & ~word.any(), "full")
        m.d.comb += [
            source.ready.eq(coming),
            write.addr.eq(at),
            write.data.eq(Value.cast(source.payload.data)),
            write.en.eq(take & ~full),
            sequencer.tokens.eq(tokens),
            sequencer.loaded.eq(~coming & queues.ready),
        ]
        with m.If(take):
            m.d.sync += coming.eq(~source.payload.last)
            with m.If(full):
                m.d.sync += self.sts_error.eq(1)
            with m.Else():
                m.d.sync += [at.eq(at + 1), word.eq(Mux(word == words - 1, 0, word + 1))]
                m.d.sync += tokens.eq(tokens + ~word.any())
        with m.If(sequencer.begin):
            m.d.sync += [coming.eq(1), at.eq(0), word.eq(0), tokens.eq(0)]
        return memory.read_port()

    def _compute(self, m: Module, inner: Any, sequencer: Any, queues: Any, engine: Any, x: Any) -> None:
        """Tokens into the array, results out of it."""
        spec = self.spec
        assert spec.lanes
        m.submodules.gather = gather = Shared(Gather, spec)
        m.submodules.results = results = Shared(Results, spec)
        m.submodules.hidden = hidden = Memory(
            shape=16 * spec.lanes, depth=spec.tokens * spec.neurons // spec.lanes, init=[]
        )
        read = hidden.read_port()
        place = delay(m, gather.place, 1, "place_then")
        token = Mux(sequencer.shared, place, lane_field(queues.entry_0, "token"))
        m.d.comb += [
            *(
                getattr(block, name).eq(getattr(sequencer, name))
                for block in (gather, results)
                for name in ("tiles", "passes", "count")
            ),
            gather.start.eq(sequencer.start),
            gather.words.eq(sequencer.words),
            queues.place_0.eq(gather.place),
            x.addr.eq(token * (spec.d // spec.lanes) + gather.word),
            read.addr.eq(place * (spec.neurons // spec.lanes) + gather.word),
            gather.data.eq(Mux(sequencer.down, read.data, x.data)),
            Value.cast(engine.act.payload).eq(gather.o.payload),
            engine.act.valid.eq(gather.o.valid),
            gather.o.ready.eq(engine.act.ready),
            engine.o.ready.eq(1),
            results.beat.eq(engine.o.valid),
        ]
        hidden_done = self._hidden(m, sequencer, engine, results, hidden)
        combined = self._combine(m, inner["o"], sequencer, queues, engine, results)
        m.d.comb += sequencer.done.eq(hidden_done | combined)

    def _hidden(self, m: Module, sequencer: Any, engine: Any, results: Any, memory: Any) -> Value:
        """Gate and up become hidden values; whether the phase's last ones are stored."""
        spec = self.spec
        assert spec.lanes
        lanes = spec.words // 2
        parts = spec.lanes // lanes  # of a word
        write = memory.write_port(granularity=16 * lanes)
        values = []
        for lane in range(lanes):
            m.submodules[f"swiglu_{lane}"] = swiglu = Shared(SwiGLU, spec.silu, "fp16")
            m.d.comb += [swiglu.g.eq(engine.o.payload.data[2 * lane]), swiglu.u.eq(engine.o.payload.data[2 * lane + 1])]
            values.append(swiglu.o)
        late = spec.silu.swiglu_latency("fp16")
        part = results.column[: parts.bit_length() - 1]
        word = results.column[parts.bit_length() - 1 :]
        address = Signal.like(write.addr)
        m.d.comb += address.eq(results.place * (spec.neurons // spec.lanes) + word)
        keep = named(m, results.beat & results.inside & ~sequencer.down, "keep")
        enable = Signal(parts)
        m.d.comb += [
            enable.eq(keep << part),
            write.addr.eq(delay(m, address, late, "address")),
            write.data.eq(Cat(values).replicate(parts)),
            write.en.eq(delay(m, enable, late, "enable", init=0)),
        ]
        return delay(m, results.last & ~sequencer.down, late, "hidden_done", init=0)

    def _combine(self, m: Module, o: Any, sequencer: Any, queues: Any, engine: Any, results: Any) -> Value:
        """What an expert gives its tokens is added up; whether the phase's last results are."""
        spec = self.spec
        m.submodules.combine = combine = Shared(Combine, spec)
        place = delay(m, results.place, 1, "place_done")
        token = Mux(sequencer.shared, place, lane_field(queues.entry_1, "token"))
        weight = Mux(sequencer.shared, ONE, queues.entry_1.weight) if spec.scaled else ONE
        last = named(m, results.last & sequencer.down, "last")
        m.d.comb += [
            queues.place_1.eq(results.place),
            combine.valid.eq(delay(m, results.beat & results.inside & sequencer.down, 1, "combines", init=0)),
            combine.first.eq(sequencer.shared),
            combine.row.eq(token * (spec.d // spec.words) + delay(m, results.column, 1, "column_then")),
            combine.weight.eq(weight),
            combine.parts.eq(delay(m, Value.cast(engine.o.payload.data), 1, "parts")),
            combine.send.eq(sequencer.send),
            combine.tokens.eq(sequencer.tokens),
            Value.cast(o.payload).eq(combine.o.payload),
            o.valid.eq(combine.o.valid),
            combine.o.ready.eq(o.ready),
        ]
        return delay(m, last, spec.combining, "combined", init=0)
