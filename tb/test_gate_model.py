"""The golden model of ``gate``: against float64 and a naive selection, its properties, refusals."""

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from golden.formats import FLOATS
from golden.moe import softmax
from golden.moe.fp32 import ONE
from golden.moe.gate import GateSpec, Group, Table, Token
from golden.spec import SpecError
from tb.gate import codes, random_group, random_scores

SEEDS = st.integers(0, 2**32 - 1)
EXPERTS = st.integers(1, 64)
FP32 = FLOATS["fp32"]


def values(bits: Any) -> Any:
    return FP32.value(np.asarray(bits)).astype(np.float64)


def reference(x: Any) -> Any:
    """Softmax in float64."""
    e = np.exp(x - x.max())
    return e / e.sum()


def error(scores: Any) -> float:
    return float(np.abs(values(softmax.softmax(scores)) - reference(values(scores))).max())


def test_the_error_of_a_probability() -> None:
    """The largest of many is below what is said, and not far below."""
    rng = np.random.default_rng(0)
    found = [error(random_scores(rng, n)) for n in range(1, 65) for _ in range(40)]
    gaps = [error(codes(np.array([0.0, -gap]))) for gap in np.geomspace(1e-6, 40, 3000)]
    even = [error(codes(np.full(n, 3.7))) for n in range(1, 65)]
    many = [error(codes(np.array([0.0] + [-gap] * 63))) for gap in np.linspace(0, 33, 3000)]
    assert softmax.ERROR / 4 < max(*found, *gaps, *even, *many) < softmax.ERROR


def test_exponentials_fall_and_are_near() -> None:
    x = np.sort(np.random.default_rng(0).uniform(0, 33, 20_000).astype(np.float32))
    e = softmax.exponentials(x)
    one = 1 << (softmax.EXPONENTIAL - 1)
    assert (np.diff(e) <= 0).all()
    assert np.abs(e / one - np.exp(-x.astype(np.float64))).max() < 4e-7  # in a quotient part of it cancels
    assert softmax.exponentials(np.array([0, 32, 100, np.inf, np.nan], np.float32)).tolist() == [one, 0, 0, 0, 0]


@settings(max_examples=60, deadline=None)
@given(seed=SEEDS, n=EXPERTS)
def test_the_quotient_is_the_floor_of_the_fraction(seed: int, n: int) -> None:
    e = softmax.exponentials(np.random.default_rng(seed).exponential(5, n).astype(np.float32))
    total = max(1, int(e.sum()))
    want = [int(Fraction(int(v) << softmax.QUOTIENT, total)) for v in e]
    assert softmax.quotient(e, total).tolist() == want
    assert total < 1 << softmax.sum_bits(n)


def naive(spec: GateSpec, token: Token, table: Table | None) -> list[list[int]]:
    """One expert after another, in scalars: sorted by value where nothing is special."""
    scores = FP32.value(softmax.softmax(token.scores) if spec.softmax else token.scores)
    b, u = (FP32.value(t) for t in ((table.b, table.u) if table else (0 * token.scores, 0 * token.scores)))
    keys = [np.float32(s + bj) if spec.bias else s for s, bj in zip(scores, b, strict=True)]
    ranked = sorted(range(len(keys)), key=lambda j: (-float(keys[j]), j))[: token.k_max]
    tau = float(FP32.value(np.array([token.tau]))[0])
    chosen = [j for rank, j in enumerate(ranked) if rank < token.k_min or float(scores[j]) >= tau]
    weights = [np.float32(1) + np.float32(scores[j] * u[j]) if spec.scaled else np.float32(1) for j in chosen]
    return [[j, int(FP32.code(np.array([w], np.float32))[0])] for j, w in zip(chosen, weights, strict=True)]


SPECS = st.builds(GateSpec, experts=EXPERTS, bias=st.booleans(), scaled=st.booleans(), softmax=st.booleans())


@settings(max_examples=80, deadline=None)
@given(seed=SEEDS, spec=SPECS)
def test_against_a_naive_selection(seed: int, spec: GateSpec) -> None:
    job = random_group(spec, np.random.default_rng(seed), 3)
    got = spec.compute(job)
    for number, token in enumerate(job.tokens):
        assert got[got[:, 0] == number, 1:].tolist() == naive(spec, token, job.table)
    assert spec.errors(job) == 0


@settings(max_examples=40, deadline=None)
@given(seed=SEEDS, spec=SPECS)
def test_beats_and_back_and_a_token_does_not_depend_on_the_others(seed: int, spec: GateSpec) -> None:
    job = random_group(spec, np.random.default_rng(seed), 4)
    want = spec.compute(job)
    assert np.array_equal(spec.result(job, spec.outputs(job, want)), want)
    for number, token in enumerate(job.tokens):
        alone = spec.compute(Group((token,), job.table))
        assert alone[:, 1:].tolist() == want[want[:, 0] == number, 1:].tolist()


@settings(max_examples=40, deadline=None)
@given(seed=SEEDS, n=EXPERTS, soft=st.booleans())
def test_relabelled_experts_change_only_indices(seed: int, n: int, soft: bool) -> None:
    """Where no two keys are the same; a sum does not depend on its order."""
    rng, spec = np.random.default_rng(seed), GateSpec(experts=n, softmax=soft)
    label = rng.permutation(n)
    scores = codes(rng.permutation(n) / 16 + rng.random() / 64)
    table = Table(codes(np.zeros(n)), codes(rng.normal(size=n)))
    k = int(rng.integers(n + 1))
    one = spec.compute(Group((Token(scores, k, k),), table))
    moved = Table(table.b[label], table.u[label])
    two = spec.compute(Group((Token(scores[label], k, k),), moved))
    assert label[two[:, 1]].tolist() == one[:, 1].tolist() and two[:, 2].tolist() == one[:, 2].tolist()


@settings(max_examples=40, deadline=None)
@given(seed=SEEDS, n=EXPERTS)
def test_softmax_alone_changes_no_selection(seed: int, n: int) -> None:
    """Without bias, but for probabilities that are rounded to the same number; all weights are 1 with u = 0."""
    rng = np.random.default_rng(seed)
    scores, k = random_scores(rng, n), int(rng.integers(n + 1))
    table = Table(codes(np.zeros(n)), codes(np.zeros(n)))
    soft, plain = (
        GateSpec(experts=n, softmax=on).compute(Group((Token(scores, k, k),), table)) for on in (True, False)
    )
    p = softmax.softmax(scores)
    assert p[soft[:, 1]].tolist() == p[plain[:, 1]].tolist()
    assert (soft[:, 2] == ONE).all() and (plain[:, 2] == ONE).all()


@pytest.mark.parametrize("soft", [False, True])
def test_all_equal_scores_give_the_first_experts(soft: bool) -> None:
    spec = GateSpec(experts=6, softmax=soft, bias=False)
    token = Token(np.full(6, ONE), 4, 4)
    assert spec.compute(Group((token,), Table(np.zeros(6, np.int64), np.zeros(6, np.int64))))[:, 1].tolist() == [
        0,
        1,
        2,
        3,
    ]


def test_number_and_threshold() -> None:
    spec = GateSpec(experts=4, bias=False, scaled=False)
    scores = codes(np.array([0.5, 2.0, 1.0, 0.25]))

    def chosen(k_min: int, k_max: int, tau: float) -> list[int]:
        token = Token(scores, k_min, k_max, int(codes(np.array([tau]))[0]))
        picked: list[int] = spec.compute(Group((token,)))[:, 1].tolist()
        return picked

    assert [chosen(k, k, 99.0) for k in range(5)] == [[1, 2, 0, 3][:k] for k in range(5)]
    assert [chosen(0, 4, t) for t in (3.0, 2.0, 0.5, 0.0)] == [[], [1], [1, 2, 0], [1, 2, 0, 3]]
    assert chosen(2, 4, 3.0) == [1, 2] and chosen(1, 2, 0.0) == [1, 2]


def test_the_bias_changes_ranks_and_not_scores() -> None:
    """The threshold and the weight are of the score without it."""
    spec = GateSpec(experts=2)
    table = Table(codes(np.array([-8.0, 8.0])), codes(np.array([1.0, 2.0])))
    token = Token(codes(np.array([3.0, 1.0])), 0, 2, int(codes(np.array([1.0]))[0]))
    got = spec.compute(Group((token,), table))
    assert got[:, 1].tolist() == [1, 0] and values(got[:, 2]).tolist() == [3.0, 4.0]


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"experts": 0}, "experts must be an integer between 1 and 64, not 0"),
        ({"experts": 4, "lanes": 5}, "lanes must be at most experts = 4, not 5"),
        (
            {"selector": "radix"},
            "selector must be one of systolic, comb, unit16, level, memory, queue, bitonic, not 'radix'",
        ),
    ],
)
def test_refusals(changed: dict[str, Any], sentence: str) -> None:
    with pytest.raises(SpecError) as e:
        GateSpec(**changed)
    assert str(e.value) == sentence
