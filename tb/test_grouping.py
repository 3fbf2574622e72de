"""Batches sorted by expert: round trip, order, finished rows, and the same queues as ``dispatch``."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from golden.moe.dispatch import Batch, DispatchSpec, Token
from golden.moe.grouping import Groups, combine, compute, group, put_back
from golden.spec import SpecError

SEEDS = st.integers(0, 2**32 - 1)
SIZES = st.tuples(st.integers(1, 60), st.integers(1, 12)).flatmap(
    lambda two: st.tuples(st.just(two[0]), st.just(two[1]), st.integers(1, two[1]))
)
quick = settings(max_examples=60, deadline=None)


def chosen(seed: int, tokens: int, experts: int, slots: int) -> tuple[Any, Any]:
    """Different experts of each token, and which tokens are finished."""
    rng = np.random.default_rng(seed)
    expert = np.argsort(rng.random((tokens, experts)), axis=1)[:, :slots]
    return expert, rng.random(tokens) < rng.random()


def made(seed: int, sizes: tuple[int, int, int]) -> tuple[Any, Any, Groups]:
    expert, finished = chosen(seed, *sizes)
    return expert, finished, group(expert, sizes[1], finished)


@quick
@given(SEEDS, SIZES)
def test_there_and_back(seed: int, sizes: tuple[int, int, int]) -> None:
    expert, finished, groups = made(seed, sizes)
    x = np.random.default_rng([seed, 1]).standard_normal((sizes[0], 5))
    back = put_back(groups, x[groups.token])
    assert np.array_equal(back, np.where(finished[:, None, None], 0, np.repeat(x[:, None], sizes[2], axis=1)))
    again = put_back(groups, expert[groups.token, groups.slot][:, None])
    assert np.array_equal(again[~finished, :, 0], expert[~finished])


@quick
@given(SEEDS, SIZES)
def test_offsets_are_inclusive_and_finished_rows_are_none(seed: int, sizes: tuple[int, int, int]) -> None:
    expert, finished, groups = made(seed, sizes)
    live = expert[~finished]
    assert len(groups.token) == live.size and not finished[groups.token].any()
    assert groups.ends.tolist() == [(live <= e).sum() for e in range(sizes[1])]
    assert groups.counts.tolist() == [(live == e).sum() for e in range(sizes[1])]
    assert np.array_equal(groups.ends - groups.counts, groups.first)
    for e, (first, end) in enumerate(zip(groups.first, groups.ends, strict=True)):
        rows = slice(first, end)
        assert (np.diff(groups.token[rows]) > 0).all()
        assert (expert[groups.token[rows], groups.slot[rows]] == e).all()


@quick
@given(SEEDS, SIZES)
def test_the_queues_are_those_of_the_unit(seed: int, sizes: tuple[int, int, int]) -> None:
    expert, finished, groups = made(seed, sizes)
    tokens, experts, slots = sizes
    spec = DispatchSpec(experts=experts, tokens=tokens, slots=slots)
    job = Batch(tuple(Token(e, np.zeros(slots, np.int64), bool(f)) for e, f in zip(expert, finished, strict=True)))
    queues = spec.compute(job)
    assert queues.entries[:, :2].tolist() == np.stack([groups.token, groups.slot], axis=1).tolist()
    some = groups.counts > 0
    columns = np.flatnonzero(some), groups.first[some], groups.counts[some]
    assert queues.jobs.tolist() == np.stack(columns, axis=1).tolist()


class Network:
    """``x * factor``; counts what it is called with."""

    def __init__(self, factor: float) -> None:
        self.factor = factor
        self.rows: list[int] = []

    def __call__(self, x: Any) -> Any:
        self.rows.append(len(x))
        return x * self.factor


@quick
@given(SEEDS, SIZES)
def test_each_expert_is_computed_once_for_its_rows(seed: int, sizes: tuple[int, int, int]) -> None:
    expert, finished, groups = made(seed, sizes)
    rng = np.random.default_rng([seed, 2])
    x, weights = rng.standard_normal((sizes[0], 3)), rng.standard_normal(expert.shape)
    networks = [Network(e + 1.0) for e in range(sizes[1])]
    y = combine(groups, compute(groups, x, networks), weights)
    assert [network.rows for network in networks] == [[n] if n else [] for n in groups.counts]
    factor = ((expert + 1) * weights).sum(axis=1) * ~finished
    np.testing.assert_allclose(y, factor[:, None] * x, atol=1e-12)
    assert not y[finished].any()


def test_thousands_of_tokens_and_extremes() -> None:
    rng = np.random.default_rng(3)
    expert = rng.integers(0, 128, (20_000, 1))
    finished = rng.random(20_000) < 0.3
    groups = group(expert, 128, finished)
    assert groups.ends[-1] == (~finished).sum()
    shuffled = put_back(groups, groups.token[:, None].astype(np.int64))
    assert np.array_equal(shuffled[~finished, 0, 0], np.flatnonzero(~finished))
    one = group(np.full((5000, 1), 7), 9)  # all to one expert
    assert one.ends.tolist() == [0] * 7 + [5000] * 2 and one.token.tolist() == list(range(5000))
    none = group(expert, 128, np.ones(20_000, bool))
    assert len(none.token) == 0 and not none.ends.any()
    assert group(np.zeros((0, 2), np.int64), 4).ends.tolist() == [0] * 4


def test_numbers_of_experts_that_are_none() -> None:
    for bad, said in (([[0, 4]], "0 to 4"), ([[-1, 2]], "-1 to 2")):
        with pytest.raises(SpecError) as e:
            group(np.array(bad), 4)
        assert str(e.value) == f"expert numbers must be between 0 and 3, not {said}"


@pytest.mark.parametrize(
    ("expert", "finished", "sentence"),
    [
        ([0, 1], None, "expert must have shape [tokens, slots], not [2]"),
        ([[0], [1]], [True], "finished must have shape [2], not [1]"),
    ],
)
def test_shapes_that_are_none(expert: list[int], finished: list[bool] | None, sentence: str) -> None:
    with pytest.raises(SpecError) as e:
        group(np.array(expert), 4, None if finished is None else np.array(finished))
    assert str(e.value) == sentence
