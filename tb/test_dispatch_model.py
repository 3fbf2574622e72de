"""The golden model of ``dispatch``: against a stable sort, its properties, refusals."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from golden.moe.dispatch import Batch, DispatchSpec, Token
from golden.spec import SpecError
from tb.dispatch import random_batch, wrong

SEEDS = st.integers(0, 2**32 - 1)
SPECS = st.builds(
    lambda experts, tokens, share: DispatchSpec(experts=experts, tokens=tokens, slots=1 + share % experts),
    st.integers(1, 20),
    st.integers(1, 30),
    st.integers(0, 99),
)


def entries(job: Batch) -> list[tuple[int, int, int, int]]:
    """(expert, token, slot, weight) in the order of arrival."""
    return [
        (e, number, slot, w)
        for number, token in enumerate(job.tokens)
        if not token.pruned
        for slot, (e, w) in enumerate(zip(token.expert.tolist(), token.weight.tolist(), strict=True))
    ]


@settings(max_examples=80, deadline=None)
@given(seed=SEEDS, spec=SPECS)
def test_queues_are_a_stable_sort(seed: int, spec: DispatchSpec) -> None:
    """And back: the position of each entry is a permutation; offsets rise; counts add up; no job is empty."""
    job = random_batch(spec, np.random.default_rng(seed))
    came, got = entries(job), spec.compute(job)
    want = sorted(came, key=lambda entry: entry[0])
    assert got.entries.tolist() == [list(entry[1:]) for entry in want]
    experts = np.repeat(got.jobs[:, 0], got.jobs[:, 2])
    assert experts.tolist() == [entry[0] for entry in want]
    place = {(int(t), int(s)): i for i, (t, s, _) in enumerate(got.entries)}
    assert sorted(place.values()) == list(range(len(came)))
    assert [want[place[t, s]] for _, t, s, _ in came] == came
    assert (np.diff(got.jobs[:, 0]) > 0).all() and (got.jobs[:, 2] > 0).all()
    assert got.jobs[:, 1].tolist() == (np.cumsum(got.jobs[:, 2]) - got.jobs[:, 2]).tolist()
    assert got.counts.sum() == len(came) and not got.dropped.any()
    assert got.counts[got.jobs[:, 0]].tolist() == got.jobs[:, 2].tolist()


@settings(max_examples=40, deadline=None)
@given(seed=SEEDS, spec=SPECS)
def test_relabelled_experts_change_only_indices(seed: int, spec: DispatchSpec) -> None:
    rng = np.random.default_rng(seed)
    job, label = random_batch(spec, rng), rng.permutation(spec.experts)
    other = Batch(tuple(Token(label[t.expert], t.weight, t.pruned) for t in job.tokens))
    one, two = spec.compute(job), spec.compute(other)
    assert two.counts[label].tolist() == one.counts.tolist()

    def of(queues: Any, name: Any) -> dict[int, list[Any]]:
        return {name(int(e)): queues.entries[first : first + n].tolist() for e, first, n in queues.jobs}

    assert of(one, lambda e: int(label[e])) == of(two, lambda e: e)


@settings(max_examples=40, deadline=None)
@given(seed=SEEDS, spec=SPECS)
def test_a_token_does_not_depend_on_the_others(seed: int, spec: DispatchSpec) -> None:
    """Alone, with all others pruned, a token has the entries that it has in its batch."""
    rng = np.random.default_rng(seed)
    job = random_batch(spec, rng)
    mine = int(rng.integers(len(job.tokens)))
    alone = Batch(tuple(Token(t.expert, t.weight, t.pruned or n != mine) for n, t in enumerate(job.tokens)))
    got = spec.compute(job).entries
    assert spec.compute(alone).entries.tolist() == got[got[:, 0] == mine].tolist()


@settings(max_examples=40, deadline=None)
@given(seed=SEEDS, spec=SPECS, share=st.floats(0, 1))
def test_a_capacity_drops_the_last_ones(seed: int, spec: DispatchSpec, share: float) -> None:
    capacity = 1 + int(share * (spec.tokens - 1))
    limited = DispatchSpec(**spec.values() | {"capacity": capacity})
    job = random_batch(spec, np.random.default_rng(seed))
    free, got = spec.compute(job), limited.compute(job)
    assert got.counts.tolist() == free.counts.tolist()
    assert got.dropped.tolist() == (free.counts - free.counts.clip(max=capacity)).tolist()
    kept = [free.entries[first : first + min(n, capacity)].tolist() for _, first, n in free.jobs]
    assert got.entries.tolist() == [entry for queue in kept for entry in queue]
    assert limited.errors(job) == (16 if got.dropped.any() else 0)


@settings(max_examples=40, deadline=None)
@given(seed=SEEDS, spec=SPECS)
def test_beats_and_back(seed: int, spec: DispatchSpec) -> None:
    job = random_batch(spec, np.random.default_rng(seed))
    want = spec.compute(job)
    got = spec.result(job, spec.outputs(job, want))
    assert all(np.array_equal(a, b) for a, b in zip(got, want, strict=True))


def test_pruned_tokens_make_nothing() -> None:
    spec = DispatchSpec(experts=4, tokens=3)
    job = Batch((Token(np.array([1, 2]), np.array([5, 6]), True),) * 3)
    got = spec.compute(job)
    assert len(got.jobs) == len(got.entries) == 0 and not got.counts.any()


def test_what_is_wrong() -> None:
    spec = DispatchSpec(experts=6, tokens=4, slots=3)
    batches = wrong(spec, np.random.default_rng(0))
    found = {name: spec.errors(job) for name, job in batches.items()}
    assert found == {
        "tokens": 1,
        "tokens-after-none": 1,
        "beats": 2 | 8,
        "beats-pruned": 2,
        "again": 8,
        "again-pruned": 0,
        "unknown": 4,
        "unknown-pruned": 0,
    }
    assert len(spec.compute(batches["tokens-after-none"]).entries) == 0
    assert spec.compute(batches["again"]).counts[5] == 2


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"experts": 65}, "experts must be an integer between 1 and 64, not 65"),
        ({"experts": 4, "slots": 5}, "slots must be at most experts = 4, not 5"),
        ({"tokens": 8, "capacity": 9}, "capacity must be at most tokens = 8, not 9"),
    ],
)
def test_refusals(values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(SpecError) as e:
        DispatchSpec(**values)
    assert str(e.value) == sentence


def test_figures() -> None:
    assert DispatchSpec(experts=3, tokens=5).figures() == {
        "latency": 4,
        "entry_latency": 5,
        "least_cycles_per_batch": 3,
        "memory_bits": 3 * 2 * 8 * (3 + 2 + 32),
    }
