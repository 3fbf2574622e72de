"""When a variant's results come: every cycle of the unit ``orizuru``, as formulas.

::

    write ... write    settle    swap   fill   largest lag smallest ... step ... largest   ...
    first     last beat          ^             ^
    beat                         |             the popper takes results
                                 the vector is exchanged: from here on the next one loads
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from golden import latency


@dataclass(frozen=True)
class Load:
    """A vector as timing sees it: its beats and its results."""

    beats: int
    results: int


@dataclass(frozen=True)
class Timing:
    """The cycles of a variant while no stream stalls.

    ``settle``: from the write of a vector's last beat to the earliest exchange. ``fill``: from the cycle after the
    exchange to the first winner. ``step``: from one largest (of one side alone: one result) to the next; ``alone``: so
    much less before a largest that ends the vector. ``per_step``: results of a step. ``load``: cycles per beat.
    ``first_lag`` and ``lag``: from a largest to the smallest of its step, in the first step and in later ones.
    ``refills``: for each result of a step the cycle, counted from its largest, in which the loader waits since a row is
    read again.
    """

    settle: int
    fill: int
    step: int
    per_step: int = 1
    load: int = 1
    first_lag: int = 0
    lag: int = 0
    alone: int = 0
    refills: tuple[int, ...] = ()

    @property
    def latency(self) -> int:
        """From the input beat that ends a vector to the first output beat, on an idle unit."""
        return latency.SKID + self.settle + 1 + self.fill + latency.SKID

    def result(self, number: int, results: int) -> int:
        """From the first cycle after the exchange to one of a vector's results."""
        step, side = divmod(number, self.per_step)
        at = self.fill + step * self.step
        if side:
            return at + (self.lag if step else self.first_lag)
        return at - (self.alone if step and number == results - 1 else 0)

    def _waits(self, results: int) -> Iterator[int]:
        """When the loader waits, from the first cycle after the exchange."""
        if self.refills:
            for number in range(results):
                side = number % self.per_step
                yield self.result(number - side, results) + self.refills[side]

    def _written(self, write: int, beats: int, waits: Iterable[int]) -> int:
        """The cycle in which the last of the beats is written, the first one in cycle ``write`` at the earliest."""
        blocked = set(waits)
        at = write
        for beat in range(beats):
            at += self.load if beat else 0
            while at in blocked:
                at += 1
        return at

    def cycles(self, jobs: Sequence[Load]) -> int:
        """From the first input beat to the last output beat, of vectors back to back."""
        write, end, waits = latency.SKID, 0, list[int]()
        for job in jobs:
            swap = max(self._written(write, job.beats, waits) + self.settle, end)
            waits = [swap + 1 + wait for wait in self._waits(job.results)]
            end = swap + 1 + (self.result(job.results - 1, job.results) if job.results else 0)
            write = swap
        return end + latency.SKID + 1
