"""The top level of the unit ``orizuru``: loading, trees, results."""

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from golden.orizuru.engine import OrizuruSpec
from hdl.arith.bits import named
from hdl.orizuru.keys import decode, encode
from hdl.orizuru.tree import Shape, branching
from hdl.shared import Shared
from hdl.stream.signature import payload_layout, stream_members, stream_signature
from hdl.stream.skid import skid


class Loader(wiring.Component):
    """Writes a vector's keys into leaves that the trees do not see yet, and counts the valid ones.

    Throughput  a beat every cycle, while the leaves are not full, or are being exchanged.

    Members
    -------
    i : In(stream of keys); write, row, slots : Out, to the leaves; full : Out(1), a whole vector is there;
    count : Out, of its valid keys; swap : In(1), it is taken; error : Out(1), a key has no leaf.
    """

    kind = "loader"

    def __init__(self, spec: OrizuruSpec):
        self.spec = spec
        self.shape = Shape.of(spec)
        super().__init__(
            {
                "i": In(stream.Signature(payload_layout(spec.port("i")))),
                "write": Out(1),
                "row": Out(range(max(2, spec.rows))),
                "slots": Out(data.ArrayLayout(self.shape.slot, spec.lanes)),
                "full": Out(1),
                "count": Out(range(spec.n + 1)),
                "swap": In(1),
                "error": Out(1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        spec, last = self.spec, self.i.payload.last
        accept = named(m, self.i.valid & self.i.ready, "accept")
        over = Signal()  # the leaves are used up
        ends_rows = self.row == spec.rows - 1
        m.d.comb += [self.i.ready.eq(~self.full | self.swap), self.write.eq(accept & ~over)]
        with m.If(self.swap):
            m.d.sync += self.full.eq(0)
        with m.If(accept):
            m.d.sync += [
                self.full.eq(last),
                self.row.eq(Mux(last | ends_rows, 0, self.row + 1)),
                over.eq(~last & (over | ends_rows)),
            ]
        keys, misplaced = self._keys(m, ends_rows)
        before = Mux(self.swap, 0, self.count)
        m.d.sync += self.count.eq(before + Mux(self.write, sum(keys), 0))
        m.d.comb += self.error.eq(accept & (misplaced | over))
        return m

    def _keys(self, m: Module, ends_rows: Value) -> tuple[list[Value], Value]:
        """Encoded keys to the slots. Returns the valid bits, and whether the final row has a key too many."""
        spec, valid = self.spec, []
        inside = spec.n - (spec.rows - 1) * spec.lanes
        for i in range(spec.lanes):
            lane = self.i.payload.data[i]
            valid.append(lane.valid & ~ends_rows if i >= inside else lane.valid)
            word = encode(Value.cast(lane.key).as_unsigned(), spec.key_format, spec.sides == "magnitude")
            m.d.comb += [self.slots[i].word.eq(word), self.slots[i].valid.eq(valid[i])]
        misplaced = Cat(self.i.payload.data[i].valid for i in range(inside, spec.lanes)).any()
        return valid, misplaced & ends_rows


class Popper(wiring.Component):
    """Takes the winners of all trees in turn until a vector's results are out.

    Throughput  a result per cycle, as long as the next one stands at its root.

    Members
    -------
    swap : In(1), a vector begins, with results : In(how many); free : Out(1), the next may;
    winners : In(those of the roots); take : Out(1 per tree); o : Out(stream of results).
    """

    kind = "popper"

    def __init__(self, spec: OrizuruSpec):
        self.spec = spec
        self.shape = Shape.of(spec)
        super().__init__(
            {
                "swap": In(1),
                "results": In(range(2 * spec.n + 1)),
                "free": Out(1),
                "winners": In(data.ArrayLayout(self.shape.winner(spec.depth), spec.trees)),
                "take": Out(spec.trees),
                "o": Out(stream.Signature(payload_layout(spec.port("o")))),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        busy, tree = Signal(), Signal(range(max(2, self.spec.trees)))
        left = Signal.like(self.results)
        nothing, last = ~left.any(), left <= 1
        winner = Signal(self.shape.winner(self.spec.depth))
        m.d.comb += winner.eq(self.winners[tree] if self.spec.trees == 2 else self.winners[0])
        pop = named(m, self.o.valid & self.o.ready, "pop")
        m.d.comb += [
            self.o.valid.eq(busy & (nothing | winner.valid)),
            self.o.payload.last.eq(last),
            self.free.eq(~busy | (pop & last)),
            self.take.eq((pop & ~nothing) << tree),
        ]
        with m.If(self.swap):
            m.d.sync += [busy.eq(1), left.eq(self.results), tree.eq(0)]
        with m.Elif(pop):
            m.d.sync += [busy.eq(~last), left.eq(left - 1)]
            if self.spec.trees == 2:
                m.d.sync += tree.eq(~tree)
        self._result(m, winner, tree, ~nothing)
        return m

    def _result(self, m: Module, winner: Any, tree: Value, valid: Value) -> None:
        """The fields of a result; all 0 where there is none."""
        spec, result = self.spec, self.o.payload.data[0]
        value = decode(m, winner.word, spec.key_format, spec.sides == "magnitude")
        lane, row = winner.index[: self.shape.lane_bits], winner.index[self.shape.lane_bits :]
        smallest = tree if spec.trees == 2 else spec.sides == "smallest"
        m.d.comb += [
            result.value.eq(Mux(valid, value, 0)),
            result.index.eq(Mux(valid, row * spec.lanes + lane, 0)),
            result.smallest.eq(smallest & valid),
            result.valid.eq(valid),
        ]


class Engine(wiring.Component):
    """Streams around the trees; the datasheet is :class:`golden.orizuru.engine.OrizuruSpec`."""

    kind = "engine"

    def __init__(self, spec: OrizuruSpec):
        self.spec = spec
        members = stream_members(spec.ports)
        super().__init__(members | {f"sts_{s.name}": Out(s.width) for s in spec.status})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        spec, shape = self.spec, Shape.of(self.spec)
        m.submodules.loader = loader = Shared(Loader, spec)
        m.submodules.popper = popper = Shared(Popper, spec)
        m.submodules.root = root = Shared(branching(spec.depth), shape, spec.n, spec.depth)
        cfg = stream_signature(spec.port("cfg")).create()
        skid(m, spec.port("i"), self.i, loader.i)
        skid(m, spec.port("cfg"), self.cfg, cfg)
        skid(m, spec.port("o"), popper.o, self.o)

        swap = named(m, loader.full & cfg.valid & popper.free, "swap")
        k = cfg.payload.data[0]
        m.d.comb += [
            *(block.swap.eq(swap) for block in (loader, popper, root)),
            cfg.ready.eq(swap),
            popper.results.eq(self._results(m, k, loader.count)),
            root.write.eq(loader.write),
            root.slots.eq(loader.slots),
            root.take.eq(popper.take),
        ]
        if shape.row_bits(spec.depth):
            m.d.comb += root.row.eq(loader.row)
        self._winners(m, root, popper, swap)
        m.d.sync += self.sts_error.eq(self.sts_error | Cat(loader.error, swap & (k > spec.k_max)))
        return m

    def _results(self, m: Module, k: Value, count: Value) -> Value:
        """As :meth:`OrizuruSpec.results`."""
        both = self.spec.trees == 2
        wanted = k << both
        most = count << (both and self.spec.ties == "paper")
        return named(m, Mux(wanted < most, wanted, most), "results")

    def _winners(self, m: Module, root: Any, popper: Any, swap: Value) -> None:
        """Roots to the popper; with variant ``level`` only once the comparisons have come up to them."""
        m.d.comb += popper.winners.eq(root.winners)
        if self.spec.variant != "level":
            return
        for t in range(self.spec.trees):
            update = Signal(self.spec.depth - 1, name=f"update_{t}")  # one bit per level, from the lowest
            m.d.sync += update.eq(Cat(swap | popper.take[t], update))
            m.d.comb += [
                root.update[t].eq(update),
                popper.winners[t].valid.eq(root.winners[t].valid & ~update.any()),
            ]
