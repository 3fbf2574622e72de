"""Unit ``expert_ffn``: the exported Verilog against its golden model, and that against real arithmetic."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from golden import fixture
from golden.moe.expert import ExpertBatch, ExpertFFNSpec, expert
from golden.quantize import float_codes
from golden.spec import SpecError
from hdl.layers.expert_ffn import ExpertFFN
from hdl.moe.combine import Combine
from hdl.moe.fetcher import Fetcher
from hdl.moe.gather import Gather
from hdl.moe.queues import Queues
from hdl.moe.results import Results
from hdl.moe.ring import Ring
from hdl.moe.sequencer import Sequencer
from hdl.moe.unpack import Spread, Unpack
from tb.cosim import compile
from tb.expert_ffn import random_batch, random_experts
from tb.faults import later, one_in, turns_red
from tb.runner import both_see_the_same, run_bulk
from tb.transactions import case_of
from tb.units import BENCHES

TINY = ExpertFFNSpec(d=32, neurons=32, experts=3, tokens=5, slots=2, rows=2, cols=4, group=16)
WEIGHTED = ExpertFFNSpec(
    d=64, neurons=96, experts=4, tokens=7, slots=4, rows=4, cols=16, group=32, weight="int8", scaled=True
)
ONE_ROW = ExpertFFNSpec(
    d=48,
    neurons=16,
    experts=1,
    tokens=3,
    slots=1,
    rows=1,
    cols=16,
    group=16,
    weight="uint4_zero",
    align=16,
    scaled=True,
)
EDGE = ExpertFFNSpec(
    d=16, neurons=16, experts=2, tokens=4, slots=2, rows=8, cols=4, group=16, weight="int4", core="multiply"
)
"""A token is a word, a tile a group; more rows than tokens."""
MIXED = ExpertFFNSpec(d=64, neurons=64, experts=4, tokens=5, slots=4, rows=2, cols=8, group=16, weight="mixed")
"""Every format, every size of groups."""
SHORT = ExpertFFNSpec(
    d=16, neurons=64, experts=2, tokens=4, slots=2, rows=1, cols=4, group=16, weight="mixed", scaled=True
)
"""Many tiles fit into the ring at once."""
SPECS = [TINY, WEIGHTED, ONE_ROW, EDGE, MIXED]


def _id(spec: ExpertFFNSpec) -> str:
    return f"{spec.weight}-{spec.rows}x{spec.cols}-{spec.align}"


@pytest.mark.parametrize("spec", [WEIGHTED, MIXED, *later(TINY, ONE_ROW, EDGE, SHORT)], ids=_id)
def test_bulk(spec: ExpertFFNSpec) -> None:
    run_bulk(spec, BENCHES["expert_ffn"](spec, 1), 1)


@pytest.mark.parametrize("spec", [TINY, WEIGHTED], ids=_id)
def test_latency_is_what_is_left_of_the_cycles(spec: ExpertFFNSpec) -> None:
    """Of a token without queues, of the largest shared expert: ``cycles`` less loading and the results, which the bench
    holds to the RTL."""
    rng = np.random.default_rng(9)
    largest = next(one for _ in range(99) for one in random_experts(spec, rng) if one.neurons == spec.neurons)
    job = replace(random_batch(spec, rng, 1), experts=(largest,), queues=(), load=False)
    words, results = spec.d // (spec.lanes or 1), spec.d // spec.words
    assert spec.latency == spec.cycles(job) - 1 - results - words


@pytest.mark.parametrize("spec", [TINY, MIXED], ids=_id)
def test_counters_say_what_a_slow_memory_costs(spec: ExpertFFNSpec) -> None:
    """``cycles`` is what was seen; all that is more than without stalls are cycles in which codes were waited for, or
    less than a tile for each phase, while the next one's come in ahead."""
    job = random_batch(spec, np.random.default_rng(12), spec.tokens)
    free, slow = (case_of(spec, f"wgt-{level}", [job], seed=1, stall={"wgt": level}) for level in (0, 250))
    seen = run_bulk(spec, [free, slow], 1).played
    counted = [spec.port("stats").unpack(p.outputs["stats"]) for p in seen]
    cycles, stalls = ([int(c[name][0, 0]) for c in counted] for name in ("cycles", "stalls"))
    assert stalls[0] == 0
    # the beat of cfg and the counters in their skid buffers, and both ends count
    assert [p.cycles for p in seen] == [c + 4 for c in cycles]
    late = cycles[1] - cycles[0]
    assert 0.9 * late < stalls[1] <= late + 2 * len(spec.phases(job))


def test_more_tokens_than_fit_are_refused() -> None:
    job = random_batch(TINY, np.random.default_rng(10), TINY.tokens)
    with pytest.raises(SpecError, match=r"^tokens must be at most 5, not 6$"):
        TINY.compute(replace(job, x=np.concatenate([job.x, job.x[:1]])))


def test_cocotb_sees_what_bulk_sees() -> None:
    cases = [c for c in BENCHES["expert_ffn"](TINY, 2) if c.name in ("tokens-2", "mixed-both")]
    both_see_the_same(TINY, cases, 2)


@pytest.mark.parametrize("spec", SPECS, ids=_id)
def test_a_token_does_not_depend_on_its_batch(spec: ExpertFFNSpec) -> None:
    """Alone it gives the same bits."""
    job = random_batch(spec, np.random.default_rng(3), spec.tokens)
    together = spec.compute(job)
    for t in range(spec.tokens):
        mine = (q._replace(weights=q.weights[q.tokens == t]) for q in job.queues if t in q.tokens)
        alone = replace(job, x=job.x[t : t + 1], queues=tuple(q._replace(tokens=np.zeros(1, np.int64)) for q in mine))
        assert np.array_equal(spec.compute(alone)[0].view(np.uint32), together[t].view(np.uint32))


@pytest.mark.parametrize("spec", SPECS, ids=_id)
def test_memory_answers_what_is_fetched(spec: ExpertFFNSpec) -> None:
    """Addresses and lengths of ``fetch`` find in :meth:`memory` what comes."""
    job = random_batch(spec, np.random.default_rng(8), spec.tokens)
    memory, inputs = spec.memory(job.experts), spec.inputs(job)
    wanted = spec.port("fetch").unpack(spec.outputs(job, spec.compute(job))["fetch"])
    for name, (at, count) in {"wgt": ("address", "beats"), "par": ("par", "pars")}.items():
        places = zip(wanted[at].ravel() - (job.base or 0), wanted[count].ravel(), strict=True)
        found = [memory[name].data[a : a + n] for a, n in places]
        assert np.array_equal(np.concatenate(found), inputs[name].data)


@pytest.mark.parametrize("align", [8, 12, 16])
def test_against_real_arithmetic(align: int) -> None:
    """What is left is the noise of activations of so many bits, hidden ones of eleven at most."""
    spec = ExpertFFNSpec(**WEIGHTED.values() | {"align": align})
    job = random_batch(spec, np.random.default_rng(4), spec.tokens)
    x = job.x.astype(np.uint16).view(np.float16).astype(np.float64)
    y = np.zeros((len(x), spec.d))
    for mine, tokens, weights in job.work():
        up, down = (m.codes * np.repeat(m.scale.astype(np.float64), spec.group, axis=0) for m in mine.matrices)
        both = x[tokens] @ up
        h = both[:, ::2] / (1 + np.exp(-both[:, ::2])) * both[:, 1::2]
        y[tokens] += weights[:, None] * (h @ down)
    noise = 10 * np.log10(np.square(y).sum() / np.square(spec.compute(job) - y).sum())
    assert noise > min(6 * align - 15, 70)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"rows": 3}, "rows must be a power of two, not 3"),
        ({"rows": 16, "lanes": 16}, "lanes must be at least 18 with 16 rows, not 16"),
        ({"slots": 6}, "slots must be at most experts = 5, not 6"),
        ({"d": 544}, "d must be a multiple of 64, not 544"),
        ({"neurons": 80}, "neurons must be a multiple of 32, not 80"),
        ({"ring": 1000}, "ring must be a power of two, not 1000"),
        ({"ring": 512}, "ring must be at least 576, the steps of a tile, not 512"),
        ({"rows": 64, "d": 512, "neurons": 512}, "cols must be at least 128 with 64 rows, not 64"),
    ],
)
def test_bad_values_are_refused(values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(SpecError) as e:
        ExpertFFNSpec(**values)
    assert str(e.value) == sentence


@pytest.mark.slow
def test_the_dense_layer_through_the_rtl() -> None:
    """All 1,536 neurons of a real layer as one expert: what a mixture is compared with takes the formula's cycles."""
    f = fixture.load()
    spec = ExpertFFNSpec(neurons=len(f.gate.codes))
    job = ExpertBatch(float_codes(f.x[:16], "fp16"), (expert(f.gate, f.up, f.down),), ())
    rtl = compile(spec, optimise=False)
    assert np.array_equal(rtl(job).view(np.uint32), spec.compute(job).view(np.uint32))
    assert rtl.cycles == spec.cycles(job) == ExpertFFNSpec().dense_cycles(spec.neurons, 16)


# name: configuration, class, method, what stands there, what stands there instead
FAULTS: dict[str, tuple[ExpertFFNSpec, Any, str, str, str]] = {
    "weights are freed before their last pass": (TINY, Ring, "_read", "take & last_pass", "take"),
    "the next tile begins where this one does": (
        TINY,
        Ring,
        "_read",
        "base.eq(base + self.length + 1)",
        "base.eq(base)",
    ),
    "words that have not come": (TINY, Ring, "_read", "(step < ahead)", "1"),
    "words that were not asked for": (TINY, Ring, "_write", "coming.any()", "1"),
    "words go on that are refused": (TINY, Gather, "_shift", "self.o.ready & ~left.any()", "~left.any()"),
    "the next words over those that wait": (TINY, Gather, "_read", "filling | ~kept | swap", "1"),
    "tlast too early": (TINY, Gather, "_shift", "last & ~left.any()", "last"),
    "a sum of old and new": (TINY, Combine, "elaborate", "Mux(first, ", "Mux(0, "),
    "a row of results changes while it waits": (TINY, Combine, "_send", "~(sending | there)", "~sending"),
    "one result too few": (TINY, Combine, "_send", "send_row + 1 ==", "send_row + 2 =="),
    "tiles are not where they are": (TINY, Fetcher, "_place", "Mux(ends, 0, offset + o[count])", "0"),
    "up and down are one": (TINY, Fetcher, "_place", 'self.expert[f"down{suffix}"]', 'self.expert[f"up{suffix}"]'),
    "weights without room": (TINY, Fetcher, "elaborate", "(space >= self.steps)", "1"),
    "a group more than there is room for": (
        TINY,
        Fetcher,
        "elaborate",
        "(space >= self.steps)",
        "(space + 16 >= self.steps)",
    ),
    "the table is not waited for": (TINY, Fetcher, "elaborate", "busy & self.ready", "busy"),
    "queues of the batch before": (TINY, Queues, "_jobs", "stored.eq(0), complete.eq(0)", "complete.eq(0)"),
    "entries of the next batch": (TINY, Queues, "_entries", "came < announced", "came < spec.entries"),
    "entries that have not come": (EDGE, Queues, "_jobs", "there & (came >= job.first + job.count)", "there"),
    "every queue begins at the first entry": (TINY, Queues, "_jobs", "job.first + getattr", "getattr"),
    "tokens beyond the queue": (TINY, Results, "elaborate", "place < self.count", "1"),
    "the shared expert twice": (TINY, Sequencer, "elaborate", "self.shared.eq(0)", "self.shared.eq(1)"),
    "weights other than one": (
        WEIGHTED,
        ExpertFFN,
        "_combine",
        "Mux(sequencer.shared, ONE, queues.entry_1.weight)",
        "ONE",
    ),
    "hidden values in the wrong part": (
        TINY,
        ExpertFFN,
        "_hidden",
        "enable.eq(keep << part)",
        "enable.eq(keep.replicate(parts))",
    ),
    "a table behind the one before": (WEIGHTED, Queues, "_table", "Mux(self.desc.payload.last, 0, at + 1)", "at + 1"),
    "so many entries as in the batch before": (TINY, Queues, "_jobs", ", announced.eq(0)", ""),
    "the array begins without the table": (EDGE, ExpertFFN, "_load", "~coming & queues.ready", "~coming"),
    "hidden values of rows without a token": (
        EDGE,
        ExpertFFN,
        "_hidden",
        "results.beat & results.inside",
        "results.beat",
    ),
    "what does not fit over what does": (EDGE, ExpertFFN, "_load", "take & ~full)", "take)"),
    "bytes are lost": (MIXED, Unpack, "_bytes", "(take & (after >= 8))", "take"),
    "a code is cut at its byte's end": (MIXED, Unpack, "_bytes", "(after <= 8) | self.i.valid", "1"),
    "codes without their sign": (MIXED, Unpack, "_operand", "code[-1].replicate(missing)", "C(0, missing)"),
    "indices are taken for codes": (MIXED, Unpack, "_operand", "Mux(lookup, entries[code], plain)", "plain"),
    "parameters of one group for all": (MIXED, Spread, "elaborate", "take & (full | last)", "take & last"),
    "every group has its own parameters": (MIXED, Spread, "elaborate", "take & (full | last)", "take"),
    "both matrices in the format of up": (
        MIXED,
        Fetcher,
        "_place",
        "Mux(down, down_value, up_value)",
        "up_value",
    ),
    "shared parameters fetched for each group": (MIXED, Fetcher, "_place", "groups + more", "groups + 0"),
    "tiles forgotten where many wait": (SHORT, ExpertFFN, "_weights", "fetch.ready & room", "fetch.ready"),
    "cycles of all batches": (TINY, ExpertFFN, "_batch", "Mux(begin, 0, counter + event)", "counter + event"),
    "a batch too long": (TINY, ExpertFFN, "_load", "self.sts_error.eq(1)", "self.sts_error.eq(0)"),
}


@pytest.mark.parametrize("name", one_in(13, FAULTS))
def test_fault_is_caught(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    turns_red(monkeypatch, *FAULTS[name])
