"""Unit ``expert_table``: the exported Verilog against its golden model."""

import numpy as np
import pytest

from golden.moe.prediction_table import Entry, ExpertTableSpec, Predicted, Request
from golden.spec import SpecError
from hdl.moe.prediction_table import ExpertTable
from tb.cosim import compile
from tb.expert_table import layers_of, random_batch
from tb.faults import one_in, turns_red
from tb.runner import both_see_the_same, run_bulk
from tb.transactions import case_of
from tb.units import BENCHES

TINY = ExpertTableSpec(layers=2, experts=3, tokens=2)
SPECS = [ExpertTableSpec(layers=1, experts=1, tokens=1, slots=1, confidence=1)]
MORE = [
    ExpertTableSpec(layers=1, experts=5, tokens=1, slots=3),
    ExpertTableSpec(layers=5, experts=64, tokens=33, slots=5, confidence=16),
]


def _id(spec: ExpertTableSpec) -> str:
    return f"{spec.layers}-{spec.experts}-{spec.tokens}-{spec.slots}"


@pytest.mark.parametrize("spec", [*SPECS, *(pytest.param(s, marks=pytest.mark.slow, id=_id(s)) for s in MORE)], ids=_id)
def test_bulk(spec: ExpertTableSpec) -> None:
    run_bulk(spec, BENCHES["expert_table"](spec, 1), 1)


def test_cocotb_sees_what_bulk_sees() -> None:
    names = ("mixed-free", "mixed-both", "early", "wrong-tokens", "reset-in-cycle-1")
    both_see_the_same(TINY, [c for c in BENCHES["expert_table"](TINY, 2) if c.name in names], 2)


def test_what_is_told() -> None:
    """Two tokens, three entries: the experts once each, in order of first use, as keys of their layer."""
    tokens = [[Entry(2, 7, 9), Entry(0, 8, 1)], [Entry(2, 5, 9)]]
    job = Predicted(0, [tokens, [[], []]], (Request(0), Request(0, least=5), Request(1), Request(0, release=True)))
    told = TINY.compute(job)
    assert told.entries[:3].tolist() == [[2, 7, 9, 1, 0, 0], [0, 8, 1, 1, 0, 1], [2, 5, 9, 1, 1, 1]]
    assert told.hints[:4].tolist() == [[2, 1, 0], [0, 1, 1], [2, 1, 1], [0, 0, 1]]


def test_latency() -> None:
    """From a request to its first entry, of a batch that is complete: here the second request, alone on its way."""
    rng = np.random.default_rng(0)
    job = Predicted(0, layers_of(TINY, rng, 1, 0), (Request(0, hints=False), Request(1, hints=False, release=True)))
    played = compile(TINY).play(case_of(TINY, "one", [job]))
    beats = TINY.layers
    assert played.first_out == beats + TINY.latency and played.last_out == played.first_out + 2


def test_more_batches_than_numbers() -> None:
    rng = np.random.default_rng(1)
    jobs = [random_batch(TINY, rng, 1) for _ in range(300)]
    jobs = [Predicted(n, job.layers, job.requests) for n, job in enumerate(jobs)]
    run_bulk(TINY, [case_of(TINY, "many", jobs), case_of(TINY, "stalled", jobs, stall=80)], 1)


def test_refusals() -> None:
    for values, sentence in (
        ({"slots": 0}, "slots must be an integer between 1 and 64, not 0"),
        ({"experts": 2, "slots": 3}, "slots must be at most experts = 2, not 3"),
    ):
        with pytest.raises(SpecError) as e:
            ExpertTableSpec(**values)
        assert str(e.value) == sentence


ODD = ExpertTableSpec(layers=3, experts=5, tokens=3, slots=3, confidence=4)

# method, what stands there, what stands there instead
FAULTS: dict[str, tuple[str, str, str]] = {
    "a batch over the one that is told": ("_fill", "[:BATCH_BITS] != 2", "[:BATCH_BITS] != 3"),
    "one batch at a time": ("_fill", "[:BATCH_BITS] != 2", "[:BATCH_BITS] != 1"),
    "both batches in one bank": ("_bank", "Mux(bank, self.spec.depth, 0)", "0"),
    "an unknown expert is kept": ("_fill", "beat.valid & ~unknown", "beat.valid"),
    "unknown experts are not noticed": ("_fill", "(beat.expert >= spec.experts)", "0"),
    "too many entries are kept": ("_fill", "place - beyond.any()", "place"),
    "slots go on": ("_fill", "slot.eq(Mux(last, 0,", "slot.eq(Mux(0, 0,"),
    "tokens go on": ("_fill", "token.eq(Mux(ends, 0,", "token.eq(Mux(0, 0,"),
    "a layer begins with every token": ("_fill", "accept & (token == 0) & (slot == 0)", "accept & (slot == 0)"),
    "a batch has a layer less": ("_fill", "layer == spec.layers - 1", "layer == spec.layers - 2"),
    "a batch is told before it is complete": ("_ask", "~absent & (ahead >= ", "~absent & (ahead > "),
    "it is always waited for": ("_ask", "early & asks.wait", "early"),
    "it is never waited for": ("_ask", "early & asks.wait", "C(0)"),
    "batches that are released": ("_ask", "ahead[1:].any()", "Value.cast(0)"),
    "the layer of the other bank": ("_ask", "read.addr.eq(Cat(asks.layer, asks.batch[0]))", "read.addr.eq(asks.layer)"),
    "unknown layers": ("_ask", "~(there & known)", "~there"),
    "a release of any": ("_ask", "asks.release & there & ~ahead.any()", "asks.release"),
    "an entry over a waiting one": ("_tell", "runs & may_o & may_hint", "runs & may_hint"),
    "a hint is lost": ("_tell", "runs & may_o & may_hint", "runs & may_o"),
    "an expert is named again": ("_hints", "& ~choose(seen, 1, entry.expert)", ""),
    "any confidence": ("_hints", "entry.confidence >= asked", "entry.confidence >= 0 * asked"),
    "just that confidence": ("_hints", "entry.confidence >= asked", "entry.confidence > asked"),
    "experts of the layer before": ("_hints", "seen.eq(0), some.eq(0)", "some.eq(0)"),
    "keys of layer 0": ("_hints", 'asked["layer"] * spec.experts + entry.expert', "entry.expert + 0"),
}


@pytest.mark.parametrize("name", one_in(12, FAULTS))
def test_fault_is_caught(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    turns_red(monkeypatch, ODD, ExpertTable, *FAULTS[name])


def test_without_a_fault_it_passes() -> None:
    run_bulk(ODD, BENCHES["expert_table"](ODD, 1), 1)
