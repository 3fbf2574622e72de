"""When everything happens in the GEMM engine: how results are shared out over the dequantiser lanes, and cycle counts.

The array is systolic: row r and column c see step t of a tile r + c cycles after (0, 0) does. The lanes follow that
wave instead of waiting for its end. They form a grid of ``lane_rows x lane_cols``; lane (i, j) takes the rows i, i +
lane_rows, i + 2*lane_rows, ... and one segment of ``span = cols / lane_cols`` columns, one result a cycle in row-major
order, and runs i + j*span cycles behind lane (0, 0)::

                 segment 0   segment 1            a group ends at (0, 0) in cycle t
      row 0      lane 0,0    lane 0,1
      row 1      lane 1,0    lane 1,1             lane (i, j) reads its result s, of `depth`,
      row 2      lane 0,0    lane 0,1             in cycle t + 1 + wait + i + j*span + s
      row 3      lane 1,0    lane 1,1

so that one register per element, and one per row and segment for its sum of activations, holds a group's sum until it
is read, while the next group is summed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from golden.latency import QUEUE, SKID

MOST = 1024
"""Largest number of lanes, and of words per beat: Amaranth builds no module with more than 65,535 port bits."""


@dataclass(frozen=True)
class Grid:
    """How ``rows x cols`` results are shared out over ``lane_rows x lane_cols`` lanes."""

    rows: int
    cols: int
    lane_rows: int
    lane_cols: int

    @property
    def lanes(self) -> int:
        return self.lane_rows * self.lane_cols

    @property
    def turns(self) -> int:
        """Rows that each lane serves."""
        return self.rows // self.lane_rows

    @property
    def span(self) -> int:
        """Columns that each lane serves."""
        return self.cols // self.lane_cols

    @property
    def depth(self) -> int:
        """Results of one group in each lane: the cycles that draining a group takes."""
        return self.turns * self.span

    @property
    def wait(self) -> int:
        """Cycles by which all lanes start late, so that the last row of a lane with few columns has its sums."""
        return (self.turns - 1) * max(0, self.lane_rows - self.span)

    @property
    def holds(self) -> bool:
        """Whether nothing is overwritten before its lane has read it, at one group every ``depth`` cycles.

        A row's sum of activations is the tightest: there with a segment's first column, read until its last.
        """
        return self.wait + self.span <= self.depth


def grids(rows: int, cols: int, columns: int = 1) -> dict[int, Grid]:
    """All usable grids by number of lanes, ascending; of two with equal lanes, the one with fewer segments.

    ``columns`` are one block of the array, which no segment cuts. That leaves a cycle to the sums of a pair's right
    column, which stand there a cycle early (``Grid.holds`` has ``span - 1`` to spare).
    """
    found = {}
    for lane_cols in _divisors(cols)[::-1]:
        for lane_rows in _divisors(rows):
            grid = Grid(rows, cols, lane_rows, lane_cols)
            if grid.holds and grid.lanes <= MOST and grid.span % columns == 0:
                found[grid.lanes] = grid
    return dict(sorted(found.items(), key=lambda item: item[0]))


def _divisors(n: int) -> list[int]:
    return [d for d in range(1, n + 1) if n % d == 0]


def chunk(grid: Grid, words: int) -> int | None:
    """Consecutive words of one beat that come from one lane, or ``None`` where ``words`` per beat are not possible.

    Lanes deliver whole row segments in turn, so a beat is a part of one segment or one segment each of several lanes.
    """
    if grid.lanes == 1:
        return words if grid.depth % words == 0 else None
    if grid.span % words == 0:
        return words
    several, rest = divmod(words, grid.span)
    return grid.span if rest == 0 and grid.lanes % several == 0 else None


def words_options(grid: Grid) -> list[int]:
    """All possible numbers of result words per beat, ascending."""
    return [w for w in range(1, min(MOST, grid.rows * grid.cols) + 1) if chunk(grid, w)]


@dataclass(frozen=True)
class Timing:
    """Cycle numbers of one engine, from its grid and pipeline depths.

    ``depth``: register stages of the element; ``lane_depth``: cycles from a lane's read to its finished word;
    ``recurrence``: smallest distance of two groups that the cross-group adder can take; ``words``: per output beat;
    ``align``: cycles from a group's last activation until its first one comes out of the aligner, 0 without one.
    """

    grid: Grid
    depth: int
    lane_depth: int
    recurrence: int
    words: int
    align: int = 0

    @property
    def lead(self) -> int:
        """Cycles from a step at the edge of the array to the first lane's first read, less one."""
        return self.depth + self.grid.wait

    @property
    def period(self) -> int:
        """Smallest distance of two group ends."""
        return max(self.grid.depth, self.recurrence)

    @property
    def beats(self) -> int:
        """Output beats of a tile."""
        return self.grid.rows * self.grid.cols // self.words

    @cached_property
    def ready(self) -> np.ndarray:
        """For each beat of a tile: cycles from the tile's last step until the beat can leave its lanes' queues."""
        g = self.grid
        size = chunk(g, self.words)
        assert size
        flat = np.arange(g.rows * g.cols).reshape(self.beats, self.words)[:, size - 1 :: size]
        row, col = np.divmod(flat, g.cols)  # the last word of each lane's share of the beat
        i, j = row % g.lane_rows, col // g.span
        slot = row // g.lane_rows * g.span + col % g.span
        written = 1 + self.lead + i + j * g.span + slot + self.lane_depth
        return written.max(axis=1) + QUEUE

    @property
    def first(self) -> int:
        """Cycles from a tile's last step to its first result beat at the output register's input."""
        return int(self.ready[0])

    @cached_property
    def drain(self) -> int:
        """Cycles from a tile's last step to its last result beat at the output register's input, output idle before."""
        return int((self.ready + np.arange(self.beats)[::-1]).max())

    @cached_property
    def tiles(self) -> int:
        """Tiles that may be under way or queued: enough for one tile every ``period`` cycles without a pause."""
        return -(-(self.drain + SKID + 1) // self.period)

    @property
    def groups(self) -> int:
        """Groups that may be between their last step and the end of their drain in the last lane's pipeline."""
        behind = self.grid.lane_rows - 1 + self.grid.cols - self.grid.span
        return -(-(1 + self.lead + behind + self.grid.depth + self.lane_depth) // self.period) + 1

    def cycles(self, lengths: Sequence[int], group: int) -> int:
        """Cycles of tiles of ``lengths`` steps back to back, first accepted input beat to last delivered result.

        The step that ends a group waits until ``period`` cycles after the last such step; the step that ends a tile
        waits for a free place among ``tiles``. Everything else follows from that.
        """
        step = SKID - 1  # issue cycle of the latest step; the first beat is accepted in cycle 0
        group_end = -self.period
        came = step  # cycle in which the latest activation so far is there; the aligner's memory never holds it up
        out: list[int] = []  # cycle in which each tile's last beat leaves
        for n, length in enumerate(lengths):
            sizes = [group] * (length // group) + [length % group] if group else [length]
            for size in filter(None, sizes):
                came += size
                aligned = came + self.align + size - 1 if self.align else came
                step = group_end = max(step + size, group_end + self.period, aligned)
            if n >= self.tiles:
                step = group_end = max(step, out[n - self.tiles] + 1)
            out.append(max(step + self.drain + SKID, (out[-1] if out else -1) + self.beats))
        return out[-1] + 1
