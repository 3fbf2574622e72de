"""Claims refute wrong units; and a claim that says nothing is told from one that does."""

from typing import Any

import pytest
from amaranth.hdl import Assert, Assume, Module

from hdl.stream.skid import Skid
from tb.formal import ABC, Claim
from tb.formal.__main__ import CLAIMS
from tb.formal.stream import WIDTH, Queue
from tb.formal.vacuity import refuted

FIRSTS = list({(c.subject, c.text): c for c in reversed(CLAIMS)}.values())[::-1]
QUICK = ("Skid", "BlockFIFO", "Widen", "Replay", "booth", "packed", "PE", "lutgemm", "moe_ffn", "Splitter")


@pytest.mark.parametrize(
    "claim",
    [pytest.param(c, marks=[] if c.subject in QUICK and c.engine != ABC else pytest.mark.slow) for c in FIRSTS],
    ids=lambda c: f"{c.subject}: {c.text}",
)
def test_a_wrong_unit_is_refuted(claim: Claim) -> None:
    assert refuted(claim)


class Blind(Queue):
    """Looks at the unit under an assumption that nothing fulfils."""

    def elaborate(self, platform: Any) -> Module:
        m = super().elaborate(platform)
        m.d.comb += Assume(self.put & ~self.put)
        return m


class Idle(Queue):
    """Looks at nothing."""

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.dut = self.dut
        m.d.comb += Assert(self.choose | ~self.choose)
        return m


@pytest.mark.parametrize("empty", [Blind, Idle])
def test_a_claim_that_says_nothing_refutes_nothing(empty: Any) -> None:
    assert refuted(Claim("Skid", "nothing", "3-bit items", lambda: empty(Skid(WIDTH)))) is None
