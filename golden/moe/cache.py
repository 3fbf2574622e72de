"""Experts that do not all fit on chip: specification and bit-true model of the unit ``expert_cache``."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from golden import latency
from golden.moe.cache_timing import Clockwork, Moment
from golden.moe.expert import ADDRESS_BITS
from golden.moe.residency import POLICIES, KeyList
from golden.ports import Beats, Field, StatusPort, StreamPort
from golden.spec import SpecError, UnitSpec, param

Int = NDArray[np.int64]

LENGTH_BITS = 24
"""Of an expert's length in beats of far memory."""

BEATS_BITS = 32
COUNT_BITS = 16
WAIT_BITS = 24
NUMBER_BITS = 4
"""Of a load's number: twice as many as may be outstanding, so that one that is over is known from one to come."""

STEPS = 5
"""Cycles from a list's last beat to a hit's way out, beside two looks at every place: taken, complete, chosen, decided,
queued."""

ERRORS = (
    "no such key",
    "a list of more keys than it may have",
    "a table of more keys than there are",
    "a load failed",
    "a load took longer than the timeout",
    "a fill of a load that is over",
    "a done of another slot than that of the oldest job",
    "a pin that would leave no place",
)


@dataclass(frozen=True, eq=False)
class Run:
    """A job: ``table[keys, 2]``, address and length of each expert, and the lists in order, one at least.

    ``bad``: numbers of the loads, from 0 in this run, that memory fails; ``lost``: of those that it never answers.
    """

    table: Int
    lists: tuple[KeyList, ...]
    bad: frozenset[int] = frozenset()
    lost: frozenset[int] = frozenset()


class Served(NamedTuple):
    """The result of a job, a row per beat, columns as the fields of ``grant``, ``dma`` and ``stats``."""

    grants: Int
    ends: Int
    """Whether a grant is its list's last."""
    loads: Int
    stats: Int


class ExpertCacheSpec(UnitSpec):
    """Which experts are on chip: tags of ``slots`` places, prefetch by hints, demand loads, grants when an expert is
    there.

    Requests    lists of keys, in one order; ``need`` of a list's first beat says what it is. Hints: what may be needed.
                Needs: what the router decided, in order of use. A key is a number below that of the table's entries,
                ``layer * experts + expert``.
    Decisions   :class:`golden.moe.residency.Residency`, for the keys of a list in order, after all of it has come. They
                depend on the lists alone: a victim that is still loaded or in use is waited for.
    Loads       one per decision that finds its key absent. Those for needs go before those for hints; a need of what is
                still queued for a hint brings it forward; else in the order of the decisions.
    Grants      one per need, in order, as soon as the expert is loaded. Its place is in use from the decision to its
                ``done``. A load that failed is tried once more when its expert is the next to be granted; if that fails
                too the grant says so (``failed``), and the job must not be done, but its ``done`` must come.
    Streams     ``desc``: address and length of keys 0, 1, ..., tlast on the last; it begins a run with all places
                empty. ``i``: the lists, tlast on each one's last; a list without keys is one beat with ``valid`` 0;
                ``pin``: the expert stays, once it is there; ``final`` on a list's last beat: the run ends when its jobs
                are done and nothing is loaded, then comes the next table. ``dma``: a load, numbered modulo 16 from 0 in
                each run: into which slot, of which key, from where, how many beats. ``fill``: loads in order: the
                number, and whether it is all there (``ok``); it is taken while loads are outstanding, one whose load is
                not the oldest waits, one whose load is over is ignored. ``grant``: key and slot, ``miss``: absent at
                the decision, ``late``: not loaded at the decision though not absent, ``failed``; ``wait``: cycles for
                which it came first and was not loaded, at most 2^24 - 1; tlast on the list's last; a list of no needs
                gives one with ``valid`` 0, which has no ``done``. ``done``: slots in the order of grants. ``stats``:
                a beat per list of needs: its hits, misses and late ones, and since the one before: prefetches begun,
                useless and dropped, evictions, beats of all loads decided, each modulo its width.
    Latency     ``latency`` cycles from the only beat of a list to the grant of what is there, of an idle unit.
    Throughput  a key takes ``slots + 1`` cycles to come and ``slots + 2`` to be decided: decisions are serial, as a
                load takes far longer. ``cycles`` is exact for fills and dones that come at once
                (:class:`golden.moe.cache_timing.Clockwork`).
    Ranges      bits of ``sts_error``: 0: a key beyond the table, 1: more than ``most`` keys in a list, 2: more than
                ``keys`` in a table: each is left out; 3: a load failed; 4: ``timeout`` cycles after it was the oldest
                (0: never) a load counts as failed; 5: a fill for a load that is over; 6: ``done`` names another slot
                than the oldest grant's: it counts for that; 7: a pin is refused. ``sts_key``: of the first failed load.
                Fields ``late`` and ``wait`` and the order of ``dma`` depend on time, all else on the streams alone, as
                long as no load fails.
    Source      SiDA-MoE (arXiv 2310.18859): prediction, expert cache, loads in order of first use.
    Not done    loads in parts; the data itself, which goes from memory to its slot outside; needs of a list before all
                of it has come.
    """

    unit: ClassVar[str] = "expert_cache"

    slots: int = param(7, "places for experts", low=1, high=64)
    keys: int = param(420, "experts of all layers", low=1, high=65536)
    most: int = param(16, "most keys of a list", low=1, high=64)
    policy: str = param("lru", "whose place is taken", choices=POLICIES)
    outstanding: int = param(2, "loads that memory works at, at most", low=1, high=1 << (NUMBER_BITS - 1))
    timeout: int = param(0, "cycles after which a load counts as failed; 0: never", low=0, high=1 << 30)

    def _check(self) -> None:
        if 0 < self.timeout < 4:
            raise SpecError(f"timeout must be 0 or at least 4, not {self.timeout}")

    @property
    def key_bits(self) -> int:
        return max(1, (self.keys - 1).bit_length())

    @property
    def slot_bits(self) -> int:
        return max(1, (self.slots - 1).bit_length())

    @property
    def queue(self) -> int:
        """Decided needs that wait for their grants, and granted ones whose jobs are not done."""
        return max(2, self.most)

    @property
    def ports(self) -> tuple[StreamPort, ...]:
        key, slot = _uint("key", self.key_bits), _uint("slot", self.slot_bits)
        place = (_uint("address", ADDRESS_BITS), _uint("length", LENGTH_BITS))
        number, last = _uint("number", NUMBER_BITS), ("need", "valid", "pin", "final")
        outcome = [_uint(name, 1) for name in ("valid", "miss", "late", "failed")]
        of_list = [_uint(name, self.most.bit_length()) for name in ("hits", "misses", "late")]
        since = [_uint(name, COUNT_BITS) for name in ("prefetched", "useless", "dropped", "evictions")]
        stats = (*of_list, *since, _uint("beats", BEATS_BITS))
        return (
            StreamPort("desc", "in", 1, place, "table", "where an expert is in far memory, how many beats it has"),
            StreamPort(
                "i", "in", 1, (key, *(_uint(name, 1) for name in last)), "list", "keys that are or may be needed"
            ),
            StreamPort("fill", "in", 1, (number, _uint("ok", 1)), "", "a load is over"),
            StreamPort("done", "in", 1, (slot,), "", "a granted job is done"),
            StreamPort("dma", "out", 1, (number, slot, key, *place), "", "a load", timed=("number",), ordered=False),
            StreamPort(
                "grant",
                "out",
                1,
                (key, slot, *outcome, _uint("wait", WAIT_BITS)),
                "list",
                "an expert that is there",
                timed=("late", "wait"),
            ),
            StreamPort("stats", "out", 1, stats, "", "of a list of needs", timed=("late",)),
        )

    @property
    def status(self) -> tuple[StatusPort, ...]:
        key = tuple(f"bit {i} of the key whose load failed first" for i in range(self.key_bits))
        return (StatusPort("error", ERRORS), StatusPort("key", key))

    @property
    def latency(self) -> int:
        return latency.SKID + 2 * self.slots + STEPS + latency.SKID - 1

    def figures(self) -> dict[str, int | float]:
        return {
            "latency": self.latency,
            "cycles_per_key": 2 * self.slots + 3,
            "table_bits": self.keys * (ADDRESS_BITS + LENGTH_BITS),
        }

    def accepted(self, run: Run) -> tuple[KeyList, ...]:
        """The lists without what the unit leaves out; :class:`~golden.spec.SpecError` for what is no run."""
        if run.table.ndim != 2 or run.table.shape[1] != 2 or not len(run.table):
            raise SpecError(f"table must have shape [keys, 2], one key at least, not {list(run.table.shape)}")
        if not run.lists:
            raise SpecError("lists must be one or more, not none")
        least = min((key for one in run.lists for key in one.keys), default=0)
        if least < 0:
            raise SpecError(f"keys must be at least 0, not {least}")
        known = min(len(run.table), self.keys)
        return tuple(one._replace(keys=[key for key in one.keys if key < known][: self.most]) for one in run.lists)

    def clockwork(self, *runs: Run, **timing: Any) -> Clockwork:
        """The runs, played: see :class:`golden.moe.cache_timing.Clockwork`."""
        return Clockwork(self, [self._moments(run) for run in runs], **timing)

    def _moments(self, run: Run) -> Moment:
        known = min(len(run.table), self.keys)
        lists = []
        for raw, one in zip(run.lists, self.accepted(run), strict=True):
            took = [key < known for key in raw.keys] or [False]
            lists.append((one, [t and sum(took[:n]) < self.most for n, t in enumerate(took)]))
        return Moment(len(run.table), [int(length) for _, length in run.table[:known]], lists, run.bad, run.lost)

    def compute(self, job: Run) -> Served:
        return self.served(job, self.clockwork(job))

    def served(self, job: Run, played: Clockwork) -> Served:
        """What was seen of one run, as beats."""
        table = job.table.tolist()
        loads = [(number % 16, slot, key, *table[key]) for number, slot, key in played.loads]
        grants = np.array([grant[1:] for grant in played.grants], np.int64).reshape(-1, 7)
        ends = np.array([grant[0] for grant in played.grants], np.int64)
        return Served(
            grants, ends, np.array(loads, np.int64).reshape(-1, 5), np.array(played.stats, np.int64).reshape(-1, 8)
        )

    def errors(self, job: Run) -> dict[str, int]:
        """What a job sets of the status, nothing stalling."""
        played = self.clockwork(job)
        known = min(len(job.table), self.keys)
        flags = (
            any(key >= known for one in job.lists for key in one.keys),
            any(sum(key < known for key in one.keys) > self.most for one in job.lists),
            len(job.table) > self.keys,
            bool(played.failed) and any(not lost for _, lost in played.failed),
            any(lost for _, lost in played.failed),
            False,
            False,
            played.refused > 0,
        )
        first = played.failed[0][0] if played.failed else 0
        return {"sts_error": sum(1 << i for i, flag in enumerate(flags) if flag), "sts_key": first}

    def inputs(self, job: Run) -> dict[str, Beats]:
        played = self.clockwork(job)
        address, length = job.table.T
        numbers = [n for n, *_ in played.loads if n not in job.lost]
        slots = [grant[2] for grant in played.grants if grant[3]]
        return {
            "desc": self.port("desc").pack(address=address, length=length, last=_last(len(address))),
            "i": self._requests(job.lists),
            "fill": self.port("fill").pack(number=np.array(numbers) % 16, ok=[n not in job.bad for n in numbers]),
            "done": self.port("done").pack(slot=np.array(slots, np.int64)),
        }

    def _requests(self, lists: Sequence[KeyList]) -> Beats:
        rows = []
        for n, one in enumerate(lists):
            for key in one.keys or [0]:
                rows.append((key, one.need, len(one.keys) > 0, key in one.pins and len(one.keys) > 0, 0, 0))
            rows[-1] = (*rows[-1][:4], n == len(lists) - 1, 1)
        key, need, valid, pin, final, last = np.array(rows, np.int64).T
        return self.port("i").pack(key=key, need=need, valid=valid, pin=pin, final=final, last=last)

    def outputs(self, job: Run, result: Served) -> dict[str, Beats]:
        return {
            "dma": self.port("dma").pack(**self._columns("dma", result.loads)),
            "grant": self.port("grant").pack(**self._columns("grant", result.grants), last=result.ends),
            "stats": self.port("stats").pack(**self._columns("stats", result.stats)),
        }

    def _columns(self, port: str, rows: Int) -> dict[str, Int]:
        return {f.name: rows[:, n] for n, f in enumerate(self.port(port).fields)}

    def result(self, job: Run, outputs: Mapping[str, Beats]) -> Served:
        rows = {
            name: np.concatenate(list(self.port(name).unpack(outputs[name]).values()), axis=1)
            for name in ("grant", "dma", "stats")
        }
        return Served(rows["grant"], outputs["grant"].last.astype(np.int64), rows["dma"], rows["stats"])

    def cycles(self, *jobs: Run) -> int:
        return self.clockwork(*jobs).last + latency.SKID + 1


def _uint(name: str, bits: int) -> Field:
    return Field(name, bits, f"uint{bits}")


def _last(n: int) -> NDArray[np.bool_]:
    return np.arange(n) == n - 1
