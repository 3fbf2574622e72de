"""Proofs of the unit ``expert_cache``, and that the same proofs refute broken ones."""

from typing import Any

import pytest

from hdl.moe.cache import ExpertCache
from hdl.moe.grants import Grants
from hdl.moe.lists import Lists
from hdl.moe.loads import Loads
from hdl.moe.places import Places
from tb.faults import rewritten
from tb.formal import ABC, Claim, Refuted, cache_moves, cache_unit, prove
from tb.formal.cache import CLAIMS, Cached, Tagged, spec
from tb.formal.cache_moves import Cost, Moves
from tb.formal.cache_unit import InUse, Once, Ready, Resident

TAGS = [claim for claim in CLAIMS if claim.cycles is None]
BOUNDED = [claim for claim in CLAIMS if claim.cycles]
WHOLE = (*cache_unit.CLAIMS, *cache_moves.CLAIMS)


def named(claim: Claim) -> str:
    return f"{claim.text}; {claim.size}"


@pytest.mark.parametrize("claim", TAGS, ids=named)
def test_tags(claim: Claim) -> None:
    assert prove(claim).result == "proved by induction, 1"


@pytest.mark.parametrize(
    "claim",
    [pytest.param(claim, marks=() if claim.size.startswith("2") else pytest.mark.slow) for claim in WHOLE],
    ids=map(named, WHOLE),
)
def test_whole(claim: Claim) -> None:
    assert prove(claim).result == "proved by induction, 1"


@pytest.mark.slow
@pytest.mark.parametrize("claim", BOUNDED, ids=named)
def test_grants(claim: Claim) -> None:
    assert prove(claim).result == f"bounded, {claim.cycles} cycles"


@pytest.mark.parametrize(
    ("method", "old", "new"),
    [
        ("_look", '& ~is_["guarded"]', ""),
        ("_look", '& ~is_["pinned"]', ""),
        ("_decide", '(load & choose(masks["there"], 1, self.slot)) | goes', "goes"),
        ("_look", "(read.data == self.key)", "(read.data[1:] == self.key[1:])"),
        ("_decide", "self.pin & (self.free != 1)", "self.pin"),
        ("_touch", "chosen <= n", "chosen < n"),
        ("_kept", "self.choose", "self.look"),
    ],
)
def test_broken_tags(method: str, old: str, new: str) -> None:
    faulty = rewritten(Places, old, new, method)
    with pytest.raises(Refuted):
        prove(Claim("places", "as before", "as before", lambda: Tagged(faulty(spec(slots=2, keys=4))), 24))


QUICK: tuple[tuple[Any, ...], ...] = (
    (Resident, Places, "_decide", '(load & choose(masks["there"], 1, self.slot)) | goes', "goes", {}),
    (InUse, ExpertCache, "_decide", "~places.busy & ", "", {}),
    (Ready, Grants, "elaborate", "(ready | failed) & jobs", "jobs", {}),
    (Once, Grants, "elaborate", "needs.o.ready.eq(out)", "needs.o.ready.eq(out & jobs.o.valid)", {}),
    (Once, Loads, "elaborate", "queued.bit_select(slot, 1).eq(0), ", "", {"outstanding": 2}),
    (Moves, ExpertCache, "_steps", "loads.empty", "~loads.empty", {}),
    (Moves, Loads, "_timeout", "limit - 1", "limit", {"timeout": 4, "cost": Cost(4, 3)}),
)
OTHERS: tuple[tuple[Any, ...], ...] = (
    (InUse, ExpertCache, "_look", "~places.busy & ", "", {"policy": "residency"}),
    (Ready, Loads, "elaborate", "1).eq(~self.failed)", "1).eq(1)", {}),
    (Once, Lists, "elaborate", "turn + 1 == count", "1", {"most": 2}),
    (Moves, Grants, "elaborate", "self.again.eq(nothing & ~tried)", "self.again.eq(0)", {}),
    (Moves, Loads, "_next", "self.write | (self.forward & waits)", "0", {}),
)


@pytest.mark.parametrize(
    ("kind", "unit", "method", "old", "new", "values"),
    [*QUICK, *(pytest.param(*fault, marks=pytest.mark.slow) for fault in OTHERS)],
)
def test_broken_whole(
    kind: Any, unit: Any, method: str, old: str, new: str, values: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unit, method, getattr(rewritten(unit, old, new, method), method))
    sizes = {"slots": 1, "keys": 2, "most": 1} | values
    more = {"cost": sizes.pop("cost")} if "cost" in sizes else {}
    with pytest.raises(Refuted):
        prove(
            Claim("cache", "as before", "as before", lambda: kind(ExpertCache(spec(**sizes)), False, **more), 24, ABC)
        )


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
