"""Unit ``kmeans_function``: the exported Verilog against its golden model."""

from itertools import product
from typing import Any

import numpy as np
import pytest

from golden.kmeans.function import Group, KMeansFunctionSpec, Table, Vector
from golden.kmeans.tables import FUNCTIONS
from hdl.kmeans.function import KMeansFunction
from hdl.kmeans.function_histogram import Histogram
from hdl.kmeans.function_moments import Moments
from hdl.kmeans.function_turns import Turns
from tb.cosim import compile
from tb.faults import one_in, turns_red
from tb.kmeans_function import random_table, real_groups
from tb.runner import both_see_the_same, run_bulk
from tb.transactions import case_of
from tb.units import BENCHES

TINY = KMeansFunctionSpec(bits=2, lanes=2, n=20, moment_bits=8)
LEAST = KMeansFunctionSpec(bits=1, lanes=2, n=8, value="index1", moment_bits=2)
SPECS = [
    KMeansFunctionSpec(bits=3, lanes=5, n=37, value="fp16", moment_bits=12),
    KMeansFunctionSpec(bits=2, lanes=1, value="index5", moments=False),
]
MORE = [
    LEAST,
    KMeansFunctionSpec(bits=1, lanes=1, n=1, value="int16", moment_bits=3),
    KMeansFunctionSpec(bits=8, lanes=3, n=300, value="index8", moment_bits=32),
    KMeansFunctionSpec(bits=1, lanes=64, value="index3", n=64),
    KMeansFunctionSpec(bits=3, lanes=16, n=65536, value="fp16", moment_bits=24),
    KMeansFunctionSpec(bits=6, lanes=7, value="int16", moments=False),
]


def _id(spec: KMeansFunctionSpec) -> str:
    return f"{spec.bits}-{spec.lanes}-{spec.value}-{spec.n if spec.moments else 'values'}-{spec.moment_bits}"


@pytest.mark.parametrize("spec", [*SPECS, *(pytest.param(s, marks=pytest.mark.slow, id=_id(s)) for s in MORE)], ids=_id)
def test_bulk(spec: KMeansFunctionSpec) -> None:
    run_bulk(spec, BENCHES["kmeans_function"](spec, 1), 1)


def test_cocotb_sees_what_bulk_sees() -> None:
    cases = [c for c in BENCHES["kmeans_function"](TINY, 2) if c.name in ("lengths", "mixed-both", "short-back")]
    both_see_the_same(TINY, cases, 2)


def test_every_short_vector() -> None:
    """All of up to five indices of two bits; all of up to six places with 0, 1 or nothing."""
    vectors = [Vector(np.array(v, np.int64)) for n in range(6) for v in product(range(4), repeat=n)]
    job = Group(random_table(TINY, np.random.default_rng(0)), tuple(vectors))
    run_bulk(TINY, [case_of(TINY, "every", [job])], 0)
    places = [np.array(v, np.int64) for n in range(7) for v in product(range(3), repeat=n)]
    table = Table(np.array([1, 0]), np.array([1, -2]), np.array([-1, 1]))
    job = Group(table, tuple(Vector(p % 2, p < 2) for p in places))
    run_bulk(LEAST, [case_of(LEAST, "every", [job], stall={"stats": 64})], 0)


@pytest.mark.parametrize("spec", [TINY, *SPECS], ids=_id)
def test_latency(spec: KMeansFunctionSpec) -> None:
    """From the last beat of a vector to its values, and to its sums: one beat, whose table is long there."""
    rng, rtl = np.random.default_rng(0), compile(spec)
    vector = Vector(np.zeros(spec.lanes, np.int64))
    case = case_of(spec, "one", [Group(random_table(spec, rng), (vector,))])
    played = rtl.play(case)
    turn, beat = spec.entries + 1, spec.entries + 2  # the table is there; the beat waited in the skid buffer
    assert played.first_out == beat + spec.latency - 1 == turn + 2
    many = case_of(spec, "many", [Group(random_table(spec, rng), (vector,) * 9)])
    last = {True: spec.stats_latency, False: spec.latency}[spec.moments]
    assert played.last_out == beat - 1 + last
    assert rtl.play(many).last_out == beat - 1 + last + 8 * (spec.entries if spec.moments else 1)


@pytest.mark.parametrize("spec", [TINY, SPECS[-1]], ids=_id)
def test_a_table_for_every_vector_costs_nothing_when_vectors_are_long(spec: KMeansFunctionSpec) -> None:
    """A beat per cycle from the first one on, though each vector has its own table, and sums; shorter ones wait."""
    rng, vectors = np.random.default_rng(0), 10
    least = 2 * spec.entries + 2 if spec.moments else spec.entries + 1
    begin, end = spec.entries + 2, spec.stats_latency - 1 if spec.moments else 1
    for beats, late in ((least, 0), (least - 1, (vectors - 2) // 2 if spec.moments else vectors - 1)):
        indices = [rng.integers(0, spec.entries, spec.lanes * beats) for _ in range(vectors)]
        jobs = [Group(random_table(spec, rng), (Vector(index),)) for index in indices]
        cycles = begin + vectors * beats - 1 + end + 1
        assert spec.cycles(*jobs) == cycles + late
        run_bulk(spec, [case_of(spec, "tables", jobs)], 0)


def test_real_tokens() -> None:
    """The inputs of a real layer as indices of four bits, each token with the tables of its exponent."""
    spec = KMeansFunctionSpec()
    run_bulk(spec, [case_of(spec, function, real_groups(spec, 24, function)) for function in FUNCTIONS], 0)


# name: class, method, what stands there, what stands there instead; all of the configuration TINY
FAULTS: dict[str, tuple[Any, str, str, str]] = {
    "a table before it is complete": (Turns, "elaborate", "(~other | complete)", "1"),
    "the first vector without a table": (Turns, "elaborate", "| ~some", ""),
    "entries into the table in use": (Turns, "elaborate", "Cat(place, ~self.bank)", "Cat(place, self.bank)"),
    "always the first table": (Turns, "elaborate", "self.bank ^ other", "self.bank"),
    "entries over those that sums need": (Turns, "elaborate", "& ~self.hold", ""),
    "a vector before its turn": (Turns, "elaborate", "self.open.eq(0)", "self.open.eq(1)"),
    "a gap between vectors": (Turns, "elaborate", "(~self.open | self.ended)", "~self.open"),
    "waiting counts' table is forgotten": (
        KMeansFunction,
        "_moments",
        "(histogram.ended & (histogram.ended_bank ^ turns.bank)) |",
        "",
    ),
    "the wrong table's sums": (Moments, "elaborate", "self.reads.eq(self.bank)", "self.reads.eq(~self.bank)"),
    "beats over waiting counts": (KMeansFunction, "_moments", "~histogram.ended | moments.taken", "Value.cast(1)"),
    "values of no beat": (KMeansFunction, "elaborate", "i.valid & turns.open & free", "turns.open & free"),
    "invalid ones are counted": (Histogram, "elaborate", "lane.valid & (lane.index == j)", "(lane.index == j)"),
    "counted without a beat": (Histogram, "_counter", "Mux(self.accept, count_ones(hits), 0)", "count_ones(hits)"),
    "counts of the vector before": (Histogram, "_counter", "Mux(self.ended, 0, total)", "total"),
    "n is too many": (Histogram, "elaborate", "count > spec.n", "count >= spec.n"),
    "the last index is not summed up": (Moments, "elaborate", "(left <= 1)", "(left <= 2)"),
    "a cycle lost between sums": (Moments, "elaborate", "(left <= 1)", "(left == 0)"),
    "sums of the vector before": (Moments, "_sum", "Mux(begins, 0, total)", "total"),
    "sums over those that wait": (Moments, "elaborate", "~self.o.valid | self.o.ready", "Value.cast(1)"),
    "the count of the next vector": (Moments, "_count", "with m.If(moves):", "with m.If(1):"),
    "entries are not negative": (Moments, "_entry", "read.data[:width].as_signed()", "read.data[:width]"),
}


@pytest.mark.parametrize("name", one_in(6, FAULTS))
def test_fault_is_caught(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    turns_red(monkeypatch, TINY, *FAULTS[name])
