"""One candidate of every group, so that the sum of errors is least and the sum of bytes within a budget: exactly."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from golden.spec import SpecError


class Candidate(NamedTuple):
    """What a choice costs."""

    bytes: int
    error: float


class Choice(NamedTuple):
    """The best one."""

    picks: tuple[int, ...]
    """of every group, the place of its candidate"""
    bytes: int
    error: float


def least_bytes(groups: Sequence[Sequence[Candidate]]) -> int:
    """What the smallest candidates of all groups are together."""
    return sum(min(c.bytes for c in group) for group in groups)


def choose(groups: Sequence[Sequence[Candidate]], budget: int) -> Choice:
    """The choice of least error among those of ``budget`` bytes at most; of equal errors that of fewest bytes.

    Dynamic programming over all sums of bytes, in units of the greatest common divisor of what candidates of a group
    differ by: ``len(groups)`` bytes of memory per such sum, and as many steps per candidate; nothing is approximated.
    Errors are added up in float64, group after group.

    Raises :class:`~golden.spec.SpecError` for a budget that is too small, a group without candidates, and an error that
    is not finite.
    """
    for group in groups:
        if not group or not all(math.isfinite(c.error) for c in group):
            raise SpecError(f"candidates must be one or more of finite error, not {list(group)}")
    least = least_bytes(groups)
    if budget < least:
        raise SpecError(f"budget must be at least {least:,} bytes, the smallest candidates together, not {budget:,}")
    orders = [_undominated(group) for group in groups]
    steps = [
        [group[i].bytes - group[order[0]].bytes for i in order] for group, order in zip(groups, orders, strict=True)
    ]
    unit = math.gcd(*(step for group in steps for step in group)) or 1
    room = min(budget - least, sum(group[-1] for group in steps)) // unit
    best = np.full(room + 1, np.inf)  # the least error of exactly so many units more than the least
    best[0] = 0
    picked = []
    for group, order, more in zip(groups, orders, steps, strict=True):
        best, pick = _added(best, [group[i].error for i in order], [step // unit for step in more])
        picked.append(pick)
    at = int(np.argmin(best))
    error, used = float(best[at]), least + at * unit
    picks = []
    for pick, order, more in zip(picked[::-1], orders[::-1], steps[::-1], strict=True):
        place = int(pick[at])
        picks.append(order[place])
        at -= more[place] // unit
    return Choice(tuple(picks[::-1]), used, error)


def _undominated(group: Sequence[Candidate]) -> list[int]:
    """Places of the candidates that more bytes make better, by bytes."""
    order = sorted(range(len(group)), key=lambda i: group[i])
    kept = order[:1]
    for i in order[1:]:
        if group[i].error < group[kept[-1]].error:
            kept.append(i)
    return kept


def _added(best: np.ndarray, errors: Sequence[float], steps: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """The least errors with one more group, and which of its candidates they have."""
    new = np.full_like(best, np.inf)
    pick = np.zeros(len(best), np.uint8 if len(errors) <= 256 else np.uint16)
    for place, (error, step) in enumerate(zip(errors, steps, strict=True)):
        if step < len(best):
            sums = best[: len(best) - step] + error
            better = sums < new[step:]
            new[step:][better] = sums[better]
            pick[step:][better] = place
    return new, pick
