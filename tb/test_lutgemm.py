"""Unit ``lutgemm``: the exported Verilog against its golden model, and that against plain arithmetic."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from golden.kmeans import area
from golden.kmeans.lutgemm import LutGemmSpec
from golden.spec import SpecError
from hdl.kmeans.line import Bin, Buckets, IndexCounter, Line, WeightedSum
from hdl.kmeans.lutgemm import LutGemm
from hdl.kmeans.scaling import Scaling
from hdl.kmeans.sequencer import Sequencer
from hdl.kmeans.table import Centroids, ProductMemory, ProductRows, Table
from tb.cosim import compile
from tb.faults import one_in, turns_red
from tb.lutgemm import random_job
from tb.runner import both_see_the_same, run_bulk
from tb.transactions import case_of
from tb.units import BENCHES

TINY = LutGemmSpec(act_bits=2, weight_bits=2, lines=2, codes=4, width=4, k_max=16, n_max=8)
BUCKET = LutGemmSpec(act_bits=3, weight_bits=2, lines=3, codes=7, width=2, k_max=50, n_max=20, reducer="bucket")
DIRECT = LutGemmSpec(
    act_bits=2, weight_bits=3, lines=2, codes=7, width=4, k_max=50, n_max=20, reducer="direct", out="fp32"
)
FP16 = LutGemmSpec(act_bits=2, weight_bits=3, lines=1, codes=32, width=1, k_max=100, n_max=20, table="fp16", out="fp32")
SPECS = [TINY, BUCKET, DIRECT, FP16]
MORE = [
    LutGemmSpec(act_bits=4, weight_bits=3, lines=3, codes=32, width=16, k_max=300, n_max=20),
    LutGemmSpec(lines=2, codes=16, width=32, k_max=600, n_max=40, out="fp32"),
    LutGemmSpec(lines=4, codes=48, k_max=576, n_max=40, reducer="bucket", out="fp32"),
    LutGemmSpec(lines=2, codes=16, k_max=100, n_max=9, reducer="direct", table="fp16"),
    LutGemmSpec(act_bits=1, weight_bits=1, lines=1, codes=1, width=1, k_max=9, n_max=3),
]
PAPER = LutGemmSpec(lines=16, codes=512, width=32)


def _id(spec: LutGemmSpec) -> str:
    return f"{spec.reducer}-{spec.act_bits}{spec.weight_bits}-{spec.lines}x{spec.codes}-{spec.table}-{spec.out}"


@pytest.mark.parametrize("spec", SPECS, ids=_id)
def test_bulk(spec: LutGemmSpec) -> None:
    run_bulk(spec, BENCHES["lutgemm"](spec, 1), 1)


@pytest.mark.slow
@pytest.mark.parametrize("spec", MORE, ids=_id)
def test_bulk_of_more(spec: LutGemmSpec) -> None:
    run_bulk(spec, BENCHES["lutgemm"](spec, 1), 1)


def test_cocotb_sees_what_bulk_sees() -> None:
    cases = [c for c in BENCHES["lutgemm"](TINY, 2) if c.name in ("lengths", "mixed-both", "small-back")]
    both_see_the_same(TINY, cases, 2)


@pytest.mark.parametrize("spec", SPECS, ids=_id)
def test_latency(spec: LutGemmSpec) -> None:
    """From the beat of weights that ends a group to its results: of one group they are the last of both."""
    rng = np.random.default_rng(0)
    job = random_job(spec, rng, spec.codes, 1)
    late = [case_of(spec, "late", [job], stall={"w": 255}, seed=seed) for seed in range(3)]
    for case in late:
        played = compile(spec).play(case)
        assert played.last_out is not None and played.last_in is not None
        assert played.last_out - played.last_in == spec.latency


@pytest.mark.parametrize("spec", SPECS, ids=_id)
def test_throughput(spec: LutGemmSpec) -> None:
    """In the steady state a token takes groups times the larger of accumulation and weighted sum."""
    rng = np.random.default_rng(1)
    for k in (1, spec.k_max):
        first = random_job(spec, rng, k, spec.n_max)
        jobs = [first] + [replace(first, load=False)] * 4
        groups, rows = spec.groups(first), spec.beats(first)
        assert spec.cycles(*jobs) - spec.cycles(*jobs[:-1]) == groups * max(rows, spec.reduce)
        run_bulk(spec, [case_of(spec, "steady", jobs)], 0)


def test_the_published_point() -> None:
    """16 lines of 512 codes, 32 products a cycle, 4,096 x 4,096 in four bits each: 2,048 cycles, both halves busy."""
    assert (PAPER.rows, PAPER.reduce, PAPER.entries) == (8, 8, 256)
    figures = PAPER.figures()
    assert figures["cycles_n4096_k4096"] == 2048
    # tables of all sums of mu = 4 activations, per group of them, as a GEMM of 4-bit weights alone has, bit by bit
    mu, k = 4, PAPER.k_max
    assert (1 << mu) * k // mu == 64 * figures["table_entries"]
    assert k // mu * PAPER.weight_bits == 16 * figures["products_per_result"]


@pytest.mark.parametrize("reducer", ["histogram", "bucket", "direct"])
def test_reducers_agree_with_dequantise_and_multiply(reducer: str) -> None:
    rng = np.random.default_rng(2)
    spec = LutGemmSpec(lines=2, k_max=600, n_max=50, reducer=reducer)
    job = replace(random_job(spec, rng, 600, 50), present=None)
    assert np.array_equal(spec.compute(job), job.books[job.weights] @ job.acts[job.index])


def test_counts_times_products_are_the_sum() -> None:
    """The paper's order of operations: counters of pairs, which add up to K, then their products."""
    rng = np.random.default_rng(3)
    spec = LutGemmSpec(lines=2, k_max=600, n_max=50)
    job = replace(random_job(spec, rng, 577, 50), present=None)
    pairs = job.index << spec.weight_bits | job.weights
    counts = np.stack([np.bincount(row, minlength=spec.entries) for row in pairs])
    assert np.all(counts.sum(axis=1) == 577)
    assert np.array_equal(spec.compute(job), counts @ spec.products(job).ravel())


MEASURED = [
    (1, 16, 16, "direct", 699),
    (1, 16, 16, "bucket", 1349),
    (1, 16, 16, "histogram", 2160),
    (1, 64, 4, "direct", 2720),
    (1, 64, 4, "histogram", 2615),
    (2, 16, 16, "direct", 699),
    (2, 16, 16, "bucket", 2703),
    (2, 16, 16, "histogram", 8547),
    (3, 16, 16, "direct", 1211),
    (4, 16, 16, "direct", 1955),
    (4, 16, 16, "bucket", 10671),
    (4, 16, 16, "histogram", 20539),
    (4, 64, 16, "direct", 7764),
    (4, 64, 16, "bucket", 24914),
    (4, 64, 16, "histogram", 51251),
]
"""Bits of both indices, codes, width, reducer, LUTs of a line: ``senbazuru synth lutgemm --target lut6 --block line
--parts`` with lines=1 and n_max=16."""


@pytest.mark.parametrize(("bits", "codes", "width", "reducer", "luts"), MEASURED)
def test_estimated_area_is_near_what_was_measured(bits: int, codes: int, width: int, reducer: str, luts: int) -> None:
    spec = LutGemmSpec(act_bits=bits, weight_bits=bits, codes=codes, width=width, reducer=reducer, lines=1, n_max=16)
    assert area.luts(spec) == pytest.approx(luts, rel=area.ERROR)


@pytest.mark.parametrize(
    ("values", "reducer"),
    [
        ({}, "direct"),
        ({"codes": 64, "k_max": 64}, "direct"),  # and no sum would be short enough for another one
        ({"codes": 512, "lines": 16, "width": 32}, "bucket"),  # more codes than direct can have
        ({"act_bits": 1, "weight_bits": 1, "codes": 64}, "histogram"),  # four counters are less than adders of products
        (
            {"act_bits": 1, "weight_bits": 1, "codes": 64, "width": 1, "k_max": 64},
            "direct",
        ),  # four cycles in place of 1
        ({"act_bits": 2, "weight_bits": 2, "codes": 64, "width": 1, "table": "fp16"}, "histogram"),
    ],
)
def test_auto_is_the_least_area_times_cycles(values: dict[str, Any], reducer: str) -> None:
    assert LutGemmSpec(reducer="auto", **values).reducer == reducer


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"codes": 17}, "codes must be at most 16 or a multiple of it, not 17"),
        ({"width": 24}, "width must be a power of two, not 24"),
        ({"lines": 17, "codes": 512}, "lines must be at most 16 with 512 codes of 4 bits, not 17"),
        (
            {"reducer": "direct", "codes": 256},
            "codes must be at most 240 for reducer direct with 260 bits a code, not 256",
        ),
        (
            {"reducer": "auto", "codes": 496, "table": "fp16", "act_bits": 4, "lines": 1, "width": 3},
            "width must be a power of two, not 3",
        ),
        ({"reducer": "bucket", "table": "fp16"}, "table must be int16 for reducer bucket, not 'fp16'"),
    ],
)
def test_bad_values_are_refused(values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(SpecError) as e:
        LutGemmSpec(**values)
    assert str(e.value) == sentence


# name: configuration, class, method, what stands there, what stands there instead
FAULTS: dict[str, tuple[LutGemmSpec, Any, str, str, str]] = {
    "missing activations are counted": (TINY, IndexCounter, "_parts", "code[bits] & ", ""),
    "pairs the other way round": (
        TINY,
        IndexCounter,
        "_parts",
        "for act in is_act for weight in is_weight",
        "for weight in is_weight for act in is_act",
    ),
    "counts go on with the next group": (TINY, Bin, "elaborate", "so_far.eq(0)", "so_far.eq(total)"),
    "what waits is counted again": (TINY, Bin, "elaborate", "with m.Elif(self.go):", "with m.Else():"),
    "sums are unsigned": (BUCKET, Buckets, "_parts", ".as_signed()", ""),
    "a count is signed": (
        TINY,
        WeightedSum,
        "elaborate",
        'count if spec.reducer == "histogram" else count.as_signed()',
        "count.as_signed()",
    ),
    "the sum before goes on": (TINY, WeightedSum, "elaborate", "Mux(first, 0, total)", "total"),
    "the table changes at once": (TINY, Sequencer, "elaborate", "(idle & self.table_full)", "self.table_full"),
    "a table before it is there": (TINY, Sequencer, "elaborate", "(idle & self.table_full)", "idle"),
    "lines beyond the last channel": (TINY, Sequencer, "elaborate", "left > line", "1"),
    "sums are handed on over those in use": (
        TINY,
        Sequencer,
        "_back",
        "~busy | (self.reduce == spec.reduce - 1)",
        "~busy | 1",
    ),
    "results without room": (TINY, Sequencer, "_back", "waiting & free & self.ready", "waiting & free"),
    "a row meets no weights": (TINY, Sequencer, "elaborate", "fetched & self.weights & self.go", "fetched & self.go"),
    "one group too few": (TINY, Sequencer, "elaborate", "left <= spec.lines", "left <= 2 * spec.lines"),
    "half a table": (TINY, Table, "_load", "self.spec.lut_beats - 1", "self.spec.lut_beats // 2"),
    "the table is overwritten": (
        TINY,
        ProductMemory,
        "elaborate",
        "Cat(beat[:bits], ~in_use)",
        "Cat(beat[:bits], in_use)",
    ),
    "a table's last row is an old one": (
        DIRECT,
        Table,
        "_registers",
        "in_use.eq(Cat(coming))",
        "in_use.eq(Cat(*coming[:-1], coming[0]))",
    ),
    "a missing activation has a product": (
        DIRECT,
        ProductRows,
        "elaborate",
        "Mux(lane.valid, choose(in_use, width, lane.index), 0)",
        "choose(in_use, width, lane.index)",
    ),
    "a missing activation has a centroid": (BUCKET, Centroids, "elaborate", "lane.valid", "lane.valid | 1"),
    "signs of FP16 entries are lost": (FP16, Table, "_entry", "Mux(entry[-1], -steps.o, steps.o)", "steps.o"),
    "scales a cycle late": (
        DIRECT,
        Scaling,
        "elaborate",
        "self.scale.payload[lane], latency.ROUND",
        "self.scale.payload[lane], latency.ROUND + 1",
    ),
    "one exponent for all tokens": (DIRECT, Scaling, "elaborate", "take & self.i.payload.last", "0"),
    "n above n_max": (TINY, LutGemm, "elaborate", "(cfg.n > spec.n_max)", "0"),
    "lines share their weights": (
        TINY,
        LutGemm,
        "_lines",
        "weights.word_select(i, len(line.weights))",
        "weights.word_select(0, len(line.weights))",
    ),
    "codes are not kept": (
        TINY,
        Line,
        "elaborate",
        'delay(m, codes, 1, "codes", go=self.go)',
        'delay(m, codes, 1, "codes")',
    ),
}


@pytest.mark.parametrize("name", one_in(6, FAULTS))
def test_fault_is_caught(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    turns_red(monkeypatch, *FAULTS[name])
