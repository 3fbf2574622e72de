"""The top-k engine Orizuru: specification and bit-true model of the unit ``orizuru``."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from golden import latency
from golden.orizuru.keys import KEYS, KeyFormat
from golden.ports import Beats, Field, StatusPort, StreamPort
from golden.spec import SpecError, UnitSpec, param

Int = NDArray[np.int64]

SIDES = ("both", "largest", "smallest", "magnitude")
TIES = ("order", "paper")
VARIANTS = ("systolic", "comb", "unit16", "level")

UNIT = 4
"""Levels of a tree of 16 inputs: variant ``unit16`` has registers at every fourth level."""


@dataclass(frozen=True, eq=False)
class Vector:
    """A job: ``keys`` (bit patterns of floats, integers as they are) and how many of them are wanted.

    ``present`` leaves out some of the keys, which keep their index; all are there without it.
    """

    keys: Int
    k: int
    present: NDArray[np.bool_] | None = None

    @property
    def mask(self) -> NDArray[np.bool_]:
        return np.ones(len(self.keys), np.bool_) if self.present is None else self.present


class OrizuruSpec(UnitSpec):
    """The k largest and the k smallest keys of a vector, exactly, with their positions: two tournament trees over
    shared leaves.

    Formula     Keys are ordered by value, falling, then by index, rising. ``largest`` are the first k of that order;
                ``smallest`` are the last k, the last one first. Results alternate, largest, smallest, largest, ...
                With ``ties=order`` no key comes out on both sides: the results end when all keys are out, after
                ``min(2k, n)``. With ``ties=paper`` the smallest have an order of their own (value rising, then index
                rising) and there are ``2 min(k, n)`` results; a key may come out twice. One side alone has
                ``min(k, n)``.
    Order       of floats ``-NaN < -inf < ... < -0 < +0 < ... < +inf < +NaN``; ``magnitude`` ignores the sign.
    Streams     ``i``: ``lanes`` keys per beat, key ``beat * lanes + lane`` of the vector, each with a ``valid`` bit; a
                lane without it is a missing key, wherever it stands. tlast ends the vector, early if it is short.
                ``cfg``: k, one beat per vector. ``o``: one result per beat, tlast on the last; a vector without results
                (k = 0, or no valid key) gives one beat whose ``valid`` is 0, and so each vector has one tlast.
    Latency     ``latency`` cycles from the beat that ends a vector to its first result.
    Throughput  the next vector loads while results leave; ``cycles`` says exactly how long vectors take.
    Ranges      nothing is rounded. A vector of more than ``n`` keys sets bit 0 of ``sts_error`` and loses the rest; k
                above ``k_max`` sets bit 1 and counts all the same.
    Source      Orizuru, of KLLM (arXiv 2507.23035, later OASIS): trees, shared leaf comparisons, rule ``paper``.
    Not done    -0 and +0 are not joined, NaN is not refused; results are not sorted by index.
    """

    unit: ClassVar[str] = "orizuru"

    n: int = param(64, "most keys of a vector", low=8, high=4096)
    key: str = param("fp16", "key format", choices=tuple(KEYS))
    k_max: int = param(None, "largest k (default: n / 2)", low=1, high=4096)
    lanes: int = param(8, "keys per beat", low=1, high=64)
    sides: str = param("both", "what is looked for; magnitude: the largest without their sign", choices=SIDES)
    ties: str = param("order", "order: smallest from the end of the same order; paper: lowest index", choices=TIES)
    variant: str = param(
        "systolic",
        "how a tree is refilled: level by level as holes sink, the whole path at once, by units of 16 inputs, or as "
        "published, one comparison level per cycle",
        choices=VARIANTS,
    )

    def _derive(self) -> dict[str, Any]:
        return {"k_max": self.n // 2}

    def _check(self) -> None:
        if self.k_max > self.n:
            raise SpecError(f"k_max must be at most n = {self.n}, not {self.k_max}")
        if self.lanes > self.n:
            raise SpecError(f"lanes must be at most n = {self.n}, not {self.lanes}")
        if self.sides == "magnitude" and self.key_format.kind == "uint":
            raise SpecError(f"sides must be one of both, largest, smallest for key {self.key}, not 'magnitude'")

    @property
    def key_format(self) -> KeyFormat:
        return KEYS[self.key]

    @property
    def trees(self) -> int:
        return 2 if self.sides == "both" else 1

    @property
    def rows(self) -> int:
        """Beats of a full vector."""
        return -(-self.n // self.lanes)

    @property
    def depth(self) -> int:
        """Levels of a tree: those over the lanes of a beat, and those over the beats."""
        return (self.lanes - 1).bit_length() + (self.rows - 1).bit_length()

    @property
    def index_width(self) -> int:
        return (self.n - 1).bit_length()

    @property
    def k_width(self) -> int:
        return self.k_max.bit_length()

    @property
    def ports(self) -> tuple[StreamPort, ...]:
        fmt = self.key_format
        result = (
            Field("value", fmt.bits, fmt.name),
            Field("index", self.index_width, f"uint{self.index_width}"),
            Field("smallest", 1, "uint1"),
            Field("valid", 1, "uint1"),
        )
        keys = (Field("key", fmt.bits, fmt.name), Field("valid", 1, "uint1"))
        return (
            StreamPort("i", "in", self.lanes, keys, "vector", "keys of a vector, in order; valid 0: no key"),
            StreamPort("cfg", "in", 1, (Field("k", self.k_width, f"uint{self.k_width}"),), "", "k, one per vector"),
            StreamPort("o", "out", 1, result, "vector", "one result; smallest 0: of the largest; valid 0: none at all"),
        )

    @property
    def status(self) -> tuple[StatusPort, ...]:
        return (StatusPort("error", ("a vector had more than n keys", "k was above k_max")),)

    @property
    def fill(self) -> int:
        """Cycles from the leaves' being there to the first winner at the root."""
        return -(-self.depth // UNIT) if self.variant == "unit16" else self.depth - 1

    @property
    def period(self) -> int:
        """Cycles from one winner of a tree to its next."""
        return {"systolic": 2, "comb": 1, "unit16": 2, "level": self.depth}[self.variant]

    @property
    def latency(self) -> int:
        # skid buffer, leaves loaded, leaves exchanged, first winner, skid buffer
        return latency.SKID + 2 + self.fill + latency.SKID

    def figures(self) -> dict[str, int | float]:
        return {
            "latency": self.latency,
            "beats_per_vector": self.rows,
            "step_period": self.step,
            f"cycles_k{self.k_max}": self.cycles(Vector(np.zeros(self.n, np.int64), self.k_max)),
            "comparators": self.comparators,
        }

    @property
    def step(self) -> int:
        """Cycles from one largest (one result, of a side alone) to the next."""
        return max(self.period, self.trees)

    @property
    def comparators(self) -> int:
        """Of two keys: n - 1 a tree; the second tree has none at the leaves."""
        full, rest = divmod(self.n, self.lanes)
        pairs = self.n // 2 if self.lanes == 1 else full * (self.lanes // 2) + rest // 2
        return self.trees * (self.n - 1) - (self.trees - 1) * pairs

    def results(self, n: int, k: int) -> int:
        """How many results a vector of ``n`` valid keys has."""
        if self.trees == 1:
            return min(k, n)
        return min(2 * k, n if self.ties == "order" else 2 * n)

    def compute(self, job: Vector) -> Int:
        """``[results, 3]``: value, index, and 1 for one of the smallest."""
        fmt = self.key_format
        keys = (fmt.magnitude if self.sides == "magnitude" else fmt.order)(job.keys)
        index = np.flatnonzero(job.mask)
        falling = index[np.lexsort((index, -keys[index]))]
        rising = falling[::-1] if self.ties == "order" else index[np.lexsort((index, keys[index]))]
        sides = {"both": (falling, rising), "smallest": (rising,)}.get(self.sides, (falling,))
        chosen = np.stack(sides, axis=1).ravel()[: self.results(len(index), job.k)]
        smallest = np.arange(len(chosen)) % 2 if self.trees == 2 else np.full(len(chosen), self.sides == "smallest")
        return np.stack([job.keys[chosen], chosen, smallest], axis=1)

    def inputs(self, job: Vector) -> dict[str, Beats]:
        keys, cfg, _ = self.ports
        beats = self._beats(job)
        places = np.zeros((2, beats * self.lanes), np.int64)
        places[:, : len(job.keys)] = job.keys, job.mask
        key, valid = places.reshape(2, beats, self.lanes)
        last = np.arange(beats) == beats - 1
        return {"i": keys.pack(key=key, valid=valid, last=last), "cfg": cfg.pack(k=[[job.k]])}

    def _beats(self, job: Vector) -> int:
        return max(1, -(-len(job.keys) // self.lanes))

    def outputs(self, job: Vector, result: Int) -> dict[str, Beats]:
        beats = result if len(result) else np.zeros((1, 3), np.int64)
        value, index, smallest = beats.T
        last = np.arange(len(beats)) == len(beats) - 1
        valid = np.full(len(beats), len(result) > 0)
        return {"o": self.port("o").pack(value=value, index=index, smallest=smallest, valid=valid, last=last)}

    def result(self, job: Vector, outputs: Mapping[str, Beats]) -> Int:
        fields = self.port("o").unpack(outputs["o"])
        chosen = np.concatenate([fields[name] for name in ("value", "index", "smallest")], axis=1)
        return chosen[fields["valid"][:, 0] == 1]

    def cycles(self, *jobs: Vector) -> int:
        """A vector's leaves are exchanged one cycle after its last beat, or with the last result of the vector before;
        from then on the next one loads."""
        write, end = latency.SKID, 0
        for job in jobs:
            swap = max(write + self._beats(job), end)
            end = swap + 1 + self._last_result(self.results(int(job.mask.sum()), job.k))
            write = swap
        return end + latency.SKID + 1

    def _last_result(self, results: int) -> int:
        """Cycles from the leaves' being there to the last result."""
        if not results:
            return 0
        steps, side = divmod(results - 1, self.trees)
        return self.fill + steps * self.step + side
