"""When everything happens with stationary weights: how often a pass may begin, and cycle counts.

A tile is ``ceil(K / rows)`` *passes* of its tokens through the array, each against the next ``rows`` steps of weights,
which are loaded while the pass before them runs::

    weights   | pass 0 |      | pass 1 |      | pass 2 |                 one beat per step: `rows` cycles
    tokens             | 0 1 2 ... M-1 | 0 1 2 ... M-1 | 0 1 2 ... M-1   one beat per token: M cycles
    column 0                |  sums of M tokens | ...                    `foot` cycles later, column c another c

"""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from golden.latency import QUEUE, SKID


@dataclass(frozen=True)
class Passes:
    """Cycle numbers of one engine with stationary weights, from its sizes and pipeline depths.

    ``tokens``: of a tile, at most; ``words``: per output beat; ``stages``: register stages of the element;
    ``lane_depth``: cycles from the end of a column to its finished word; ``recurrence``: smallest distance of two
    passes of one token.
    """

    rows: int
    cols: int
    tokens: int
    words: int
    stages: int
    lane_depth: int
    recurrence: int

    @property
    def beats(self) -> int:
        """Output beats of a token."""
        return self.cols // self.words

    @property
    def foot(self) -> int:
        """Cycles from a token at the edge of the array to the cycle before its sum leaves column 0."""
        return self.rows + self.stages - 1

    def _ready(self, column: int) -> int:
        return self.foot + column + self.lane_depth + QUEUE

    @property
    def first(self) -> int:
        """Cycles from a token of a tile's last pass to its first result beat at the output register's input."""
        return self._ready(self.words - 1)

    @property
    def drain(self) -> int:
        """The same to its last result beat, output idle before."""
        return self._ready(self.cols - 1)

    @property
    def places(self) -> int:
        """Tokens whose results may be under way or queued: enough for tiles of ``tokens`` tokens one after the other,
        as long as a tile has no fewer passes than a token has beats."""
        return self.tokens - self.tokens // self.beats + -(-(self.drain + 1) // self.beats) + 1

    @property
    def groups(self) -> int:
        """Groups whose parameters some column still needs, at most."""
        return -(-(self.foot + self.cols + 1) // self.period(1)) + 2

    def period(self, tokens: int) -> int:
        """Cycles from the beginning of a pass to that of the next."""
        return max(tokens, self.rows, self.recurrence)

    def cycles(self, tiles: Iterable[tuple[int, int]]) -> int:
        """Cycles of tiles of (tokens, passes) back to back, first accepted input beat to last delivered result.

        Tokens of a tile's last pass wait for one of the ``places``. Everything else follows from ``period``.
        """
        begin = SKID + self.rows  # the first beat is accepted in cycle 0
        left: deque[int] = deque(maxlen=self.places)  # when each token's last beat left its queues
        for tokens, passes in tiles:
            at = begin + (passes - 1) * self.period(tokens)
            for n in range(tokens):
                if len(left) == self.places:
                    at = max(at, left[0] + 1)
                if n == 0:
                    begin = at
                left.append(max(at + self.drain, left[-1] + self.beats if left else 0))
                at += 1
            begin = max(begin + self.rows, at + max(0, self.recurrence - tokens))
        return left[-1] + SKID + 1
