"""Sums of many terms."""

from collections.abc import Sequence

from amaranth.hdl import Module, Signal, Value

from golden.latency import TREE_LEVELS


def sum_tree(m: Module, terms: Sequence[Value], name: str, enable: Value | int = 1) -> Value:
    """Exact sum, ``golden.latency.tree(len(terms))`` cycles in which ``enable`` is high after its terms: registers,
    without reset, behind every second level of adders."""
    levels = (len(terms) - 1).bit_length()
    for level in range(1, levels + 1):
        sums = [a + b for a, b in zip(terms[::2], terms[1::2], strict=False)]
        sums += terms[len(terms) & ~1 :]
        registered = level == levels or level % TREE_LEVELS == 0
        wires = [Signal(s.shape(), name=f"{name}_{level}_{i}", reset_less=True) for i, s in enumerate(sums)]
        if registered:
            with m.If(enable):
                m.d.sync += [w.eq(s) for w, s in zip(wires, sums, strict=True)]
        else:
            m.d.comb += [w.eq(s) for w, s in zip(wires, sums, strict=True)]
        terms = wires
    return terms[0]


def balanced_sum(terms: Sequence[Value]) -> Value:
    """Exact sum in the same cycle: a tree of adders without registers."""
    if len(terms) == 1:
        return terms[0]
    half = len(terms) // 2
    return balanced_sum(terms[:half]) + balanced_sum(terms[half:])
