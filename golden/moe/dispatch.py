"""Queues of tokens, one per expert: specification and bit-true model of the unit ``dispatch``."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from golden import latency
from golden.ports import Beats, Field, StatusPort, StreamPort
from golden.spec import SpecError, UnitSpec, param

Int = NDArray[np.int64]

START = 2
"""Cycles from the one in which a batch's last beat is accepted to its first job: the batch is complete, the walk
begins."""

READ = 1
"""Cycles by which an entry comes after its expert: its queue's memory is read."""


@dataclass(frozen=True, eq=False)
class Token:
    """The experts of a token and their weights (FP32 bit patterns); ``pruned``: it is finished, none is computed."""

    expert: Int
    weight: Int
    pruned: bool = False


def per_token(chosen: Int, tokens: int) -> tuple[Token, ...]:
    """Of ``[chosen, 3]``: token, expert, weight. What is beyond so many tokens is left out."""
    mine = (chosen[chosen[:, 0] == t] for t in range(tokens))
    return tuple(Token(rows[:, 1], rows[:, 2]) for rows in mine)


@dataclass(frozen=True, eq=False)
class Batch:
    """A job: tokens in order, one at least."""

    tokens: tuple[Token, ...]


class Queues(NamedTuple):
    """The result of a job."""

    jobs: Int
    """``[non-empty experts, 3]``: expert, its first entry, how many."""
    entries: Int
    """``[entries, 3]``: token, slot, weight; expert after expert."""
    counts: Int
    """``[experts]``: how many tokens chose each expert."""
    dropped: Int
    """``[experts]``: how many of them found its queue full."""


class DispatchSpec(UnitSpec):
    """Expert-major queues of a batch: which tokens each expert computes, in ascending token order.

    Formula     ``count[e]`` is the number of tokens with expert e, ``kept[e] = min(count[e], capacity)`` (``count[e]``
                without a capacity), ``first[e]`` the sum of ``kept`` below e. Entry ``(token, slot)`` of expert e is at
                ``first[e]`` plus the number of tokens before it that chose e; where that number is ``capacity`` or
                more the entry is dropped. Tokens count from 0 in their batch, slots from 0 in their token.
    Streams     ``i``: an expert of a token and its weight a beat, tlast on the token's last; a token without experts is
                a beat with ``valid`` 0. ``pruned`` 1: the token takes a number but makes no entry. ``final`` 1, looked
                at with tlast: the batch ends. ``job``: a beat per expert that has entries, experts ascending, tlast on
                the batch's last; a batch without entries gives one beat whose ``valid`` is 0 (and the rest too).
                ``o``: the entries of those jobs in order, tlast on each expert's last. ``stats``: ``count`` and
                ``count - kept`` of all experts in order, tlast on the last.
    Latency     ``latency`` cycles from the beat that ends a batch to its first job and its first statistics,
                ``entry_latency`` to its first entry, of an idle unit.
    Throughput  an entry per cycle in and out; the next batch comes in while one goes out. A batch goes out in
                ``max(entries, experts)`` cycles, and its queues take beats again in the cycle after that: two batches
                of n entries each, and so on, take ``2 n + 1`` cycles. ``cycles`` is exact.
    Memory      ``2 * experts`` queues of ``capacity`` (else ``tokens``) entries, rounded up to a power of two. No sort.
    Ranges      bits of ``sts_error``: 0: a batch had more than ``tokens`` tokens, 1: a token more than ``slots`` beats,
                2: no such expert, 3: an expert twice in a token; such a beat makes no entry and counts nowhere.
                With ``capacity``, 4: an entry was dropped.
    Source      expert-major dispatch of CMoE (arXiv 2502.04416); pruned tokens as in arXiv 2211.10017.
    Not done    no map from tokens back to their entries: who needs it writes it while the entries go by.
    """

    unit: ClassVar[str] = "dispatch"

    experts: int = param(8, "experts", low=1, high=64)
    tokens: int = param(64, "most tokens of a batch", low=1, high=1024)
    slots: int = param(None, "most experts of a token (default: 8, or experts where they are fewer)", low=1, high=64)
    capacity: int = param(0, "most entries of an expert, what is beyond is dropped; 0: any", low=0, high=1024)

    def _derive(self) -> dict[str, int]:
        return {"slots": min(8, self.experts)}

    def _check(self) -> None:
        if self.slots > self.experts:
            raise SpecError(f"slots must be at most experts = {self.experts}, not {self.slots}")
        if self.capacity > self.tokens:
            raise SpecError(f"capacity must be at most tokens = {self.tokens}, not {self.capacity}")

    @property
    def depth(self) -> int:
        """Entries of a queue."""
        return self.capacity or self.tokens

    @property
    def count_bits(self) -> int:
        return self.tokens.bit_length()

    @property
    def ports(self) -> tuple[StreamPort, ...]:
        expert, token, slot = (
            _index(name, n) for name, n in (("expert", self.experts), ("token", self.tokens), ("slot", self.slots))
        )
        weight = Field("weight", 32, "fp32")
        valid, pruned, final = (Field(name, 1, "uint1") for name in ("valid", "pruned", "final"))
        first = _index("first", self.experts * self.depth)
        count, dropped = (Field(name, self.count_bits, f"uint{self.count_bits}") for name in ("count", "dropped"))
        return (
            StreamPort("i", "in", 1, (expert, weight, valid, pruned, final), "token", "experts of a token"),
            StreamPort("job", "out", 1, (expert, first, count, valid), "batch", "an expert, its first entry, how many"),
            StreamPort("o", "out", 1, (token, slot, weight), "expert", "entries, expert after expert"),
            StreamPort("stats", "out", 1, (count, dropped), "batch", "of each expert: tokens that chose it, dropped"),
        )

    @property
    def status(self) -> tuple[StatusPort, ...]:
        causes = ("too many tokens", "too many beats of a token", "no such expert", "an expert twice in a token")
        return (StatusPort("error", (*causes, "an entry was dropped") if self.capacity else causes),)

    @property
    def latency(self) -> int:
        return latency.SKID + START + latency.SKID

    @property
    def entry_latency(self) -> int:
        return self.latency + READ

    def figures(self) -> dict[str, int | float]:
        entries = self.experts * 2 << (self.depth - 1).bit_length()
        return {
            "latency": self.latency,
            "entry_latency": self.entry_latency,
            "least_cycles_per_batch": self.experts,
            "memory_bits": entries * self.port("o").width,
        }

    def compute(self, job: Batch) -> Queues:
        queues, _ = self._collected(job)
        counts = np.array([len(queue) for queue in queues], np.int64)
        kept = np.minimum(counts, self.depth)
        some = np.flatnonzero(kept)
        jobs = np.stack([some, (np.cumsum(kept) - kept)[some], kept[some]], axis=1)
        entries = [entry for queue in queues for entry in queue[: self.depth]]
        return Queues(jobs, np.array(entries, np.int64).reshape(-1, 3), counts, counts - kept)

    def errors(self, job: Batch) -> int:
        """The bits of ``sts_error`` that a batch sets."""
        queues, errors = self._collected(job)
        return errors | 16 * any(len(queue) > self.depth for queue in queues)

    def _collected(self, job: Batch) -> tuple[list[list[tuple[int, int, int]]], int]:
        """Queues without a limit, and what is wrong with the beats."""
        queues: list[list[tuple[int, int, int]]] = [[] for _ in range(self.experts)]
        errors = int(len(job.tokens) > self.tokens)
        for number, token in enumerate(job.tokens):
            errors |= 2 * (len(token.expert) > self.slots)
            seen: set[int] = set()
            for slot, (e, weight) in enumerate(zip(token.expert.tolist(), token.weight.tolist(), strict=True)):
                if token.pruned:
                    continue
                errors |= 4 * (e >= self.experts) | 8 * (e in seen)
                if number < self.tokens and slot < self.slots and e < self.experts and e not in seen:
                    queues[e].append((number, slot, weight))
                    seen.add(e)
        return queues, errors

    def inputs(self, job: Batch) -> dict[str, Beats]:
        lengths = np.array([max(1, len(token.expert)) for token in job.tokens])
        fields = np.zeros((5, lengths.sum()), np.int64)
        ends = np.cumsum(lengths)
        for token, end, length in zip(job.tokens, ends, lengths, strict=True):
            there = slice(end - length, end - length + len(token.expert))
            fields[:3, there] = token.expert, token.weight, np.ones_like(token.expert)
            fields[3, end - length : end] = token.pruned
        fields[4, ends[-1] - lengths[-1] :] = 1
        expert, weight, valid, pruned, final = fields
        last = np.isin(np.arange(ends[-1]), ends - 1)
        beats = self.port("i").pack(expert=expert, weight=weight, valid=valid, pruned=pruned, final=final, last=last)
        return {"i": beats}

    def outputs(self, job: Batch, result: Queues) -> dict[str, Beats]:
        jobs = np.zeros((max(1, len(result.jobs)), 4), np.int64)
        jobs[: len(result.jobs)] = np.pad(result.jobs, ((0, 0), (0, 1)), constant_values=1)
        expert, first, count, valid = jobs.T
        token, slot, weight = result.entries.T
        ends = np.isin(np.arange(len(result.entries)) + 1, np.cumsum(result.jobs[:, 2]))
        return {
            "job": self.port("job").pack(
                expert=expert, first=first, count=count, valid=valid, last=np.arange(len(jobs)) == len(jobs) - 1
            ),
            "o": self.port("o").pack(token=token, slot=slot, weight=weight, last=ends),
            "stats": self.port("stats").pack(
                count=result.counts, dropped=result.dropped, last=np.arange(self.experts) == self.experts - 1
            ),
        }

    def result(self, job: Batch, outputs: Mapping[str, Beats]) -> Queues:
        jobs, entries, stats = (self.port(name).unpack(outputs[name]) for name in ("job", "o", "stats"))
        some = jobs["valid"][:, 0] == 1
        return Queues(
            np.concatenate([jobs[name] for name in ("expert", "first", "count")], axis=1)[some],
            np.concatenate([entries[name] for name in ("token", "slot", "weight")], axis=1),
            stats["count"][:, 0],
            stats["dropped"][:, 0],
        )

    def cycles(self, *jobs: Batch) -> int:
        """Batch by batch: its last beat comes, its walk begins, its queues are free."""
        accepted, end = latency.SKID - 1, 0
        free = [0, 0]  # the cycle in which the walk of the batch before the last is over, and of the last
        for job in jobs:
            beats = sum(max(1, len(token.expert)) for token in job.tokens)
            accepted = max(accepted, free[0]) + beats
            begin = max(accepted + 1, free[1])
            entries = len(self.compute(job).entries)
            free = [free[1], begin + max(entries, self.experts)]
            end = max(begin + entries + READ if entries else 0, begin + self.experts)
        return end + latency.SKID + 1


def _index(name: str, n: int) -> Field:
    """A number below ``n``."""
    bits = max(1, (n - 1).bit_length())
    return Field(name, bits, f"uint{bits}")
