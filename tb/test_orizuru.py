"""Unit ``orizuru``: the exported Verilog against its golden model."""

from itertools import product
from typing import Any

import numpy as np
import pytest

from golden.fixture import WIDTH, load
from golden.orizuru.engine import VARIANTS, OrizuruSpec, Vector
from hdl.orizuru.engine import Engine
from hdl.orizuru.loader import Loader
from hdl.orizuru.popper import Popper
from hdl.orizuru.shape import Shape
from hdl.orizuru.tree import Holding, Node, Pair, Shifting
from tb.cosim import compile
from tb.orizuru import real_keys
from tb.runner import run_bulk, run_cocotb
from tb.test_formal_stream import broken
from tb.transactions import CheckFailed, case_of
from tb.units import BENCHES

# Every variant, side and rule; lanes that are one, all, a power of two and not, and that do not divide n.
SPECS = [
    OrizuruSpec(n=8, lanes=1, key="uint8", variant="comb", ties="paper"),
    OrizuruSpec(n=33, lanes=7, key="int16", variant="systolic", sides="magnitude"),
    OrizuruSpec(n=21, lanes=5, key="bf16", variant="unit16"),
    OrizuruSpec(n=17, lanes=2, key="uint16", sides="smallest", ties="paper", variant="level"),
    OrizuruSpec(n=21, lanes=5, key="bf16", variant="memory"),
    OrizuruSpec(n=17, lanes=3, key="uint8", variant="queue", k_max=5, ties="paper"),
    OrizuruSpec(n=23, lanes=6, key="int8", variant="bitonic", k_max=7),
    OrizuruSpec(n=13, lanes=5, key="int8", variant="radix"),
    OrizuruSpec(n=19, lanes=6, key="int8", variant="threshold"),
]
MORE = [
    OrizuruSpec(n=16, lanes=16, variant="level", sides="magnitude"),
    OrizuruSpec(n=24, lanes=3, key="int8", variant="comb", sides="smallest"),
    OrizuruSpec(n=40, variant="unit16", sides="largest"),
    OrizuruSpec(n=19, lanes=6, key="int8", variant="level"),
    OrizuruSpec(n=64, lanes=64, variant="comb"),
    *(OrizuruSpec(n=64, lanes=16, key="bf16", k_max=20, variant=variant) for variant in VARIANTS),
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
    cocotb, bulk = run_cocotb(SPECS[0], cases, 2), run_bulk(SPECS[0], cases, 2)
    assert [(p.first_in, p.last_out, p.ran) for p in cocotb.played] == [
        (p.first_in, p.last_out, p.ran) for p in bulk.played
    ]


def orderings(n: int) -> list[tuple[int, ...]]:
    """Every way in which n keys can be ordered, ties included."""
    return [keys for keys in product(range(n), repeat=n) if set(keys) == set(range(max(keys) + 1))]


def test_there_are_so_many_orderings() -> None:
    assert [len(orderings(n)) for n in (1, 2, 3, 4, 5)] == [1, 3, 13, 75, 541]


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_ordering_of_five_keys(variant: str) -> None:
    """All orders and ties of up to five keys, all results asked for; every one of two and three at every place."""
    spec = OrizuruSpec(n=8, lanes=4, key="int8", k_max=8, variant=variant)
    jobs = [Vector(np.array(keys), 8) for n in (4, 5) for keys in orderings(n)]
    for n, at in product((2, 3), range(6)):
        jobs += [_placed(keys, at) for keys in orderings(n)]
    run_bulk(spec, [case_of(spec, "orderings", jobs)], 0)


@pytest.mark.slow
@pytest.mark.parametrize("ties", ["order", "paper"])
def test_every_ordering_of_six_keys(ties: str) -> None:
    spec = OrizuruSpec(n=8, lanes=8, key="uint8", k_max=8, variant="level", ties=ties)
    run_bulk(spec, [case_of(spec, "orderings", [Vector(np.array(keys), 8) for keys in orderings(6)])], 0)


def _placed(keys: tuple[int, ...], at: int) -> Vector:
    """The keys from place ``at`` on; before them none."""
    row = np.zeros(min(8, at + len(keys)), np.int64)
    row[at:] = keys[: len(row) - at]
    return Vector(row, 8, np.arange(len(row)) >= at)


@pytest.mark.slow
@pytest.mark.parametrize("variant", VARIANTS)
def test_all_real_tokens(variant: str) -> None:
    """The inputs of a real layer, every token of the text, the largest and smallest 7 % of each."""
    spec = OrizuruSpec(n=WIDTH, lanes=16, k_max=41, variant=variant)
    tokens = len(load().x)
    jobs = [Vector(real_keys(spec.key_format, WIDTH, i * WIDTH), (20, 41)[i % 2]) for i in range(tokens)]
    run_bulk(spec, [case_of(spec, "tokens", jobs)], 0)


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["systolic", "unit16"])
def test_the_published_size(variant: str) -> None:
    """4,096 keys, 32 a cycle: seven real tokens joined, 4,032 of them, and a full vector."""
    spec = OrizuruSpec(n=4096, lanes=32, k_max=41, variant=variant)
    rtl = compile(spec)
    for n, k in product((7 * WIDTH, 4096), (20, 41)):
        job = Vector(real_keys(spec.key_format, n), k)
        assert np.array_equal(rtl(job), spec.compute(job))


TINY = OrizuruSpec(n=8, lanes=4, key="int8")
PAPER = OrizuruSpec(n=8, lanes=4, key="int8", ties="paper")
LEVEL = OrizuruSpec(n=8, lanes=4, key="int8", variant="level")
COMB = OrizuruSpec(n=8, lanes=4, key="int8", variant="comb", sides="largest")
ODD = OrizuruSpec(n=10, lanes=3, key="fp16", k_max=4)

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
    "winners before they are compared": (LEVEL, Engine, "_winners", "& ~update.any()", ""),
    "keys of the vector before are counted": (TINY, Loader, "elaborate", "Mux(self.swap, 0, self.count)", "self.count"),
    "loads over a waiting vector": (TINY, Loader, "elaborate", "~self.full | self.swap", "1"),
    "a beat behind the last place is kept": (TINY, Loader, "elaborate", "(misplaced | over)", "misplaced"),
    "any row is the last one": (ODD, Loader, "_keys", "misplaced & ends_rows", "misplaced"),
    "twice where there are few": (TINY, Engine, "_results", "wanted < most", "1"),
    "one result too few": (TINY, Popper, "elaborate", "left <= 1", "left <= 2"),
    "no tlast without results": (TINY, Popper, "elaborate", "left <= 1", "left == 1"),
    "never the smallest": (TINY, Popper, "elaborate", "tree.eq(~tree)", "tree.eq(0)"),
    "lanes as if there were four": (ODD, Popper, "_result", "row * spec.lanes", "row * 4"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_fault_is_caught(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    spec, unit, method, old, new = FAULTS[name]
    monkeypatch.setattr(unit, method, getattr(broken(unit, old, new, method), method))
    with pytest.raises(CheckFailed):
        run_bulk(spec, BENCHES["orizuru"](spec, 1), 1)


@pytest.mark.parametrize("spec", [PAPER, LEVEL, COMB, ODD], ids=_id)
def test_without_a_fault_they_pass(spec: OrizuruSpec) -> None:
    run_bulk(spec, BENCHES["orizuru"](spec, 1), 1)
