"""The golden model of ``orizuru``: against NumPy's sorting, float values, the published algorithm and its counts."""

from itertools import product
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from golden.orizuru.area import luts
from golden.orizuru.engine import SIDES, TIES, VARIANTS, OrizuruSpec, Vector
from golden.orizuru.keys import KEYS
from golden.orizuru.tournament import Tournament
from golden.spec import SpecError
from tb.orizuru import random_keys, random_vector

FLOATS = {"fp16": np.float16, "bf16": ml_dtypes.bfloat16}


def vector(keys: Any, k: int, present: Any = None) -> Vector:
    return Vector(np.asarray(keys, np.int64), k, present)


def chosen(keys: Any, k: int, **values: Any) -> list[list[int]]:
    result: list[list[int]] = OrizuruSpec(**{"key": "int8", **values}).compute(vector(keys, k)).tolist()
    return result


@pytest.mark.parametrize("name", FLOATS)
def test_all_float_keys_sort_as_their_values(name: str) -> None:
    codes = np.arange(1 << 16)
    values = _numbers(codes, name)
    keys = KEYS[name].order(codes)
    assert np.array_equal(np.sort(keys), codes)
    falling = codes[np.argsort(-keys)]
    numbers = values[falling][~np.isnan(values[falling])]
    assert (numbers[1:] <= numbers[:-1]).all()
    nan = np.isnan(values[falling])
    half = nan.sum() // 2
    assert nan[:half].all() and nan[-half:].all()
    sign = codes >> 15
    assert not sign[falling[:half]].any() and sign[falling[-half:]].all()
    assert keys[0] == keys[0x8000] + 1  # -0 just below +0


def test_fp32_keys_sort_as_their_values() -> None:
    """Every 16,384th pattern, zeros, what is around them, infinities."""
    corners = [1 << 31 | 1, 1, 0x7F7FFFFF, 0x7F800000, 0xFF7FFFFF, 0xFF800000]
    codes = np.unique(np.concatenate([np.arange(0, 1 << 32, 1 << 14), corners]))
    values = codes.astype(np.uint32).view(np.float32)
    codes = codes[~np.isnan(values)]
    keys = KEYS["fp32"].order(codes)
    assert len(np.unique(keys)) == len(codes) and keys.min() >= 0 and keys.max() < 1 << 32
    rising = values[~np.isnan(values)][np.argsort(keys)]
    assert (rising[1:] >= rising[:-1]).all()
    nan = KEYS["fp32"].order(np.array([0xFFC00000, 0x7FC00000]))
    assert nan[0] < keys.min() and keys.max() < nan[1]
    assert np.diff(KEYS["fp32"].order(np.array([1 << 31, 0]))) == 1  # -0 just below +0


@pytest.mark.parametrize("name", FLOATS)
def test_magnitudes_sort_as_absolute_values_and_nan_above_infinity(name: str) -> None:
    codes = np.arange(1 << 16)
    values = np.abs(_numbers(codes, name))
    keys = KEYS[name].magnitude(codes)
    rising = values[np.argsort(keys, kind="stable")]
    numbers = rising[~np.isnan(rising)]
    assert (numbers[1:] >= numbers[:-1]).all()
    assert keys[np.isnan(values)].min() > keys[np.isinf(values)].max()


@pytest.mark.parametrize("name", ["int8", "uint8", "int16", "uint16"])
def test_all_integer_keys_sort_as_themselves(name: str) -> None:
    fmt = KEYS[name]
    values = np.arange(fmt.low, fmt.high + 1)
    assert fmt.order(values).tolist() == list(range(1 << fmt.bits))
    assert np.array_equal(fmt.magnitude(values), [abs(v) for v in values.tolist()])


def test_the_two_rules() -> None:
    """Equal keys: both ends of one order, or the lowest index on both sides."""
    assert chosen([5, 5, 5, 5], 2) == [[5, 0, 0], [5, 3, 1], [5, 1, 0], [5, 2, 1]]
    assert chosen([5, 5, 5, 5], 2, ties="paper") == [[5, 0, 0], [5, 0, 1], [5, 1, 0], [5, 1, 1]]


def test_results_end_when_all_keys_are_out() -> None:
    assert chosen([3, -1, 7], 2) == [[7, 2, 0], [-1, 1, 1], [3, 0, 0]]
    assert chosen([3, -1, 7], 2, ties="paper") == [[7, 2, 0], [-1, 1, 1], [3, 0, 0], [3, 0, 1]]
    assert chosen([9], 5) == [[9, 0, 0]]
    assert chosen([9], 0) == chosen([], 5) == []


def test_one_side() -> None:
    keys = [3, -8, 8, 3]
    assert chosen(keys, 3, sides="largest") == [[8, 2, 0], [3, 0, 0], [3, 3, 0]]
    assert chosen(keys, 3, sides="smallest") == [[-8, 1, 1], [3, 3, 1], [3, 0, 1]]
    assert chosen(keys, 3, sides="smallest", ties="paper") == [[-8, 1, 1], [3, 0, 1], [3, 3, 1]]
    assert chosen(keys, 3, sides="magnitude") == [[-8, 1, 0], [8, 2, 0], [3, 0, 0]]


def test_missing_keys_keep_their_place() -> None:
    spec = OrizuruSpec(key="int8")
    job = vector([1, 9, 5, 7], 1, np.array([True, False, True, True]))
    assert spec.compute(job).tolist() == [[7, 3, 0], [1, 0, 1]]


def configurations() -> list[OrizuruSpec]:
    return [
        OrizuruSpec(n=24, key=key, sides=sides, ties=ties, k_max=24)
        for key, sides, ties in product(KEYS, SIDES, TIES)
        if not (sides == "magnitude" and key.startswith("uint"))
        and not (sides in ("largest", "magnitude") and ties == "paper")
    ]


@pytest.mark.parametrize("spec", configurations(), ids=lambda s: f"{s.key}-{s.sides}-{s.ties}")
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_against_stable_sorting(spec: OrizuruSpec, seed: int) -> None:
    """NumPy's stable sorts of values that it can compare itself."""
    job = random_vector(spec, np.random.default_rng(seed))
    job = vector(job.keys, job.k, job.mask & ~_unordered(job.keys, spec.key))
    index = np.flatnonzero(job.mask)
    values = _numbers(job.keys[index], spec.key)
    if spec.sides == "magnitude":
        values = np.abs(values)
    falling = np.argsort(-values, kind="stable")
    rising = falling[::-1] if spec.ties == "order" else np.argsort(values, kind="stable")
    n, k = len(index), job.k
    got = spec.compute(job)
    largest, smallest = got[got[:, 2] == 0, 1], got[got[:, 2] == 1, 1]
    if spec.sides != "smallest":
        assert largest.tolist() == index[falling[: len(largest)]].tolist()
    if spec.sides in ("both", "smallest"):
        assert smallest.tolist() == index[rising[: len(smallest)]].tolist()
    shared = spec.sides == "both" and spec.ties == "order"
    assert len(got) == (min(2 * k, n) if shared else spec.trees * min(k, n))
    if spec.ties == "order":
        assert len(set(got[:, 1].tolist())) == len(got)  # never twice
    assert np.array_equal(got[:, 0], job.keys[got[:, 1]])


def _numbers(codes: Any, name: str) -> Any:
    """What the codes are worth, by somebody else's formats."""
    with np.errstate(invalid="ignore"):  # signalling NaN
        if KEYS[name].kind != "float":
            return codes.astype(np.float64)
        return codes.astype(f"u{KEYS[name].bits // 8}").view({**FLOATS, "fp32": np.float32}[name]).astype(np.float64)


def _unordered(codes: Any, name: str) -> Any:
    """NaN, and -0, which floats call equal to +0."""
    fmt = KEYS[name]
    return np.isnan(_numbers(codes, name)) | ((codes == 1 << (fmt.bits - 1)) & (fmt.kind == "float"))


@settings(max_examples=60, deadline=None)
@given(
    keys=st.lists(st.integers(0, 3), min_size=0, max_size=20),
    k=st.integers(0, 20),
)
def test_with_k_of_n_or_more_all_keys_come_out_once(keys: list[int], k: int) -> None:
    got = OrizuruSpec(n=20, key="uint8", k_max=20).compute(vector(keys, k))
    assert len({i for _, i, _ in got.tolist()}) == len(got) == min(2 * k, len(keys))
    if 2 * k >= len(keys):
        assert sorted(got[:, 1].tolist()) == list(range(len(keys)))
        ends = [*got[got[:, 2] == 0, 0], *got[got[:, 2] == 1, 0][::-1]]
        assert ends == sorted(keys, reverse=True)


@pytest.mark.parametrize("ties", TIES)
@pytest.mark.parametrize("n", [2, 4, 8, 64])
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_the_published_algorithm_agrees_and_its_counts_are_exact(ties: str, n: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    keys = rng.integers(0, rng.choice([2, 5, 1000]), n)
    k = int(rng.integers(0, n // 2, endpoint=True))
    trees = Tournament(keys.tolist(), ties)
    assert trees.initial == 3 * n // 2 - 2
    spec = OrizuruSpec(n=max(n, 8), key="uint16", ties=ties, k_max=max(n // 2, 1))
    assert [trees.pop(i % 2) for i in range(2 * k)] == spec.compute(vector(keys, k))[:, 1].tolist()
    levels = n.bit_length() - 1
    assert trees.visits == 2 * k * levels  # ancestors of popped leaves
    assert trees.compared <= 2 * k * (levels - 1)  # a popped leaf's parent has nothing to compare


def test_counts_at_the_published_size() -> None:
    """1.5n + 2k log2 n = 6,624 as published; exactly two fewer. Real comparisons, with distinct keys, are 6,582."""
    keys = np.random.default_rng(1).permutation(4096)
    trees = Tournament(keys.tolist(), "paper")
    for i in range(40):
        trees.pop(i % 2)
    assert trees.initial + trees.visits == 6622
    assert trees.initial + trees.compared == 6582
    assert OrizuruSpec(n=4096).comparators == trees.initial


def test_an_empty_tournament_has_no_winner() -> None:
    trees = Tournament([1, 2])
    assert [trees.pop(0) for _ in range(3)] == [1, 0, None]
    assert trees.pop(1) == 0


@pytest.mark.parametrize(
    ("values", "step", "goal"),
    [
        ({"variant": "systolic"}, 2, 12 + 2 * 20),
        ({"variant": "systolic", "pair": True}, 2, 12 + 2 * 20),
        ({"variant": "comb", "pair": True}, 1, 12 + 20),
        ({"variant": "comb", "sides": "largest"}, 1, 12 + 20),
        ({"variant": "unit16"}, 2, 20 * 4),
        ({"variant": "level"}, 12, 20 * 13),
    ],
)
def test_cycles_at_the_published_size(values: dict[str, Any], step: int, goal: int) -> None:
    """From the last write into the leaves to the last of the largest: no more than the goals that the page states."""
    spec = OrizuruSpec(n=4096, lanes=32, **values)
    timing, k = spec.timing, 20
    spent = 2 + timing.result((k - 1) * timing.per_step, 2 * k)
    assert timing.step == step
    assert spent <= goal
    job = vector(random_keys(spec, np.random.default_rng(1), 4096), k)
    alone = 1 + 128 + spent + timing.lag + 1  # two skid buffers
    assert spec.cycles(job) == alone
    if spec.variant != "level":  # vectors follow one another without a gap
        assert spec.cycles(*[job] * 5) == alone + 4 * 128
    assert spec.latency == 1 + 2 + timing.fill + 1


def test_cycles_of_the_memory_at_the_published_size() -> None:
    """A pair of results every 30 cycles; what loads waits twice per pair."""
    spec = OrizuruSpec(n=4096, lanes=32, variant="memory")
    timing = spec.timing
    path = 3 + 5 + 3 * 7  # row and root, levels of lanes, levels of rows
    assert (timing.settle, timing.step) == (path, path + 1)
    job = vector(random_keys(spec, np.random.default_rng(1), 4096), 20)
    popping = 19 * 30 + 2
    assert spec.cycles(job) == 1 + 127 + path + 1 + popping + 2
    assert spec.cycles(*[job] * 3) == spec.cycles(job) + 2 * (popping + 1)  # it loads while results leave
    few = vector(job.keys, 2)
    assert spec.cycles(few, few) == spec.cycles(few) + 127 + 4 + path


def test_ports_carry_a_short_vector() -> None:
    spec = OrizuruSpec(n=8, lanes=4, key="int8")
    job = vector([-1, 2, 3, 4, 5], 2)
    beats = spec.inputs(job)
    fields = spec.port("i").unpack(beats["i"])
    assert fields["key"].tolist() == [[-1, 2, 3, 4], [5, 0, 0, 0]]
    assert fields["valid"].tolist() == [[1, 1, 1, 1], [1, 0, 0, 0]]
    assert beats["i"].last.tolist() == [False, True]
    assert spec.port("cfg").unpack(beats["cfg"])["k"].tolist() == [[2]]
    nothing = spec.outputs(job, np.zeros((0, 3), np.int64))["o"]
    assert nothing.last.tolist() == [True] and not nothing.data.any()
    assert spec.result(job, {"o": nothing}).shape == (0, 3)


@pytest.mark.parametrize(
    ("values", "variant"),
    [
        ({}, "queue"),  # nobody waits: two lists of 20 keys
        ({"every": 2048}, "memory"),  # one vector per product of 4,096 x 4,096 indices, as published
        ({"every": 300}, "bitonic"),
        ({"every": 128}, "systolic"),  # comb is 4 % smaller, which no estimate can tell
        ({"every": 128, "within": 50}, "unit16"),
        ({"within": 100, "every": 2048}, "bitonic"),
    ],
)
def test_auto_is_the_smallest_that_is_fast_enough(values: dict[str, int], variant: str) -> None:
    spec = OrizuruSpec(n=4096, lanes=32, k_max=20, variant="auto", **values)
    assert spec == OrizuruSpec(n=4096, lanes=32, k_max=20, variant=variant, **values)
    assert OrizuruSpec(**spec.values()) == spec


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"every": 100}, "every must be 0 or at least 128, not 100"),
        ({"within": 40}, "within must be 0 or at least 46, not 40"),
        ({"every": 142, "within": 40}, "within must be 0 or at least 46 for every = 142, not 40"),
        ({"lanes": 65}, "lanes must be an integer between 1 and 64, not 65"),
        ({"k_max": 4000, "n": 3000}, "k_max must be at most n = 3000, not 4000"),
    ],
)
def test_auto_refuses_what_none_can_do(values: dict[str, int], sentence: str) -> None:
    with pytest.raises(SpecError) as e:
        OrizuruSpec(**{"n": 4096, "lanes": 32, "k_max": 20, "variant": "auto", **values})
    assert str(e.value) == sentence


def test_a_sentence_of_auto_names_what_one_variant_can_do() -> None:
    """The least `every` and the least `within` may be those of different variants."""
    with pytest.raises(SpecError) as e:
        OrizuruSpec(n=576, lanes=16, k_max=41, variant="auto", every=82, within=2)
    least = int(str(e.value).split("at least ")[1].split()[0])
    assert OrizuruSpec(n=576, lanes=16, k_max=41, variant="auto", every=82, within=least).span <= least


def test_what_is_too_much_is_lost() -> None:
    spec = OrizuruSpec(n=8, lanes=4, key="int8")
    long = vector([1, 2, 3, 4, 5, 6, 7, 8, 100, -100], 1)
    assert spec.compute(long).tolist() == [[8, 7, 0], [1, 0, 1]]


def test_estimates_are_near_the_syntheses() -> None:
    """LUTs on ECP5 by ``senbazuru synth orizuru --target ecp5 --parts``, as the table of the page has them."""
    measured = {
        ("systolic", 64, 16, 8): 8662,
        ("comb", 256, 16, 8): 31761,
        ("unit16", 16, 16, 8): 2519,
        ("level", 256, 16, 8): 24760,
        ("memory", 256, 4, 8): 3230,
        ("memory", 256, 16, 8): 5769,
        ("memory", 4096, 32, 8): 9136,
        ("queue", 256, 1, 41): 8846,
        ("bitonic", 256, 16, 16): 44884,
    }
    for (variant, n, lanes, k_max), found in measured.items():
        estimate = luts(OrizuruSpec(n=n, lanes=lanes, k_max=k_max, variant=variant))
        assert abs(estimate / found - 1) < 0.15, variant


@pytest.mark.parametrize("variant", VARIANTS)
def test_figures(variant: str) -> None:
    """Of 16 keys: 15 comparisons and 7; two lists of 8; a sorter of 80 and two times 8 + 12; none; two per lane."""
    figures = OrizuruSpec(n=16, lanes=16, variant=variant).figures()
    assert figures["comparators"] == {"queue": 16, "bitonic": 120, "radix": 0, "threshold": 32}.get(variant, 22)
    assert figures["beats_per_vector"] == 1
    if variant != "threshold":  # whose time depends on the keys
        assert figures["cycles_k8"] > figures["latency"]


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"n": 7}, "n must be an integer between 8 and 4096, not 7"),
        ({"n": 4097}, "n must be an integer between 8 and 4096, not 4097"),
        ({"n": 8, "k_max": 9}, "k_max must be at most n = 8, not 9"),
        ({"n": 8, "lanes": 9}, "lanes must be at most n = 8, not 9"),
        ({"lanes": 65}, "lanes must be an integer between 1 and 64, not 65"),
        ({"key": "fp8"}, "key must be one of fp16, bf16, fp32, int8, int16, uint8, uint16, not 'fp8'"),
        ({"sides": "all"}, "sides must be one of both, largest, smallest, magnitude, not 'all'"),
        (
            {"sides": "magnitude", "key": "uint8"},
            "sides must be one of both, largest, smallest for key uint8, not 'magnitude'",
        ),
        ({"ties": "random"}, "ties must be one of order, paper, not 'random'"),
        (
            {"variant": "heap"},
            "variant must be one of systolic, comb, unit16, level, memory, queue, bitonic, radix, threshold, "
            "auto, not 'heap'",
        ),
        ({"pair": True, "sides": "largest"}, "pair must be false for sides largest, not true"),
        ({"pair": True, "variant": "threshold"}, "pair must be false for variant threshold, not true"),
        ({"ties": "paper", "variant": "threshold"}, "ties must be order for variant threshold, not 'paper'"),
        ({"every": 9, "variant": "threshold"}, "every must be 0 for variant threshold, not 9"),
        ({"ties": "paper", "sides": "largest"}, "ties must be order for sides largest, not 'paper'"),
        ({"every": 60}, "every must be 0 or at least 69 for variant systolic, not 60"),
    ],
)
def test_refusals(values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(SpecError) as e:
        OrizuruSpec(**values)
    assert str(e.value) == sentence
