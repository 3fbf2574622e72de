"""The cycles of the unit ``lutgemm``: what its sequencer and pipelines do, cycle by cycle, while no stream stalls."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum


@dataclass(frozen=True)
class Work:
    """A token as timing sees it: beats of indices, groups of output channels, whether it loads a table."""

    rows: int
    groups: int
    load: bool


@dataclass(frozen=True)
class Pipeline:
    """``front``: from a step to the cycle in which it is accumulated; ``reduce``: cycles for which a group's sums are
    kept while the next group is accumulated; ``table_beats``: of a table."""

    front: int
    reduce: int
    table_beats: int

    def transfers(self, tokens: Sequence[Work], first: int, ready: int | None = None) -> list[int]:
        """The cycle in which each group is handed on; the first beats of all inputs come in cycle ``first``, and so
        there is one token's last one, unless it comes later: in the cycle before ``ready``."""
        loads = _Loads(tokens, first) if ready is None else _Loads([Work(ready - first, 1, False)], first)
        sequencer = _Sequencer(self, tokens, loads, first)
        total = sum(work.groups for work in tokens)
        while len(sequencer.handed_on) < total:
            sequencer.cycle()
        return sequencer.handed_on


class _Mark(IntEnum):
    """What is under way in a stage of the pipeline."""

    NONE = 0
    ROW = 1
    ENDS_GROUP = 2
    ENDS_TOKEN = 3


class _Sequencer:
    """The component of that name in :mod:`hdl.kmeans.sequencer`."""

    def __init__(self, pipeline: Pipeline, tokens: Sequence[Work], loads: "_Loads", first: int):
        self._pipeline, self._tokens, self._loads = pipeline, tokens, loads
        self._now = first
        self._free = first  # no sums are in use from here on
        self._table = first + pipeline.table_beats  # the next table is complete from here on
        self._running = False
        self._token = self._group = self._row = 0  # to be read next
        self._fetched = _Mark.NONE  # was read and waits for its weights
        self._under_way = deque([_Mark.NONE] * pipeline.front)  # the oldest on the left
        self.handed_on: list[int] = []

    def cycle(self) -> None:
        go = self._under_way[0] < _Mark.ENDS_GROUP or self._now >= self._free
        step = self._fetched if go else _Mark.NONE
        if go:
            self._fetched = _Mark.NONE
            self._hand_on()
        self._read()
        idle = not any(self._under_way) and not step and not self._fetched and self._now >= self._free
        self._begin(idle and self._now >= self._table)
        if go:
            self._under_way.popleft()
            self._under_way.append(step)
        self._now += 1

    def _hand_on(self) -> None:
        if self._under_way[0] >= _Mark.ENDS_GROUP:
            self._free = self._now + self._pipeline.reduce
            self.handed_on.append(self._now)

    def _read(self) -> None:
        """The next row, if the one before it has met its weights."""
        if not self._running or self._fetched:
            return
        work = self._tokens[self._token]
        ends_group = self._row == work.rows - 1
        ends = ends_group and self._group == work.groups - 1
        self._fetched = _Mark.ENDS_TOKEN if ends else _Mark.ENDS_GROUP if ends_group else _Mark.ROW
        self._row = 0 if ends_group else self._row + 1
        self._group = 0 if ends else self._group + ends_group
        if ends:
            self._loads.freed(self._token, self._now)
            self._token, self._running = self._token + 1, False

    def _begin(self, may_load: bool) -> None:
        """The next token, if it is complete and no other one is being read."""
        if self._running or self._token == len(self._tokens) or self._now < self._loads.ready(self._token):
            return
        load = self._tokens[self._token].load
        self._running = may_load or not load
        if self._running and load:
            self._table = self._now + 1 + self._pipeline.table_beats


class _Loads:
    """When tokens are complete in a memory of two."""

    def __init__(self, tokens: Sequence[Work], first: int):
        self._tokens = tokens
        self._complete: list[int] = []
        self._free = [first, first]

    def freed(self, token: int, now: int) -> None:
        self._free.append(now + 1)
        assert len(self._free) == token + 3

    def ready(self, token: int) -> int:
        """The first cycle in which all of its rows are there."""
        while len(self._complete) <= token:
            n = len(self._complete)
            before = self._complete[-1] if n else 0
            self._complete.append(max(before, self._free[n]) + self._tokens[n].rows)
        return self._complete[token]
