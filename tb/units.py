"""The bench of every unit, by name."""

import functools
from collections.abc import Callable
from typing import Any

from tb import (
    accelerator,
    axi_memory,
    dispatch,
    expert_cache,
    expert_ffn,
    expert_table,
    gate,
    kmeans_function,
    kmeans_linear,
    kmeans_quantizer,
    load_balance,
    lutgemm,
    mixpe,
    mixpe_pe,
    moe_ffn,
    moe_resident,
    orizuru,
    pe_baseline,
    router,
    uart_bridge,
)
from tb.transactions import Case

_BENCHES: dict[str, Callable[[Any, int], list[Case]]] = {
    "mixpe_pe": mixpe_pe.bench,
    "pe_baseline": pe_baseline.bench,
    "mixpe": mixpe.bench,
    "orizuru": orizuru.bench,
    "kmeans_quantizer": kmeans_quantizer.bench,
    "lutgemm": lutgemm.bench,
    "kmeans_linear": kmeans_linear.bench,
    "kmeans_function": kmeans_function.bench,
    "expert_ffn": expert_ffn.bench,
    "moe_ffn": moe_ffn.bench,
    "moe_resident": moe_resident.bench,
    "router": router.bench,
    "gate": gate.bench,
    "dispatch": dispatch.bench,
    "load_balance": load_balance.bench,
    "expert_cache": expert_cache.bench,
    "expert_table": expert_table.bench,
    "accelerator": accelerator.bench,
    "axi_memory": axi_memory.bench,
    "uart_bridge": uart_bridge.bench,
}

BENCHES = {name: functools.lru_cache(4)(bench) for name, bench in _BENCHES.items()}
"""Bench of a unit: specification and seed in, list of cases out; the same seed gives the same cases. The last few are
kept: deliberate faults of a unit are judged by one and the same list."""

REAL: dict[str, Callable[[Any], tuple[Any, int]]] = {
    "mixpe_pe": mixpe_pe.real,
    "pe_baseline": pe_baseline.real,
    "orizuru": orizuru.real,
    "kmeans_quantizer": kmeans_quantizer.real,
    "lutgemm": lutgemm.real,
    "kmeans_linear": kmeans_linear.real,
    "kmeans_function": kmeans_function.real,
    "router": router.real,
    "gate": gate.real,
    "dispatch": dispatch.real,
    "load_balance": load_balance.real,
    "expert_cache": expert_cache.real,
    "expert_table": expert_table.real,
    "uart_bridge": uart_bridge.real,
}
"""Real data for a unit: specification in; out a job and how many of :data:`COUNTED` are in it."""

COUNTED = {
    "mixpe_pe": "product",
    "pe_baseline": "product",
    "orizuru": "vector",
    "kmeans_quantizer": "token",
    "lutgemm": "product",
    "kmeans_linear": "product",
    "kmeans_function": "index",
    "router": "product",
    "gate": "token",
    "dispatch": "entry",
    "load_balance": "batch",
    "expert_cache": "need",
    "expert_table": "entry",
    "uart_bridge": "word",
}
"""What figures of energy are per."""
