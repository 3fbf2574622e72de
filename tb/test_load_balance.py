"""Unit ``load_balance``: the golden model against the definition, the exported Verilog against the golden model."""

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from golden.moe.balance import BalanceSpec, Load
from golden.moe.fp32 import FP32
from golden.spec import SpecError
from hdl.moe.balance import Balance, Compare, Gather
from tb.cosim import compile
from tb.faults import one_in, turns_red
from tb.gate import codes
from tb.load_balance import random_load
from tb.runner import both_see_the_same, run_bulk
from tb.transactions import case_of
from tb.units import BENCHES

TINY = BalanceSpec(experts=3, tokens=7)
MORE = [BalanceSpec(experts=1, tokens=1), BalanceSpec(experts=64, tokens=65535), BalanceSpec(experts=14, tokens=100)]


@settings(max_examples=80, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), experts=st.integers(1, 64))
def test_a_bias_moves_by_the_step_or_not_at_all(seed: int, experts: int) -> None:
    """Against the mean as a fraction; strict comparisons."""
    spec = BalanceSpec(experts=experts)
    job = random_load(spec, np.random.default_rng(seed))
    mean = Fraction(int(job.count.sum()), experts)
    gamma = FP32.value(np.array([job.gamma]))[0]
    for count, b, got in zip(job.count.tolist(), FP32.value(job.b), FP32.value(spec.compute(job)), strict=True):
        assert got == (b - gamma if count > mean else b + gamma if count < mean else b)


def test_biases_even_a_load_out() -> None:
    """Two experts of equal worth but for a bias: after some batches both are chosen, in turn."""
    spec, b = BalanceSpec(experts=2), codes(np.array([0.0, -1.0]))
    chosen = []
    for _ in range(40):
        best = int(np.argmax(FP32.value(b)))
        chosen.append(best)
        b = spec.compute(Load(np.array([10 * (best == j) for j in range(2)]), b, int(codes(np.array([0.125]))[0])))
    assert chosen[:4] == [0] * 4 and 16 <= sum(chosen[8:]) <= 16


@pytest.mark.parametrize(
    "spec", [TINY, *(pytest.param(s, marks=pytest.mark.slow, id=str(s.experts)) for s in MORE)], ids=lambda s: s.experts
)
def test_bulk(spec: BalanceSpec) -> None:
    run_bulk(spec, BENCHES["load_balance"](spec, 1), 1)


@pytest.mark.slow
def test_cocotb_sees_what_bulk_sees() -> None:
    cases = [c for c in BENCHES["load_balance"](TINY, 2) if c.name in ("loads", "mixed-both")]
    both_see_the_same(TINY, cases, 2)


def test_latency() -> None:
    played = compile(TINY).play(case_of(TINY, "one", [random_load(TINY, np.random.default_rng(0))]))
    assert played.first_out is not None and played.last_in is not None and played.last_out is not None
    assert played.first_out - played.last_in == TINY.latency == 10
    assert played.last_out == TINY.experts - 1 + TINY.latency + TINY.experts - 1


def test_every_load() -> None:
    """All counts of three experts with up to seven tokens each."""
    b, gamma = codes(np.array([0.5, -0.25, 0.0])), int(codes(np.array([0.001]))[0])
    jobs = [Load(np.array(c), b, gamma) for c in np.ndindex(8, 8, 8)]
    run_bulk(TINY, [case_of(TINY, "every", jobs)], 0)


def test_refusals() -> None:
    with pytest.raises(SpecError) as e:
        BalanceSpec(tokens=65536)
    assert str(e.value) == "tokens must be an integer between 1 and 65535, not 65536"


# name: class, method, what stands there, what stands there instead; all of the configuration TINY
FAULTS: dict[str, tuple[Any, str, str, str]] = {
    "the mean is too much": (Compare, "elaborate", "mine > self.total", "mine >= self.total"),
    "the mean is too little": (Compare, "elaborate", "mine < self.total", "mine <= self.total"),
    "up instead of down": (Balance, "_step", "gamma[31] ^ compare.more", "gamma[31] ^ compare.less"),
    "never down": (Balance, "_step", "gamma[31] ^ compare.more", "gamma[31]"),
    "a bias at the mean is added to": (Balance, "_step", "Mux(held[1], add.o, held[2:])", "add.o"),
    "counts of the batch before": (Gather, "elaborate", "Mux(some, self.total, 0)", "self.total"),
    "one count is missing": (Gather, "elaborate", "Mux(some, self.total, 0)", "Mux(some & ~last, self.total, 0)"),
    "a count too many is added": (Gather, "elaborate", "with m.If(keep):", "with m.If(accept):"),
    "what is too short is not told": (Gather, "elaborate", "(over | ~ends)", "over"),
    "what is too long is not told": (Gather, "elaborate", "(over | ~ends)", "~ends"),
    "a batch over the one before": (Gather, "elaborate", "self.open & ~self.valid", "self.open"),
    "the step of the next batch": (Balance, "elaborate", "cfg.ready.eq(go & gather.last)", "cfg.ready.eq(go)"),
    "no step yet": (Balance, "elaborate", "gather.valid & cfg.valid", "gather.valid"),
}


@pytest.mark.parametrize("name", one_in(13, FAULTS))
def test_fault_is_caught(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    turns_red(monkeypatch, TINY, *FAULTS[name])
