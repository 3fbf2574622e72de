"""Unit ``orizuru``: the exported Verilog against its golden model."""

from itertools import product
from typing import Any

import numpy as np
import pytest

from golden.fixture import WIDTH, load
from golden.orizuru.engine import VARIANTS, OrizuruSpec, Vector
from hdl.orizuru.bitonic import Bitonic, CompareExchange, Running
from hdl.orizuru.engine import Engine
from hdl.orizuru.first import First
from hdl.orizuru.loader import Loader
from hdl.orizuru.memory import Roots, RowNode, Rows
from hdl.orizuru.popper import Popper
from hdl.orizuru.queue import Queue, Queues
from hdl.orizuru.radix import Leaf, Radix
from hdl.orizuru.shape import Shape
from hdl.orizuru.threshold import Thresholds
from hdl.orizuru.tree import Holding, Node, Pair, RegisterTrees, Shifting
from tb.cosim import compile
from tb.faults import one_in, turns_red
from tb.orizuru import real_keys
from tb.runner import both_see_the_same, run_bulk
from tb.transactions import case_of
from tb.units import BENCHES

# Every variant, side and rule; lanes that are one, all, a power of two and not, and that do not divide n.
SPECS = [
    OrizuruSpec(n=8, lanes=1, key="uint8", variant="comb", ties="paper"),
    OrizuruSpec(n=33, lanes=7, key="int16", variant="systolic", sides="magnitude"),
    OrizuruSpec(n=21, lanes=5, key="bf16", variant="unit16"),
    OrizuruSpec(n=17, lanes=2, key="uint16", sides="smallest", ties="paper", variant="level"),
    OrizuruSpec(n=27, lanes=6, variant="memory", pair=True),
    OrizuruSpec(n=11, lanes=2, key="fp32", variant="queue", sides="largest", k_max=11),
    OrizuruSpec(n=9, lanes=1, key="uint8", sides="largest", variant="bitonic"),
    OrizuruSpec(n=17, lanes=3, key="uint8", variant="queue", k_max=5, ties="paper"),
    OrizuruSpec(n=23, lanes=6, key="int8", variant="bitonic", k_max=7),
    OrizuruSpec(n=13, lanes=5, key="int8", variant="radix"),
    OrizuruSpec(n=19, lanes=6, key="int8", variant="threshold"),
    *(OrizuruSpec(n=64, lanes=16, key="bf16", k_max=20, variant=variant) for variant in VARIANTS),
]
MORE = [
    OrizuruSpec(n=16, lanes=16, variant="level", sides="magnitude"),
    OrizuruSpec(n=24, lanes=3, key="int8", variant="comb", sides="smallest"),
    OrizuruSpec(n=40, variant="unit16", sides="largest"),
    OrizuruSpec(n=19, lanes=6, key="int8", variant="level"),
    OrizuruSpec(n=64, lanes=64, variant="comb", pair=True),
    OrizuruSpec(n=16, lanes=1, variant="memory", sides="magnitude", k_max=3),
    OrizuruSpec(n=23, lanes=23, key="uint8", variant="memory", k_max=2, pair=True),
    OrizuruSpec(n=9, lanes=1, key="uint8", sides="smallest", variant="bitonic", k_max=9),
    OrizuruSpec(n=40, lanes=7, key="int16", variant="bitonic", ties="paper", k_max=3, pair=True),
    OrizuruSpec(n=9, lanes=1, key="int8", variant="queue", pair=True),
    OrizuruSpec(n=12, lanes=4, variant="radix", ties="paper", pair=True),
    OrizuruSpec(n=16, lanes=2, key="int16", variant="radix", sides="magnitude"),
    OrizuruSpec(n=9, lanes=9, variant="threshold", sides="magnitude", k_max=2),
    OrizuruSpec(n=12, lanes=1, key="uint8", variant="threshold", sides="smallest"),
]


def _id(spec: OrizuruSpec) -> str:
    return f"{spec.variant}-{spec.n}-{spec.lanes}-{spec.key}-{spec.sides}-{spec.ties}"


@pytest.mark.parametrize("spec", SPECS, ids=_id)
def test_bulk(spec: OrizuruSpec) -> None:
    run_bulk(spec, BENCHES["orizuru"](spec, 1), 1)


@pytest.mark.slow
@pytest.mark.parametrize("spec", MORE, ids=_id)
def test_bulk_of_more(spec: OrizuruSpec) -> None:
    run_bulk(spec, BENCHES["orizuru"](spec, 1), 1)


def test_cocotb_sees_what_bulk_sees() -> None:
    cases = [c for c in BENCHES["orizuru"](SPECS[0], 2) if c.name in ("nothing", "mixed-both", "ties-back")]
    both_see_the_same(SPECS[0], cases, 2)


def orderings(n: int) -> list[tuple[int, ...]]:
    """Every way in which n keys can be ordered, ties included."""
    return [keys for keys in product(range(n), repeat=n) if set(keys) == set(range(max(keys) + 1))]


def test_there_are_so_many_orderings() -> None:
    assert [len(orderings(n)) for n in (1, 2, 3, 4, 5)] == [1, 3, 13, 75, 541]


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_ordering_of_five_keys(variant: str) -> None:
    """All orders and ties of up to five keys, all results asked for; every one of two and three at every place."""
    spec = OrizuruSpec(n=8, lanes=4, key="int8", k_max=8, variant=variant)
    jobs = [_placed(keys, 0) for n in (4, 5) for keys in orderings(n)]
    for n, at in product((2, 3), range(6)):
        jobs += [_placed(keys, at) for keys in orderings(n)]
    run_bulk(spec, [case_of(spec, "orderings", jobs)], 0)


@pytest.mark.slow
@pytest.mark.parametrize("ties", ["order", "paper"])
def test_every_ordering_of_six_keys(ties: str) -> None:
    spec = OrizuruSpec(n=8, lanes=8, key="uint8", k_max=8, variant="level", ties=ties)
    run_bulk(spec, [case_of(spec, "orderings", [Vector(np.array(keys), 8) for keys in orderings(6)])], 0)


def _placed(keys: tuple[int, ...], at: int) -> Vector:
    """The keys from place ``at`` on; before them none. Thresholds leave the middle key alone."""
    row = np.zeros(min(8, at + len(keys)), np.int64)
    row[at:] = keys[: len(row) - at]
    return Vector(row, 8, np.arange(len(row)) >= at, upper=3, lower=1)


@pytest.mark.parametrize("spec", SPECS, ids=_id)
def test_latency(spec: OrizuruSpec) -> None:
    """From the beat that ends a vector to its first result; of ``threshold`` to the last one, nothing being beyond."""
    job = Vector(np.full(spec.lanes, 5), 1, upper=6, lower=4)
    played = compile(spec).play(case_of(spec, "one", [job]))
    assert played.first_out is not None and played.last_in is not None
    assert played.first_out - played.last_in == spec.latency
    if spec.variant != "threshold":
        job = Vector(np.arange(spec.n), spec.k_max)
        full = compile(spec).play(case_of(spec, "full", [job]))
        assert full.last_out is not None and full.last_in is not None
        assert full.last_out - full.last_in == spec.span
        many = [compile(spec).play(case_of(spec, "many", [job] * n)).last_out for n in (4, 3)]
        assert many[0] is not None and many[1] is not None
        assert many[0] - many[1] == spec.interval


def tokens(spec: OrizuruSpec, width: int) -> list[Vector]:
    """All real activations, in vectors of that width; k is 20 and 41 in turn, thresholds are those of the first one."""
    x = load().x.size
    first = np.sort(spec.key_format.order(real_keys(spec.key_format, width)))
    inverse = {int(spec.key_format.order(np.array([v]))[0]): int(v) for v in real_keys(spec.key_format, width)}
    upper, lower = inverse[int(first[-7])], inverse[int(first[6])]
    return [
        Vector(real_keys(spec.key_format, width, start), (20, 41)[i % 2], upper=upper, lower=lower)
        for i, start in enumerate(range(0, x - width + 1, width))
    ]


# radix: a plane of bits of all keys in every cycle takes Verilator a minute and a half
@pytest.mark.parametrize(
    "variant", [pytest.param(v, marks=pytest.mark.slow) if v in ("comb", "level", "radix") else v for v in VARIANTS]
)
def test_all_real_tokens(variant: str) -> None:
    """The inputs of a real layer, every token of the text, the largest and smallest 3.5 and 7 % of each."""
    spec = OrizuruSpec(n=WIDTH, lanes=16, k_max=41, variant=variant)
    run_bulk(spec, [case_of(spec, "tokens", tokens(spec, WIDTH))], 0)


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["memory", "systolic", "unit16"])
def test_hidden_vectors(variant: str) -> None:
    """As many keys as the layer's hidden vectors have (1,536): real activations of two and two thirds tokens joined."""
    spec = OrizuruSpec(n=1536, lanes=32, k_max=41, variant=variant)
    run_bulk(spec, [case_of(spec, "joined", tokens(spec, 1536))], 0)


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["memory", "systolic", "unit16"])
def test_the_published_size(variant: str) -> None:
    """4,096 keys, 32 a cycle: seven real tokens joined (4,032 keys), full, sorted, reversed, all equal, tied."""
    spec = OrizuruSpec(n=4096, lanes=32, k_max=41, variant=variant)
    real = real_keys(spec.key_format, 4096)
    order = np.argsort(spec.key_format.order(real), kind="stable")
    rng = np.random.default_rng(0)
    keys = [real[: 7 * WIDTH], real, real[order], real[order][::-1], np.full(4096, real[0]), rng.choice(real[:3], 4096)]
    jobs = [Vector(row, k) for row, k in product(keys, (20, 41))]
    run_bulk(spec, [case_of(spec, "joined", jobs), case_of(spec, "stalled", jobs[:3], stall=64)], 0)


TINY = OrizuruSpec(n=8, lanes=4, key="int8")
PAPER = OrizuruSpec(n=8, lanes=4, key="int8", ties="paper")
LEVEL = OrizuruSpec(n=8, lanes=4, key="int8", variant="level")
COMB = OrizuruSpec(n=8, lanes=4, key="int8", variant="comb", sides="largest")
ODD = OrizuruSpec(n=10, lanes=3, key="fp16", k_max=4)
MEMORY = OrizuruSpec(n=12, lanes=3, key="int8", variant="memory")
MEMORY_PAPER = OrizuruSpec(n=12, lanes=3, key="int8", variant="memory", ties="paper")
MEMORY_PAIR = OrizuruSpec(n=12, lanes=3, key="int8", variant="memory", pair=True)
BITONIC_ALONE = OrizuruSpec(n=9, lanes=1, key="uint8", sides="largest", variant="bitonic")
QUEUE = OrizuruSpec(n=12, lanes=3, key="int8", variant="queue")
BITONIC = OrizuruSpec(n=12, lanes=3, key="int8", variant="bitonic")
RADIX = OrizuruSpec(n=12, lanes=3, key="int8", variant="radix")
THRESHOLD = OrizuruSpec(n=12, lanes=3, key="int8", variant="threshold", k_max=4)

# name: configuration, class, method, what stands there, what stands there instead
FAULTS: dict[str, tuple[OrizuruSpec, Any, str, str, str]] = {
    "the shared comparison without its equality": (PAPER, Pair, "outcomes", "[held, ~held & ~equal]", "[held, ~held]"),
    "the second tree has the first one's ties": (TINY, Shape, "right_wins", "~(b > a)", "b < a"),
    "a popped key stays": (TINY, Pair, "_tree", "live & (Cat(right, ~right) if self.n == 2 else 0)", "live"),
    "the loser is gone": (TINY, Pair, "_tree", "Cat(right, ~right)", "Cat(~right, right)"),
    "a lone key is ever there": (ODD, Pair, "_tree", "else 0)", "else 1)"),
    "keys of the vector before remain": (TINY, Pair, "_loaded", "with m.Elif(self.swap):", "with m.Elif(0):"),
    "winners of the vector before remain": (TINY, Holding, "elaborate", "with m.If(self.swap):", "with m.If(0):"),
    "the hole does not sink": (TINY, Node, "pull", "take & right", "0"),
    "an index loses its way": (TINY, Node, "pick", "self.left.index), right", "self.left.index), 0"),
    "the path is not moved at once": (COMB, Shifting, "empty", "| self.take", ""),
    "winners before they are compared": (LEVEL, RegisterTrees, "_climb", "& ~update.any()", ""),
    "keys of the vector before are counted": (TINY, Loader, "elaborate", "Mux(self.swap, 0, self.count)", "self.count"),
    "loads over a waiting vector": (TINY, Loader, "elaborate", "~self.full | self.swap", "1"),
    "a beat behind the last place is kept": (TINY, Loader, "elaborate", "accept & ~over", "accept"),
    "a vector that is too long never ends": (TINY, Loader, "elaborate", "full.eq(last)", "full.eq(last & ~over)"),
    "what is too much is not told": (TINY, Loader, "elaborate", "misplaced | (over & some)", "misplaced"),
    "any row is the last one": (ODD, Loader, "_keys", "misplaced & ends_rows", "misplaced"),
    "twice where there are few": (TINY, Engine, "_results", "wanted < most", "1"),
    "one result too few": (TINY, Popper, "elaborate", "left <= 2 * lanes", "left <= 3 * lanes"),
    "no tlast without results": (TINY, Popper, "elaborate", "self.results <= lanes", "self.results == lanes"),
    "never the smallest": (TINY, Popper, "elaborate", "tree.eq(~tree)", "tree.eq(0)"),
    "the end of the vector is what is lost": (MEMORY, Loader, "elaborate", "(last | ends_rows)", "last"),
    "what is empty is too much": (TINY, Loader, "elaborate", "(over & some)", "over"),
    "more than the largest k": (ODD, Engine, "elaborate", "Mux(above, spec.k_max, asked)", "asked"),
    "the taken key stays in its row": (MEMORY, Rows, "elaborate", "& ~taken", ""),
    "a row's key is gone from both trees": (
        MEMORY_PAPER,
        Rows,
        "elaborate",
        "(lane == i) << now.tree",
        "(lane == i) * 3",
    ),
    "rows of the other vector": (MEMORY, Rows, "_now", "Mux(refill.valid | self.swap, self.bank, ~self.bank)", "0"),
    "rows are read while they are written": (MEMORY, Roots, "_refill", "& ~gap", ""),
    "neighbours that never came": (MEMORY, RowNode, "elaborate", "(at != last)", "1"),
    "the last row has no neighbour": (MEMORY, RowNode, "elaborate", "| odd | tag.last", "| odd"),
    "refills of a vector that is done": (MEMORY, Roots, "elaborate", "& (tag.bank == self.bank)", ""),
    "winners before their row is through": (MEMORY, Roots, "elaborate", "best[t].valid & offered[t]", "best[t].valid"),
    "keys move down one too few": (QUEUE, Queue, "elaborate", "self.key.valid & ahead_of_above", "0"),
    "a new key before its equals": (
        QUEUE,
        Queue,
        "elaborate",
        "place.key.word, self.key.word",
        "self.key.word, place.key.word",
    ),
    "the list is not emptied": (QUEUE, Queue, "elaborate", "place.valid.eq(0)", "place.valid.eq(place.valid)"),
    "a beat over the one before": (QUEUE, Queues, "elaborate", "left > 1", "0"),
    "backwards with a gap": (
        BITONIC,
        Bitonic,
        "_both_ends",
        "Mux(bit, backwards >> (width << i), backwards)",
        "backwards",
    ),
    "equal keys out of order": (
        BITONIC,
        CompareExchange,
        "elaborate",
        "ahead(self.shape, self.rule, self.a, self.b)",
        "self.b.word > self.a.word",
    ),
    "the list before is merged": (
        BITONIC_ALONE,
        Running,
        "elaborate",
        "place.key.valid & ~self.swap",
        "place.key.valid",
    ),
    "the smallest's row first": (MEMORY_PAIR, Roots, "_refill", "~waiting[0] if", "waiting[1] if"),
    "exchanged before it is merged": (BITONIC, Bitonic, "elaborate", "~valid[1:].any()", "1"),
    "tied keys without end": (RADIX, Radix, "_winner", "wanted - 1", "wanted"),
    "ones are always better": (RADIX, Leaf, "elaborate", "~key[-1]", "key[-1]"),
    "one too few stay tied": (RADIX, Radix, "_wanted", "count >= wanted", "count + 1 >= wanted"),
    "the last one first": (RADIX, First, "_choose", "right if self.backwards else ~left", "right"),
    "at the threshold is not beyond": (THRESHOLD, Thresholds, "_hits", "k >= limit", "k > limit"),
    "beyond both thresholds twice": (THRESHOLD, Thresholds, "_hits", "there & ~found", "there"),
    "k of both sides together": (THRESHOLD, Thresholds, "_hits", "first.take & side", "first.take"),
    "the next beat over hits": (THRESHOLD, Thresholds, "elaborate", "(step & ~more)", "step"),
    "indices with a hole": (RADIX, Radix, "_winner", "lane | row << shape.lane_bits", "i"),
}


@pytest.mark.parametrize("name", one_in(4, FAULTS))
def test_fault_is_caught(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    turns_red(monkeypatch, *FAULTS[name])


SOUND = [PAPER, LEVEL, COMB, ODD, MEMORY, MEMORY_PAPER, MEMORY_PAIR, QUEUE, BITONIC, RADIX, THRESHOLD]


@pytest.mark.parametrize("spec", SOUND, ids=_id)
def test_without_a_fault_they_pass(spec: OrizuruSpec) -> None:
    run_bulk(spec, BENCHES["orizuru"](spec, 1), 1)
