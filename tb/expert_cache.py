"""The bench of unit ``expert_cache``: transactions made from the specification and a seed."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import reduce
from operator import or_
from typing import Any

import numpy as np

from golden.moe.cache import LENGTH_BITS, ExpertCacheSpec, Run
from golden.moe.expert import ADDRESS_BITS
from golden.moe.residency import KeyList
from tb.transactions import Case, case_of, cases_of, in_time


def bench(spec: ExpertCacheSpec, seed: int) -> list[Case]:
    """Each corner alone and all together, lists of any length, all stalls, failing loads, resets, every status bit."""
    rng = np.random.default_rng(seed)
    mixed = [random_run(spec, rng, 12) for _ in range(3)]
    short = [random_run(spec, rng, 2) for _ in range(6)]
    corners = dict(corners_of(spec, rng))
    cases = [
        *(_case(spec, name, [job], seed) for name, job in corners.items()),
        *(_flagged(spec, case, list(corners.values())) for case in cases_of(spec, "corners", list(corners.values()))),
        *(_flagged(spec, case, mixed) for case in cases_of(spec, "mixed", mixed, seed=seed)),
        *(_flagged(spec, case, short) for case in cases_of(spec, "short", short, seed=seed, level=160)),
        *(_case(spec, f"{port.name}-nearly-stuck", mixed[:1], seed, stall={port.name: 240}) for port in spec.ports),
        _case(spec, "slow-memory", list(corners.values()), seed, stall={"fill": 240}),
        *(_case(spec, f"wrong-{name}", [job, *short[:1]], seed) for name, job in wrong(spec, rng).items()),
        *_failing(spec, rng, seed),
        _case(spec, "many-loads", [Run(table(spec, rng), tuple(needs(n % spec.keys) for n in range(18)))], seed),
        _case(spec, "second-pinned", [Run(table(spec, rng), _pinned(spec))], seed),
        *_misused(spec, rng, seed),
    ]
    span = spec.cycles(*mixed)
    for at in sorted({0, 1, spec.keys, spec.keys + spec.latency, span // 3, span // 2, spec.cycles(mixed[0]) - 2}):
        cut = case_of(spec, f"reset-in-cycle-{at}", mixed, seed=seed, stall={"grant": 96}, reset_at=at)
        cases += [cut, _case(spec, f"after-{cut.name}", mixed[:1], seed)]
    return in_time(cases, spec.timeout, "fetch", "fill")


def _case(spec: ExpertCacheSpec, name: str, jobs: Sequence[Run], seed: int, **values: Any) -> Case:
    return _flagged(spec, case_of(spec, name, jobs, seed=seed, **values), jobs)


def _flagged(spec: ExpertCacheSpec, case: Case, jobs: Sequence[Run]) -> Case:
    """With the status that the jobs set: whatever happens first names the key."""
    said = [spec.errors(job) for job in jobs]
    key = next((s["sts_key"] for s in said if s["sts_error"] & 0b11000), 0)
    return replace(case, status={"sts_error": reduce(or_, (s["sts_error"] for s in said)), "sts_key": key})


def table(spec: ExpertCacheSpec, rng: np.random.Generator, keys: int | None = None) -> Any:
    n = spec.keys if keys is None else keys
    return np.stack([rng.integers(0, 1 << ADDRESS_BITS, n), rng.integers(0, 1 << LENGTH_BITS, n)], axis=1)


def needs(*keys: int, pins: Sequence[int] = ()) -> KeyList:
    return KeyList(keys, pins=frozenset(pins))


def _pinned(spec: ExpertCacheSpec) -> tuple[KeyList, ...]:
    """The last place, behind one that is taken already."""
    last = min(spec.slots, spec.keys) - 1
    return (*(needs(key) for key in range(last)), needs(last, pins=(last,)), needs(last))


def hints(*keys: int) -> KeyList:
    return KeyList(keys, need=False)


def random_run(spec: ExpertCacheSpec, rng: np.random.Generator, lists: int) -> Run:
    """Lists of any length, a few keys more often than others, so that there are hits; sometimes pinned ones."""
    some = rng.integers(0, spec.keys, 2 * spec.slots + 1)
    made = []
    for _ in range(lists):
        keys = rng.choice(some, int(rng.integers(0, spec.most, endpoint=True))).tolist()
        pins = frozenset(key for key in keys if rng.random() < 0.03)
        made.append(KeyList(keys, bool(rng.random() < 0.6), pins))
    return Run(table(spec, rng), (*made, needs(int(some[0]))))


def corners_of(spec: ExpertCacheSpec, rng: np.random.Generator) -> Iterator[tuple[str, Run]]:
    """More needs than places, all there, none there, one twice, hints of what is there or comes anyway, empty lists."""

    def run(*lists: KeyList) -> Run:
        return Run(table(spec, rng), lists)

    several = list(range(min(spec.most, spec.slots, spec.keys)))
    every = list(range(min(spec.most, spec.keys)))
    others = [key for key in range(spec.keys) if key not in several][: len(several)]
    yield "one", run(needs(0))
    yield "nothing", run(needs())
    yield "no-hints", run(hints(), needs())
    yield "nothing-often", run(*[needs()] * (spec.most + 3), hints(), needs(0))
    yield "waves", run(needs(*every), needs(*reversed(every)), needs(*every))
    yield "waves-from-behind", run(needs(*every[1:]), needs(*every), needs(*every[1:]))
    yield "hints-at-the-end", run(needs(0), hints(*several))
    yield "hits", run(needs(*several), *[needs(*several)] * 3)
    yield "misses", run(*(needs(*keys) for keys in (several, others) * 2))
    yield "twice", run(needs(*[0] * spec.most), needs(*[0, 1 % spec.keys, 0][: spec.most]))
    yield "hints-of-what-is-there", run(needs(*several), hints(*several), needs(*several))
    yield "late", run(hints(*several), needs(*reversed(several)), hints(*others), needs(*others[:1]))
    yield "useless", run(hints(*several), hints(*others), hints(*several), needs(*others))
    yield "hints-beyond-the-places", run(hints(*every), needs(*every), hints(*reversed(every)), needs(0))
    yield "pinned", run(needs(*several, pins=several), hints(*every), needs(*every), needs(*several))
    yield "every-key", run(*(needs(key) for key in range(min(spec.keys, 64))), needs(spec.keys - 1))


def wrong(spec: ExpertCacheSpec, rng: np.random.Generator) -> dict[str, Run]:
    """Keys that are not in the table, lists and tables too long."""
    keys = list(range(spec.keys))
    beyond = 1 << spec.key_bits
    many = (keys * spec.most)[: spec.most + 3]
    runs = {
        "long-list": Run(table(spec, rng), (needs(*many), hints(*many), needs(0))),
        "long-table": Run(table(spec, rng, spec.keys + 2), (needs(spec.keys - 1), needs(0))),
        "key-beyond-table": Run(table(spec, rng, 1), (needs(*keys[:2], 0), hints(*keys[1:2]), needs(*keys[1:2]))),
    }
    if beyond > spec.keys:
        runs["no-such-key"] = Run(table(spec, rng), (needs(beyond - 1, 0), hints(beyond - 1), needs(beyond - 1)))
    return runs


def _failing(spec: ExpertCacheSpec, rng: np.random.Generator, seed: int) -> Iterator[Case]:
    """All loads fail, or are never answered; the first one alone; what was hinted; under stalls where all are alike."""
    several = list(range(min(spec.most, spec.slots, spec.keys)))
    made = table(spec, rng)
    lists = (needs(*several), hints(spec.keys - 1), needs(spec.keys - 1), needs(*several))
    every = frozenset(range(1 << 12))
    hinted = (hints(0), needs(), needs(), needs(0), needs(0))
    runs = {
        "all": Run(made, lists, bad=every),
        "third-key": Run(made, (needs(min(2, spec.keys - 1)),), bad=every),
        "first": Run(made, (needs(0), needs(0)), bad=frozenset((0,))),
        "first-two": Run(made, (needs(0), needs(0)), bad=frozenset((0, 1))),
        "hinted": Run(made, hinted, bad=frozenset((0,))),
        "hinted-twice": Run(made, hinted, bad=frozenset((0, 1))),
        "odd-ones": Run(made, lists, bad=frozenset(range(1, 99, 2))),
    }
    if spec.timeout:
        runs |= {
            "never": Run(made, lists, lost=every),
            "first-lost": Run(made, (needs(0), needs(0)), lost=frozenset((0,))),
            "hinted-lost": Run(made, hinted, lost=frozenset((0,))),
        }
    for name, job in runs.items():
        yield _case(spec, f"failing-{name}", [job], seed)
        if name != "odd-ones":
            for n, stall in enumerate((32, 96)):
                yield _case(spec, f"failing-{name}-stalled-{n}", [job], seed, stall=stall)


def _misused(spec: ExpertCacheSpec, rng: np.random.Generator, seed: int) -> Iterator[Case]:
    """A fill of a load that is over, once more; a done of another slot."""
    job = Run(table(spec, rng), (needs(0), needs(spec.keys - 1)), bad=frozenset((1,)))
    case = _case(spec, "stray-fill", [job], seed, stall={"stats": 16})
    fills = spec.port("fill").unpack(case.inputs["fill"])
    again = spec.port("fill").pack(**{name: np.insert(v, 1, v[0], axis=0) for name, v in fills.items()})
    if len(fills["ok"]) > 1:
        flags = case.status["sts_error"] | 1 << 5
        yield replace(case, inputs={**case.inputs, "fill": again}, status={**case.status, "sts_error": flags})
    case = _case(spec, "strange-done", [job], seed)
    slots = spec.port("done").unpack(case.inputs["done"])["slot"]
    slots[0] ^= 1
    strange = {**case.status, "sts_error": case.status["sts_error"] | 1 << 6}
    yield replace(case, inputs={**case.inputs, "done": spec.port("done").pack(slot=slots)}, status=strange)


def real(spec: ExpertCacheSpec) -> tuple[Run, int]:
    """Layer after layer: hints, some of them wrong, then needs; how many."""
    rng = np.random.default_rng(0)
    lists: list[KeyList] = []
    for base in range(0, spec.keys - 14, 14):
        chosen = rng.permutation(14)[:3] + base
        lists += [hints(*chosen[:2].tolist()), needs(*np.sort(chosen[1:]).tolist())]
    lists = lists or [needs(0)]
    job = Run(table(spec, rng), tuple(lists))
    return job, sum(len(one.keys) for one in spec.accepted(job) if one.need)
