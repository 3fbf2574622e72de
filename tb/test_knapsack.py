"""The choice of candidates under a budget: against all choices there are, and its refusals."""

import itertools
import math
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from golden.moe.knapsack import Candidate, Choice, choose, least_bytes
from golden.spec import SpecError

CANDIDATE = st.builds(Candidate, st.integers(0, 12).map(lambda n: 6 * n), st.integers(0, 40).map(float))
GROUPS = st.lists(st.lists(CANDIDATE, min_size=1, max_size=5), min_size=1, max_size=5)


def brute(groups: Sequence[Sequence[Candidate]], budget: int) -> tuple[float, int]:
    """The least error, and with it the fewest bytes, of all choices."""
    sums = [(sum(c.error for c in each), sum(c.bytes for c in each)) for each in itertools.product(*groups)]
    return min((error, size) for error, size in sums if size <= budget)


def checked(groups: Sequence[Sequence[Candidate]], budget: int) -> Choice:
    choice = choose(groups, budget)
    picked = [group[i] for group, i in zip(groups, choice.picks, strict=True)]
    assert choice.bytes == sum(c.bytes for c in picked) <= budget
    assert choice.error == sum(c.error for c in picked)
    return choice


@settings(max_examples=300, deadline=None)
@given(GROUPS, st.integers(0, 200))
def test_no_choice_is_better(groups: list[list[Candidate]], extra: int) -> None:
    budget = least_bytes(groups) + extra
    choice = checked(groups, budget)
    assert (choice.error, choice.bytes) == brute(groups, budget)


@settings(max_examples=100, deadline=None)
@given(GROUPS, st.integers(0, 200))
def test_what_is_not_used_costs_nothing_and_more_is_never_worse(groups: list[list[Candidate]], extra: int) -> None:
    choice = checked(groups, least_bytes(groups) + extra)
    assert checked(groups, choice.bytes) == choice
    assert checked(groups, least_bytes(groups) + extra + 6).error <= choice.error


def test_taking_the_best_per_byte_is_not_enough() -> None:
    """The first step of a greedy choice, the largest gain per byte, leaves no room for the best one."""
    groups = [[Candidate(0, 10), Candidate(6, 1)], [Candidate(0, 11), Candidate(10, 0)]]
    assert choose(groups, 10) == Choice((0, 1), 10, 10)


def test_odd_sizes_and_many_candidates() -> None:
    many = [Candidate(7 * i + 1, 1 / (1 + i)) for i in range(300)]
    assert checked([many, many], 7 * 500 + 2).bytes == 7 * 500 + 2
    assert checked([many], 10**15).picks == (299,)
    assert checked([[Candidate(5, 1.0)], [Candidate(3, 2.0), Candidate(3, 1.5)]], 8).picks == (0, 1)


def test_refusals() -> None:
    groups = [[Candidate(7, 1.0), Candidate(5, 3.0)], [Candidate(1000, 1.0)]]
    with pytest.raises(SpecError) as e:
        choose(groups, 1004)
    assert str(e.value) == "budget must be at least 1,005 bytes, the smallest candidates together, not 1,004"
    for bad in ([], [Candidate(1, math.nan)], [Candidate(1, math.inf)]):
        with pytest.raises(SpecError) as e:
            choose([[Candidate(1, 0.0)], bad], 10)
        assert str(e.value) == f"candidates must be one or more of finite error, not {bad}"
