"""Conversion of a dense network into experts: against naive second definitions, SciPy's assignment, and its
properties."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from golden import fixture, q4_1
from golden.moe import clusters, router, spectral
from golden.moe.convert import Conversion, convert, profile
from golden.moe.ffn import Ffn
from golden.moe.forward import moe_forward
from golden.moe.pack import Stored, pack, packed_order
from golden.moe.spec import DISTANCES, PRESETS, ROWS, SCORES, ConversionSpec, preset, shape
from golden.spec import SpecError

Array = Any


def network(seed: int, neurons: int = 24, width: int = 10, biased: bool = False) -> Ffn:
    rng = np.random.default_rng(seed)
    biases = [rng.standard_normal(n) * biased for n in (neurons, neurons, width)]
    matrices = [rng.standard_normal(s) for s in ((neurons, width), (neurons, width), (width, neurons))]
    return Ffn(*matrices, *biases)


def tokens(seed: int, count: int = 40, width: int = 10) -> Array:
    return np.random.default_rng([seed, 1]).standard_normal((count, width)) * 2


@st.composite
def specs(draw: Callable[..., Any]) -> ConversionSpec:
    """For 24 neurons."""
    experts = draw(st.sampled_from([2, 3, 4, 6, 8, 12, 24]))
    shared = draw(st.integers(1, experts - 1))
    return ConversionSpec(
        experts=experts,
        shared=shared,
        active=draw(st.integers(1, experts - shared)),
        markers=draw(st.integers(1, 24)),
        iterations=draw(st.integers(1, 4)),
        normalise=draw(st.booleans()),
        distance=draw(st.sampled_from(DISTANCES)),
        score=draw(st.sampled_from(SCORES)),
        rows=draw(st.sampled_from(ROWS)),
        softmax=draw(st.booleans()),
        selection=draw(st.sampled_from(["topk", "threshold"])),
    )


seeds = st.integers(0, 1000)
quick = settings(max_examples=25, deadline=None)


def converted(seed: int, spec: ConversionSpec, biased: bool = False) -> tuple[Array, Ffn, Conversion]:
    x, ffn = tokens(seed), network(seed, biased=biased)
    return x, ffn, convert(x, ffn, spec)


@quick
@given(seeds, specs(), st.booleans())
def test_the_partition_is_disjoint_and_covers(seed: int, spec: ConversionSpec, biased: bool) -> None:
    _, _, c = converted(seed, spec, biased)
    size = 24 // spec.experts
    assert c.shared.shape == (spec.shared * size,) and c.experts.shape == (spec.routed, size)
    assert sorted([*c.shared, *c.experts.ravel()]) == list(range(24))
    assert (np.diff(c.experts, axis=1) > 0).all()
    assert all(r in group for r, group in zip(c.representatives, c.experts, strict=True))
    assert set(np.flatnonzero(c.owner < 0)) == set(c.shared)
    assert (c.owner[c.experts] == np.arange(spec.routed)[:, None]).all()
    assert (c.size, c.neurons) == (size, 24)


@quick
@given(seeds, specs(), st.booleans())
def test_all_experts_are_the_dense_network(seed: int, spec: ConversionSpec, biased: bool) -> None:
    x, ffn, c = converted(seed, spec, biased)
    y, routing = moe_forward(x, ffn, c.with_router(active=spec.routed, selection="topk"))
    assert routing.chosen.all() and (routing.weights == 1).all()
    np.testing.assert_allclose(y, ffn(x), rtol=1e-9, atol=1e-9)


@quick
@given(seeds, specs(), st.booleans())
def test_what_was_not_chosen_is_as_if_its_neurons_were_zero(seed: int, spec: ConversionSpec, biased: bool) -> None:
    x, ffn, c = converted(seed, spec, biased)
    scale = np.random.default_rng(seed).standard_normal(spec.routed)
    y, routing = moe_forward(x, ffn, c, scale=scale)
    if spec.selection == "topk":
        assert (routing.chosen.sum(axis=1) == spec.active).all()
    factor = np.concatenate([routing.weights, np.ones((len(x), 1))], axis=1)[:, c.owner]
    np.testing.assert_allclose(y, ffn.hidden(x) * factor @ ffn.down.T + ffn.down_bias, rtol=1e-9, atol=1e-9)


@quick
@given(seeds, specs(), st.randoms(use_true_random=False))
def test_names_of_neurons_and_experts_do_not_matter(seed: int, spec: ConversionSpec, random: Any) -> None:
    x, ffn, c = converted(seed, spec)
    y, routing = moe_forward(x, ffn, c)
    ties = router.scores(x, ffn.part(c.representatives), spec)
    assume(all(len(set(row)) == spec.routed for row in ties.tolist()))
    places = np.array(random.sample(range(24), 24))  # new neuron i is the old neuron places[i]
    now = np.argsort(places)
    moved = Conversion(spec, now[c.shared], np.sort(now[c.experts]), now[c.representatives], c.threshold, c.unmarked)
    same, same_routing = moe_forward(x, ffn.part(places), moved)
    np.testing.assert_allclose(same, y, rtol=1e-9, atol=1e-9)
    assert np.array_equal(same_routing.chosen, routing.chosen)
    turn = np.array(random.sample(range(spec.routed), spec.routed))
    turned = Conversion(spec, c.shared, c.experts[turn], c.representatives[turn], c.threshold, c.unmarked)
    same, same_routing = moe_forward(x, ffn, turned)
    np.testing.assert_allclose(same, y, rtol=1e-9, atol=1e-9)
    assert np.array_equal(same_routing.chosen, routing.chosen[:, turn])


@quick
@given(seeds, st.randoms(use_true_random=False), st.sampled_from(DISTANCES))
def test_planted_clusters_are_found_wherever_they_are(seed: int, random: Any, distance: str) -> None:
    rng = np.random.default_rng(seed)
    which = np.array(random.sample([0, 1, 2] * 5, 15))
    marked = (np.arange(90)[:, None] % 3 == which).astype(np.uint8)
    marked[rng.integers(0, 90, 30), rng.integers(0, 15, 30)] ^= 1
    counts = marked.sum(axis=0)
    tops = [np.flatnonzero(which == j)[np.argmax(counts[which == j])] for j in range(3)]
    assume(set(clusters.first(-counts.astype(int), 3)) == set(tops))  # seeds of all three
    found = clusters.cluster(marked, 3, distance, 3)
    assert {frozenset(which[group]) for group in found.members} == {frozenset([j]) for j in range(3)}


@quick
@given(seeds, specs())
def test_conversion_equals_a_naive_one(seed: int, spec: ConversionSpec) -> None:
    """The published steps in plain Python, but for the assignment, where only its cost is defined."""
    x, ffn, c = converted(seed, spec)
    hidden = profile(x, ffn, spec.normalise)
    marked = [set(sorted(range(24), key=lambda i: (-abs(row[i]), i))[: spec.markers]) for row in hidden.tolist()]
    counts = [sum(i in row for row in marked) for i in range(24)]
    ranked = sorted(range(24), key=lambda i: (-counts[i], i))
    assert c.shared.tolist() == ranked[: len(c.shared)]
    assert c.unmarked == counts.count(0)
    for group, representative in zip(c.experts.tolist(), c.representatives.tolist(), strict=True):
        mean = [sum(i in row for i in group) / len(group) for row in marked]

        def far(i: int, mean: list[float] = mean) -> float:
            gaps = [abs((i in row) - centre) for row, centre in zip(marked, mean, strict=True)]
            return sum(gaps) if spec.distance == "l1" else sum(g * g for g in gaps)

        assert far(representative) <= min(map(far, group)) + 1e-9
        assert all(far(i) > far(representative) - 1e-9 for i in group if i < representative)


def test_normalised_profile_is_that_of_unit_vectors() -> None:
    x, ffn = tokens(3), network(3)
    unit = [a / np.linalg.norm(a, axis=1, keepdims=True) for a in (x, ffn.gate, ffn.up)]
    np.testing.assert_allclose(profile(x, ffn, True), Ffn(unit[1], unit[2], ffn.down).hidden(unit[0]), rtol=1e-9)
    assert (profile(np.zeros((2, 10)), ffn, True) == 0).all()


@quick
@given(seeds, st.sampled_from(DISTANCES), st.integers(1, 4))
def test_distances_are_those_of_the_formulas(seed: int, kind: str, members: int) -> None:
    rng = np.random.default_rng(seed)
    marked = rng.integers(0, 2, (30, 12), dtype=np.uint8)
    sums = rng.integers(0, members + 1, (30, 3))
    found = clusters.distances(marked, clusters.Centroids(sums.astype(float), members), kind)
    gaps = np.abs(marked[:, :, None] - sums[:, None] / members)
    expected = gaps.sum(0) if kind == "l1" else np.square(gaps).sum(0) ** (0.5 if kind == "l2" else 1)
    np.testing.assert_allclose(found, expected * members ** (2 if kind == "l2_squared" else 1), rtol=1e-12)


@quick
@given(seeds, st.integers(2, 6), st.integers(1, 8), st.booleans())
def test_assignment_costs_what_scipy_finds(seed: int, count: int, size: int, whole: bool) -> None:
    distance = np.random.default_rng(seed).random((count * size, count)) * 20
    distance = np.floor(distance) if whole else distance
    members, cost = clusters.assign(distance)
    assert sorted(members.ravel()) == list(range(count * size)) and members.shape == (count, size)
    square = np.repeat(distance, size, axis=1)
    assert cost == pytest.approx(square[linear_sum_assignment(square)].sum(), abs=1e-9)
    assert cost == pytest.approx(sum(distance[group, j].sum() for j, group in enumerate(members)), abs=1e-9)


@quick
@given(seeds)
def test_a_seed_is_at_distance_zero_of_itself(seed: int) -> None:
    marked = np.random.default_rng(seed).integers(0, 2, (30, 12), dtype=np.uint8)
    seeded = clusters.first(-marked.sum(axis=0, dtype=np.int64), 3)
    for kind in DISTANCES:
        own = clusters.distances(marked, clusters.Centroids(marked[:, seeded].astype(float), 1), kind)
        assert (own[seeded, range(3)] == 0).all() and (own >= 0).all()


def test_ties_go_to_the_lower_index() -> None:
    assert clusters.marks(np.array([[1.0, -2, 2, -2, 0]]), 2).tolist() == [[0, 1, 1, 0, 0]]
    same = np.ones((4, 12), np.uint8)
    assert clusters.cluster(same, 3, "l1", 1).representatives.tolist() == [
        min(group) for group in clusters.cluster(same, 3, "l1", 1).members
    ]
    spec = ConversionSpec(experts=8, shared=3, active=3)
    for softmax in (False, True):
        routing = router.route(np.full((2, 5), 0.25), ConversionSpec(**spec.values() | {"softmax": softmax}), 0.0)
        assert routing.order.tolist() == [[0, 1, 2, 3, 4]] * 2
        assert routing.chosen.tolist() == [[True] * 3 + [False] * 2] * 2


def test_iterations_lower_the_cost_and_end() -> None:
    marked = np.random.default_rng(5).integers(0, 2, (60, 48), dtype=np.uint8)
    costs = [clusters.cluster(marked, 4, "l2_squared", n).cost / (1 if n == 1 else 144) for n in (1, 2, 3, 50, 51)]
    assert costs == sorted(costs, reverse=True) and costs[0] > costs[-1] and costs[-1] == costs[-2]


@quick
@given(seeds, specs())
def test_softmax_keeps_the_order(seed: int, spec: ConversionSpec) -> None:
    v = np.random.default_rng(seed).standard_normal((50, spec.routed))
    raw, soft = (
        router.route(v, ConversionSpec(**spec.values() | {"softmax": softmax}), 0.3) for softmax in (False, True)
    )
    assert np.array_equal(raw.order, soft.order) and np.array_equal(raw.chosen, soft.chosen)
    np.testing.assert_allclose(router.softmax(v).sum(axis=1), 1)


@quick
@given(seeds, specs())
def test_raw_rows_divided_by_their_lengths_are_unit_rows(seed: int, spec: ConversionSpec) -> None:
    x, ffn, c = converted(seed, spec, biased=True)
    part = ffn.part(c.representatives)
    a, e = part.sums(x)
    a, e = a / np.linalg.norm(part.gate, axis=1), e / np.linalg.norm(part.up, axis=1)
    v = a / (1 + np.exp(-a)) * e
    got = router.scores(x, part, ConversionSpec(**spec.values() | {"rows": "unit", "score": "signed"}))
    np.testing.assert_allclose(got, v, rtol=1e-9, atol=1e-12)
    got = router.scores(x, part, ConversionSpec(**spec.values() | {"rows": "raw", "score": "abs"}))
    np.testing.assert_allclose(got, np.abs(ffn.hidden(x)[:, c.representatives]), rtol=1e-9, atol=1e-12)


def test_bias_and_scale_do_what_they_say() -> None:
    spec = ConversionSpec(experts=8, shared=3, active=2)
    v = np.array([[0.1, 0.2, 0.3, 0.4, 0.5]])
    p = router.softmax(v)
    routing = router.route(v, spec, 0.0, bias=np.array([1, 0, 0, 0, 0]), scale=np.array([3, 1, 1, 1, -2]))
    assert routing.order.tolist() == [[0, 4, 3, 2, 1]]
    np.testing.assert_allclose(routing.weights, [[1 + 3 * p[0, 0], 0, 0, 0, 1 - 2 * p[0, 4]]])


@quick
@given(seeds, st.integers(0, 5), st.integers(1, 5))
def test_threshold_with_bounds(seed: int, least: int, most: int) -> None:
    assume(least <= most)
    v = np.random.default_rng(seed).random((100, 5))
    spec = ConversionSpec(active=2, selection="threshold", least=least, most=most)
    tau = router.threshold(v, spec.active)
    assert (v >= tau).sum() == 200
    for row, chosen in zip(v.tolist(), router.route(v, spec, tau).chosen.tolist(), strict=True):
        best = sorted(range(5), key=lambda j: -row[j])
        count = min(max(sum(value >= tau for value in row), least), most)
        assert sorted(best[:count]) == [j for j in range(5) if chosen[j]]


def test_a_token_without_experts_has_the_shared_block_alone() -> None:
    x, ffn, c = converted(1, ConversionSpec(selection="threshold"))
    none = Conversion(c.spec, c.shared, c.experts, c.representatives, math.inf, 0)
    y, routing = moe_forward(x, ffn, none)
    assert not routing.chosen.any()
    np.testing.assert_allclose(y, ffn.part(c.shared)(x))


@quick
@given(seeds, st.integers(1, 5))
def test_load_balance_moves_by_one_step(seed: int, active: int) -> None:
    rng = np.random.default_rng(seed)
    routing = router.route(rng.random((15, 5)), ConversionSpec(active=active), 0.0)
    bias = rng.standard_normal(5)
    moved = router.balanced(bias, routing.chosen, 0.125) - bias
    for j, by in enumerate(moved):
        count = int(routing.chosen[:, j].sum())
        assert by == pytest.approx(-0.125 if count > 3 * active else 0.125 if count < 3 * active else 0)
    assert np.array_equal(router.balanced(bias, np.ones((4, 5), bool), 0.125), bias)


def test_spectral_scores_keep_most_of_an_experts_sums() -> None:
    x, ffn, c = converted(3, ConversionSpec(experts=4, shared=1, active=1))  # 6 neurons of an expert
    full = spectral.learn(x, ffn, c, 6)
    a, e = ffn.sums(x)
    lengths = [np.linalg.norm(sums[:, c.experts], axis=2) for sums in (a, e)]
    np.testing.assert_allclose(spectral.scores(x, full), lengths[0] * lengths[1], rtol=1e-9)
    for rank in (1, 2, 5):
        gate = spectral.learn(x, ffn, c, rank).gate
        for j, neurons in enumerate(c.experts):
            singular = np.linalg.svd(a[:, neurons], compute_uv=False)
            assert np.square(x @ gate[j].T).sum() == pytest.approx(np.square(singular[:rank]).sum())
    for rank in (0, 7):
        sentence = f"rank must be an integer between 1 and 6, the neurons of an expert, not {rank}"
        assert refusal(partial(spectral.learn, x, ffn, c, rank)) == sentence


def test_an_expert_is_converted_again_by_the_same_function() -> None:
    x, ffn, outer = converted(2, ConversionSpec(experts=3, shared=1, active=2, markers=6))
    parts = [ffn.part(group, last=i == 0) for i, group in enumerate((outer.shared, *outer.experts))]
    inner = ConversionSpec(experts=4, shared=1, active=3, markers=3)
    twice = [convert(x, part, inner) for part in parts]
    together = sum(moe_forward(x, part, c)[0] for part, c in zip(parts, twice, strict=True))
    np.testing.assert_allclose(together, ffn(x), rtol=1e-9, atol=1e-9)


def stored(seed: int, neurons: int = 256, width: int = 64) -> Stored:
    rng = np.random.default_rng(seed)
    shapes = ((neurons, width), (neurons, width), (width, neurons))
    return Stored(*(q4_1.quantise(rng.standard_normal(s).astype(np.float32)) for s in shapes))


@pytest.mark.parametrize("name", ["S3A3E8", "S1A1E2", "S1A3E4"])
def test_packed_experts_are_the_dense_rows(name: str) -> None:
    dense = stored(4)
    spec = ConversionSpec(**shape(name))
    c = convert(tokens(4, width=64), dense.ffn(), spec)
    packed = pack(dense, c)
    assert np.array_equal(packed.order, packed_order(c)) and sorted(packed.order) == list(range(256))
    end = 0
    for i, group in enumerate((c.shared, *c.experts)):
        at, part = packed.descriptors[i], packed.expert(i)
        neurons = packed.order[at.first : at.first + at.neurons]
        assert sorted(neurons) == sorted(group)
        assert (i == 0 and np.array_equal(neurons, c.shared)) or neurons[0] == c.representatives[i - 1]
        for got, kept in ((part.gate, dense.gate), (part.up, dense.up)):
            assert np.array_equal(q4_1.pack(*got), q4_1.pack(*kept)[neurons])
        exact = q4_1.dequantise(*dense.down)[:, neurons]
        assert np.array_equal(q4_1.pack(*part.down), q4_1.pack(*q4_1.quantise(exact)))
        piece = at.neurons * 64 // 32 * 20
        assert (at.gate, at.up, at.down) == (end, end + piece, end + 2 * piece)
        assert at.formats == ("q4_1", "q4_1", "q4_1")
        end = at.down + piece
    assert len(packed.image) == end and 15 < packed.down_sqnr < 30
    x = tokens(5, width=64)
    again = router.scores(x, packed.router(), spec)
    assert np.array_equal(again, router.scores(x, dense.ffn().part(c.representatives), spec))


def test_the_real_layer() -> None:
    """Markers, shared block and router on trained weights; the threshold keeps its budget."""
    f = fixture.load()
    dense = Stored(f.gate, f.up, f.down)
    ffn = dense.ffn()
    for variant in PRESETS:
        spec = ConversionSpec(**preset(variant) | shape("S3A3E8") | {"markers": 154, "iterations": 1})
        c = convert(f.x, ffn, spec)
        y, _ = moe_forward(f.x, ffn, c)
        exact = ffn(f.x.astype(np.float64))
        lost = np.square(y - exact).sum() / np.square(exact).sum()
        assert 0.05 < lost < 0.3  # a quarter of the neurons is off
        _, routing = moe_forward(f.x, ffn, c.with_router(selection="threshold"))
        assert routing.chosen.sum() == 3 * len(f.x)
    few = convert(f.x, ffn, ConversionSpec(**shape("S3A3E8")))
    assert few.warning and few.warning.endswith(" of 1536 neurons were never marked: where they went is arbitrary")
    many = convert(f.x, ffn, ConversionSpec(**shape("S3A3E8") | {"markers": 154}))
    assert many.warning is None
    counts = clusters.marks(profile(f.x.astype(np.float64), ffn, True), 154).astype(np.int64).sum(axis=0)
    assert counts.max() > 255 and counts[many.shared].min() >= counts[many.experts].max()
    assert 20 < pack(dense, c).down_sqnr < 30


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"shared": 8}, "shared must be less than experts (8), not 8"),
        ({"shared": 0}, "shared must be an integer between 1 and 4096, not 0"),
        ({"active": 6}, "active must be at most experts - shared (5), not 6"),
        ({"active": 0}, "active must be an integer between 1 and 4096, not 0"),
        ({"markers": 0}, "markers must be an integer between 1 and 1048576, not 0"),
        ({"least": 3, "most": 2}, "least and most must be ordered and at most experts - shared (5), not 3 and 2"),
        ({"most": 6}, "least and most must be ordered and at most experts - shared (5), not 0 and 6"),
        ({"distance": "cosine"}, "distance must be one of l1, l2, l2_squared, not 'cosine'"),
    ],
)
def test_bad_specifications_are_refused(fields: dict[str, Any], sentence: str) -> None:
    with pytest.raises(SpecError) as e:
        ConversionSpec(**fields)
    assert str(e.value) == sentence


def refusal(call: Callable[[], object]) -> str:
    with pytest.raises(SpecError) as e:
        call()
    return str(e.value)


def test_what_does_not_fit_the_layer_is_refused() -> None:
    x, ffn, spec = tokens(1), network(1), ConversionSpec()
    wrong = refusal(lambda: convert(x, ffn, ConversionSpec(experts=7)))
    assert wrong == "experts must divide the layer's 24 neurons, not 7"
    wrong = refusal(lambda: convert(x, ffn, ConversionSpec(markers=25)))
    assert wrong == "markers must be at most the layer's 24 neurons, not 25"
    for bad in (x[:, :9], x[:0], x[0]):
        wrong = refusal(partial(convert, bad, ffn, spec))
        assert wrong == f"activations must be tokens of 10 values, not of shape {bad.shape}"
    x[3, 4] = np.nan
    assert refusal(lambda: convert(x, ffn, spec)) == "activations must be finite, not nan"
    dense = stored(1, neurons=96)
    c = convert(tokens(1, width=64), dense.ffn(), spec)
    assert refusal(lambda: pack(dense, c)) == "neurons of an expert must be a multiple of 32 for Q4_1, not 12"
    c = convert(tokens(1, width=64), stored(1).ffn(), spec)
    assert refusal(lambda: pack(dense, c)) == "neurons must be 256, as in the conversion, not 96"


def test_names_and_presets() -> None:
    assert shape("S12A3E48") == {"shared": 12, "active": 3, "experts": 48}
    assert ConversionSpec(**shape("S1A5E8")).name == "S1A5E8"
    for name in ("S3A3", "s3a3e8", "S3A3E8 ", "S3A3E88888", "S٣A3E8"):
        assert refusal(partial(shape, name)) == (
            f"moe must be a name like S3A3E8 (shared, active, experts in all), not {name!r}"
        )
    assert refusal(lambda: preset("book")) == "variant must be one of code, paper, not 'book'"
    code, paper = (ConversionSpec(**preset(name)) for name in ("code", "paper"))
    assert (code.name, paper.name) == ("S2A2E16", "S3A3E8")
    differ = {k for k, v in code.values().items() if paper.values()[k] != v}
    assert differ == {"experts", "shared", "active", "most", "iterations", "normalise", "distance", "score", "rows"}
