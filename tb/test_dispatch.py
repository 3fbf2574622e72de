"""Unit ``dispatch``: the exported Verilog against its golden model."""

from typing import Any

import numpy as np
import pytest

from golden.moe.dispatch import Batch, DispatchSpec, Token
from hdl.moe.buckets import Buckets
from hdl.moe.collect import Collect
from hdl.moe.dispatch import Dispatch
from hdl.moe.walk import Walk
from tb.cosim import compile
from tb.dispatch import random_batch
from tb.faults import one_in, turns_red
from tb.runner import both_see_the_same, run_bulk
from tb.transactions import case_of
from tb.units import BENCHES

TINY = DispatchSpec(experts=3, tokens=4, slots=2)
CAPACITY = DispatchSpec(experts=5, tokens=9, slots=5, capacity=3)
SPECS = [DispatchSpec(experts=1, tokens=1), CAPACITY]
MORE = [
    DispatchSpec(experts=2, tokens=1, slots=1),
    DispatchSpec(experts=64, tokens=1024, slots=64),
    DispatchSpec(experts=13, tokens=100, slots=13, capacity=1),
    DispatchSpec(experts=16, tokens=17, slots=3, capacity=17),
]


def _id(spec: DispatchSpec) -> str:
    return f"{spec.experts}-{spec.tokens}-{spec.slots}-{spec.capacity}"


@pytest.mark.parametrize("spec", [*SPECS, *(pytest.param(s, marks=pytest.mark.slow, id=_id(s)) for s in MORE)], ids=_id)
def test_bulk(spec: DispatchSpec) -> None:
    run_bulk(spec, BENCHES["dispatch"](spec, 1), 1)


def test_cocotb_sees_what_bulk_sees() -> None:
    cases = [c for c in BENCHES["dispatch"](TINY, 2) if c.name in ("kinds", "mixed-both", "short-back")]
    both_see_the_same(TINY, cases, 2)


@pytest.mark.parametrize("spec", [TINY, CAPACITY], ids=_id)
def test_latency(spec: DispatchSpec) -> None:
    """From the beat that ends a batch to the first job and the first entry."""
    rtl, last = compile(spec), spec.experts - 1
    token = Token(np.array([last]), np.array([7]))
    played = rtl.play(case_of(spec, "one", [Batch((token,))]))
    assert played.first_out == spec.latency
    assert played.last_out == max(spec.entry_latency, spec.latency + last)
    empty = rtl.play(case_of(spec, "none", [Batch((Token(np.array([], np.int64), np.array([], np.int64)),))]))
    assert empty.first_out == spec.latency and empty.last_out == spec.latency + last


def test_an_entry_per_cycle() -> None:
    """Full batches back to back: two of them take a cycle more than they have entries."""
    token = Token(np.array([2, 0]), np.array([1, 2]))
    full = Batch((token,) * TINY.tokens)
    entries = 2 * TINY.tokens
    many = [compile(TINY).play(case_of(TINY, "many", [full] * n)) for n in (1, 9)]
    assert many[1].last_out is not None and many[0].last_out is not None
    assert many[1].last_out - many[0].last_out == 8 * entries + 4
    assert many[0].last_out == entries - 1 + TINY.entry_latency + entries - 1


def test_every_batch_of_two_tokens() -> None:
    """All lists of up to two of three experts, for two tokens, pruned or not."""
    lists = [[], *([a] for a in range(3)), *([a, b] for a in range(3) for b in range(3) if a != b)]
    tokens = [
        Token(np.array(e, np.int64), np.arange(len(e)) + 10 * n, pruned)
        for n, e in enumerate(lists)
        for pruned in (False, True)
    ]
    jobs = [Batch((a, b)) for a in tokens for b in tokens]
    run_bulk(TINY, [case_of(TINY, "every", jobs), case_of(TINY, "every-stalled", jobs, stall=64)], 0)


def test_random_batches() -> None:
    rng = np.random.default_rng(5)
    jobs = [random_batch(TINY, rng) for _ in range(400)]
    run_bulk(TINY, [case_of(TINY, "random", jobs), case_of(TINY, "stalled", jobs, stall=100)], 0)


# name: configuration, class, method, what stands there, what stands there instead
FAULTS: dict[str, tuple[DispatchSpec, Any, str, str, str]] = {
    "pruned tokens make entries": (TINY, Collect, "elaborate", "& ~beat.pruned", ""),
    "a batch ends in mid-token": (
        TINY,
        Collect,
        "elaborate",
        "self.accept & last & beat.final",
        "self.accept & beat.final",
    ),
    "tokens are not numbered anew": (TINY, Collect, "elaborate", "Mux(beat.final, 0, token", "Mux(0, 0, token"),
    "slots are not numbered anew": (TINY, Collect, "elaborate", "slot.eq(Mux(last, 0,", "slot.eq(Mux(0, 0,"),
    "experts of the token before": (TINY, Collect, "elaborate", "seen.eq(Mux(last, 0,", "seen.eq(Mux(0, 0,"),
    "an expert may come twice": (TINY, Collect, "elaborate", "names & seen.bit_select(beat.expert, 1)", "0"),
    "an unknown expert is dispatched": (TINY, Collect, "elaborate", "beat.expert >= spec.experts", "0"),
    "tokens without end": (TINY, Collect, "elaborate", "+ ~self.errors[0]", "+ 1"),
    "counts of two batches ago": (TINY, Buckets, "elaborate", "mark.eq(0)", "mark.eq(mark)"),
    "an entry over the one before": (TINY, Buckets, "_entries", "Cat(count[:bits],", "Cat((count - 1)[:bits],"),
    "queues of both batches in one": (TINY, Buckets, "_entries", "self.rank, self.reads", "self.rank, ~self.reads"),
    "an empty expert's old count": (
        TINY,
        Buckets,
        "_count",
        "Mux(choose(marks, 1, expert), read.data, 0)",
        "read.data",
    ),
    "entries beyond the capacity": (CAPACITY, Buckets, "_entries", "self.write & ~self.dropped", "self.write"),
    "one too many is kept": (CAPACITY, Buckets, "elaborate", "count >= spec.depth", "count > spec.depth"),
    "more entries than are kept": (CAPACITY, Dispatch, "_kept", "count > self.spec.depth", "0"),
    "offsets of the batch before": (TINY, Dispatch, "_jobs", "first.eq(0)", "first.eq(first)"),
    "the offset counts itself": (TINY, Dispatch, "_jobs", "first, 0))", "(first + kept)[: len(first)], 0))"),
    "queues that still go out are filled": (TINY, Dispatch, "_turns", "~choose(full, 1, writes)", "1"),
    "a gap between batches": (TINY, Dispatch, "_turns", "walk.free for walk", "~walk.busy for walk"),
    "the statistics are not waited for": (
        TINY,
        Dispatch,
        "_turns",
        "Cat(walk.free for walk in walks.values()).all()",
        "walks['entry'].free & walks['job'].free",
    ),
    "an expert's end is not told": (TINY, Dispatch, "_entries", "ends.eq(final)", "ends.eq(walk.last)"),
    "the next entry over a waiting one": (TINY, Dispatch, "_entries", "~there | o.ready", "Value.cast(1)"),
    "ranks go on": (TINY, Dispatch, "_entries", "Mux(final, 0, rank + 1)", "rank + 1"),
    "a walk ends one too early": (
        TINY,
        Walk,
        "elaborate",
        "self.last.eq(~rest.any())",
        "self.last.eq(~rest[:-1].any())",
    ),
    "experts descend": (TINY, Walk, "elaborate", "in reversed(range(self.experts))", "in range(self.experts)"),
}


@pytest.mark.parametrize("name", one_in(9, FAULTS))
def test_fault_is_caught(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    turns_red(monkeypatch, *FAULTS[name])


@pytest.mark.parametrize("spec", [TINY, CAPACITY], ids=_id)
def test_without_a_fault_they_pass(spec: DispatchSpec) -> None:
    run_bulk(spec, BENCHES["dispatch"](spec, 1), 1)
