"""Unit ``moe_ffn``: the exported Verilog against its golden model, and that against the real-valued one."""

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from gen.registry import unit
from golden.moe import fixture as converted
from golden.moe.dispatch import Token, per_token
from golden.moe.forward import moe_forward
from golden.moe.layer import MoEFFNSpec
from golden.moe.prediction_table import Entry, ExpertTableSpec, Predicted, Request
from golden.spec import SpecError
from hdl.layers.moe_ffn import MoEFFN
from hdl.layers.routing import ByRouter, ByTable
from hdl.moe.prune import Prune
from hdl.stream.replay import Replay
from scripts import moe_layer
from tb.cosim import compile
from tb.expert_table import layers_of
from tb.faults import later, one_in, turns_red
from tb.moe_ffn import bench, random_batch, with_experts
from tb.runner import both_see_the_same, run_bulk
from tb.transactions import case_of

TINY = MoEFFNSpec(d=32, neurons=32, experts=3, tokens=5, rows=2, cols=4, group=16)
WEIGHTED = MoEFFNSpec(
    d=64,
    neurons=64,
    experts=5,
    tokens=6,
    slots=4,
    rows=4,
    cols=16,
    scaled=True,
    softmax=True,
    bias=True,
    score="signed",
)
LIMITED = MoEFFNSpec(
    d=48, neurons=16, experts=6, tokens=3, rows=1, cols=16, group=16, weight="uint4_zero", norms=False, capacity=2
)
PRUNED, TABLE = (MoEFFNSpec(**unit("moe_ffn").preset(name)) for name in ("pruned", "substitute"))
BOTH = MoEFFNSpec(**TINY.values() | {"pruning": True, "routing": "table", "capacity": 2})
SHORT = MoEFFNSpec(
    d=16, neurons=16, experts=2, tokens=9, rows=8, cols=16, group=16, lanes=16, routing="table", pruning=True
)
"""A token's activations are one beat, its results two."""


def _id(spec: MoEFFNSpec) -> str:
    return f"{spec.weight}-{spec.rows}x{spec.cols}-{spec.experts}-{spec.routing}" + "-pruned" * spec.pruning


@pytest.mark.parametrize("spec", [WEIGHTED, *later(TINY, LIMITED, BOTH, SHORT)], ids=_id)
def test_bulk(spec: MoEFFNSpec) -> None:
    run_bulk(spec, bench(spec, 1), 1)


SMALL = {"d": 16, "neurons": 16, "rows": 4, "cols": 16}


@pytest.mark.parametrize("size", [SMALL, *later({"d": 32, "neurons": 32, "rows": 2, "cols": 4})])
def test_any_number_of_tokens(size: dict[str, int]) -> None:
    """Batches of 1 to 64 tokens, each length once, one after the other."""
    spec = MoEFFNSpec(**size, experts=3, tokens=64, group=16, slots=2)
    rng = np.random.default_rng(9)
    jobs = [random_batch(spec, rng, n) for n in range(1, spec.tokens + 1)]
    case = case_of(spec, "any", jobs)
    run_bulk(spec, [replace(case, cycles=case.cycles if all(map(spec.hidden, jobs)) else None)], 1)
    assert all(map(spec.hidden, jobs)) == (size is not SMALL)


@pytest.mark.parametrize(("spec", "names"), [(TINY, ["tokens-2"]), (BOTH, ["finished-odd", "list-short"])])
def test_cocotb_sees_what_bulk_sees(spec: MoEFFNSpec, names: list[str]) -> None:
    cases = [c for c in bench(spec, 2) if c.name in (*names, "mixed-both")]
    both_see_the_same(spec, cases, 2)


# --- by a table ---


def test_an_expert_table_fits_route() -> None:
    """Its beats, whatever it was filled with, played into ``route`` as they are: tokens without experts, entries of
    no certainty, experts named twice, and what is told of a batch that is not there."""
    sizes = {name: getattr(TABLE, name) for name in ("experts", "tokens", "slots", "confidence")}
    table = ExpertTableSpec(layers=2, **sizes)
    tells, hears = table.port("o"), TABLE.port("route")
    assert (tells.lanes, tells.fields, tells.last) == (hears.lanes, hears.fields, hears.last)
    rng = np.random.default_rng(3)
    cases = []
    for number in range(4):
        layers = layers_of(table, rng, TABLE.tokens, TABLE.slots or 0)
        layers[1] = [[entry._replace(weight=_ordinary(entry)) for entry in token] for token in layers[1]]
        asked = Predicted(0, layers, (Request(1, hints=False, release=True), Request(1, hints=False, batch=2)))
        told = table.outputs(asked, table.compute(asked))["o"]
        columns = (np.array([(e.expert, e.weight) for e in token], np.int64).reshape(-1, 2).T for token in layers[1])
        there = [Token(expert, weight) for expert, weight in columns]
        nobody = Token(np.zeros(0, np.int64), np.zeros(0, np.int64))
        jobs = [
            replace(random_batch(TABLE, rng, TABLE.tokens), route=tuple(there)),
            replace(random_batch(TABLE, rng, 2), route=(nobody,)),
        ]
        case = case_of(TABLE, f"table-{number}", jobs, status={"sts_error": 2})
        assert len(told) == len(case.inputs["route"])
        cases.append(replace(case, inputs={**case.inputs, "route": told}))
    run_bulk(TABLE, cases, 3)


def _ordinary(entry: Entry) -> int:
    """The weight with an exponent that leaves results finite."""
    return entry.weight & 0x80FFFFFF | 0x3F000000


def test_tokens_that_are_none_of_the_batch_change_no_result() -> None:
    """Five are named, three come: experts are computed for all five."""
    rng = np.random.default_rng(11)
    named = with_experts(TABLE, rng, random_batch(TABLE, rng, 5), 2)
    come = replace(named, x=named.x[:3])
    y = TABLE.compute(come)
    case = case_of(TABLE, "long", [named], status={"sts_error": 2})
    work = replace(TABLE.work(named), x=come.x)
    outputs = {**case.outputs, "o": TABLE.outputs(come, y)["o"], "stats": TABLE.ffn.outputs(work, y)["stats"]}
    run_bulk(
        TABLE, [replace(case, inputs={**case.inputs, "i": TABLE.inputs(come)["i"]}, outputs=outputs, cycles=None)], 11
    )


def test_a_table_that_says_what_the_router_would_gives_the_same() -> None:
    """The same bits, and, routing being hidden, in the same cycles."""
    told = MoEFFNSpec(**TINY.values() | {"routing": "table"})
    jobs = [random_batch(TINY, np.random.default_rng(seed), TINY.tokens) for seed in range(4)]
    for job in jobs:
        named = replace(job, route=per_token(TINY.choose(job), TINY.tokens))
        assert np.array_equal(told.compute(named).view(np.uint32), TINY.compute(job).view(np.uint32))
        assert told.cycles(named) == TINY.cycles(job) and told.hidden(named)


# --- finished tokens ---


@pytest.mark.parametrize("live", [0b10110, 0b00001, 0b10000, 0b00000])
def test_a_finished_token_costs_no_step(live: int) -> None:
    """Steps and tiles are those of the live ones alone; cycles but for their beats and rows, too."""
    job = with_experts(PRUNED, np.random.default_rng(8), random_batch(PRUNED, np.random.default_rng(8), 5), 2)
    pruned = replace(job, live=(live >> np.arange(5) & 1).astype(np.bool_))
    played = compile(PRUNED).play(case_of(PRUNED, "finished", [pruned]))
    alone = PRUNED.seen(pruned)
    beats, rows = PRUNED.beats * (5 - len(alone.x)), PRUNED.d // PRUNED.ffn.words * (5 - len(alone.x))
    if live:
        (counted,) = PRUNED.port("stats").unpack(played.outputs["stats"])["steps"]
        assert counted == sum(p.tiles * p.passes * p.steps for p in PRUNED.ffn.phases(PRUNED.work(alone)))
        assert PRUNED.cycles(alone) <= PRUNED.cycles(pruned) <= PRUNED.cycles(alone) + beats + rows
        assert PRUNED.cycles(alone) == TINY.cycles(alone) + 1
    else:
        assert PRUNED.cycles(pruned) == 1 + beats + rows and not len(played.outputs["stats"])
    assert played.cycles == PRUNED.cycles(pruned)


def test_every_pattern_of_finished_tokens() -> None:
    """Of batches of every length, one after the other, in any order, with and without pauses."""
    rng = np.random.default_rng(12)
    masks = [np.array(mask) for n in range(1, BOTH.tokens + 1) for mask in itertools.product((False, True), repeat=n)]
    first = with_experts(BOTH, rng, random_batch(BOTH, rng, 1), 1)
    jobs = [first]
    for number in rng.permutation(len(masks)):
        some = random_batch(BOTH, rng, len(masks[number]))
        jobs.append(replace(some, experts=first.experts, load=False, live=masks[number]))
    status = {"sts_error": int(np.bitwise_or.reduce([BOTH.errors(job) for job in jobs]))}  # it drops entries
    stalls: list[dict[str, int]] = [{}, {"live": 100, "cfg": 200, "i": 100, "route": 200, "o": 100}]
    run_bulk(BOTH, [case_of(BOTH, "every", jobs, stall=stall, status=status) for stall in stalls], 12)


def test_what_is_said_of_tokens_beyond_the_batch_is_not_looked_at() -> None:
    job = replace(random_batch(PRUNED, np.random.default_rng(2), 3), live=np.array([True, False, True]))
    case = case_of(PRUNED, "beyond", [job])
    cases = [
        replace(case, name=f"{beyond:02b}", inputs={**case.inputs, "live": PRUNED.port("live").pack(live=[mask])})
        for beyond in range(4)
        for mask in [[1, 0, 1, beyond & 1, beyond >> 1]]
    ]
    run_bulk(PRUNED, cases, 2)


@pytest.mark.parametrize(
    ("spec", "live", "sentence"),
    [
        (TINY, [True, False], "live must be None where pruning is False, not of 2 tokens"),
        (PRUNED, [True, False, True], "live must have shape [2], not [3]"),
    ],
)
def test_masks_that_mean_nothing_are_refused(spec: MoEFFNSpec, live: list[bool], sentence: str) -> None:
    job = replace(random_batch(spec, np.random.default_rng(1), 2), live=np.array(live))
    with pytest.raises(SpecError) as e:
        spec.compute(job)
    assert str(e.value) == sentence


# --- properties ---


@pytest.mark.parametrize("spec", [TINY, WEIGHTED], ids=_id)
def test_a_token_does_not_depend_on_its_batch(spec: MoEFFNSpec) -> None:
    """Alone it gives the same bits."""
    job = random_batch(spec, np.random.default_rng(5), spec.tokens)
    together = spec.compute(job)
    for t in range(spec.tokens):
        alone = spec.compute(replace(job, x=job.x[t : t + 1]))
        assert np.array_equal(alone[0].view(np.uint32), together[t].view(np.uint32))


def test_fixed_number_and_threshold_are_one_mode() -> None:
    """A threshold that every score reaches, and one that none does."""
    job = random_batch(TINY, np.random.default_rng(6), TINY.tokens)
    infinity = int(np.float32(np.inf).view(np.uint32))
    for least, most, tau, same in ((0, 2, 0, 2), (1, 3, infinity, 1), (0, 3, infinity, 0)):
        chosen = TINY.choose(replace(job, k_min=least, k_max=most, tau=tau))
        fixed = TINY.choose(replace(job, k_min=same, k_max=same))
        assert np.array_equal(chosen, fixed)


def test_the_real_layer_against_float64() -> None:
    """Of the stored weights with the experts that float64 chooses: 8-bit activations, and down quantised again."""
    spec = MoEFFNSpec()
    job = moe_layer.real_batch(spec, converted.load(), 16)
    x = job.x.astype(np.uint16).view(np.float16).astype(np.float64)
    real, routing = moe_forward(x, converted.dense().ffn(), converted.load().conversion)
    chosen = np.zeros_like(routing.chosen)
    tokens, experts, _ = spec.choose(job).T
    chosen[tokens, experts] = True
    assert np.array_equal(chosen, routing.chosen)
    noise = np.square(spec.compute(job) - real).sum() / np.square(real).sum()
    assert 10 * np.log10(1 / noise) > 20


def test_agreement_with_float64() -> None:
    """All tokens of the fixture: the default finds the same experts for 99 in 100."""
    spec = MoEFFNSpec(tokens=418)
    assert moe_layer.agreement(spec, moe_layer.real_batch(spec, converted.load(), 418)) >= 0.99


def test_formula_of_the_real_layer() -> None:
    """A batch of 16 real tokens: cycles in which the array takes a step, and real multiplications."""
    for rows, cols, busy, useful in ((16, 16, 0.97, 0.7), (4, 64, 0.96, 0.92)):
        spec = MoEFFNSpec(rows=rows, cols=cols)
        job = moe_layer.real_batch(spec, converted.load(), 16)
        work, cycles = spec.work(job), spec.cycles(job)
        steps = sum(p.tiles * p.passes * p.steps for p in spec.ffn.phases(work))
        macs = sum(len(mine) * 3 * one.neurons * spec.d for one, mine, _ in work.work())
        assert spec.hidden(job) and steps / cycles > busy and macs / (rows * cols * cycles) > useful


@pytest.mark.slow
@pytest.mark.parametrize(("rows", "cols"), [(4, 64), (16, 16)])
def test_the_real_layer_through_the_rtl(rows: int, cols: int) -> None:
    report = moe_layer.measure([{"rows": rows, "cols": cols}], "S3A3E8", 16, print)
    assert report.mismatches == 0 and report.cycles == report.formula_cycles


@pytest.mark.slow
def test_a_real_layer_whose_experts_are_foretold() -> None:
    report = moe_layer.measure([{}], "S2A2E16", 16, print, substitute=True)
    assert report.mismatches == 0 and report.hidden and report.cycles == report.formula_cycles
    assert report.agreement < 1


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"slots": 6}, "slots must be at most experts = 5, not 6"),
        ({"capacity": 17}, "capacity must be at most tokens = 16, not 17"),
        ({"experts": 33}, "experts must be an integer between 1 and 32, not 33"),
        ({"router_align": 9}, "router_align must be one of 8, 12, 16, 20, 24, not 9"),
        ({"routing": "hash"}, "routing must be one of router, table, not 'hash'"),
        ({"routing": "table", "bias": True}, "bias must be False where routing is table, not True"),
        ({"routing": "table", "softmax": True}, "softmax must be False where routing is table, not True"),
    ],
)
def test_bad_values_are_refused(values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(SpecError) as e:
        MoEFFNSpec(**values)
    assert str(e.value) == sentence


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"d": 640}, "d must be 576 for this layer, not 640"),
        ({"experts": 6}, "experts must be 5 for this layer, not 6"),
        ({"weight": "int4"}, "weight must be uint4_min for this layer, not int4"),
        ({"group": 16}, "group must be 32 for this layer, not 16"),
        ({"scaled": True}, "scaled must be False for this layer, not True"),
        ({"neurons": 512}, "neurons must be at least 576 for this layer, not 512"),
        ({"tokens": 2}, "tokens must be at least 3 for this layer, not 2"),
    ],
)
def test_a_layer_that_does_not_fit_is_refused(values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(SpecError) as e:
        moe_layer.measure([values], "S3A3E8", 3, print)
    assert str(e.value) == sentence


# name: configuration, class, method, what stands there, what stands there instead
FAULTS: dict[str, tuple[MoEFFNSpec, Any, str, str, str]] = {
    "rows are handed out once": (TINY, Replay, "elaborate", "(take & ends)", "take"),
    "rows that have not come": (TINY, Replay, "elaborate", "left.any() & ~coming & go", "left.any() & go"),
    "old rows": (TINY, Replay, "elaborate", "coming.eq(1)", "coming.eq(0)"),
    "a batch into the one before": (TINY, MoEFFN, "_batch", "active.eq(1), coming.eq(1)", "coming.eq(1)"),
    "all tokens are one": (TINY, ByRouter, "_tokens", "(word == words - 1) | i.payload.last", "i.payload.last"),
    "every token ends the batch": (TINY, ByRouter, "_select", "to.final.eq(final.o.payload)", "to.final.eq(1)"),
    "an end for every expert": (TINY, ByRouter, "_select", "gate.o.valid & chosen.last", "gate.o.valid"),
    "the table comes with every token": (WEIGHTED, ByRouter, "_select", "cfg.load & first", "cfg.load"),
    "tokens beyond a batch are routed": (
        LIMITED,
        ByRouter,
        "_tokens",
        "take & ends_token & ~full",
        "take & ends_token",
    ),
    "the last that fits does not end it": (
        LIMITED,
        ByRouter,
        "_tokens",
        "i.payload.last | (number == spec.tokens - 1)",
        "i.payload.last",
    ),
    "the next batch before the counters leave": (
        TINY,
        MoEFFN,
        "_batch",
        "self.stats.valid & self.stats.ready",
        "self.stats.valid",
    ),
    "experts beyond the slots are not told": (WEIGHTED, MoEFFN, "elaborate", "dispatch.sts_error[1]", "0"),
    "a list for the next batch": (TABLE, ByTable, "elaborate", "self.o.ready & listed", "self.o.ready"),
    "a list goes on into the next batch": (TABLE, ByTable, "elaborate", "listed.eq(0)", "listed.eq(1)"),
    "another number of tokens is not told": (TABLE, ByTable, "_compare", "now.any()", "0"),
    "tokens are counted when all are named": (TABLE, ByTable, "_compare", "came_all.all()", "came_all[1]"),
    "finished tokens are named": (BOTH, ByTable, "elaborate", "& ~entries.payload.data[0].pruned", ""),
    "an unknown expert is not told": (TABLE, MoEFFN, "elaborate", "(0, 2, 3)", "(0, 3)"),
    "weights of a list are 1": (TABLE, MoEFFN, "_entries", '"weight", "valid"', '"valid"'),
    "the mask of the batch before": (PRUNED, Prune, "_mask", "with m.If(begin)", "with m.If(begin & (mask == 0))"),
    "the mask stands still": (PRUNED, Prune, "_mask", "mask >> 1", "mask"),
    "finished tokens come in": (PRUNED, Prune, "_tokens", "m.If(take & live)", "m.If(take)"),
    "the last beat of a batch does not end it": (PRUNED, Prune, "_tokens", "last.eq(~coming)", "last.eq(0)"),
    "every token ends a pruned batch": (PRUNED, Prune, "_tokens", "last.eq(~coming)", "last.eq(1)"),
    "a beat over the one held": (PRUNED, Prune, "_tokens", "~live | ~there | inner.ready", "Value.cast(1)"),
    "a lost token is not told": (PRUNED, Prune, "_tokens", "take & full", "0"),
    "a row more than tokens": (PRUNED, Prune, "_tokens", "take & ends & ~full", "take & ends"),
    "a batch that begins with its predecessor's token": (PRUNED, Prune, "_tokens", "been.eq(0)", "been.eq(been)"),
    "rows of finished tokens are results": (PRUNED, Prune, "_rows", "Mux(live,", "Mux(1,"),
    "zeros before the batch has come": (PRUNED, Prune, "_rows", "~coming & left.any()", "left.any()"),
    "every row ends the batch": (PRUNED, Prune, "_rows", "& ~(left - 1)[: len(left)].any()", ""),
    "a row is one beat": (PRUNED, Prune, "_rows", "word == words - 1", "word == 0"),
    "a batch without tokens is configured": (PRUNED, Prune, "_configuration", "waits & some", "waits"),
    "a configuration that nobody wants stays": (
        PRUNED,
        Prune,
        "_configuration",
        "Mux(some, inner.ready, ~coming)",
        "some & inner.ready",
    ),
    "the next batch before the configuration": (PRUNED, Prune, "elaborate", "coming | waits |", "coming |"),
    "the next batch before all rows": (PRUNED, Prune, "elaborate", " | left.any())", ")"),
    "the next batch before the list": (BOTH, Prune, "elaborate", "| listed |", "|"),
    "entries of finished tokens": (BOTH, Prune, "_entries", "live | final", "live | 1"),
    "a finished token that ends the list has experts": (BOTH, Prune, "_entries", "pruned.eq(~live)", "pruned.eq(0)"),
    "a list whose last token is finished has no end": (BOTH, Prune, "_entries", "live | final", "live"),
    "a list that nobody wants stays": (
        BOTH,
        Prune,
        "_entries",
        "Mux(some, inner.ready, ~coming)",
        "some & inner.ready",
    ),
}


@pytest.mark.parametrize("name", one_in(12, FAULTS))
def test_fault_is_caught(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    turns_red(monkeypatch, *FAULTS[name])
