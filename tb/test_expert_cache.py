"""Unit ``expert_cache``: the exported Verilog against its golden model, and with a memory around it."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from golden.moe.cache import ExpertCacheSpec, Run
from golden.moe.residency import KeyList
from golden.spec import SpecError
from hdl.moe.cache import ExpertCache
from hdl.moe.grants import Grants
from hdl.moe.lists import Lists
from hdl.moe.loads import Loads
from hdl.moe.places import Places
from tb.cosim import compile
from tb.expert_cache import hints, needs, random_run
from tb.faults import one_in, turns_red
from tb.memory import FarMemory, Loop
from tb.runner import both_see_the_same, run_bulk
from tb.transactions import case_of
from tb.units import BENCHES

TINY = ExpertCacheSpec(slots=2, keys=5, most=3)
ODD = ExpertCacheSpec(slots=3, keys=7, most=5, policy="fifo", outstanding=1, timeout=300)
EIGHT = ExpertCacheSpec(slots=2, keys=8, most=3)
MORE = [
    ExpertCacheSpec(slots=1, keys=1, most=1, outstanding=8),
    ExpertCacheSpec(slots=32, keys=100, most=20, outstanding=8, policy="fifo"),
    ExpertCacheSpec(slots=3, keys=4, most=2, policy="residency", timeout=200),
]


def _id(spec: ExpertCacheSpec) -> str:
    return f"{spec.slots}-{spec.keys}-{spec.most}-{spec.policy}-{spec.outstanding}-{spec.timeout}"


@pytest.mark.parametrize("spec", [ODD, *(pytest.param(s, marks=pytest.mark.slow, id=_id(s)) for s in MORE)], ids=_id)
def test_bulk(spec: ExpertCacheSpec) -> None:
    run_bulk(spec, BENCHES["expert_cache"](spec, 1), 1)


def test_cocotb_sees_what_bulk_sees() -> None:
    names = ("corners-free", "mixed-both", "short-back", "reset-in-cycle-0", "wrong-long-list")
    both_see_the_same(TINY, [c for c in BENCHES["expert_cache"](TINY, 2) if c.name in names], 2)


def table(spec: ExpertCacheSpec) -> Any:
    return np.array([(1000 * key, 3 + 5 * key) for key in range(spec.keys)])


def test_latency() -> None:
    """From the only beat of a list to the grant of what is there: what it takes longer than to come after a table."""
    rtl = compile(TINY)
    run = Run(table(TINY), (needs(1), needs(1)))
    played = rtl.play(case_of(TINY, "one", [run]))
    comes = TINY.keys + 2 * TINY.slots + 6  # all before the second list is taken, and closed
    assert played.last_out == comes + TINY.latency - 1


def _played(
    spec: ExpertCacheSpec, run: Run, memory: FarMemory, work: int, tardy: int | None = None, in_turn: bool = False
) -> tuple[Loop, Any]:
    """With a memory: everything as the model says, to the cycle."""
    told = spec.clockwork(run, memory=replace(memory).inside, work=work + 2, in_turn=in_turn)
    loop = Loop(spec, memory, work, tardy, in_turn)
    wanted, got = spec.served(run, told), loop(run, told.last + 70 + (tardy or 0))
    if tardy is None:
        assert all(np.array_equal(a, b) for a, b in zip(wanted, got, strict=True))
        assert max(seen.cycles[-1] for seen in loop.seen.values() if seen.cycles) == told.last + 1
    assert loop.status["sts_key"] == (told.failed[0][0] if told.failed else 0)
    return loop, got


@pytest.mark.parametrize("seed", range(6))
def test_with_a_memory(seed: int) -> None:
    """Any delay and rate: hits, lates and waits of every grant, the order of loads, every count."""
    rng = np.random.default_rng(seed)
    slots, keys, most, outstanding = (int(rng.integers(1, n)) for n in (5, 9, 6, 5))
    policy = ("fifo", "lru", "residency")[seed % 3]
    spec = ExpertCacheSpec(slots=slots, keys=keys, most=most, policy=policy, outstanding=outstanding, timeout=400)
    run = replace(random_run(spec, rng, 8), table=table(spec), bad=frozenset(rng.integers(0, 20, 4).tolist()))
    if seed % 2:
        run = replace(run, lost=frozenset(rng.integers(0, 12, 1).tolist()))
    _played(
        spec,
        run,
        FarMemory(int(rng.integers(1, 40)), int(rng.integers(1, 4))),
        int(rng.integers(0, 40)),
        None,
        seed > 2,
    )


FOUR = ExpertCacheSpec(slots=4, keys=8, most=4, outstanding=1, timeout=100)


def test_a_prefetch_hides_a_load() -> None:
    """Layer after layer, two jobs of 60 cycles each, loads of 36: what is hinted is there when its layer begins."""
    waits = []
    for hinted in ((), (4, 5), (4, 6)):
        run = Run(np.array([(0, 16)] * FOUR.keys), (needs(0, 1), hints(*hinted), needs(4, 5)))
        _, got = _played(FOUR, run, FarMemory(20, 1), 60, None, True)
        waits.append(int(got.grants[2:, 6].sum()))
    none, right, half = waits
    assert right == 0 < half < none


def test_a_need_goes_before_hints() -> None:
    """Three hints wait for memory when a need comes: only the one that is under way is before it."""
    run = Run(np.array([(0, 40)] * FOUR.keys), (hints(1, 2, 3), needs(7)))
    _, got = _played(FOUR, run, FarMemory(10, 1), 0)
    assert got.loads[:, 2].tolist() == [1, 7, 2, 3]
    forward = Run(np.array([(0, 40)] * FOUR.keys), (hints(1, 2, 3), needs(3)))
    _, got = _played(FOUR, forward, FarMemory(10, 1), 0)
    assert got.loads[:, 2].tolist() == [1, 3, 2] and got.grants[0, 4] == 1


def test_a_load_that_never_ends() -> None:
    """The grant says that it failed, the status names cause and key, and what follows is as if nothing had been."""
    run = Run(table(FOUR), (needs(5), needs(6), needs(5)), lost=frozenset((0, 2)))
    loop, got = _played(FOUR, run, FarMemory(5, 2), 3)
    failed = got.grants[:, 5].tolist()
    assert sum(failed) <= 1 and loop.status["sts_error"] == 1 << 4 and loop.status["sts_key"] == 5


def test_an_answer_that_comes_too_late_is_ignored() -> None:
    run = Run(table(FOUR), (needs(5), needs(6), needs(5), needs(7)), lost=frozenset((0, 1)))
    loop, got = _played(FOUR, run, FarMemory(5, 2), 3, tardy=103)
    assert loop.status["sts_error"] == 1 << 4 | 1 << 5
    assert got.grants[:, 0].tolist() == [5, 6, 5, 7]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"slots": 0}, "slots must be an integer between 1 and 64, not 0"),
        ({"policy": "belady"}, "policy must be one of fifo, lru, residency, not 'belady'"),
        ({"timeout": 3}, "timeout must be 0 or at least 4, not 3"),
        ({"outstanding": 9}, "outstanding must be an integer between 1 and 8, not 9"),
    ],
)
def test_refusals(values: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError) as e:
        ExpertCacheSpec(**values)
    assert str(e.value) == message


@pytest.mark.parametrize(
    ("table", "lists", "sentence"),
    [
        (np.zeros(4, np.int64), [[1]], "table must have shape [keys, 2], one key at least, not [4]"),
        (np.zeros((0, 2), np.int64), [[1]], "table must have shape [keys, 2], one key at least, not [0, 2]"),
        (np.ones((4, 2), np.int64), [], "lists must be one or more, not none"),
        (np.ones((4, 2), np.int64), [[1], [2, -1]], "keys must be at least 0, not -1"),
    ],
)
def test_what_is_no_run(table: Any, lists: list[list[int]], sentence: str) -> None:
    for use in (TINY.compute, TINY.inputs):
        with pytest.raises(SpecError) as e:
            use(Run(table, tuple(KeyList(keys) for keys in lists)))
        assert str(e.value) == sentence


# name: configuration, class, method, what stands there, what stands there instead
FAULTS: dict[str, tuple[ExpertCacheSpec, Any, str, str, str]] = {
    "a wrong key hits": (TINY, Places, "_look", "(read.data == self.key)", "(read.data[1:] == self.key[1:])"),
    "what a list needs is evicted": (ODD, Places, "_look", '& ~is_["guarded"]', ""),
    "what is pinned is evicted": (ODD, Places, "_look", '& ~is_["pinned"]', ""),
    "all places may be pinned": (TINY, Places, "_decide", "self.pin & (self.free != 1)", "self.pin"),
    "a job's expert is evicted": (ODD, ExpertCache, "_decide", "~places.busy & ", ""),
    "what is being loaded is evicted": (ODD, ExpertCache, "_decide", "& ~choose(loads.loading, 1, places.slot)", ""),
    "the youngest goes": (ODD, Places, "_kept", "& ~seen[n]", ""),
    "uses do not count": (TINY, Places, "_touch", 'self.need if spec.policy == "lru" else 0', "0"),
    "uses count": (ODD, Places, "_touch", 'self.need if spec.policy == "lru" else 0', "self.need"),
    "marks of the list before": (
        ODD,
        Places,
        "_clear",
        'masks["guarded"].eq(0)',
        'masks["guarded"].eq(masks["guarded"])',
    ),
    "places of the table before": (TINY, Places, "_clear", "mask.eq(0) for", "mask.eq(mask) for"),
    "a prefetch is never useless": (TINY, Places, "_decide", "fresh.eq(~self.need)", "fresh.eq(0)"),
    "the place before it": (ODD, Places, "_touch", "chosen <= n", "chosen < n"),
    "a grant before its load": (TINY, Grants, "elaborate", "(ready | failed) & jobs", "jobs"),
    "a failed load is tried for ever": (ODD, Grants, "elaborate", "(tried | self.repeats) & ~out", "tried & ~out"),
    "a failed load is not tried again": (ODD, Grants, "elaborate", "nothing & tried", "nothing"),
    "waits add up": (TINY, Grants, "_wait", "wait.eq(0)", "wait.eq(wait)"),
    "a failed load counts as there": (ODD, Loads, "elaborate", "1).eq(~self.failed)", "1).eq(1)"),
    "one load more than memory takes": (ODD, Loads, "_may", "count != spec.outstanding", "count != 2"),
    "fills are not looked at": (TINY, Loads, "_fill", "there & ~ahead.any()", "there"),
    "an old fill is not taken": (TINY, Loads, "_fill", "(~ahead.any() | ahead[-1])", "~ahead.any()"),
    "numbers go on": (TINY, Loads, "_dma", "m.d.sync += number.eq(0)", "pass"),
    "hints before needs": (
        ODD,
        Loads,
        "_next",
        "Mux(needs.o.valid, needs.o.payload",
        "Mux(~hints.o.valid, needs.o.payload",
    ),
    "a load goes out twice": (
        TINY,
        Loads,
        "elaborate",
        "queued.bit_select(slot, 1).eq(0)",
        "queued.bit_select(slot, 1).eq(1)",
    ),
    "no timeout": (ODD, Loads, "_timeout", "waits & (age == limit - 1)", "Value.cast(0)"),
    "the timeout is a cycle late": (ODD, Loads, "_timeout", "age == limit - 1", "age == limit"),
    "keys beyond the table": (TINY, Lists, "_collect", "names & (beat.key >= known)", "0"),
    "a key too many": (TINY, Lists, "_collect", "count == self.spec.most", "0"),
    "the table goes over its end": (EIGHT, Lists, "_table", "take & ~full", "take"),
    "hints are marked like needs": (TINY, Lists, "_collect", "~need | (count < self.free)", "count < self.free"),
    "a list needs more than fits": (TINY, Lists, "_collect", "~need | (count < self.free)", "1"),
    "a run ends before its loads": (TINY, ExpertCache, "_steps", "& ~loads.loading.any() & loads.empty", ""),
    "the pin of another key": (ODD, Lists, "_memory", "read.addr.eq(turn[:bits])", "read.addr.eq(turn[:bits] ^ 1)"),
    "counts go on": (TINY, ExpertCache, "_stats", "m.d.sync += count.eq(0)", "m.d.sync += count.eq(count)"),
}


@pytest.mark.parametrize("name", one_in(11, FAULTS))
def test_fault_is_caught(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    turns_red(monkeypatch, *FAULTS[name])
