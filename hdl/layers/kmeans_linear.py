"""The top level of the unit ``kmeans_linear``.

::

    i --+--> quantizer --> indices, collected --> lutgemm --> queue --.
        |        `--> exponent ------------------------+-----------> merge --> scaling --> o
        |                                               `---.          ^
        `--> orizuru --> queue --> residuals, columns (compensation) --'
                                       |        ^
                                     fetch     col
"""

from collections.abc import Mapping
from typing import Any

from amaranth.hdl import Cat, Module, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from golden.kmeans import token
from golden.kmeans.linear import KMeansLinearSpec
from hdl.arith.bits import named
from hdl.kmeans.compensate import Compensation
from hdl.kmeans.lutgemm import LutGemm
from hdl.kmeans.merge import Merge
from hdl.kmeans.quantizer import Quantizer
from hdl.kmeans.scaling import Scaling, sums_layout
from hdl.kmeans.sequencer import clamped_n
from hdl.orizuru import engine as orizuru
from hdl.shared import Shared
from hdl.stream.away import PREFIX, Away, away
from hdl.stream.fifo import BlockFIFO, StreamFIFO
from hdl.stream.fork import fork
from hdl.stream.signature import lane_shape, payload_layout, stream_members, stream_signature
from hdl.stream.skid import skid, skids
from hdl.stream.width import Widen

EXPONENTS = 4
"""Tokens on their way from the quantizer to their results."""


class KMeansLinear(wiring.Component):
    """Units and queues between them; the datasheet is :class:`golden.kmeans.linear.KMeansLinearSpec`.

    With ``outside`` ``orizuru`` stands elsewhere, and its streams and status are members: ``engine_i``, ``engine_cfg``
    : Out, ``engine_o`` : In, ``engine_sts_error`` : In.
    """

    kind = "kmeans_linear"

    def __init__(self, spec: KMeansLinearSpec, outside: bool = False):
        self.spec = spec
        self.outside = outside
        engine: dict[str, Any] = {}
        if outside:
            engine = stream_members(away(spec.engine.ports))
            engine |= {f"{PREFIX}{s.signal}": In(s.width) for s in spec.engine.status}
        super().__init__(stream_members(spec.ports) | {f"sts_{s.name}": Out(s.width) for s in spec.status} | engine)

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        spec = self.spec
        m.submodules.quantizer = quantizer = Shared(Quantizer, spec.quantizer)
        engine: Any = Away(self)
        if not self.outside:
            m.submodules.orizuru = engine = Shared(orizuru.Engine, spec.engine)
        m.submodules.lutgemm = gemm = Shared(LutGemm, spec.gemm)
        cfg = self._configure(m, quantizer, engine, gemm)
        fork(m, self.i, (quantizer.i, engine.i))
        for lane, x, key in zip(self.i.payload.data, quantizer.i.payload.data, engine.i.payload.data, strict=True):
            m.d.comb += [x.eq(lane), key.key.eq(lane.x), key.valid.eq(lane.valid)]
        for sink in (quantizer.i, engine.i):
            m.d.comb += sink.payload.last.eq(self.i.payload.last)
        self._indices(m, quantizer, gemm)
        for name in ("w", "lut"):
            wiring.connect(m, wiring.flipped(getattr(self, name)), getattr(gemm, name))
        side, merge = self._exponents(m, quantizer)
        compensation = self._compensate(m, engine, cfg, side)
        self._merge(m, gemm, merge, compensation)
        m.d.comb += self.sts_error.eq(Cat(quantizer.sts_error, gemm.sts_error[1], engine.sts_error[1]))
        return m

    def _configure(self, m: Module, quantizer: Any, engine: Any, gemm: Any) -> Any:
        """Each unit gets its part of a token's configuration. Returns the compensation's, behind a skid buffer."""
        spec, given = self.spec, self.cfg.payload.data[0]
        port = spec.port("cfg")
        before, held = stream_signature(port).create(), stream_signature(port).create()
        skid(m, port, before, held)
        m.d.comb += [before.payload.eq(self.cfg.payload)]
        parts: Mapping[Any, Any] = {quantizer.cfg: quantizer.cfg.payload.data[0], gemm.cfg: gemm.cfg.payload.data[0]}
        for part in parts.values():
            m.d.comb += [part[name].eq(given[name]) for name in part.shape().members]
        m.d.comb += engine.cfg.payload.data[0].eq(given.k)
        fork(m, self.cfg, (quantizer.cfg, engine.cfg, gemm.cfg, before))
        return held

    def _indices(self, m: Module, quantizer: Any, gemm: Any) -> None:
        """Collected to beats of the main path."""
        spec = self.spec
        lane = lane_shape(spec.quantizer.port("o"))
        m.submodules.collect = collect = Shared(
            Widen, data.ArrayLayout(lane, spec.lanes), spec.codes // spec.lanes, True
        )
        m.d.comb += [
            collect.i.payload.eq(quantizer.o.payload),
            collect.i.valid.eq(quantizer.o.valid),
            quantizer.o.ready.eq(collect.i.ready),
            gemm.act.payload.eq(collect.o.payload),
            gemm.act.valid.eq(collect.o.valid),
            collect.o.ready.eq(gemm.act.ready),
        ]

    def _exponents(self, m: Module, quantizer: Any) -> list[Any]:
        """``e - GRID`` for both paths."""
        above = named(m, (quantizer.exp.payload.data[0] - token.GRID)[:6], "above")
        queues = []
        for name in ("side", "main"):
            m.submodules[f"exponent_{name}"] = queue = Shared(StreamFIFO, 6, EXPONENTS)
            m.d.comb += queue.i.payload.eq(above)
            queues.append(queue)
        fork(m, quantizer.exp, [queue.i for queue in queues])
        return [queue.o for queue in queues]

    def _compensate(self, m: Module, engine: Any, cfg: Any, exponent: Any) -> Any:
        spec, given = self.spec, cfg.payload.data[0]
        m.submodules.compensation = compensation = Shared(Compensation, spec)
        shape = payload_layout(spec.engine.port("o"))
        m.submodules.outliers = outliers = Shared(StreamFIFO, shape, 2 * spec.outliers + 2)
        wiring.connect(m, wiring.flipped(engine.o) if self.outside else engine.o, outliers.i)
        found = outliers.o.payload
        m.d.comb += [
            *(compensation.i.payload[name].eq(found.data[0][name]) for name in ("value", "index", "valid")),
            compensation.i.payload.last.eq(found.last),
            compensation.i.valid.eq(outliers.o.valid),
            outliers.o.ready.eq(compensation.i.ready),
            compensation.ready.eq(cfg.valid & exponent.valid),
            compensation.above.eq(exponent.payload),
            compensation.n.eq(clamped_n(m, spec.gemm, given.n)),
            compensation.boundaries.eq(self._all(given, "boundary", (1 << spec.act_bits) - 1)),
            compensation.acts.eq(self._all(given, "act", 1 << spec.act_bits)),
            compensation.weights.eq(self._all(given, "weight", 1 << spec.weight_bits)),
            *(source.ready.eq(compensation.done) for source in (cfg, exponent)),
        ]
        fetch, col = skids(m, self, (spec.port("fetch"), spec.port("col"))).values()
        m.d.comb += [
            fetch.payload.data[0].eq(compensation.fetch.payload),
            fetch.valid.eq(compensation.fetch.valid),
            compensation.fetch.ready.eq(fetch.ready),
            compensation.col.payload.eq(Cat(col.payload.data)),
            compensation.col.valid.eq(col.valid),
            col.ready.eq(compensation.col.ready),
        ]
        return compensation

    def _all(self, given: Any, name: str, count: int) -> Value:
        return Cat(given[f"{name}_{i}"] for i in range(count))

    def _merge(self, m: Module, gemm: Any, exponent: Any, compensation: Any) -> None:
        """Main sums wait in a queue for a whole token until the outliers are through."""
        spec = self.spec
        m.submodules.main = main = Shared(BlockFIFO, sums_layout(spec.lines, spec.gemm.sum_width), spec.groups + 4)
        m.submodules.merge = merge = Shared(Merge, spec)
        m.submodules.scaling = scaling = Shared(Scaling, spec.lines, spec.sum_width, token.GRID, token.GRID, spec.out)
        wiring.connect(m, gemm.o, main.i)
        wiring.connect(m, main.o, merge.i)
        wiring.connect(m, merge.o, scaling.i)
        wiring.connect(m, exponent, merge.exponent)
        scl, o = skids(m, self, (spec.port("scl"), spec.port("o"))).values()
        wiring.connect(m, scaling.o, wiring.flipped(o))
        m.d.comb += [
            *(getattr(merge, name).eq(getattr(compensation, name)) for name in ("full", "none")),
            merge.side.eq(compensation.out),
            *(getattr(compensation, name).eq(getattr(merge, name)) for name in ("take", "next", "free")),
            compensation.out_row.eq(merge.row),
            scaling.scale.payload.eq(Cat(scl.payload.data)),
            scaling.scale.valid.eq(scl.valid),
            scl.ready.eq(scaling.scale.ready),
            scaling.exponent.valid.eq(1),
        ]
