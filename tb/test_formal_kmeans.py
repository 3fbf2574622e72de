"""Proofs of the K-Means units, and that the same proofs refute broken ones."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from hdl.kmeans.cluster import Align, Search
from hdl.kmeans.line import Bin, IndexCounter
from hdl.kmeans.scale import Exponent, Magnitude
from hdl.kmeans.table import ProductMemory, ProductRows
from tb.faults import rewritten
from tb.formal import Claim, Property, Refuted, prove
from tb.formal import kmeans as proofs
from tb.formal.kmeans import CLAIMS, gemm

LONG: tuple[tuple[str, str], ...] = (
    (proofs.CLUSTER, "4 bits"),
    (proofs.COUNTERS, "4 codes of 2 + 2 bits"),
)


@pytest.mark.parametrize(
    "claim",
    [pytest.param(c, marks=pytest.mark.slow if (c.text, c.size) in LONG else ()) for c in CLAIMS],
    ids=lambda c: f"{c.text[:20]} {c.size}",
)
def test_proved(claim: Claim) -> None:
    assert prove(claim).result.startswith("proved ")


COUNTS = gemm(act_bits=1, weight_bits=1)
TWO_UNITS = gemm(act_bits=1, weight_bits=1, codes=32, k_max=64)
MEMORY = gemm(act_bits=1, weight_bits=1, width=2)
ROWS = gemm(act_bits=1, weight_bits=1, reducer="direct", codes=2)

FAULTS: list[tuple[Any, Callable[[Any], Property], tuple[Any, ...], str, str, str]] = [
    (Align, proofs.Aligned, (), "elaborate", "left < -11", "left < -8"),  # negative numbers become 0, not -1
    (Align, proofs.Aligned, (), "elaborate", "field[0] | ~normal", "field[0]"),  # subnormal numbers
    (Align, proofs.Aligned, (), "elaborate", "shifted[bits - 1 :]", "shifted[bits:]"),  # saturates too late
    (Magnitude, proofs.Steps, (), "elaborate", "field - normal", "field"),
    (Exponent, proofs.Clamped, (6,), "elaborate", "& ~self.zero", ""),
    (Exponent, proofs.Clamped, (6,), "elaborate", "Mux(above > most, most, above)", "above"),
    (Exponent, proofs.Clamped, (6,), "elaborate", "(above > 0) &", "(above != 0) &"),
    (Search, proofs.Counted, (2,), "elaborate", "value >= limit", "value > limit"),  # a value on a boundary
    (Search, proofs.Counted, (2,), "elaborate", "Cat(higher, found)", "Cat(found, higher)"),
    (Search, partial(proofs.Nearest, width=8), (1,), "elaborate", "value >= limit", "value > limit"),
    (IndexCounter, proofs.Pairs, (COUNTS,), "_parts", "code[bits] &", ""),  # nothing counts as an index
    (
        IndexCounter,
        proofs.Pairs,
        (COUNTS,),
        "_parts",
        "for act in is_act for weight in is_weight",
        "for weight in is_weight for act in is_act",
    ),
    (Bin, proofs.Added, (COUNTS,), "elaborate", "Mux(self.add, part, 0)", "part"),
    (Bin, proofs.Added, (COUNTS,), "elaborate", "[held.eq(total), so_far.eq(0)]", "[held.eq(total), so_far.eq(part)]"),
    (Bin, proofs.Added, (COUNTS,), "elaborate", "held.eq(total)", "held.eq(so_far)"),  # the last row is lost
    (Bin, proofs.Added, (TWO_UNITS,), "elaborate", '"part", self.go', '"part"'),  # moves on while the line waits
    (ProductMemory, proofs.Rows, (MEMORY,), "elaborate", "~in_use", "in_use"),  # the table in use is written
    (ProductMemory, proofs.Rows, (MEMORY,), "elaborate", "write.en.eq(keep)", "write.en.eq(1)"),
    (ProductMemory, proofs.Rows, (MEMORY,), "elaborate", "in_use ^ self.swap", "in_use | self.swap"),
    (ProductMemory, proofs.Rows, (MEMORY,), "_load", "self.lut.valid & ~self.full", "self.lut.valid"),
    (ProductRows, proofs.Looked, (ROWS,), "elaborate", "Mux(lane.valid, ", "Mux(1, "),
    (ProductRows, proofs.Looked, (ROWS,), "_registers", "keep & (beat == i)", "keep"),
    (ProductRows, proofs.Looked, (ROWS,), "_registers", "with m.If(self.swap):", "with m.If(self.full):"),
]


@pytest.mark.parametrize(("unit", "circuit", "args", "method", "old", "new"), FAULTS)
def test_rewritten(unit: Any, circuit: Any, args: tuple[Any, ...], method: str, old: str, new: str) -> None:
    part = getattr(rewritten(unit, old, new, method), method)
    faulty = type(unit.__name__, (unit,), {method: part})
    with pytest.raises(Refuted, match="Signal Name"):
        prove(Claim(unit.__name__, "as before", "as before", lambda: circuit(faulty(*args)), None))
