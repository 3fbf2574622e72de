"""The top level of the unit ``orizuru``: loading, selecting, results."""

from typing import Any

from amaranth.hdl import C, Cat, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import Out

from golden.orizuru.engine import TREES, OrizuruSpec
from hdl.arith.bits import named
from hdl.orizuru.bitonic import Bitonic
from hdl.orizuru.loader import Loader
from hdl.orizuru.memory import MemoryTree
from hdl.orizuru.popper import Popper
from hdl.orizuru.queue import Queues
from hdl.orizuru.radix import Radix
from hdl.orizuru.threshold import Thresholds
from hdl.orizuru.tree import RegisterTrees
from hdl.shared import Shared
from hdl.stream.signature import stream_members
from hdl.stream.skid import skids

SELECTORS = {
    **dict.fromkeys(TREES, RegisterTrees),
    "memory": MemoryTree,
    "queue": Queues,
    "bitonic": Bitonic,
    "radix": Radix,
}
"""What stands between loader and popper, for every variant but ``threshold``."""


class Engine(wiring.Component):
    """Streams around a selector; the datasheet is :class:`golden.orizuru.engine.OrizuruSpec`."""

    kind = "engine"

    def __init__(self, spec: OrizuruSpec):
        self.spec = spec
        members = stream_members(spec.ports)
        super().__init__(members | {f"sts_{s.name}": Out(s.width) for s in spec.status})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        spec = self.spec
        i, cfg, o = skids(m, self, spec.ports).values()
        asked = cfg.payload.data[0] if not spec.thresholds else cfg.payload.data[0].k
        every_k = spec.k_max == (1 << spec.k_width) - 1  # then no k is too large
        above = named(m, C(0, 1) if every_k else asked > spec.k_max, "above")
        k = named(m, Mux(above, spec.k_max, asked), "k")
        if spec.thresholds:
            lost, taken = self._compare(m, i, cfg, o, k)
        else:
            lost, taken = self._select(m, i, cfg, o, k)
        m.d.sync += self.sts_error.eq(self.sts_error | Cat(lost, taken & above))
        return m

    def _select(self, m: Module, i: Any, cfg: Any, o: Any, k: Value) -> tuple[Value, Value]:
        """Loader, selector, popper. Returns that a key has no place, and that k is taken."""
        spec = self.spec
        m.submodules.loader = loader = Shared(Loader, spec)
        m.submodules.selector = selector = Shared(SELECTORS[spec.variant], spec)
        m.submodules.popper = popper = Shared(Popper, spec)
        swap = named(m, loader.full & selector.ready & cfg.valid & popper.free, "swap")
        results = Signal(range(2 * spec.k_max + 1))
        m.d.comb += results.eq(self._results(k, loader.count))
        wiring.connect(m, i, loader.i)
        wiring.connect(m, popper.o, wiring.flipped(o))
        m.d.comb += [
            *(block.swap.eq(swap) for block in (loader, selector, popper)),
            *(block.results.eq(results) for block in (selector, popper)),
            *(getattr(selector, name).eq(getattr(loader, name)) for name in ("write", "row", "slots", "last")),
            loader.hold.eq(selector.hold),
            selector.take.eq(popper.take),
            popper.winners.eq(selector.winners),
            cfg.ready.eq(swap),
        ]
        return loader.error, swap

    def _results(self, k: Value, count: Value) -> Value:
        """As :meth:`OrizuruSpec.results`."""
        both = self.spec.trees == 2
        wanted = k << both
        most = count << (both and self.spec.ties == "paper")
        return Mux(wanted < most, wanted, most)

    def _compare(self, m: Module, i: Any, cfg: Any, o: Any, k: Value) -> tuple[Value, Value]:
        """Thresholds in place of all that. Returns that a key has no place, and that k is taken."""
        m.submodules.thresholds = thresholds = Shared(Thresholds, self.spec)
        wiring.connect(m, i, thresholds.i)
        wiring.connect(m, thresholds.o, wiring.flipped(o))
        limits = cfg.payload.data[0]
        m.d.comb += [
            *(getattr(thresholds, name).eq(getattr(limits, name)) for name in self.spec.thresholds),
            thresholds.k.eq(k),
            thresholds.begin.eq(cfg.valid),
            cfg.ready.eq(thresholds.done),
        ]
        return thresholds.error, thresholds.done
