"""Functions of indices: specification and bit-true model of the unit ``kmeans_function``."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from golden import latency
from golden.ports import Beats, Field, StatusPort, StreamPort
from golden.spec import SpecError, UnitSpec, param

Int = NDArray[np.int64]

VALUES = {f"index{n}": Field("value", n, f"uint{n}") for n in range(1, 9)} | {
    "int8": Field("value", 8, "int8"),
    "int16": Field("value", 16, "int16"),
    "fp16": Field("value", 16, "fp16"),
}
"""What an entry may be: an index of another codebook, a number."""

MOMENTS = ("first", "second")

SUM = 3
"""Cycles from the one in which the last entry is read to the sums: operands, product, sum."""


@dataclass(frozen=True, eq=False)
class Table:
    """What each index stands for: ``value`` (codes of the unit's format), and with ``moments`` the integers ``first``
    and ``second`` that are summed up. ``[2**bits]`` each."""

    value: Int
    first: Int | None = None
    second: Int | None = None


@dataclass(frozen=True, eq=False)
class Vector:
    """Indices, in order. ``present`` marks the valid ones; all are without it."""

    index: Int
    present: NDArray[np.bool_] | None = None

    @property
    def mask(self) -> NDArray[np.bool_]:
        return np.ones(len(self.index), np.bool_) if self.present is None else self.present


@dataclass(frozen=True, eq=False)
class Group:
    """A job: a table, and the vectors that it is for, one at least."""

    table: Table
    vectors: tuple[Vector, ...]


class Looked(NamedTuple):
    """The result of a job."""

    values: Int
    """Of all indices of all vectors, valid or not."""
    stats: Int
    """``[vectors, 3]``: how many valid indices, sum of ``first``, sum of ``second``; without moments ``[0, 3]``."""


class KMeansFunctionSpec(UnitSpec):
    """A function of K-Means indices: a table entry for every index, and per vector two sums from a histogram.

    Formula     ``o = value[index]``; with ``moments`` also ``count``, how many valid indices came, and with ``cnt[j]``,
                how often j came, ``first = sum_j cnt[j]*first[j]`` and ``second = sum_j cnt[j]*second[j]``: 2**bits
                counters, and at the end a multiply-add per entry and moment, none per element. Integers, exact.
    Streams     ``i``: ``lanes`` indices per beat, each with a ``valid`` bit; tlast ends the vector. ``o``: beat for
                beat what the table has for them, valid or not. ``table``: entries 0, 1, ... 2**bits - 1, a beat each.
                ``cfg``: one beat per vector; ``next`` 1: it is for the next table on ``table``, 0: for the one that the
                vector before had. The first vector after a reset always takes a table. ``stats``: one beat per vector.
    Tables      two: while one is used the next is loaded. A vector with ``next`` waits until its table is complete, and
                no table changes within a vector: what comes out depends on the beats alone, never on their time. The
                table of two vectors ago may still be in use for its sums; then loading waits.
    Latency     ``latency`` cycles from a beat to its values, when the vector's cfg was there before and the table is;
                ``stats_latency`` from the beat that ends a vector to its sums, of an idle unit.
    Throughput  a beat per cycle, also from vector to vector, also with a new table. A table takes 2**bits cycles to
                load, and the sums of a vector 2**bits; shorter vectors wait. With a table for every vector nothing
                waits from ``2 * 2**bits + 2`` beats on (without moments from 2**bits + 1). ``cycles`` is exact.
    Ranges      nothing is rounded. A vector of more than ``n`` valid indices sets bit 0 of ``sts_error``; its count
                is modulo ``2**count_bits``, as is each ``cnt[j]``, and its sums are modulo ``2**sum_bits``.
    Source      index-domain nonlinear operations of KLLM (arXiv 2507.23035, version 1); the mechanism is ours.
    Not done    tables are not calculated here (:mod:`golden.kmeans.tables` does); no square root, no division.
    """

    unit: ClassVar[str] = "kmeans_function"

    bits: int = param(4, "bits of an index", low=1, high=8)
    lanes: int = param(8, "indices per beat", low=1, high=64)
    value: str = param("int8", "format of a table's entry; index<n>: an index of n bits", choices=tuple(VALUES))
    moments: bool = param(True, "two sums per vector, from a histogram")
    n: int = param(4096, "most valid indices of a vector, for the sums", low=1, high=65536)
    moment_bits: int = param(16, "bits of the signed integers that are summed up", low=2, high=32)

    def _check(self) -> None:
        if self.moments and self.lanes > self.n:
            raise SpecError(f"lanes must be at most n = {self.n}, not {self.lanes}")

    @property
    def entries(self) -> int:
        return 1 << self.bits

    @property
    def count_bits(self) -> int:
        return self.n.bit_length()

    @property
    def sum_bits(self) -> int:
        """Of a sum, with its sign: the smallest that ``n`` entries cannot overflow."""
        return self.moment_bits + (self.n - 1).bit_length()

    @property
    def ports(self) -> tuple[StreamPort, ...]:
        value, valid = VALUES[self.value], Field("valid", 1, "uint1")
        index = Field("index", self.bits, f"uint{self.bits}")
        moments = [Field(name, self.moment_bits, f"int{self.moment_bits}") for name in MOMENTS if self.moments]
        sums = [Field(name, self.sum_bits, f"int{self.sum_bits}") for name in MOMENTS]
        count = Field("count", self.count_bits, f"uint{self.count_bits}")
        streams = (
            StreamPort("i", "in", self.lanes, (index, valid), "vector", "indices, in order; valid 0: none"),
            StreamPort("cfg", "in", 1, (Field("next", 1, "uint1"),), "", "next 1: take the next table; one per vector"),
            StreamPort("table", "in", 1, (value, *moments), "", f"entries 0 to {self.entries - 1} of a table"),
            StreamPort("o", "out", self.lanes, (value, valid), "vector", "the table's entries, as the indices came"),
        )
        stats = StreamPort("stats", "out", 1, (count, *sums), "", "valid indices and their sums, one per vector")
        return (*streams, stats) if self.moments else streams

    @property
    def status(self) -> tuple[StatusPort, ...]:
        return (StatusPort("error", ("a vector had more than n valid indices",)),) if self.moments else ()

    @property
    def latency(self) -> int:
        return 2 * latency.SKID

    @property
    def stats_latency(self) -> int:
        """Counted; an entry a cycle; operands, product and sum."""
        return latency.SKID + 1 + self.entries + SUM + latency.SKID

    def figures(self) -> dict[str, int | float]:
        figures: dict[str, int | float] = {"latency": self.latency, "cycles_per_table": self.entries}
        if self.moments:
            figures |= {"stats_latency": self.stats_latency, "cycles_per_stats": self.entries}
        return figures

    def compute(self, job: Group) -> Looked:
        values = [job.table.value[v.index] for v in job.vectors]
        stats = [self._stats(job.table, v) for v in job.vectors] if self.moments else []
        return Looked(np.concatenate(values), np.array(stats, np.int64).reshape(-1, 3))

    def _stats(self, table: Table, vector: Vector) -> tuple[int, int, int]:
        cnt = np.bincount(vector.index[vector.mask], minlength=self.entries) % (1 << self.count_bits)
        first, second = (self._wrapped(int(cnt @ getattr(table, name))) for name in MOMENTS)
        return int(vector.mask.sum()) % (1 << self.count_bits), first, second

    def _wrapped(self, total: int) -> int:
        half = 1 << (self.sum_bits - 1)
        return (total + half) % (2 * half) - half

    def inputs(self, job: Group) -> dict[str, Beats]:
        entries = {f.name: getattr(job.table, f.name) for f in self.port("table").fields}
        following = np.arange(len(job.vectors)) == 0
        return {
            "i": Beats.concatenate([self._lanes("i", v, index=v.index) for v in job.vectors]),
            "cfg": self.port("cfg").pack(next=following),
            "table": self.port("table").pack(**entries),
        }

    def _lanes(self, port: str, vector: Vector, **field: Int) -> Beats:
        """The beats of a vector; places that it leaves in its last one are not valid and have index 0."""
        (name, data), beats = next(iter(field.items())), self._beats(vector)
        places = np.zeros((2, beats * self.lanes), np.int64)
        places[0, : len(data)] = data
        places[1, : len(vector.index)] = vector.mask
        data, valid = places.reshape(2, beats, self.lanes)
        return self.port(port).pack(**{name: data, "valid": valid}, last=np.arange(beats) == beats - 1)

    def _beats(self, vector: Vector) -> int:
        return max(1, -(-len(vector.index) // self.lanes))

    def outputs(self, job: Group, result: Looked) -> dict[str, Beats]:
        ends = np.cumsum([len(v.index) for v in job.vectors])[:-1]
        parts = []
        for vector, values in zip(job.vectors, np.split(result.values, ends), strict=True):
            free = self._beats(vector) * self.lanes - len(values)
            padded = np.concatenate([values, np.full(free, job.table.value[0])])
            parts.append(self._lanes("o", vector, value=padded))
        outputs = {"o": Beats.concatenate(parts)}
        if self.moments:
            columns = dict(zip(("count", *MOMENTS), result.stats.T, strict=True))
            outputs["stats"] = self.port("stats").pack(**columns)
        return outputs

    def result(self, job: Group, outputs: Mapping[str, Beats]) -> Looked:
        values = self.port("o").unpack(outputs["o"])["value"].ravel()
        starts = np.cumsum([0, *(self._beats(v) * self.lanes for v in job.vectors)])
        kept = [values[at : at + len(v.index)] for at, v in zip(starts, job.vectors, strict=False)]
        stats = np.zeros((0, 3), np.int64)
        if self.moments:
            fields = self.port("stats").unpack(outputs["stats"])
            stats = np.concatenate([fields[name] for name in ("count", *MOMENTS)], axis=1)
        return Looked(np.concatenate(kept), stats)

    def cycles(self, *jobs: Group) -> int:
        """Vector by vector: its turn (it has its table), its last beat, when its counts are taken for the sums."""
        turn, last, taken = latency.SKID - 1, latency.SKID - 1, 0
        summed = 0  # from this cycle on the table that is not in use is not read
        loads = latency.SKID  # first cycle in which the next table can be loaded
        for job in jobs:
            complete = max(loads, summed) + self.entries
            for place, vector in enumerate(job.vectors):
                turn = max(turn + 1, last, 0 if place else complete)
                if not place:
                    loads, summed = turn + 1, taken + self.entries + 1 if taken else 0
                last = max(turn + 1, taken) + self._beats(vector) - 1
                if self.moments:
                    taken = max(last + 1, taken + self.entries if taken else 0)
        end = taken + self.entries + SUM if self.moments else last
        return max(last, end) + latency.SKID + 1
