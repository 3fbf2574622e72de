"""The decisions of an expert cache, without time."""

from itertools import product

import numpy as np
import pytest

from golden.moe.residency import BELADY, POLICIES, KeyList, Residency, replay
from golden.spec import SpecError


def needs(*keys: int) -> KeyList:
    return KeyList(keys)


def hints(*keys: int) -> KeyList:
    return KeyList(keys, need=False)


@pytest.mark.parametrize(
    ("policy", "gone"),
    [("fifo", 1), ("lru", 2), ("residency", 1)],
)
def test_who_goes(policy: str, gone: int) -> None:
    """Loads 1 2 3; 1 is used again; 4 comes."""
    cache = Residency(3, policy)
    for key in (1, 2, 3, 1):
        cache.decide(needs(key))
    (decision,) = cache.decide(needs(4))
    assert decision.evicted == gone and decision.miss and decision.slot == gone - 1


def test_the_published_rule_empties_what_is_not_predicted() -> None:
    cache = Residency(4, "residency")
    cache.decide(needs(1, 2, 3))
    cache.decide(hints(3, 5))
    assert sorted(k for k in cache.keys if k is not None) == [3, 5]
    assert (cache.counts.evictions, cache.counts.prefetched) == (2, 1)


def test_a_list_that_fits_is_not_evicted_by_itself() -> None:
    cache = Residency(3, "fifo")
    cache.decide(needs(1, 2, 3))
    assert [d.evicted for d in cache.decide(needs(4, 2, 1))] == [3, None, None]


def test_a_longer_list_goes_in_waves() -> None:
    cache = Residency(2, "lru")
    cache.decide(needs(2, 3))
    decisions = cache.decide(needs(1, 2, 3))
    assert [d.miss for d in decisions] == [True, False, True]
    assert [d.evicted for d in decisions] == [3, None, 1]


def test_a_hint_does_not_evict_what_its_list_names() -> None:
    cache = Residency(2, "fifo")
    cache.decide(needs(1, 2))
    decisions = cache.decide(hints(3, 1, 4))
    assert [(d.slot, d.evicted) for d in decisions] == [(1, 2), (0, None), (None, None)]
    assert cache.counts.dropped == 1


def test_a_prefetch_that_nobody_needed_is_useless() -> None:
    cache = Residency(1, "lru")
    for one in (hints(1), needs(2), hints(3), needs(3), needs(4)):
        cache.decide(one)
    assert (cache.counts.useless, cache.counts.hits, cache.counts.misses) == (1, 1, 2)


def test_pins_stay_and_one_place_is_left() -> None:
    cache = Residency(2, "lru")
    cache.decide(KeyList([1, 2], pins=frozenset((1, 2))))
    for key in (3, 4, 5):
        cache.decide(needs(key))
    assert 1 in cache.keys and 2 not in cache.keys and cache.counts.refused == 1


@pytest.mark.parametrize(("policy", "seed"), list(product(POLICIES, range(20))))
def test_invariants(policy: str, seed: int) -> None:
    """No key twice; loads are evictions and what is resident; what is protected stays; no pin goes."""
    rng = np.random.default_rng(seed)
    slots = int(rng.integers(1, 6))
    cache = Residency(slots, policy)
    for _ in range(60):
        keys = rng.integers(0, 9, rng.integers(0, 7)).tolist()
        pins = frozenset(k for k in keys if rng.random() < 0.02)
        one = KeyList(keys, bool(rng.random() < 0.5), pins)
        before = [cache.keys[s] for s in cache.pinned]
        free = slots - len(cache.pinned)
        for at, d in enumerate(cache.decide(one)):
            later = keys[at + 1 : free] if one.need else []
            assert d.evicted is None or d.evicted not in later
            assert d.slot is not None or not one.need
        resident = [k for k in cache.keys if k is not None]
        assert len(set(resident)) == len(resident)
        assert cache.counts.loads - cache.counts.evictions == len(resident)
        assert all(k in resident for k in before)


@pytest.mark.parametrize("seed", range(5))
def test_belady_is_the_bound(seed: int) -> None:
    """Against all policies on random runs, and against every choice of victims on short ones."""
    rng = np.random.default_rng(seed)
    run = [needs(int(key)) for key in rng.integers(0, 7, 200)]
    bound = replay(run, 3, BELADY)
    assert all(bound.misses <= replay(run, 3, policy).misses for policy in POLICIES)
    short = [int(key) for key in rng.integers(0, 5, 9)]
    assert replay([needs(key) for key in short], 2, BELADY).misses == _fewest(short, frozenset(), 2)


def _fewest(keys: list[int], resident: frozenset[int], slots: int) -> int:
    if not keys:
        return 0
    key, rest = keys[0], keys[1:]
    if key in resident:
        return _fewest(rest, resident, slots)
    if len(resident) < slots:
        return 1 + _fewest(rest, resident | {key}, slots)
    return 1 + min(_fewest(rest, resident - {gone} | {key}, slots) for gone in resident)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ((0, "lru"), "slots must be at least 1, not 0"),
        ((1, "random"), "policy must be one of fifo, lru, residency, belady, not 'random'"),
    ],
)
def test_refusals(values: tuple[int, str], message: str) -> None:
    with pytest.raises(SpecError) as e:
        replay([], *values)
    assert str(e.value) == message
