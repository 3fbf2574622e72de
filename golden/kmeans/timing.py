"""The cycles of the unit ``lutgemm``: what its sequencer and pipelines do, cycle by cycle, while no stream stalls."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass


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
        done: list[int] = []
        loaded = _Loads(tokens, first) if ready is None else _Loads([Work(ready - first, 1, False)], first)
        total = sum(work.groups for work in tokens)
        table = first + self.table_beats  # the next table is complete from here on
        pipe: deque[int] = deque([0] * self.front)  # rows' marks: 1 a row, 2 the last of a group, 3 of a token
        now, free, token, row, group, running = first, 0, 0, 0, 0, False
        fetched = 0  # the mark of the row that was read and waits for its weights
        while len(done) < total:
            waits = pipe[0] >= 2 and now < free
            if not waits and pipe[0] >= 2:
                free = now + self.reduce
                done.append(now)
            took = 0
            if not waits:
                took, fetched = fetched, 0
            can_read = not fetched
            ends = False
            if running and can_read:
                work = tokens[token]
                ends_group = row == work.rows - 1
                ends = ends_group and group == work.groups - 1
                fetched = 3 if ends else 2 if ends_group else 1
                row = 0 if ends_group else row + 1
                group = 0 if ends else group + ends_group
            if ends:
                loaded.freed(token, now)
                token, running = token + 1, False
            if token < len(tokens) and not running and now >= loaded.ready(token):
                idle = not any(pipe) and not took and not fetched and now >= free
                if not tokens[token].load or (idle and now >= table):
                    running = True
                    if tokens[token].load:
                        table = now + 1 + self.table_beats
            if not waits:
                pipe.popleft()
                pipe.append(took)
            now += 1
        return done


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
