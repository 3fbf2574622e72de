"""What each unit's bench should go through beside what its ports say (:mod:`tb.coverage`), and what it need not.

A point is a question about one case: ``s.values(stream)`` are the fields of its beats, ``s.lengths(stream)`` the beats
of its packets, ``s.spec`` the configuration.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

CONFIGURED: Mapping[str, Mapping[str, Any]] = {
    "mixpe": {"k_max": 64},
    "expert_cache": {"policy": "residency", "timeout": 200},
}
"""What is not as in the preset ``tiny``, so that more can be reached."""

OWN: Mapping[str, Mapping[str, Callable[[Any], Any]]] = {
    "mixpe": {
        "a group that is not full": lambda s: s.lengths("act") % s.spec.group != 0,
        "several groups in a tile": lambda s: s.lengths("act") > s.spec.group,
        "a tile of k_max steps": lambda s: s.lengths("act") == s.spec.k_max,
    },
    "router": {
        "a group that is not full": lambda s: s.lengths("wgt") % s.spec.group != 0,
        "a tile of k_max steps": lambda s: s.lengths("wgt") == s.spec.k_max,
    },
    "orizuru": {
        "k is 0": lambda s: s.values("cfg")["k"] == 0,
        "k is 1": lambda s: s.values("cfg")["k"] == 1,
        "k is k_max": lambda s: s.values("cfg")["k"] == s.spec.k_max,
        "a vector of n keys": lambda s: s.lengths("i") == s.spec.n // s.spec.lanes,
        "keys that are not there": lambda s: s.values("i")["valid"] == 0,
        "equal keys side by side": lambda s: _equal(s.values("i")["key"].ravel()),
        "equal winners, one after the other": lambda s: (
            _equal(s.values("o")["value"].ravel())
            & _equal(s.values("o")["smallest"].ravel())
            & (s.values("o")["valid"].ravel()[1:] == 1)
        ),
        "fewer keys than k": lambda s: s.values("o")["valid"] == 0,
    },
    "kmeans_quantizer": {
        "no activation in a beat": lambda s: (s.values("i")["valid"] == 0).all(axis=1),
        "the smallest shift": lambda s: s.values("cfg")["shift"] == 0,
        "the largest shift": lambda s: s.values("cfg")["shift"] == 31,
        "equal boundaries": lambda s: s.values("cfg")["boundary_0"] == s.values("cfg")["boundary_1"],
        "the lowest index": lambda s: (s.values("o")["index"] == 0) & (s.values("o")["valid"] == 1),
        "the highest index": lambda s: s.values("o")["index"] == (1 << s.spec.bits) - 1,
    },
    "lutgemm": {
        "n is 1": lambda s: s.values("cfg")["n"] == 1,
        "n is n_max": lambda s: s.values("cfg")["n"] == s.spec.n_max,
        "the table is kept": lambda s: s.values("cfg")["load"] == 0,
        "indices that are not there": lambda s: s.values("act")["valid"] == 0,
    },
    "kmeans_linear": {
        "k is 0": lambda s: s.values("cfg")["k"] == 0,
        "k is outliers": lambda s: s.values("cfg")["k"] == s.spec.outliers,
        "n is 1": lambda s: s.values("cfg")["n"] == 1,
        "n is n_max": lambda s: s.values("cfg")["n"] == s.spec.n_max,
        "the table is kept": lambda s: s.values("cfg")["load"] == 0,
        "an outlier in the last channel": lambda s: s.values("fetch")["channel"] == s.spec.k_max - 1,
        "an outlier in the first channel": lambda s: s.values("fetch")["channel"] == 0,
    },
    "kmeans_function": {
        "a vector without an index": lambda s: (s.values("i")["valid"] == 0).all(axis=1),
        "the table is kept": lambda s: s.values("cfg")["next"] == 0,
        "a count of n": lambda s: s.values("stats")["count"] == s.spec.n,
        "a count of 0": lambda s: s.values("stats")["count"] == 0,
    },
    "gate": {
        "k_max is 0": lambda s: s.values("cfg")["k_max"] == 0,
        "k_max is all experts": lambda s: s.values("cfg")["k_max"] == s.spec.experts,
        "k_min is above k_max": lambda s: s.values("cfg")["k_min"] > s.values("cfg")["k_max"],
        "k_min is k_max": lambda s: s.values("cfg")["k_min"] == s.values("cfg")["k_max"],
        "equal scores": lambda s: _equal(s.values("i")["score"].ravel()),
        "a score that is the threshold": lambda s: _among(s.values("i")["score"], s.values("cfg")["tau"]),
        "no expert": lambda s: s.values("o")["valid"] == 0,
        "every expert": lambda s: s.lengths("o") == s.spec.experts,
    },
    "dispatch": {
        "a token without experts": lambda s: s.values("i")["valid"] == 0,
        "a token of all its slots": lambda s: s.lengths("i") == s.spec.slots,
        "a pruned token": lambda s: s.values("i")["pruned"] == 1,
        "a batch without entries": lambda s: s.values("job")["valid"] == 0,
        "an expert without tokens": lambda s: s.values("stats")["count"] == 0,
        "all tokens to one expert": lambda s: s.values("stats")["count"] == s.spec.tokens,
    },
    "load_balance": {
        "no tokens": lambda s: (_packets(s, "count") == 0).all(axis=1),
        "equal counts": lambda s: (_packets(s, "count")[:, :1] == _packets(s, "count")).all(axis=1),
        "a count that is the mean, of counts that differ": lambda s: (
            (_packets(s, "count") * s.spec.experts == _packets(s, "count").sum(axis=1, keepdims=True)).any(axis=1)
            & (_packets(s, "count") != _packets(s, "count")[:, :1]).any(axis=1)
        ),
        "the largest count": lambda s: s.values("i")["count"] == (1 << s.spec.count_bits) - 1,
    },
    "expert_cache": {
        "a need that is resident": lambda s: s.values("stats")["hits"] > 0,
        "a need that is not": lambda s: s.values("grant")["miss"] == 1,
        "a need that is on its way": lambda s: s.values("grant")["late"] == 1,
        "a need that failed": lambda s: s.values("grant")["failed"] == 1,
        "a need that waits": lambda s: s.values("grant")["wait"] > 0,
        "an eviction": lambda s: s.values("stats")["evictions"] > 0,
        "a prefetch that nobody needed": lambda s: s.values("stats")["useless"] > 0,
        "a hint that was dropped": lambda s: s.values("stats")["dropped"] > 0,
        "a pin": lambda s: s.values("i")["pin"] == 1,
        "a list without keys": lambda s: s.values("i")["valid"] == 0,
        "a list of as many keys as it may have": lambda s: s.lengths("i") == s.spec.most,
    },
    "expert_table": {
        "a token of all its slots": lambda s: s.lengths("i") == s.spec.slots,
        "a token without experts": lambda s: s.values("i")["valid"] == 0,
        "hints alone": lambda s: (s.values("request")["hints"] == 1) & (s.values("request")["entries"] == 0),
        "neither entries nor hints": lambda s: (s.values("request")["hints"] | s.values("request")["entries"]) == 0,
        "a layer without hints": lambda s: s.values("hint")["valid"] == 0,
        "all experts of a layer": lambda s: s.lengths("hint") == s.spec.experts,
    },
    "expert_ffn": {
        "a batch without experts": lambda s: s.values("job")["valid"] == 0,
        "an expert of all tokens": lambda s: s.values("job")["count"] == s.spec.tokens,
        "the table is kept": lambda s: s.values("cfg")["load"] == 0,
        "an expert of fewer neurons": lambda s: s.values("desc")["neurons"] < s.spec.neurons,
    },
    "moe_ffn": {
        "an expert without tokens": lambda s: s.values("counts")["count"] == 0,
        "an expert of all tokens": lambda s: s.values("counts")["count"] == s.spec.tokens,
        "k_max is 0": lambda s: s.values("cfg")["k_max"] == 0,
        "the table is kept": lambda s: s.values("cfg")["load"] == 0,
        "activations that wait for codes": lambda s: s.values("stats")["stalls"] > 0,
    },
    "moe_resident": {
        "an expert that is resident": lambda s: s.values("cache")["hits"] > 0,
        "an expert that is not": lambda s: s.values("cache")["misses"] > 0,
        "an eviction": lambda s: s.values("cache")["evictions"] > 0,
        "a prefetch": lambda s: s.values("cache")["prefetched"] > 0,
    },
    "accelerator": {
        "a burst of one word": lambda s: s.values("m_axi_ar")["len"] == 0,
        "a burst of all words": lambda s: s.values("m_axi_ar")["len"] == s.spec.burst - 1,
        "a word of which some bytes are written": lambda s: ~_among(s.values("m_axi_w")["strb"], (0, 255)),
        "an error of a register": lambda s: s.values("s_axil_b")["resp"] == 2,
        "an error of the memory": lambda s: s.values("m_axi_r")["resp"] > 1,
        "an error of a write": lambda s: s.values("m_axi_b")["resp"] > 1,
    },
    "axi_memory": {
        "a burst of one word": lambda s: s.values("s_axi0_ar")["len"] == 0,
        "a burst of several": lambda s: s.values("s_axi0_ar")["len"] > 0,
        "two masters ask at once": lambda s: s.valid("s_axi0_ar") & s.valid("s_axi1_ar"),
        "some bytes of a word": lambda s: ~_among(s.values("s_axi0_w")["strb"], (0, 15)),
        "no bytes of a word": lambda s: s.values("s_axi0_w")["strb"] == 0,
        "an address that there is not": lambda s: s.values("s_axi0_r")["resp"] > 1,
    },
    "uart_bridge": {
        "a gap in a frame": lambda s: s.values("i")["gap"] == 1,
    },
}
"""Points of a unit, by name."""

_LAYER_POINTS = {
    "* stalls while *": "what follows one another in a batch does not move at once",
    "*: a batch of one beat": "a token is several beats, and there are three experts",
    "desc: a table of one beat": "four experts, the shared one included",
    "cfg moves in two cycles running": "once a batch",
    "stats moves in two cycles running": "once a batch",
    "rnorm moves in two cycles running": "once a pass",
    **{
        f"{field} is *": "corners of numbers are in the benches of `router`, `gate` and `expert_ffn`"
        for field in ("i.x", "cfg.tau", "rpar.*", "rnorm.norm", "par.*")
    },
    "desc.neurons is *": "sizes are multiples of the grain, from one of it to `neurons`",
}
_INSIDE = (
    "align_row convert dequant_fp32 engine fadd feeder fmul queue reader results round row scores sequencer sigmoid "
    "silu swiglu token_memory buckets collect dispatch expert_sequencer"
)


def _layer(unit: str, blocks: str) -> dict[str, str]:
    inside = "of units inside, whose own benches count"
    return {
        **{f"{unit}_{block}*: *": inside for block in blocks.split()},
        f"{unit}_skid_*: *": "skid buffers of units inside, whose other side does not wait",
        f"{unit}_replay*: *": "a row of several words, of what has one here; one that is stalled",
    }


UNREACHED: Mapping[str, Mapping[str, str]] = {
    "moe_resident": {
        **_LAYER_POINTS,
        "far: a table of one beat": "four experts, the shared one included",
        "dma moves in two cycles running": "loads are far apart",
        "cache moves in two cycles running": "once a batch",
        "cfg.load is 0": "not tried: every batch of the bench brings its table",
        "hint.*": "corners of lists and loads are in the bench of `expert_cache`",
        "fill.*": "corners of lists and loads are in the bench of `expert_cache`",
        "sts_*": "benches of `moe_ffn` and `expert_cache` have them, `tb/test_moe_resident.py` a load that fails",
    },
    "moe_ffn": {
        **_LAYER_POINTS,
        "sts_error: k_max was above experts": "three experts, and two bits hold no number above",
        "sts_error: a token had more experts than slots": "as many slots as experts",
    },
    "expert_cache": {
        "dma stalls while desc moves": "the next table comes when nothing is loaded",
        "stats moves in two cycles running": "a list takes several cycles",
    },
    "expert_ffn": {
        "*: a batch of one beat": "a token is several beats",
        "desc: a table of one beat": "four experts, the shared one included",
        "stats moves in two cycles running": "a batch takes many cycles",
        "* stalls while cfg moves": "the next batch begins when all of this one has been fetched and sent",
        "fetch stalls while *": "the next batch begins, and results leave, when all weights have been asked for",
        "desc.neurons is *": "sizes are multiples of the grain, from one of it to `neurons`",
        "job.*": "three experts, five tokens: not all numbers of their bits",
        "entry.token is 7": "three experts, five tokens: not all numbers of their bits",
    },
    "accelerator": {
        "s_axil_*w is stalled": "ready follows valid",
        "s_axil_ar is full: *": "a register is read at once",
        "m_axi_? is full: *": "there is room for everything that was asked for",
        "a word of which some bytes are written": "rows that this size writes are whole words; `Meter` is proved",
    },
    "uart_bridge": {
        "? stalls while ? moves": "the line brings bytes, it does not wait for any; one side speaks at a time",
    },
    "router": {"o: a token of one beat": "three experts are three beats"},
    "mixpe": {"o: a tile of several beats": "its four results are one"},
    "gate": {"sts_error: k_max was above experts": "three experts, and two bits hold no number above"},
    "dispatch": {
        "i.weight is *": "carried as they are: nothing looks at their bits",
        "stats: a batch of one beat": "a beat per expert, of which there are three",
    },
    "axi_memory": {
        "s_axi?_a[rw] is stalled": "ready follows valid: whoever asks gets a turn",
    },
    "expert_table": {
        "i.weight is *": "carried as they are: nothing looks at their bits",
        "sts_error: no such layer": "a bit names two layers, and there are two",
    },
}
"""Patterns of points that are not asked for, and why."""

UNTAKEN: Mapping[str, Mapping[str, str]] = {
    "moe_ffn": _layer("moe_ffn", _INSIDE),
    "moe_resident": _layer("moe_resident", f"{_INSIDE} expert_cache expert_ffn loads places steps"),
    "expert_cache": {"expert_cache_steps: case of default:*": "a state that there is not"},
    "kmeans_linear": {
        "kmeans_linear_*: else of *if (go) *": "a step that waits, inside: its results have room kept for them",
        "kmeans_linear_*: cond_else of *? *": "a step that waits, inside: its results have room kept for them",
        "kmeans_linear_sequencer: else of *": "a step that waits, inside: its results have room kept for them",
        "kmeans_linear_fmul: cond_then of *": "a sum that is not finite, which there is not",
        "kmeans_linear_bin: else of *": "a sum that is not finite, which there is not",
        "kmeans_linear_skid_*: *": "skid buffers of units inside, whose other side does not wait",
        "kmeans_linear_round: *": "as large as there is room for: lengths and scales make none",
        "kmeans_linear_token_memory_1: cond_then of * over *": "a token too long, which the first memory has cut",
    },
    "router": {
        "router_round_?: cond_then of * magnitude*": "as large as there is room for: lengths and scales make none",
        "router_round_?: cond_then of * exponent*": "as large as there is room for: lengths and scales make none",
        "router_round_?: cond_then of *31'h7f800000*": "as large as there is room for: lengths and scales make none",
        "router_round_4: cond_then of *": "as large as there is room for: lengths and scales make none",
        "router_collect: cond_else of *": "a tile of several beats, which has one here",
        "router_engine: cond_else of *": "a tile of several beats, which has one here",
    },
    "expert_ffn": {
        "expert_ffn_collect: cond_else of *": "a tile of several beats, which has one here",
        "expert_ffn_results: cond_else of *": "a tile of several beats, which has one here",
        "expert_ffn_engine: cond_else of *": "a tile of several beats, which has one here",
        "expert_ffn_expert_sequencer: case of default:*": "a state that there is not",
        "expert_ffn_expert_sequencer: cond_else of *reported*": "counts that wait for room, which one batch has",
        "expert_ffn_feeder: cond_else of *": "a tile longer than there may be, which its sequencer asks for never",
        "expert_ffn_round*: cond_then of *": "as large as there is room for: lengths and scales make none",
    },
    "accelerator": {
        **{
            f"accelerator_{block}: *": "of the engine of `mixpe`, whose own bench takes them"
            for block in ("collect", "dequant_exact", "engine", "feeder", "fmul", "round*")
        },
        "accelerator_*: case of default:*": "a state, or a kind of row, that there is not",
        "accelerator_measure_[14]: *": "rows that this size has in one length, and nothing that waits behind them",
        "accelerator_skid_4: *": "a skid buffer inside, whose other side does not wait",
        "accelerator_writer: cond_else of *": "another channel of writes than the only one",
        "accelerator_arbiter_1: cond_then of *": "another channel of writes than the only one",
    },
    "uart_bridge": {"uart_bridge_*: case of default:*": "a state that there is not"},
    "mixpe": {
        "mixpe_round: cond_then of * exponent*": "sums under FP16 scales are far below FP32's largest number",
        "mixpe_collect: cond_else of *": "a tile of several beats, which has one here",
        "mixpe_engine: cond_else of *": "a tile of several beats, which has one here",
        "mixpe_dequant_exact: cond_else of *": "sums that are not finite, of floating-point activations alone",
    },
    "kmeans_quantizer": {"kmeans_quantizer_mean_scale: cond_then of * = total*": "the sum's top bit: only pads it"},
    "gate": {
        "gate_skid_[234]: *": "skid buffers of the top-k engine inside, whose other side does not wait",
        "gate_queue: cond_then of *": "what moves down into the first place of a queue, which has none above it",
        "gate_reader: cond_else of *": "another lane of a row, in a unit of one lane",
    },
    "dispatch": {"dispatch_buckets: case of default:*": "an expert that there is not: two bits for three"},
}
"""Patterns of branches that cannot be taken, and why."""


def _equal(values: Any) -> Any:
    """To the one before."""
    return values[1:] == values[:-1]


def _among(values: Any, some: Any) -> Any:
    return np.isin(values, some)


def _packets(s: Any, field: str) -> Any:
    """Of ``i``, those that have a beat per expert: a row each."""
    lengths, values, n = s.lengths("i"), s.values("i")[field].ravel(), s.spec.experts
    rows = [values[end - n : end] for end in lengths.cumsum()[lengths == n]]
    return np.array(rows, dtype=np.int64).reshape(-1, n)
