"""Proofs of what keeps finished tokens out of ``moe_ffn``, and that the same proofs refute broken ones."""

from functools import partial
from typing import Any

import pytest

from hdl.moe.prune import Prune
from tb.faults import rewritten
from tb.formal import Claim, Refuted, prove
from tb.formal.prune import CLAIMS, Pruned, spec


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda c: c.size)
def test_proved(claim: Claim) -> None:
    assert prove(claim).result.startswith("proved by induction")


@pytest.mark.parametrize(
    ("method", "old", "new"),
    [
        ("_mask", "mask >> 1", "mask"),  # the first token's bit for all
        ("_mask", "with m.If(begin):", "with m.If(begin & ~mask.any()):"),  # the mask of the batch before
        ("_tokens", "last.eq(~coming)", "last.eq(0)"),  # the batch has no end
        ("_tokens", "there & (comes | ~coming)", "there"),  # nor when its last beat is gone too soon
        ("_tokens", "(~live | ~there | inner.ready)", "1"),  # a beat is lost
        ("_tokens", "word == spec.beats - 1", "word == 0"),  # a token ends with its first beat
        ("_rows", "(inner.valid | ~live)", "inner.valid"),  # a finished token waits for a row
        ("_rows", "may & live & o.ready", "may & o.ready"),  # and takes another's
        ("_rows", "Mux(live, Value.cast(inner.payload.data), 0)", "Value.cast(inner.payload.data)"),
        ("_rows", "(left - 1)", "left"),  # the end is not marked
        ("_configuration", "waits & some", "waits"),  # of a batch without live tokens
        ("_configuration", "Mux(some, inner.ready, ~coming)", "inner.ready"),
        ("_entries", "pruned.eq(~live)", "pruned.eq(0)"),
        ("_entries", "live | final", "live"),  # the list has no end
        ("_entries", "Mux(some, inner.ready, ~coming)", "inner.ready"),
    ],
)
def test_refuted(method: str, old: str, new: str) -> None:
    faulty = rewritten(Prune, old, new, method)
    for known in (True, False):  # or seen from outside alone
        claim = Claim("moe_ffn", "as before", "small", partial(_faulty, faulty, known), 10)
        with pytest.raises(Refuted, match="Signal Name"):
            prove(claim)


def _faulty(unit: Any, known: bool) -> Pruned:
    return Pruned(unit(spec(2, 16, "table")), known)


def test_seen_from_outside() -> None:
    claim = Claim("moe_ffn", "as before", "small", lambda: Pruned(Prune(spec(2, 16, "table")), False), 10)
    assert prove(claim).result == "bounded, 10 cycles"
