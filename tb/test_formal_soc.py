"""Proofs of the accelerator's DMA, and that the same proofs refute broken blocks."""

from typing import Any

import pytest

from hdl.soc.bursts import Allowance, Arbiter, Splitter
from hdl.soc.channels import Input
from hdl.soc.rows import Meter
from tb.faults import rewritten
from tb.formal import Claim, Refuted, prove
from tb.formal.soc import CLAIMS, SMALL, Allowed, Fair, Metered, Roomy, Split


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda c: f"{c.subject} {c.size}")
def test_proved(claim: Claim) -> None:
    assert prove(claim).result == "proved by induction, 1"


FAULTS = [
    (Splitter, Split, (), "C(most) - word[: most.bit_length() - 1]", "C(most)"),  # across 4 KiB
    (Splitter, Split, (), "word.eq(word + length)", "word.eq(word + most)"),
    (Splitter, Split, (), "(self.o.ready & all_)", "self.o.ready"),  # the rest of a row is lost
    (Splitter, Split, (), "left <= room", "left < room"),  # a cycle between rows
    (Allowance, Allowed, (4, 4), "words >= self.i.payload.length", "words.any()"),
    (Allowance, Allowed, (0, 4), "words + self.give - taken", "words + self.give"),
    (Allowance, Allowed, (4, 4), "self.o.ready & enough", "self.o.ready"),  # a burst is lost
    (Arbiter, Fair, (3,), "(wants & after).any(), wants & after, wants", "wants.any(), wants, wants"),  # not fair
    (Arbiter, Fair, (3,), "go & first[n]", "go"),  # bursts are lost
    (Arbiter, Fair, (3,), "self.go & (~self.o.valid | self.o.ready)", "self.go"),  # likewise
    (Arbiter, Fair, (3,), "self.next.channel.eq(n)", "self.next.channel.eq(0)"),
    (Meter, Metered, (), "Mux(inside, 0, row.first)", "row.first"),
    (Meter, Metered, (), "Mux(last, row.end, self.spec.bus_bytes - 1)", "row.end"),
    (Meter, Metered, (), "inside.eq(~last)", "inside.eq(1)"),
]


@pytest.mark.parametrize(("unit", "spec", "args", "old", "new"), FAULTS)
def test_refuted(unit: Any, spec: Any, args: tuple[Any, ...], old: str, new: str) -> None:
    faulty = rewritten(unit, old, new)
    with pytest.raises(Refuted):
        prove(Claim(unit.__name__, "as before", "small", lambda: spec(faulty(SMALL, *args))))
    with pytest.raises(Refuted):  # seen from outside alone
        prove(Claim(unit.__name__, "as before", "small", lambda: spec(faulty(SMALL, *args), False), 10))


def test_a_channel_that_asks_for_more_than_it_has_room_for_is_refuted() -> None:
    faulty = rewritten(Input, "allowance.give.eq(give)", "allowance.give.eq(1)", "_rows")
    with pytest.raises(Refuted):
        prove(Claim("Input", "as before", "small", lambda: Roomy(faulty(SMALL, (3,), False))))
