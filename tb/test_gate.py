"""Unit ``gate``: the exported Verilog against its golden model."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from amaranth.sim import Simulator

from golden import fixture
from golden.moe import softmax
from golden.moe.gate import GateSpec, Group, Token
from golden.orizuru.engine import RANKED
from hdl.layers.gate import Gate
from hdl.moe.divide import Divide
from hdl.moe.exponential import Exponential
from hdl.moe.keys import Keys
from hdl.moe.reader import Reader
from hdl.moe.select import Select
from hdl.moe.softmax import Softmax
from tb.cosim import compile
from tb.faults import one_in, turns_red
from tb.gate import codes, random_group, random_table
from tb.runner import both_see_the_same, run_bulk
from tb.transactions import case_of
from tb.units import BENCHES

TINY = GateSpec(experts=3)
SOFT = GateSpec(experts=5, lanes=2, softmax=True)
PLAIN = GateSpec(experts=3, bias=False, scaled=False)
ONE = GateSpec(experts=1, softmax=True, bias=False)
MORE = [
    ONE,
    GateSpec(experts=1),
    GateSpec(experts=14, lanes=4, bias=False),
    GateSpec(experts=13, lanes=13, scaled=False, softmax=True),
    GateSpec(experts=8, lanes=8, bias=False, scaled=False, softmax=True),
    GateSpec(experts=64, lanes=5, softmax=True),
    *(GateSpec(experts=10, lanes=3, selector=variant) for variant in RANKED),
]


def _id(spec: GateSpec) -> str:
    kinds = [name for name in ("bias", "scaled", "softmax") if getattr(spec, name)]
    return "-".join([str(spec.experts), str(spec.lanes), *kinds, spec.selector])


@pytest.mark.parametrize("spec", [TINY, *(pytest.param(s, marks=pytest.mark.slow, id=_id(s)) for s in MORE)], ids=_id)
def test_bulk(spec: GateSpec) -> None:
    run_bulk(spec, BENCHES["gate"](spec, 1), 1)


@pytest.mark.slow
def test_cocotb_sees_what_bulk_sees() -> None:
    cases = [c for c in BENCHES["gate"](TINY, 2) if c.name in ("numbers", "mixed-both")]
    both_see_the_same(TINY, cases, 2)


@pytest.mark.parametrize("spec", [PLAIN, SOFT], ids=_id)
def test_latency(spec: GateSpec) -> None:
    """From the beat that ends a token to its first expert; its table and cfg came before."""
    n = spec.experts
    token = Token(codes(np.arange(n) / 4), n, n)
    job = Group((token,), random_table(spec, np.random.default_rng(0)))
    case = case_of(spec, "one", [job])
    played = compile(spec).play(case)
    table = n if "table" in case.inputs else 0
    late = max(0, table + 1 - spec.rows)  # the table is longer than the scores: one begins a cycle after it is there
    if not table:
        assert late == 0
    assert played.first_out == spec.rows - 1 + spec.latency + max(0, late - 1)


def test_every_order_of_three() -> None:
    """All ways in which three scores can be ordered, ties included, with all numbers and thresholds."""
    tokens = [
        Token(codes(np.array(scores) / 2), low, high, int(codes(np.array([tau / 2]))[0]))
        for scores in np.ndindex(3, 3, 3)
        for low, high in ((0, 3), (1, 2), (2, 2), (3, 3), (1, 3))
        for tau in (1, 3)
    ]
    run_bulk(PLAIN, [case_of(PLAIN, "every", [Group(tuple(tokens))], stall={"o": 64})], 0)


def test_random_tokens() -> None:
    rng = np.random.default_rng(3)
    run_bulk(SOFT, [case_of(SOFT, "random", [random_group(SOFT, rng, 20) for _ in range(10)])], 0)


@pytest.mark.slow
def test_real_scores() -> None:
    """Magnitudes of real activations as scores of 14 experts, best two, and all above a threshold."""
    spec = GateSpec(experts=14, lanes=2, softmax=True)
    scores = codes(np.abs(fixture.load().x[:64, :14]))
    tau = int(codes(np.array([0.08]))[0])
    fixed = Group(tuple(Token(row, 2, 2) for row in scores), random_table(spec, np.random.default_rng(0)))
    above = replace(fixed, tokens=tuple(Token(row, 1, 14, tau) for row in scores))
    run_bulk(spec, [case_of(spec, "real", [fixed, above])], 0)


@pytest.mark.slow
def test_every_segment_of_the_exponential() -> None:
    """Both ends of all segments of the table in several octaves, and what is beside powers of two and out of range."""
    ends = np.arange(0, 512 + 1)[:, None] / 512 + np.array([0, 1e-6, -1e-6])
    near = np.concatenate([np.log(2) * (ends + octave).ravel() for octave in (0, 3, 20)])
    wide = np.ldexp(np.array([[1.0], [1.999]]), np.arange(-40, 40)).ravel()
    x = np.concatenate([np.abs(near), wide, [0, np.inf, np.nan]]).astype(np.float32)
    dut, bits = Exponential(), codes(x)
    got = []

    async def bench(ctx: Any) -> None:
        for i in range(len(x) + dut.latency):
            ctx.set(dut.d, int(bits[min(i, len(x) - 1)]))
            if i >= dut.latency:
                got.append(ctx.get(dut.o))
            await ctx.tick()

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    assert got == softmax.exponentials(x).tolist()


# name: configuration, class, method, what stands there, what stands there instead
FAULTS: dict[str, tuple[GateSpec, Any, str, str, str]] = {
    "a rank too many": (TINY, Select, "elaborate", "(rank != self.k_min) | above", "(rank <= self.k_min) | above"),
    "the minimum is for all": (TINY, Select, "elaborate", "(rank != self.k_min) | above", "1"),
    "ranks of the token before": (TINY, Select, "elaborate", "Mux(coming.last, 0, rank", "Mux(0, 0, rank"),
    "the last one is not told": (
        TINY,
        Select,
        "elaborate",
        "self.o.payload.last.eq(ended)",
        "self.o.payload.last.eq(0)",
    ),
    "an expert that waits is lost": (TINY, Select, "elaborate", "~(ended | (there & keep))", "1"),
    "none is one": (TINY, Select, "elaborate", "out.valid.eq(there)", "out.valid.eq(1)"),
    "at the threshold is not above": (TINY, Keys, "elaborate", ">= sortable(self.tau)", "> sortable(self.tau)"),
    "the threshold is of keys": (TINY, Select, "_look_up", "Cat(self.above, self.weight)", "Cat(1, self.weight)"),
    "the bias of another expert": (TINY, Keys, "_table", "read.addr.eq(self.expert)", "read.addr.eq(0)"),
    "without one": (TINY, Keys, "_weight", "plus_one.a.eq(ONE)", "plus_one.a.eq(0)"),
    "weights of the bias": (TINY, Keys, "elaborate", "entry[-32:]", "entry[:32]"),
    "a table while a token is under way": (TINY, Gate, "_table", "idle & (wants", "(wants"),
    "a token before its table": (TINY, Gate, "_table", "return complete | ~(wants | needed)", "return Value.cast(1)"),
    "the first token without a table": (
        GateSpec(experts=3),
        Gate,
        "_table",
        "needed & ~ends",
        "needed",
    ),
    "a token over the one before": (TINY, Gate, "_turn", "(~busy | over)", "1"),
    "scores of the other token": (TINY, Gate, "_turn", "memory.read_bank.eq(reads)", "memory.read_bank.eq(~reads)"),
    "a cycle between tokens": (TINY, Gate, "_turn", "(~busy | over)", "~busy"),
    "lanes in the wrong order": (SOFT, Reader, "elaborate", "held[1 + len(expert) :]", "~held[1 + len(expert) :]"),
    "scores beyond the last": (SOFT, Reader, "elaborate", "| (expert == spec.experts - 1)", ""),
    "a short token is read to its end": (SOFT, Reader, "elaborate", "(self.row == self.rows)", "0"),
    "the maximum of the token before": (SOFT, Softmax, "_top", "~some |", ""),
    "the maximum is the last": (SOFT, Softmax, "_top", "~some | (sortable(self.score) > sortable(top))", "1"),
    "sums go on": (SOFT, Softmax, "_divide", "Mux(some, total, 0)", "total"),
    "the last probability is missing": (SOFT, Softmax, "_divide", "at != final", "at + 1 != final"),
    "a quotient bit is missing": (SOFT, Divide, "elaborate", "rest >= self.b", "rest > self.b"),
    "what remains is not taken off": (SOFT, Divide, "elaborate", "Mux(enough, self.b, 0)", "0"),
    "no interpolation": (SOFT, Exponential, "elaborate", "- below)", ")"),
    "a step of the table too many": (
        SOFT,
        Exponential,
        "elaborate",
        "power[REST:FRACTION]",
        "power[REST:FRACTION] ^ 1",
    ),
    "far is near": (SOFT, Exponential, "_steps", "x.exponent > top", "x.exponent > 254"),
    "small differences are none": (SOFT, Exponential, "_steps", "down.eq(31)", "down.eq(0)"),
}


@pytest.mark.parametrize("name", one_in(15, FAULTS))
def test_fault_is_caught(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    turns_red(monkeypatch, *FAULTS[name])
