"""Proofs of the unit ``expert_cache``, and that the same proofs refute broken ones."""

from typing import Any

import pytest

from hdl.moe.cache import ExpertCache
from hdl.moe.grants import Grants
from hdl.moe.loads import Loads
from hdl.moe.places import Places
from tb.faults import rewritten
from tb.formal import Claim, Refuted, prove
from tb.formal.cache import CLAIMS, Cached, Tagged, spec

TAGS = [claim for claim in CLAIMS if claim.cycles is None]
BOUNDED = [claim for claim in CLAIMS if claim.cycles]


@pytest.mark.parametrize("claim", TAGS, ids=lambda c: c.size)
def test_tags(claim: Claim) -> None:
    assert prove(claim).result.startswith("proved by induction")


@pytest.mark.slow
@pytest.mark.parametrize("claim", BOUNDED, ids=lambda c: c.size)
def test_grants(claim: Claim) -> None:
    assert prove(claim).result == f"bounded, {claim.cycles} cycles"


@pytest.mark.parametrize(
    ("method", "old", "new"),
    [
        ("_look", '& ~is_["guarded"]', ""),
        ("_look", '& ~is_["pinned"]', ""),
        *(
            pytest.param(*fault, marks=pytest.mark.slow)
            for fault in (
                ("_look", "(read.data == self.key)", "(read.data[1:] == self.key[1:])"),
                ("_decide", "self.pin & (self.free != 1)", "self.pin"),
                ("_touch", "chosen <= n", "chosen < n"),
                ("_kept", "self.choose", "self.look"),
            )
        ),
    ],
)
def test_broken_tags(method: str, old: str, new: str) -> None:
    faulty = rewritten(Places, old, new, method)
    with pytest.raises(Refuted):
        prove(Claim("places", "as before", "as before", lambda: Tagged(faulty(spec(slots=3, keys=4))), 24))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("unit", "method", "old", "new"),
    [
        (ExpertCache, "_decide", "~places.busy & ", ""),
        (Grants, "elaborate", "(ready | failed) & jobs", "jobs"),
        (Loads, "elaborate", "1).eq(~self.failed)", "1).eq(1)"),
    ],
)
def test_broken_grants(unit: Any, method: str, old: str, new: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unit, method, getattr(rewritten(unit, old, new, method), method))
    claim = BOUNDED[0]
    with pytest.raises(Refuted):
        prove(Claim("cache", "as before", "as before", lambda: Cached(ExpertCache(spec(slots=1)), 3), 40, claim.engine))
