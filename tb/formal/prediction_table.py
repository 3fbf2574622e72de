"""What is proved of ``expert_table`` by induction: batches in their ring, layers as they came, each expert once."""

from functools import partial
from typing import Any

from amaranth.hdl import Array, C, Cat, Module, Mux, Signal, Value
from amaranth.lib import data

from golden.moe.prediction_table import BATCH_BITS, ExpertTableSpec
from hdl.arith.bits import index_bits
from hdl.moe.prediction_table import ExpertTable
from hdl.stream.signature import payload_layout
from tb.formal import Claim, Inductive
from tb.formal.dispatch import count, wire
from tb.formal.stream import implies


class Layer:
    """Of one layer of one bank: the beats that came, and how many."""

    def __init__(self, spec: ExpertTableSpec, name: str):
        self.most = spec.tokens * spec.slots
        bits = payload_layout(spec.port("i")).size
        self.beats = [Signal(bits, name=f"{name}_{n}") for n in range(self.most)]
        self.length = Signal(range(self.most + 1), name=f"{name}_length")


class Table(Inductive):
    """Any beats and requests at any time, receivers that take when they like, all of it between the skid buffers.

    Beside the unit there are lists, one for each layer of each bank, of what came; a request is answered from them.
    """

    def states(self, m: Module) -> None:
        """Names what is in the unit, makes the lists, and says what is known of both."""
        spec = self.spec
        self.layout = payload_layout(spec.port("i"))
        self.layers = [[Layer(spec, f"their_{bank}_{n}") for n in range(spec.layers)] for bank in range(2)]
        self._name(m)
        self._own(m)
        self._come(m)
        self._ask(m)
        self._kept()
        self._telling()

    def _name(self, m: Module) -> None:
        """Streams, and registers of the unit."""

        def stream(name: str, side: str, does: str) -> tuple[Any, Value]:
            layout = payload_layout(self.spec.port(name))
            path = f"dut.skid_{name}.block.{side}"
            valid, ready = (self.probe(f"{path}__{end}") for end in ("valid", "ready"))
            return data.View(layout, self.probe(f"{path}__payload", layout.size)), wire(m, valid & ready, does)

        self.i, self.comes = stream("i", "o", "comes")
        self.request, self.begins = stream("request", "o", "begins")
        self.o, self.tells = stream("o", "i", "tells")
        self.hint, self.names = stream("hint", "i", "names")
        flags = ("busy", "runs", "flush", "moves", "some_hint")
        self.busy, self.runs, self.flush, self.moves, self.some = (self.probe(f"dut.{name}") for name in flags)

    def _own(self, m: Module) -> None:
        """The ring: batches that came, batches that were released; and what is asked for."""
        spec = self.spec
        self.came, self.oldest = (Signal(BATCH_BITS, name=f"their_{name}") for name in ("came", "oldest"))
        self.there = wire(m, (self.came - self.oldest)[:BATCH_BITS], "their_there")
        self.help(self.there <= 2)
        for name, own in (("came", self.came), ("oldest", self.oldest)):
            self.help(self.probe(f"dut.{name}", BATCH_BITS) == own)
        asks = self.request.data[0]
        widths = {name: len(asks[name]) for name in ("layer", "batch", "least", "entries", "hints", "release")}
        self.asked = {name: Signal(width, name=f"their_{name}") for name, width in widths.items()}
        self.answered = Signal(name="their_answered")  # with a layer that is there
        self.told = Signal(range(spec.tokens * spec.slots + 1), name="their_told")  # beats of it so far
        self.done = Signal(init=1, name="their_done")

    def _in_ring(self, batch: Value) -> Value:
        return (batch - self.oldest)[:BATCH_BITS] < self.there

    def _come(self, m: Module) -> None:
        """What comes, by the definition: what is too much takes the place of the last."""
        spec, layers = self.spec, self.spec.layers
        beat = self.i.data[0]
        self.begun, self.layer = Signal(name="their_begun"), Signal(index_bits(layers), name="their_filled")
        self.slot = Signal(range(spec.slots + 1), name="their_slot")
        self.token = Signal(range(spec.tokens + 1), name="their_token")
        kept = data.View(self.layout, Signal(self.layout.size, name="kept"))
        m.d.comb += [kept.eq(self.i), kept.data[0].valid.eq(beat.valid & (beat.expert < spec.experts))]
        beyond = (self.slot == spec.slots) | (self.token == spec.tokens)
        ends = wire(m, self.i.last & beat.final, "their_layer_ends")
        whole = wire(m, ends & (self.layer == layers - 1), "their_batch_ends")
        for bank, those in enumerate(self.layers):
            for n, layer in enumerate(those):
                at = wire(m, Mux(self.begun, layer.length - beyond, 0), f"at_{bank}_{n}")
                with m.If(self.comes & (self.came[0] == bank)):
                    with m.If(self.layer == n):
                        m.d.sync += layer.length.eq(at + 1)
                        for place, own in enumerate(layer.beats):
                            with m.If(at == place):
                                m.d.sync += own.eq(kept.as_value())
                    with m.Elif(~self.begun):
                        m.d.sync += layer.length.eq(0)
        with m.If(self.comes):
            m.d.sync += [
                self.begun.eq(~whole),
                self.layer.eq(Mux(whole, 0, self.layer + ends)),
                self.slot.eq(Mux(self.i.last, 0, self.slot + (self.slot != spec.slots))),
                self.token.eq(Mux(ends, 0, self.token + (self.i.last & (self.token != spec.tokens)))),
                self.came.eq(self.came + whole),
            ]

    def _ask(self, m: Module) -> None:
        asks = self.request.data[0]
        with m.If(self.begins):
            m.d.sync += [own.eq(asks[name]) for name, own in self.asked.items()]
            m.d.sync += self.answered.eq(self._in_ring(asks.batch) & (asks.layer < self.spec.layers))
            m.d.sync += self.asked["release"].eq(asks.release & (asks.batch == self.oldest) & self.there.any())
            m.d.sync += [self.told.eq(0), self.done.eq(0)]
        self.length, self.beats = C(0), [C(0)] * self.layers[0][0].most
        for bank, those in enumerate(self.layers):
            for n, layer in enumerate(those):
                here = (self.asked["batch"][0] == bank) & (self.asked["layer"] == n)
                self.length = Mux(here, layer.length, self.length)
                self.beats = [Mux(here, own, other) for own, other in zip(layer.beats, self.beats, strict=True)]
        nothing = (1 << self.spec.port("i").width) | (1 << self.spec.port("i").lsb("final"))
        told = Mux(self.answered, Array(self.beats)[self.told], nothing)
        self.beat = data.View(self.layout, wire(m, told[: self.layout.size], "their_beat"))
        self.last = wire(m, ~self.answered | (self.told + 1 == self.length), "their_last")
        with m.If(self.moves):
            m.d.sync += [self.told.eq(self.told + 1), self.done.eq(self.last)]
            m.d.sync += self.oldest.eq(self.oldest + (self.last & self.asked["release"]))

    def _kept(self) -> None:
        """What is in memory of the batches that are there, and of the one that comes."""
        spec, depth = self.spec, self.spec.depth
        place, layer = self.probe("dut.place", range(depth + 1)), self.probe("dut.layer", index_bits(spec.layers))
        bits, starts_bits = self.layout.size, index_bits(depth)
        for bank, those in enumerate(self.layers):
            words = Array(self.probe(f"dut.entries[{bank * depth + n}]", bits) for n in range(depth))
            whole = (self.there == 2) | ((self.there == 1) & (self.oldest[0] == bank))
            fills = self.begun & (self.came[0] == bank)
            begins: Value = C(0)
            for n, own in enumerate(those):
                start = self.probe(f"dut.starts[{n + (bank << index_bits(spec.layers))}]", starts_bits)
                complete = whole | (fills & (self.layer > n))
                here = fills & (self.layer == n)
                for k, beat in enumerate(own.beats):
                    there, view = own.length > k, data.View(self.layout, beat)
                    last = view.last & view.data[0].final
                    self.help(
                        implies((whole | fills) & there, words[begins + k] == beat),
                        implies(there & view.data[0].valid, view.data[0].expert < spec.experts),
                        implies(complete & there, last == (own.length == k + 1)),
                        implies(here & there, ~last),
                    )
                self.help(
                    own.length <= own.most,
                    implies((whole | fills) & own.length.any(), start == begins),
                    implies(complete, own.length.any()),
                    implies(fills & (self.layer < n), own.length == 0),
                    implies(here, own.length.any() == (self.token.any() | self.slot.any())),
                    implies(here, own.length <= self.token * spec.slots + self.slot),
                    implies(here, place == begins + own.length),
                )
                begins = begins + own.length
        beginning = Cat(place, self.layer, self.token, self.slot) == 0
        self.help(
            (layer == self.layer) & (self.layer < spec.layers),
            self.probe("dut.slot", range(spec.slots + 1)) == self.slot,
            self.probe("dut.token", range(spec.tokens + 1)) == self.token,
            (self.slot <= spec.slots) & (self.token <= spec.tokens),
            Mux(self.begun, self.there < 2, beginning),
        )

    def _telling(self) -> None:
        """Where a request is."""
        bits = index_bits(self.spec.depth)
        begins: Value = C(0)
        for bank, those in enumerate(self.layers):
            for n in range(len(those)):
                here = (self.asked["batch"][0] == bank) & (self.asked["layer"] == n)
                begins = Mux(here, count(layer.length for layer in those[:n]), begins)
        asked = [
            self.probe(f"dut.asked_{name}", len(own)) == own for name, own in self.asked.items() if name != "batch"
        ]
        asked.append(self.probe("dut.asked_bank") == self.asked["batch"][0])
        asked.append(self.probe("dut.asked_none") == ~self.answered)
        reads = self.probe("dut.told_place", bits) == begins + self.told
        inside = (self.told < self.length) & self._in_ring(self.asked["batch"])
        self.help(
            self.busy == (self.runs | self.flush),
            ~(self.runs & self.flush),
            *(implies(self.busy, value) for value in asked),
            implies(self.busy, self.done == ~self.runs),
            implies(self.flush, self.asked["hints"]),
            implies(self.runs & self.answered, inside & reads & (self.asked["layer"] < self.spec.layers)),
            implies(self.runs, self.o.as_value() == self.beat.as_value()),
            implies(self.runs & ~self.answered, self.told == 0),
            implies(self.runs & self.asked["release"], (self.asked["batch"] == self.oldest) & self.there.any()),
        )


class Ring(Table):
    """Two batches at most; none is overwritten that is kept, none told that is not; who waits gets what comes."""

    def claim(self, m: Module) -> list[Value]:
        self.states(m)
        asks = self.request.data[0]
        waits = asks.wait & ~self._in_ring(asks.batch) & ((asks.batch - self.oldest)[:BATCH_BITS] < 2)
        return [
            self.there <= 2,
            implies(self.comes, self.there < 2),
            implies(self.moves & self.answered, self._in_ring(self.asked["batch"])),
            implies(self.begins, ~waits),
        ]


class Told(Table):
    """All of a layer, as it came, and nothing else."""

    def claim(self, m: Module) -> list[Value]:
        self.states(m)
        return [
            implies(self.moves, self.o.as_value() == self.beat.as_value()),
            implies(self.moves, (self.o.last & self.o.data[0].final) == self.last),
            self.tells == (self.moves & self.asked["entries"]),
            implies(self.moves, ~self.done),
            implies(~self.busy, self.done),
        ]


class Named(Table):
    """Each expert that is certain enough once, in order of first use; an empty beat if there is none."""

    def claim(self, m: Module) -> list[Value]:
        self.states(m)
        spec, entry = self.spec, self.beat.data[0]
        keys = [Signal.like(self.hint.data[0].key, name=f"their_key_{n}") for n in range(spec.experts)]
        some, named = (Signal(range(spec.experts + 2), name=f"their_{name}") for name in ("some", "named"))
        key = wire(m, (self.asked["layer"] * spec.experts + entry.expert)[: len(keys[0])], "their_key")
        again = Cat((n < some) & (own == key) for n, own in enumerate(keys)).any()
        certain = self.asked["hints"] & entry.valid & (entry.confidence >= self.asked["least"])
        first = wire(m, self.moves & certain & ~again, "first")
        with m.If(first):
            m.d.sync += [own.eq(Mux(some == n, key, own)) for n, own in enumerate(keys)]
        m.d.sync += [some.eq(Mux(self.begins, 0, some + first)), named.eq(Mux(self.begins, 0, named + self.names))]
        self._naming(keys, some, named)
        said = self.hint.data[0]
        return [
            implies(self.names, said.valid == some.any()),
            implies(self.names & said.valid, (named < some) & (said.key == Array(keys)[named])),
            implies(self.names, self.hint.last == (self.done & (named + 1 >= some))),
            implies(~self.busy & self.asked["hints"], named == Mux(some.any(), some, 1)),
            implies(self.names, self.busy & self.asked["hints"]),
        ]

    def _naming(self, keys: list[Signal], some: Value, named: Value) -> None:
        """One expert is held back until the next one comes, or the end."""
        spec, seen = self.spec, self.probe("dut.seen", self.spec.experts)
        held = self.probe("dut.held_key", len(keys[0]))
        numbers = [(self.asked["layer"] * spec.experts + e)[: len(keys[0])] for e in range(spec.experts)]
        self.help(
            some <= spec.experts,
            *(implies(some > b, keys[a] != keys[b]) for b in range(spec.experts) for a in range(b)),
            *(
                implies(self.busy & (some > n), Cat(key == number for number in numbers).any())
                for n, key in enumerate(keys)
            ),
            implies(self.busy, self.some == some.any()),
            implies(self.busy, named == some - some.any()),
            implies(self.busy & some.any(), held == Array(keys)[some - 1]),
            implies(self.busy & ~self.asked["hints"], some == 0),
            *(
                implies(self.runs, seen[e] == Cat((n < some) & (own == key) for n, own in enumerate(keys)).any())
                for e, key in enumerate(numbers)
            ),
        )


RING = "two batches in a ring: none overwritten that is there, none told that is not; who waits gets what comes"
TOLD = "a layer is told whole, beat by beat as it came, and nothing else"
NAMED = "each expert of a layer is named once, in order of first use"


def spec(**values: int) -> ExpertTableSpec:
    return ExpertTableSpec(confidence=1, **values)


def _table(kind: Any, **values: int) -> Table:
    made: Table = kind(ExpertTable(spec(**values)))
    return made


def _claim(text: str, kind: Any, **values: int) -> Claim:
    size = ", ".join(f"{value} {name}" for name, value in values.items())
    return Claim("expert_table", text, size, partial(_table, kind, **values))


SIZES = (
    {"layers": 2, "experts": 2, "tokens": 1, "slots": 2},
    {"layers": 3, "experts": 3, "tokens": 1, "slots": 1},
    {"layers": 2, "experts": 3, "tokens": 2, "slots": 1},
)

CLAIMS = tuple(
    _claim(text, kind, **values) for text, kind in ((RING, Ring), (TOLD, Told), (NAMED, Named)) for values in SIZES
)
