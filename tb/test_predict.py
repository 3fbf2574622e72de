"""Routing traces, guesses from them, and what an expert cache gains by them: tiny models; nothing is downloaded."""

import json
from itertools import product
from math import comb
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from golden.moe import fixture as moe_fixture
from golden.moe import foresight, router, traces
from golden.moe.cached import CachedLayer
from golden.moe.convert import Conversion, convert
from golden.moe.ffn import Ffn
from golden.moe.forward import moe_forward
from golden.moe.layer import MoEFFNSpec
from golden.moe.llama import MoeLlama
from golden.moe.predictor import Predictor, PredictorSpec
from golden.moe.residency import POLICIES
from golden.moe.spec import ConversionSpec
from golden.moe.stalls import Caches, Loader, Machine, Memory, Step, Time, play, steps
from golden.moe.traces import Trace, Tracer
from golden.spec import SpecError
from scripts import evaluation, experts, residency, sida
from scripts import moe_layer as real
from tb.command import Capture, run
from tb.test_llama import TINY, TOKENS, tiny_weights
from tb.test_moe_model import SPEC, tiny_conversions

# --- traces ---


def test_a_trace_is_what_the_routers_see() -> None:
    found = tiny_conversions()
    trace = Tracer(tiny_weights(), found).read(TOKENS)
    seen: dict[int, Any] = {}
    model = MoeLlama(tiny_weights(), found)
    model.observe = lambda name, i, value: seen.update({i: value} if name == "ffn_input" else {})
    model.hidden(TOKENS)
    assert trace.tokens.tolist() == TOKENS and trace.starts.tolist() == [0]
    assert np.array_equal(trace.embedding, tiny_weights().embedding[TOKENS])
    for i, c in found.items():
        rows = model.network(i).part(c.representatives)
        v = router.scores(seen[i], rows, SPEC)
        np.testing.assert_array_equal(trace.scores[:, i], v.astype(np.float32))
        ahead = router.scores(seen[i - 1], rows, SPEC) if i else np.zeros_like(v)
        np.testing.assert_array_equal(trace.ahead[:, i], ahead.astype(np.float32))
        routing = router.route(v, SPEC, 0.0)
        assert np.array_equal(trace.order[:, i], routing.order)
        assert all(
            set(row) == set(np.flatnonzero(mask))
            for row, mask in zip(trace.chosen(2)[:, i], routing.chosen, strict=True)
        )
    assert (trace.foreseen[:, 0] == [0, 1, 2]).all()


def test_traces_are_kept_and_joined(tmp_path: Path) -> None:
    tracer = Tracer(tiny_weights(), tiny_conversions())
    both = tracer.read(TOKENS[:6]).then(tracer.read(TOKENS[6:]))
    assert both.starts.tolist() == [0, 6] and both.tokens.tolist() == TOKENS
    assert np.array_equal(both.order[6:], tracer.read(TOKENS[6:]).order)
    path = tmp_path / "new" / "trace.npz"
    traces.save(path, SPEC, "a tiny model", both)
    spec, origin, back = traces.load(path)
    assert (spec, origin) == (SPEC, "a tiny model")
    assert all(np.array_equal(getattr(back, name), a) for name, a in vars(both).items())
    path.write_bytes(path.read_bytes()[:900])
    with pytest.raises(SpecError, match=r"^trace .*trace\.npz cannot be read: "):
        traces.load(path)


def test_what_cannot_be_traced_is_one_sentence() -> None:
    found = tiny_conversions()
    with pytest.raises(SpecError, match=r"^layers must all be converted for a trace, not 1$"):
        Tracer(tiny_weights(), {0: found[0]})
    limits = {i: c.with_router(selection="threshold") for i, c in found.items()}
    with pytest.raises(SpecError, match=r"^selection must be topk for a trace, not 'threshold'$"):
        Tracer(tiny_weights(), limits)


# --- guesses ---


def text(tokens: int, seed: int, layers: int = 3, experts: int = 5, starts: tuple[int, ...] = (0,)) -> Trace:
    """Any routing."""
    rng = np.random.default_rng(seed)
    scores, ahead = rng.random((2, tokens, layers, experts)).astype(np.float32)
    order = np.argsort(-scores, axis=-1).astype(np.uint16)
    embedding = rng.standard_normal((tokens, 4)).astype(np.float32)
    return Trace(np.arange(tokens), np.array(starts), embedding, scores, ahead, order)


@pytest.mark.parametrize("active", [1, 2, 4, 5])
def test_hits_are_counted_as_by_a_loop(active: int) -> None:
    seen, guess = text(20, 1), text(20, 2).order
    pairs = [(list(seen.order[t, i]), list(guess[t, i])) for t in range(20) for i in (1, 2)]
    chosen = [(set(right[:active]), g) for right, g in pairs]
    expected = (
        np.mean([right[0] == g[0] for right, g in pairs]),
        np.mean([len(right & set(g[:active])) / active for right, g in chosen]),
        np.mean([len(right & set(g[: active + 1])) / active for right, g in chosen]),
        np.mean([right == set(g[:active]) for right, g in chosen]),
    )
    np.testing.assert_allclose(foresight.hits(guess, seen, active), expected, rtol=1e-12)
    assert foresight.hits(seen.order, seen, active) == (1, 1, 1, 1)


def test_chance_is_what_any_guess_reaches() -> None:
    got = foresight.hits(text(20_000, 2).order, text(20_000, 1), 2)
    np.testing.assert_allclose(got, foresight.chance(5, 2), atol=0.01)
    assert foresight.chance(5, 5) == (0.2, 1, 1, 1) and foresight.chance(14, 2).whole == 1 / comb(14, 2)


def test_guesses_that_need_no_learning() -> None:
    seen, judged = text(30, 1), text(10, 2, starts=(0, 6))
    often = foresight.static(seen, 2, 10)
    for layer in range(3):
        counts = [int((seen.order[:, layer, :2] == e).sum()) for e in range(5)]
        assert often[7, layer].tolist() == sorted(range(5), key=lambda e, c=counts: (-c[e], e))  # type: ignore[misc]
    before = foresight.previous(judged, often)
    for t in range(10):
        assert np.array_equal(before[t], often[t] if t in (0, 6) else judged.order[t - 1])
    assert np.array_equal(foresight.next_router(judged), np.argsort(-judged.ahead, axis=-1, kind="stable"))


def test_a_predictor_reads_sequences() -> None:
    judged = text(10, 2)
    found = Predictor.random(PredictorSpec(inputs=4, hidden=3, layers=3, experts=5), 1)
    ranks = foresight.learned(found, judged, 4)
    for part in (slice(0, 4), slice(4, 8), slice(8, 10)):
        assert np.array_equal(ranks[part], found.table(judged.embedding[part], 5).experts)


# --- a cache in the layer ---


def network(seed: int) -> tuple[Ffn, Conversion]:
    rng = np.random.default_rng(seed)
    ffn = Ffn(*(rng.standard_normal(shape) for shape in ((24, 10), (24, 10), (10, 24))))
    spec = ConversionSpec(experts=8, shared=2, active=2, markers=5)
    return ffn, convert(rng.standard_normal((40, 10)), ffn, spec)


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 20),
    st.integers(1, 7),
    st.sampled_from(POLICIES),
    st.lists(st.lists(st.integers(0, 5), unique=True), min_size=1, max_size=5),
)
def test_hints_change_no_bit_of_a_result(seed: int, slots: int, policy: str, hints: list[list[int]]) -> None:
    ffn, conversion = network(seed)
    layer = CachedLayer(ffn, conversion, slots, policy)
    rng = np.random.default_rng([seed, 1])
    for some in hints:
        layer.hint(some)
        x = rng.standard_normal((rng.integers(1, 6), 10))
        assert np.array_equal(layer(x), moe_forward(x, ffn, conversion)[0])
    counts = layer.residency.counts
    resident = sum(key is not None for key in layer.residency.keys)
    assert counts.loads == counts.evictions + resident and resident <= slots


# --- time ---


def machine(tokens: int, name: str = "S2A2E16") -> Machine:
    shape = {"S2A2E16": (192, 96, 14, 2), "S3A3E8": (576, 192, 5, 3)}[name]
    shared, routed, count, active = shape
    spec = MoEFFNSpec(neurons=shared, experts=count, tokens=tokens, slots=active)
    return Machine(spec, shared, routed, active)


@pytest.mark.parametrize(("name", "tokens"), [("S3A3E8", 1), ("S3A3E8", 7), ("S3A3E8", 16)])
def test_cycles_are_those_of_the_unit(name: str, tokens: int) -> None:
    """A layer in which nothing is waited for takes what the unit's formula says."""
    layer = real.layer(name)
    at = machine(tokens, name)
    job = real.real_batch(at.spec, layer, tokens)
    work = at.spec.work(type(job)(job.x, job.experts, job.router, job.k_min, job.k_max, load=False))
    times = at.times(tokens)
    routed = sum(at.expert(len(queue.tokens)) for queue in work.queues)
    assert times.shared + routed + times.after == at.spec.ffn.cycles(work)
    assert at.size == at.spec.ffn.weight_bytes(job.experts[1])
    assert 0 < times.known < times.shared
    assert name == moe_fixture.SPEC.name


def test_steps_say_who_needs_and_who_is_guessed() -> None:
    chosen = np.array([[[3, 1], [0, 2]], [[1, 4], [2, 0]], [[5, 0], [1, 3]]])
    guess = np.array([[[1, 2], [3, 4]], [[2, 1], [4, 0]], [[5, 1], [3, 0]]])
    assert steps(chosen, guess, 2) == [
        Step(0, 2, {1: 2, 3: 1, 4: 1}, [1, 2]),
        Step(1, 2, {0: 2, 2: 2}, [3, 4, 0]),
        Step(0, 1, {0: 1, 5: 1}, [5, 1]),
        Step(1, 1, {1: 1, 3: 1}, [3, 0]),
    ]
    assert [step.hints for step in steps(chosen, guess, 2, blind=True)] == [[], [3, 4, 0], [], [3, 0]]
    assert [step.hints for step in steps(chosen, guess, 1, late=True)] == [[], [], [1, 2], [3, 4], [2, 1], [4, 0]]
    assert all(not step.hints for step in steps(chosen, None, 2))


class Plain(Machine):
    """Round numbers: experts known after 10 cycles, the first may begin after 100, each takes 50, then 20."""

    size = 400

    def times(self, tokens: int) -> Any:  # type: ignore[override]
        from golden.moe.stalls import Times

        return Times(10, 100, 20)

    def expert(self, tokens: int) -> int:  # type: ignore[override]
        return 50


def plain() -> Plain:
    return Plain(machine(1).spec, 192, 96, 2)


def played(work: list[Step], caches: Caches, memory: Memory, layers: int = 2) -> Time:
    planned, _ = caches.plan(work)
    return play(planned, caches.slots * (1 if caches.shared else layers), plain(), memory)


def test_a_load_that_nobody_guessed_is_waited_for() -> None:
    work = [Step(0, 1, {3: 1, 7: 1}, []), Step(1, 1, {3: 1}, [])]
    # known at 10; 100 cycles each and 5: there at 115 and 215; jobs end at 165 and 265; then 20
    # layer 1 from 285: known at 295, there at 400, where the job could begin at 385
    assert played(work, Caches(2, "lru"), Memory(4, 5)) == Time(285 + 100 + 15 + 50 + 20, 15 + 50 + 15, 0)


def test_what_was_guessed_in_time_costs_nothing() -> None:
    work = [Step(0, 1, {3: 1}, []), Step(1, 1, {5: 1}, [5])]
    # the guess is loaded behind the need: there at 215; layer 1 begins at 185, its job at 285
    assert played(work, Caches(1, "lru"), Memory(4, 5)) == Time(185 + 170, 15, 0)
    # late with a slow memory: 200 and 5 cycles: 215, then 415; layer 1 begins at 285, its job could at 385
    assert played(work, Caches(1, "lru"), Memory(2, 5)) == Time(285 + 100 + 30 + 50 + 20, 115 + 30, 1)


def test_what_is_needed_goes_before_what_is_guessed() -> None:
    work = [Step(0, 1, {3: 1}, []), Step(1, 1, {5: 1}, [1, 2, 9])]
    # of the guesses 110..210 begins, and 210..310; layer 1 begins at 185 and knows at 195: 5 is next, from 210
    got = played(work, Caches(4, "lru"), Memory(4, 5))
    assert got == Time(185 + 100 + 30 + 50 + 20, 15 + 30, 0)
    # 9 is needed: it comes forward, past 2
    work = [Step(0, 1, {3: 1}, []), Step(1, 1, {9: 1}, [1, 2, 9])]
    assert played(work, Caches(4, "lru"), Memory(4, 5)) == got._replace(late=1)


def test_a_place_in_use_is_waited_for() -> None:
    """One place for two needs: waves."""
    work = [Step(0, 1, {3: 1, 7: 1}, [])]
    # 3: 10..110, 115; its job ends at 165; then 7 is loaded, there at 270
    assert played(work, Caches(1, "lru"), Memory(4, 5), 1) == Time(270 + 50 + 20, 15 + 105, 0)


def test_a_guess_whose_place_is_wanted_is_loaded_first() -> None:
    loader = Loader(3, 100, 5)
    loader.guessed(0, 10)
    loader.guessed(1, 10)
    loader.guessed(2, 10)
    assert loader.settled(1) == 215
    loader.needed(0, 300)  # by then 2 has begun, at 210
    assert loader.ready == [415, 215, 315]


def routed(seed: int, tokens: int = 40) -> Any:
    return text(tokens, seed, layers=4, experts=14).chosen(2).astype(int)


@pytest.mark.parametrize(("policy", "shared", "batch"), list(product(POLICIES, (False, True), (1, 4))))
def test_a_memory_without_end_costs_nothing_and_counts_the_same(policy: str, shared: bool, batch: int) -> None:
    chosen, guess = routed(1), routed(2)
    work = steps(chosen, guess, batch)
    planned, counts = Caches(14, policy, shared).plan(work)
    slow, fast = (play(planned, 14 * 4, machine(batch), Memory(b, 0)) for b in (8, 1 << 40))
    assert fast.cycles - fast.stalled == slow.cycles - slow.stalled
    assert fast.stalled <= 40 and slow.stalled > 1000
    assert counts.hits + counts.misses == sum(len(step.needs) for step in work)
    assert sum(job.miss for step in planned for job in step.jobs) == counts.misses
    assert sum(len(step.prefetches) for step in planned) == counts.prefetched


def test_all_experts_on_chip_are_loaded_once() -> None:
    chosen = routed(1, 100)
    _, counts = Caches(14, "lru").plan(steps(chosen, None, 1))
    assert counts.misses == sum(len(np.unique(chosen[:, layer])) for layer in range(4)) and counts.evictions == 0


def test_who_knows_all_misses_nothing_and_belady_bounds_the_rest() -> None:
    chosen = routed(1, 100)
    _, oracle = Caches(2, "lru").plan(steps(chosen, chosen, 1))
    assert oracle.misses == 2  # the first layer of the first token
    misses = {p: Caches(5, p).plan(steps(chosen, None, 1))[1].misses for p in (*POLICIES, "belady")}
    assert min(misses, key=lambda name: misses[name]) == "belady"
    hinted = Caches(5, "belady").plan(steps(chosen, chosen, 1))[1]
    assert hinted.misses == misses["belady"] and hinted.prefetched == 0


def test_experts_that_fit_no_tile_are_one_sentence() -> None:
    with pytest.raises(SpecError, match=r"^neurons of an expert must be a multiple of 32, not 48$"):
        Machine(machine(1).spec, 96, 48, 2)


# --- commands ---


SHORT = ("--tokens", "80", "--hidden", "8", "--train", "epochs=2", "sequence=4")


def test_predict(tiny: str, capsys: Capture, tmp_path: Path) -> None:
    command = ("predict", "--model", tiny, "--moe", "S1A1E3,S1A2E6", *SHORT)
    code, out, err = run(capsys, *command, "--json")
    assert code == 0
    rows = json.loads(out)
    names = ["chance", "static", "previous", "next-router", "sida"]
    assert [row["row"] for row in rows] == [f"{moe} {name}" for moe in ("S1A1E3", "S1A2E6") for name in names]
    assert all(0 <= row["recall@k"] <= row["recall@k+1"] <= 1 for row in rows)
    assert rows[0] == {
        "row": "S1A1E3 chance", "k": 1, "top-1": 0.5, "recall@k": 0.5, "recall@k+1": 1.0, "whole set": 0.5
    }  # fmt: skip
    assert "epoch 2 of 2: loss" in err and "S1A1E3: routing of 80 of 80 tokens" in err
    code, again, err = run(capsys, *command)
    assert code == 0 and "epoch" not in err and "routing" not in err  # all is kept
    assert [line.split()[1] for line in again.splitlines()[1:]] == names * 2
    assert len(list((tmp_path / "cache" / "traces").iterdir())) == 4


def test_predict_with_a_file_and_more_text(tiny: str, capsys: Capture, tmp_path: Path) -> None:
    more, weights = tmp_path / "more.txt", tmp_path / "p.npz"
    more.write_text("hello world " * 20)
    command = ("predict", "--model", tiny, "--moe", "S1A1E3", *SHORT, "--weights", str(weights))
    assert run(capsys, *command, "--text", str(more))[0] == 0
    assert Predictor.load(weights).spec.hidden == 8
    before = weights.read_bytes()
    code, _, err = run(capsys, *command, "--hidden", "9")
    assert code == 0 and "epoch" not in err and weights.read_bytes() == before  # it is used as it is
    code, out, err = run(capsys, *command[:4], "S1A2E6", *command[5:])
    assert (code, out) == (2, "")
    assert err.splitlines()[-1] == f"experts of predictor {weights} must be 5, as in the trace, not 2"


def test_substitute(tiny: str, capsys: Capture) -> None:
    code, out, _ = run(capsys, "predict", "--model", tiny, "--moe", "S1A2E6", *SHORT, "--substitute", "--json")
    assert code == 0
    rows = {row["row"]: row["perplexity"] for row in json.loads(out)}
    assert list(rows) == [f"S1A2E6 {name}" for name in ("router", "random", "sida", "sida, alpha", "oracle")]
    assert all(value > 1 for value in rows.values()) and len(set(rows.values())) > 2


def test_the_prediction_is_the_routing() -> None:
    found, weights = tiny_conversions(), tiny_weights()
    predictor = Predictor.random(PredictorSpec(inputs=24, hidden=4, layers=3, experts=3), 1)
    model = sida.Foretold(weights, found, predictor, 4)
    model.hidden(TOKENS)
    x, hidden = np.zeros((10, 24), np.float32), np.zeros((10, 40))
    scaled = sida.Foretold(weights, found, predictor, 4, alpha=True)
    scaled.hidden(TOKENS)
    for start in (0, 4, 8):
        part = slice(start, min(start + 4, 10))
        table = predictor.table(weights.embedding[TOKENS[part]].astype(np.float32), 2)
        for layer in range(TINY.layers):
            got, counted = (m.select(layer, x, hidden)[part] for m in (model, scaled))
            for t in range(len(got)):
                assert set(np.flatnonzero(got[t])) == set(table.experts[t, layer]) and got[t].sum() == 2
                alpha = table.alpha[t, layer]
                np.testing.assert_allclose(counted[t, table.experts[t, layer]], alpha / alpha.mean(), rtol=1e-6)
    assert model.mean == 2


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("--moe E8", "moe must be a name like S3A3E8 (shared, active, experts in all), not 'E8'"),
        ("--model fixture", "model must be full or the path of a GGUF file, not 'fixture'"),
        ("--moe S1A1E3,S1A2E6 --weights p.npz", "moe must be one configuration with --weights, not S1A1E3,S1A2E6"),
        ("--train rate=2", "rate must be above 0 and at most 1, not 2.0"),
        ("--train speed=2", "'speed' is not a parameter; it must be one of epochs, sequence, batch, rate, weight, "
         "truncate, held, seed, did you mean seed?"),
        ("--set selection=threshold", "selection must be topk for traces, not 'threshold'"),
        ("--text missing.txt", "text missing.txt cannot be read: No such file or directory"),
        ("--tokens 10", "sequence must be at most the 1 tokens of a part of the text, not 64"),
        ("--hidden 0", "hidden must be an integer between 1 and 4096, not 0"),
    ],
)  # fmt: skip
def test_bad_input_is_one_sentence(tiny: str, arguments: str, sentence: str, capsys: Capture) -> None:
    code, out, err = run(capsys, "predict", "--model", tiny, "--moe", "S1A1E3", *arguments.split())
    assert (code, out) == (2, "")
    assert err.splitlines()[-1] == sentence


def test_results_with_a_cache(tiny: str, capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluation, "text", lambda: "The river that runs through the old town is not very wide.")
    file, picture = tmp_path / "r.json", tmp_path / "r.svg"
    short = ("--tokens", "40", *SHORT[2:])
    code = residency.main(["--model", tiny, "--moe", "S1A1E3", *short, "--json", str(file), "--plot", str(picture)])
    out, err = capsys.readouterr()
    assert code == 0, err
    assert out.startswith("S1A1E3: 40 tokens, an expert is 3,840 bytes\n") and "times faster" in out
    assert picture.read_text().startswith("<?xml")
    found = json.loads(file.read_text())
    settings_ = {tuple(r[name] for name in ("batch", "slots", "shared", "policy", "guess", "ahead")) for r in found}
    assert len(settings_) == len(found)
    for r in found:
        needs = r["counts"]["hits"] + r["counts"]["misses"]
        assert needs >= 40 * 2 / r["batch"] and r["ideal"] > 0
        assert r["bytes"] == 3840 * (r["counts"]["misses"] + r["counts"]["prefetched"])
    for bad, sentence in (
        (("--plot", "x.pdf"), "plot must be a file name that ends in .svg or .png, not 'x.pdf'"),
        (("--tokens", "0"), "tokens must be an integer between 1 and 51, not 0"),
        (("--json", str(tmp_path)), f"json must be a file in a folder that is there, not {tmp_path}"),
    ):
        code = residency.main(["--model", tiny, "--moe", "S1A1E3", *short, *bad])
        assert code == 2 and capsys.readouterr().err.splitlines()[-1] == sentence


@pytest.mark.slow
def test_the_next_router_foretells_the_real_model(capsys: Capture) -> None:
    code, out, _ = run(capsys, "predict", "--moe", "S2A2E16", "--json")
    assert code == 0
    recall = {row["row"].split()[1]: row["recall@k"] for row in json.loads(out)}
    assert recall["chance"] < 0.2 < recall["static"] < recall["sida"] < recall["next-router"] < 0.6  # measured: docs
    assert experts.TOKENS == 2048
