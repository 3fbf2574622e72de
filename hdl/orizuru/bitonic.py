"""Variant ``bitonic``: beats are sorted by a pipelined network and merged into a sorted list per side."""

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hdl.arith.bits import named
from hdl.orizuru.first import First
from hdl.orizuru.ranked import Place, hand_out
from hdl.orizuru.selector import Selector
from hdl.orizuru.shape import LARGER, NOT_LARGER, Shape
from hdl.shared import Shared

Layers = tuple[tuple[tuple[int, int], ...], ...]
"""Per layer the pairs of places that are compared: the better key goes to the first one."""


def ahead(shape: Shape, rule: str, a: Any, b: Any) -> Value:
    """Whether ``b`` comes before ``a`` for the rule: by value, then by index; what is not there comes last."""
    equal = a.word[-shape.key :] == b.word[-shape.key :]
    later = b.index > a.index
    wins = {
        LARGER: shape.right_wins(LARGER, a.word, b.word) | (equal & ~later),
        NOT_LARGER: shape.right_wins(NOT_LARGER, a.word, b.word) & (~equal | later),
    }.get(rule, shape.right_wins(rule, a.word, b.word) | (equal & ~later))
    return b.valid & (~a.valid | wins)


class CompareExchange(wiring.Component):
    """Two keys, the better one first.

    Members
    -------
    a, b : In(winner); first, second : Out(winner).
    """

    kind = "compare_exchange"

    def __init__(self, shape: Shape, rule: str):
        self.shape = shape
        self.rule = rule
        key = shape.winner(shape.depth)
        super().__init__({"a": In(key), "b": In(key), "first": Out(key), "second": Out(key)})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        crosses = named(m, ahead(self.shape, self.rule, self.a, self.b), "crosses")
        m.d.comb += [self.first.eq(Mux(crosses, self.b, self.a)), self.second.eq(Mux(crosses, self.a, self.b))]
        return m


class Network(wiring.Component):
    """Exchanges between places, in layers; with ``registers`` one after each.

    Members
    -------
    i : In(keys); o : Out(keys).
    """

    kind = "network"

    def __init__(self, shape: Shape, rule: str, layers: Layers, size: int, registers: bool):
        self.shape = shape
        self.rule = rule
        self.layers = layers
        self.size = size
        self.registers = registers
        keys = data.ArrayLayout(shape.winner(shape.depth), size)
        super().__init__({"i": In(keys), "o": Out(keys)})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        keys: list[Any] = list(self.i)
        for number, layer in enumerate(self.layers):
            for first, second in layer:
                m.submodules[f"exchange_{number}_{first}"] = pair = Shared(CompareExchange, self.shape, self.rule)
                m.d.comb += [pair.a.eq(keys[first]), pair.b.eq(keys[second])]
                keys[first], keys[second] = pair.first, pair.second
            if self.registers:
                keys = [self._held(m, number, i, key) for i, key in enumerate(keys)]
        m.d.comb += [o.eq(key) for o, key in zip(self.o, keys, strict=True)]
        return m

    def _held(self, m: Module, number: int, i: int, key: Any) -> Any:
        held = Signal(key.shape(), name=f"held_{number}_{i}", reset_less=True)
        m.d.sync += held.eq(key)
        return held


def sorting(size: int) -> Layers:
    """Layers of Batcher's bitonic sorter of ``size`` places, a power of two."""
    layers = []
    block = 2
    while block <= size:
        step = block // 2
        while step:
            pairs = [(i, i | step) for i in range(size) if not i & step]
            layers.append(tuple((a, b) if not a & block else (b, a) for a, b in pairs))
            step //= 2
        block *= 2
    return tuple(layers)


def merging(size: int) -> Layers:
    """The last layers of the sorter: they sort a bitonic list."""
    return sorting(size)[-(size.bit_length() - 1) :] if size > 1 else ()


class Running(wiring.Component):
    """The best keys so far, sorted: of each place the better one of the list and of the beat, the latter backwards, and
    what remains is bitonic. All in one cycle.

    Members
    -------
    beat : In(sorted keys, best first); valid : In(1, merge them); swap, take, winner : as of ``Ranked``.
    """

    kind = "running"

    def __init__(self, shape: Shape, rule: str, size: int, beat: int):
        self.shape = shape
        self.rule = rule
        self.size = size
        key = shape.winner(shape.depth)
        members = {"beat": In(data.ArrayLayout(key, beat)), "valid": In(1), "swap": In(1), "take": In(1)}
        super().__init__(members | {"winner": Out(key)})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        shape, size = self.shape, self.size
        places = [Place(m, self.winner.shape(), f"place_{i}") for i in range(size)]
        m.submodules.merge = merge = Shared(Network, shape, self.rule, merging(size), size, False)
        for i, place in enumerate(places):
            before = Signal(place.key.shape(), name=f"before_{i}")
            m.d.comb += [before.eq(place.key), before.valid.eq(place.key.valid & ~self.swap)]
            other = size - 1 - i
            if other >= len(self.beat):
                m.d.comb += merge.i[i].eq(before)
                continue
            m.submodules[f"better_{i}"] = better = Shared(CompareExchange, shape, self.rule)
            m.d.comb += [better.a.eq(before), better.b.eq(self.beat[other]), merge.i[i].eq(better.first)]
        with m.If(self.valid):  # of one lane the first key comes in the cycle of the exchange
            m.d.sync += [place.eq(key) for place, key in zip(places, merge.o, strict=True)]
        with m.Elif(self.swap):
            m.d.sync += [place.valid.eq(0) for place in places]
        hand_out(m, shape, places, self)
        return m


class Bitonic(Selector):
    """Sorters and lists. Of one order a sorter serves both ends: backwards, what is missing comes first, and a shifter
    takes it away. Rule ``paper`` has two orders."""

    kind = "bitonic"

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        shape, spec = self.shape, self.spec
        layers = sorting(1 << shape.lane_bits)
        valid = Signal(spec.timing.settle)  # a beat on its way, by layer
        m.d.comb += [valid[0].eq(self.write), self.ready.eq(~valid[1:].any())]
        m.d.sync += valid[1:].eq(valid)
        keys = self.numbered(m)
        beats = []
        for number, rule in enumerate(shape.rules[: spec.sorters]):
            m.submodules[f"sorter_{number}"] = sorter = Shared(Network, shape, rule, layers, 1 << shape.lane_bits, True)
            m.d.comb += [place.eq(key) for place, key in zip(sorter.i, keys, strict=False)]
            beats.append(sorter.o)
        if spec.sorters < spec.trees:
            beats = self._both_ends(m, beats[0])
        for t, rule in enumerate(shape.rules):
            self._list(m, t, rule, beats[t], valid[-1])
        return m

    def _both_ends(self, m: Module, beat: Any) -> list[Any]:
        """The beat, and the same backwards with what is missing at its end."""
        width = len(beat[0].as_value())
        m.submodules.missing = missing = Shared(First, 1, len(beat), True)  # its place alone is of interest
        m.d.comb += missing.there.eq(Cat(key.valid for key in beat))
        backwards = Cat(reversed([key.as_value() for key in beat]))
        gap = named(m, (len(beat) - 1) ^ missing.place, "gap")  # places behind the last key that is there
        for i, bit in enumerate(gap):
            backwards = named(m, Mux(bit, backwards >> (width << i), backwards), f"backwards_{i}")
        ends = []
        for name, value in (("forwards", beat.as_value()), ("turned", backwards)):
            ends.append(end := Signal(beat.shape(), name=name, reset_less=True))
            m.d.sync += end.eq(value)
        return ends

    def _list(self, m: Module, t: int, rule: str, beat: Any, valid: Value) -> None:
        shape, spec = self.shape, self.spec
        best = min(spec.list_size, len(beat))
        m.submodules[f"list_{t}"] = running = Shared(Running, shape, rule, spec.list_size, best)
        m.d.comb += [
            *(running.beat[i].eq(beat[i]) for i in range(best)),
            running.valid.eq(valid),
            running.swap.eq(self.swap),
            running.take.eq(self.take[t]),
            self.winners[t].eq(running.winner),
        ]
