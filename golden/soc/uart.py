"""Bytes on a serial line, 8N1: the line's specification, its levels, and what a receiver makes of levels."""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from golden.soc.bridge import GAP
from golden.spec import Spec, SpecError, param

BITS = 10
"""Of a byte on the line: start, eight from the lowest on, stop."""

DEVIATION = 0.02
"""Of the bit rate, at most: half of what both sides together may be wrong by."""


class Line(Spec):
    """A serial line, as clock cycles: a byte is a low start bit, eight bits with the lowest first, a high stop bit."""

    divisor: int = param(25, "clock cycles of a bit", low=4, high=65535)
    silence: int = param(8192, "bits without a start after which there is a gap", low=BITS, high=65535)

    @property
    def quiet(self) -> int:
        """Cycles that make a gap."""
        return self.silence * self.divisor


def divisor(clock: float, baud: int) -> int:
    """Clock cycles of a bit, for a clock in Hz; :class:`~golden.spec.SpecError` where none is near enough."""
    cycles = round(clock / baud)
    if not 4 <= cycles <= 65535:
        raise SpecError(f"baud must be between {clock / 65535:.0f} and {clock / 4:.0f} at {clock:.0f} Hz, not {baud}")
    if abs(clock / cycles / baud - 1) > DEVIATION:
        raise SpecError(f"baud must be within {DEVIATION:.0%} of {clock:.0f} Hz divided by an integer, not {baud}")
    return cycles


def levels(data: Iterable[int], cycles: float) -> NDArray[np.uint8]:
    """The line in each clock cycle while bytes follow one another; a bit may be a fraction of cycles long."""
    bits = [bit for byte in data for bit in (0, *(byte >> n & 1 for n in range(8)), 1)]
    return np.array([bits[int(at / cycles)] for at in range(round(len(bits) * cycles))], dtype=np.uint8)


def received(line: Line, level: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Cycle and symbol of bytes and gaps, from the levels of an idle line on: each bit is looked at in its middle.

    What is no byte, for its stop bit is low, makes the receiver deaf until the next gap.
    """
    at, since, heard, deaf = 1, 0, False, False
    while at < len(level):
        if heard and at - since > line.quiet:
            yield at, GAP
            heard = deaf = False
        if not (level[at - 1] and not level[at]):
            since = since if level[at] else at
            at += 1
            continue
        places = [at + line.divisor // 2 + n * line.divisor for n in range(BITS)]
        if places[-1] >= len(level):
            return
        heard = True
        seen = [int(level[place]) for place in places]
        if seen[0]:
            at = since = places[0]
            continue
        at = since = places[-1]
        deaf |= not seen[-1]
        if not deaf:
            yield at, sum(bit << n for n, bit in enumerate(seen[1:-1]))


class Ear:
    """Bytes from the cycles in which a line changes; it is high before the first."""

    def __init__(self, divisor: int):
        self._divisor = divisor
        self._edges: list[int] = []
        self._heard = 0  # changes that were looked at

    def change(self, cycle: int) -> None:
        self._edges.append(cycle)

    def bytes(self, now: int) -> bytes:
        """Those whose stop bit was there by now, each once."""
        found = bytearray()
        while self._heard < len(self._edges):
            start = self._edges[self._heard]
            middles = [start + self._divisor * (2 * n + 1) // 2 for n in range(BITS)]
            if middles[-1] > now:
                break
            counts = [bisect_right(self._edges, at) for at in middles]
            found.append(sum((1 - count % 2) << n for n, count in enumerate(counts[1:-1])))
            self._heard = counts[-1]
        return bytes(found)
