"""The bench of unit ``dispatch``: transactions made from the specification and a seed."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import reduce
from operator import or_
from typing import Any

import numpy as np
from numpy.typing import NDArray

from golden.moe.dispatch import Batch, DispatchSpec, Token
from tb.transactions import Case, case_of, cases_of

Int = NDArray[np.int64]


def bench(spec: DispatchSpec, seed: int) -> list[Case]:
    """Batches of every kind and length, one after another, all stalls, resets, every status bit."""
    rng = np.random.default_rng(seed)
    mixed = [random_batch(spec, rng) for _ in range(8)]
    short = [random_batch(spec, rng, most=2) for _ in range(10)]
    cases = [
        _case(spec, "kinds", list(_kinds(spec, rng)), seed),
        _case(spec, "slots", [_of(spec, rng, [n]) for n in range(spec.slots + 1)], seed),
        _case(spec, "each-alone", [Batch((_token(rng, [e]),)) for e in range(spec.experts)], seed),
        *(_case(spec, f"alone-{i}", [job], seed) for i, job in enumerate(_kinds(spec, rng))),
        *(_flagged(spec, case, mixed) for case in cases_of(spec, "mixed", mixed, seed=seed)),
        *(_flagged(spec, case, short) for case in cases_of(spec, "short", short, seed=seed, level=160)),
        *(
            _case(spec, f"{port.name}-nearly-stuck", mixed[:3] + short[:3], seed, stall={port.name: 240})
            for port in spec.ports
        ),
        *_wrong(spec, rng, short, seed),
    ]
    span = spec.cycles(*mixed)
    for at in sorted({0, 1, span // 8, span // 4, span // 2, 3 * span // 4, spec.cycles(mixed[0]) - 2}):
        cut = case_of(spec, f"reset-in-cycle-{at}", mixed, seed=seed, stall={"o": 96}, reset_at=at)
        cases += [cut, _case(spec, f"after-{cut.name}", mixed[:3], seed)]
    return cases


def _case(spec: DispatchSpec, name: str, jobs: Sequence[Batch], seed: int, **values: Any) -> Case:
    return _flagged(spec, case_of(spec, name, jobs, seed=seed, **values), jobs)


def _flagged(spec: DispatchSpec, case: Case, jobs: Sequence[Batch]) -> Case:
    """With the status that the jobs set: a capacity may drop entries of any batch."""
    return replace(case, status={"sts_error": reduce(or_, map(spec.errors, jobs))})


def _token(rng: np.random.Generator, expert: Sequence[int] | Int, pruned: bool = False) -> Token:
    return Token(np.array(expert, np.int64), rng.integers(0, 1 << 32, len(expert)), pruned)


def random_token(spec: DispatchSpec, rng: np.random.Generator, n: int) -> Token:
    """``n`` experts in any order, all different; sometimes pruned."""
    return _token(rng, rng.permutation(spec.experts)[:n], bool(rng.random() < 0.1))


def random_batch(spec: DispatchSpec, rng: np.random.Generator, most: int = 0) -> Batch:
    """Up to ``most`` tokens, else any number of them that a simulation allows; of as many experts each, or of any."""
    tokens = int(rng.integers(1, min(spec.tokens, most or 40), endpoint=True))
    lengths = rng.integers(0, spec.slots, tokens, endpoint=True)
    return _of(spec, rng, lengths if rng.random() < 0.7 else np.full(tokens, lengths[0]))


def _of(spec: DispatchSpec, rng: np.random.Generator, lengths: Sequence[int] | Int) -> Batch:
    return Batch(tuple(random_token(spec, rng, int(n)) for n in lengths))


def _kinds(spec: DispatchSpec, rng: np.random.Generator) -> Iterator[Batch]:
    """One token, none with experts, all pruned, all to one expert, as many as it keeps, one more; full ones."""
    n, last = spec.tokens, spec.experts - 1
    yield _of(spec, rng, [1])
    yield _of(spec, rng, [0])
    yield _of(spec, rng, [0] * min(n, 5))
    yield Batch(tuple(_token(rng, [last], True) for _ in range(min(n, 5))))
    for e in sorted({0, spec.experts // 2, last}):
        yield Batch(tuple(_token(rng, [e]) for _ in range(n)))
    for count in {spec.depth, min(spec.depth + 1, n)}:
        yield Batch(tuple(_token(rng, [last]) for _ in range(count)))
    yield Batch(tuple(_token(rng, [last] if i % 2 else [], i % 3 == 0) for i in range(n)))
    yield Batch(tuple(_token(rng, range(spec.slots)[:: 1 if i % 2 else -1]) for i in range(min(n, 12))))
    yield _of(spec, rng, [min(spec.slots, 2)] * n)


def _wrong(spec: DispatchSpec, rng: np.random.Generator, good: Sequence[Batch], seed: int) -> Iterator[Case]:
    """Each kind of wrong batch, then sound ones."""
    for name, job in wrong(spec, rng).items():
        yield _case(spec, f"wrong-{name}", [job, *good[:2]], seed)
    for n in range(8):
        yield _case(spec, f"wrong-at-random-{n}", [_anything(spec, rng), *good[:2]], seed)


def _anything(spec: DispatchSpec, rng: np.random.Generator) -> Batch:
    """Up to two tokens too many, of up to two beats too many, to any code of an expert."""
    codes = 1 << spec.port("i").fields[0].width
    tokens = int(rng.integers(1, min(spec.tokens + 2, 40), endpoint=True))
    lengths = rng.integers(0, spec.slots + 2, tokens, endpoint=True)
    return Batch(tuple(_token(rng, rng.integers(0, codes, n), bool(rng.random() < 0.3)) for n in lengths))


def wrong(spec: DispatchSpec, rng: np.random.Generator) -> dict[str, Batch]:
    """Too many tokens, too many beats, no such expert, an expert again; pruned tokens with that."""
    unknown = (1 << spec.port("i").fields[0].width) - 1
    long = _token(rng, [*range(spec.slots), 0, spec.experts - 1])
    again = _token(rng, [spec.experts - 1] * spec.slots)
    strange = _token(rng, [0, unknown][-spec.slots :])
    beyond = Batch((*_of(spec, rng, [0] * spec.tokens).tokens, _token(rng, [0]), _token(rng, [0])))
    batches = {"tokens": _of(spec, rng, [1] * (spec.tokens + 2)), "tokens-after-none": beyond}
    for name, token in (("beats", long), ("again", again), ("unknown", strange)):
        batches[name] = Batch((token, random_token(spec, rng, 1), token))
        batches[f"{name}-pruned"] = Batch((replace(token, pruned=True), random_token(spec, rng, 1)))
    return batches


def real(spec: DispatchSpec) -> tuple[Batch, int]:
    """A full batch, each token of as many experts as there may be, the first ones more often; how many entries."""
    rng = np.random.default_rng(0)
    likely = 1 / (1 + np.arange(spec.experts))
    chosen = [rng.choice(spec.experts, spec.slots, False, likely / likely.sum()) for _ in range(spec.tokens)]
    job = Batch(tuple(_token(rng, np.sort(row)) for row in chosen))
    return job, len(spec.compute(job).entries)
