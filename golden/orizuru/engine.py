"""The top-k engine Orizuru: specification and bit-true model of the unit ``orizuru``."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from golden import latency
from golden.orizuru import area
from golden.orizuru.keys import KEYS, KeyFormat
from golden.orizuru.timing import Load, Timing
from golden.ports import Beats, Field, StatusPort, StreamPort
from golden.spec import AUTO, SpecError, UnitSpec, param

Int = NDArray[np.int64]

SIDES = ("both", "largest", "smallest", "magnitude")
TIES = ("order", "paper")
TREES = ("systolic", "comb", "unit16", "level")
"""Variants with a node for every two keys."""
RANKED = (*TREES, "memory", "queue", "bitonic")
"""Variants whose results come by rank; all have the same."""
VARIANTS = (*RANKED, "radix", "threshold")

UNIT = 4
"""Levels of a tree of 16 inputs: variant ``unit16`` has registers at every fourth level."""


@dataclass(frozen=True, eq=False)
class Vector:
    """A job: ``keys`` (bit patterns of floats, integers as they are) and how many of them are wanted.

    ``present`` leaves out some of the keys, which keep their index; all are there without it. ``upper`` and ``lower``
    are the thresholds of variant ``threshold``, keys themselves.
    """

    keys: Int
    k: int
    present: NDArray[np.bool_] | None = None
    upper: int = 0
    lower: int = 0

    @property
    def mask(self) -> NDArray[np.bool_]:
        return np.ones(len(self.keys), np.bool_) if self.present is None else self.present


class OrizuruSpec(UnitSpec):
    """The k largest and the k smallest keys of a vector, exactly, with their positions: two tournament trees over
    shared leaves, or one of their rivals.

    Formula     Keys are ordered by value, falling, then by index, rising. ``largest`` are the first k of that order;
                ``smallest`` are the last k, the last one first. Results alternate, largest, smallest, largest, ...
                With ``ties=order`` no key comes out on both sides: the results end when all keys are out, after
                ``min(2k, n)``. With ``ties=paper`` the smallest have an order of their own (value rising, then index
                rising) and there are ``2 min(k, n)`` results; a key may come out twice. One side alone has
                ``min(k, n)``. All variants give these bits but two: ``radix`` gives the same keys of each side by
                index, rising, the smallest of one order falling; ``threshold`` gives the keys at ``upper`` or above and
                those at ``lower`` or below, by index, the first k of each side (a key that is both is above).
    Order       of floats ``-NaN < -inf < ... < -0 < +0 < ... < +inf < +NaN``; ``magnitude`` ignores the sign.
    Streams     ``i``: ``lanes`` keys per beat, key ``beat * lanes + lane`` of the vector, each with a ``valid`` bit; a
                lane without it is a missing key, wherever it stands. tlast ends the vector, early if it is short.
                ``cfg``: k, one beat per vector, and for ``threshold`` the thresholds. ``o``: one result per beat, with
                ``pair`` a largest and a smallest side by side, tlast on the last; a vector without results (k = 0, or
                no valid key) gives one beat whose ``valid`` is 0, and so each vector has one tlast.
    Latency     ``latency`` cycles from the beat that ends a vector to its first result; of ``threshold`` to the beat
                with tlast, if that beat has no hits. Cycles here are those of an idle unit, k being there, sink ready.
    Throughput  the next vector loads while results leave; ``cycles`` says exactly how long vectors take, ``interval``
                and ``span`` the same of full vectors.
    Ranges      nothing is rounded. A vector of more than ``n`` keys sets bit 0 of ``sts_error`` and loses the rest; k
                above ``k_max`` sets bit 1 and counts as ``k_max``.
    Source      Orizuru, of KLLM (arXiv 2507.23035, later OASIS): trees, shared leaf comparisons, rule ``paper``, units
                of 16 inputs, static thresholds (OASIS-S). The other variants are for comparison.
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
        "tree of registers, refilled as holes sink (systolic), along the whole path (comb), by units of 16 inputs "
        "(unit16) or a level a cycle, as published (level); tree in block RAM (memory); priority queue, bitonic "
        "network, radix select, static thresholds; auto: the smallest ranked one that meets every and within",
        choices=(*VARIANTS, AUTO),
    )
    pair: bool = param(False, "a beat of o holds a largest and a smallest")

    every: int = param(0, "most cycles from vector to vector, of n keys and k_max; 0: any", low=0, high=1 << 20)
    within: int = param(
        0, "most cycles from a vector's last beat to its last result, on an idle unit; 0: any", low=0, high=1 << 20
    )

    def _derive(self) -> dict[str, Any]:
        derived: dict[str, Any] = {"k_max": self.k_max if self.k_max is not None else self.n // 2}
        if self.variant == AUTO:
            derived["variant"] = self._smallest(derived["k_max"])
        return derived

    def _smallest(self, k_max: int) -> str:
        """Of the variants with results by rank that are fast enough, the one of least estimated area; of those that are
        as small for all that the estimate can tell, the one with the shortest path."""
        values = self.values() | {"k_max": k_max, "every": 0, "within": 0}
        specs = [type(self)(**values | {"variant": variant}) for variant in RANKED]
        enough = [s for s in specs if not (0 < self.every < s.interval or 0 < self.within < s.span)]
        if not enough:
            raise SpecError(self._too_slow(specs))
        size = {s.variant: area.luts(s) for s in enough}
        near = [v for v in size if size[v] <= (1 + area.ERROR) * min(size.values())]
        return min(near, key=area.BY_PATH.index)

    def _too_slow(self, specs: Sequence["OrizuruSpec"]) -> str:
        """Why none of them will do."""
        least = min(s.interval for s in specs)
        if 0 < self.every < least:
            return f"every must be 0 or at least {least}, not {self.every}"
        span = min(s.span for s in specs if not 0 < self.every < s.interval)
        given = f" for every = {self.every}" if self.every else ""
        return f"within must be 0 or at least {span}{given}, not {self.within}"

    def _check(self) -> None:
        if self.k_max > self.n:
            raise SpecError(f"k_max must be at most n = {self.n}, not {self.k_max}")
        if self.lanes > self.n:
            raise SpecError(f"lanes must be at most n = {self.n}, not {self.lanes}")
        if self.sides == "magnitude" and self.key_format.kind == "uint":
            raise SpecError(f"sides must be one of both, largest, smallest for key {self.key}, not 'magnitude'")
        if self.pair and self.sides != "both":
            raise SpecError(f"pair must be false for sides {self.sides}, not true")
        if self.ties != "order" and self.sides in ("largest", "magnitude"):
            raise SpecError(f"ties must be order for sides {self.sides}, not {self.ties!r}")
        if self.variant == "threshold":
            if self.pair:
                raise SpecError("pair must be false for variant threshold, not true")
            if self.ties != "order":
                raise SpecError(f"ties must be order for variant threshold, not {self.ties!r}")
            for name in ("every", "within"):
                if getattr(self, name):
                    raise SpecError(f"{name} must be 0 for variant threshold, not {getattr(self, name)}")
            return
        for name, need in (("every", self.interval), ("within", self.span)):
            if 0 < getattr(self, name) < need:
                raise SpecError(
                    f"{name} must be 0 or at least {need} for variant {self.variant}, not {getattr(self, name)}"
                )

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
        return self.lane_bits + self.row_bits

    @property
    def lane_bits(self) -> int:
        """Levels over the lanes of a beat."""
        return (self.lanes - 1).bit_length()

    @property
    def row_bits(self) -> int:
        """Levels over the beats."""
        return (self.rows - 1).bit_length()

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
        count = Field("k", self.k_width, f"uint{self.k_width}")
        limits = tuple(Field(name, fmt.bits, fmt.name) for name in self.thresholds)
        what = f"k{''.join(f', {name} threshold' for name in self.thresholds)}, one per vector"
        return (
            StreamPort("i", "in", self.lanes, keys, "vector", "keys of a vector, in order; valid 0: no key"),
            StreamPort("cfg", "in", 1, (count, *limits), "", what),
            StreamPort(
                "o",
                "out",
                1 + self.pair,
                result,
                "vector",
                "one result a lane; smallest 0: of the largest; valid 0: none",
            ),
        )

    @property
    def thresholds(self) -> tuple[str, ...]:
        """The thresholds that ``cfg`` carries."""
        if self.variant != "threshold":
            return ()
        return {"both": ("upper", "lower"), "smallest": ("lower",)}.get(self.sides, ("upper",))

    @property
    def status(self) -> tuple[StatusPort, ...]:
        return (StatusPort("error", ("a vector had more than n keys", "k was above k_max")),)

    @property
    def timing(self) -> Timing:
        """The cycles of all variants but ``threshold``, whose time depends on the keys."""
        serial = self.trees == 2 and not self.pair
        if self.variant == "memory":
            path = 3 + self.lane_bits + 3 * self.row_bits  # row, root; three cycles a level of rows
            # a row is read again in the cycle after its winner is taken, a second one two cycles after the first: it
            # may be the same row, which must have been written by then
            alone, refills = 2 * self.pair, (1, 3)[: self.trees]
            lag, first_lag = 2 * serial, int(serial)
            step = path + 1 + alone
            return Timing(path, 0, step, self.trees, first_lag=first_lag, lag=lag, alone=alone, refills=refills)
        layers = self.lane_bits * (self.lane_bits + 1) // 2
        aligned = self.trees - self.sorters  # a beat for the other side is turned round in a cycle of its own
        settle = {"queue": self.lanes + 1, "bitonic": 1 + layers + aligned}.get(self.variant, 1)
        fill = dict.fromkeys(TREES, self.depth - 1) | {"unit16": -(-self.depth // UNIT)}
        fill |= {"radix": self.key_format.bits, "queue": 0, "bitonic": 0}
        period = {"systolic": 2, "unit16": 2, "level": self.depth}.get(self.variant, 1)
        return Timing(
            settle,
            fill[self.variant],
            max(period, 1 + serial),
            self.trees,
            load=self.lanes if self.variant == "queue" else 1,
            first_lag=int(serial),
            lag=int(serial),
        )

    @property
    def interval(self) -> int:
        """Cycles from vector to vector, of n keys and ``k_max``, while no stream stalls."""
        full = Load(self.rows, self.results(self.n, self.k_max))
        return self.timing.cycles([full] * 4) - self.timing.cycles([full] * 3)

    @property
    def span(self) -> int:
        """Cycles from the beat that ends a vector to its last result, of n keys and ``k_max``, on an idle unit."""
        results = self.results(self.n, self.k_max)
        waits = min(self.rows - 1, 2) * (self.timing.load - 1)  # for the two beats before it, in the skid buffer
        return self.latency + waits - self.timing.fill + self.timing.result(results - 1, results)

    @property
    def latency(self) -> int:
        """Of ``threshold``: to the last output beat of a vector whose last beat has nothing beyond a threshold."""
        if self.variant == "threshold":
            return latency.SKID + 1 + latency.SKID
        return self.timing.latency

    def figures(self) -> dict[str, int | float]:
        figures: dict[str, int | float] = {
            "latency": self.latency,
            "beats_per_vector": self.rows,
            "comparators": self.comparators,
        }
        if self.variant != "threshold":
            full = Vector(np.zeros(self.n, np.int64), self.k_max)
            figures |= {"step_period": self.timing.step, f"cycles_k{self.k_max}": self.cycles(full)}
            figures |= {"cycles_between_vectors": self.interval, "cycles_after_last_beat": self.span}
        return figures

    @property
    def comparators(self) -> int:
        """Of two keys, in hardware. A tree has n - 1, the second one none at the leaves."""
        if self.variant in TREES:
            full, rest = divmod(self.n, self.lanes)
            pairs = self.n // 2 if self.lanes == 1 else full * (self.lanes // 2) + rest // 2
            return self.trees * (self.n - 1) - (self.trees - 1) * pairs
        if self.variant == "memory":
            above = self.trees * (self.lanes - 1 + self.row_bits)
            return above - (self.trees - 1) * (self.lanes // 2)
        if self.variant == "bitonic":
            sorting = (1 << self.lane_bits) * self.lane_bits * (self.lane_bits + 1) // 4
            better = min(self.list_size, 1 << self.lane_bits)
            merging = self.list_size * (self.list_size.bit_length() - 1) // 2
            return self.sorters * sorting + self.trees * (better + merging)
        return {"queue": self.trees * self.k_max, "radix": 0, "threshold": self.trees * self.lanes}[self.variant]

    @property
    def list_size(self) -> int:
        """Keys of a running list of variant ``bitonic``: at least k_max, a power of two."""
        return 1 << (self.k_max - 1).bit_length()

    @property
    def sorters(self) -> int:
        """Of variant ``bitonic``: one serves both ends of one order."""
        return 2 if self.trees == 2 and self.ties == "paper" else 1

    def results(self, n: int, k: int) -> int:
        """How many results a vector of ``n`` valid keys has."""
        k = min(k, self.k_max)
        if self.trees == 1:
            return min(k, n)
        return min(2 * k, n if self.ties == "order" else 2 * n)

    def compute(self, job: Vector) -> Int:
        """``[results, 3]``: value, index, and 1 for one of the smallest."""
        if self.variant == "threshold":
            chosen, smallest = self._beyond(job)
        else:
            chosen, smallest = self._selected(job)
        return np.stack([job.keys[chosen], chosen, smallest], axis=1)

    def _sortable(self, values: Int) -> Int:
        return (self.key_format.magnitude if self.sides == "magnitude" else self.key_format.order)(values)

    def _selected(self, job: Vector) -> tuple[Int, Int]:
        """Indices and sides of the k largest and smallest."""
        keys, index = self._sortable(job.keys), np.flatnonzero(job.mask[: self.n])
        falling = index[np.lexsort((index, -keys[index]))]
        rising = falling[::-1] if self.ties == "order" else index[np.lexsort((index, keys[index]))]
        sides = {"both": (falling, rising), "smallest": (rising,)}.get(self.sides, (falling,))
        count = self.results(len(index), job.k)
        if self.variant == "radix":  # the same keys of each side, those of one order by index
            backwards = self.ties == "order" and self.sides in ("both", "smallest")
            parts = [np.sort(side[: -(-(count - i) // self.trees)]) for i, side in enumerate(sides)]
            parts[-1] = parts[-1][::-1] if backwards else parts[-1]
        else:
            parts = [side[: -(-(count - i) // self.trees)] for i, side in enumerate(sides)]
        chosen = np.zeros(count, np.int64)
        for i, part in enumerate(parts):
            chosen[i :: self.trees] = part
        alone = np.full(count, self.sides == "smallest", np.int64)
        return chosen, np.arange(count) % 2 if self.trees == 2 else alone

    def _beyond(self, job: Vector) -> tuple[Int, Int]:
        """Indices and sides of the first k keys on each side that are at a threshold or beyond."""
        above, below = self._hits(job)
        chosen = np.flatnonzero(above | below)
        return chosen, below[chosen].astype(np.int64)

    def _hits(self, job: Vector) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Where the keys above and below are. A key that is both counts as above."""
        keys, none = self._sortable(job.keys), np.zeros(len(job.keys), np.bool_)
        upper, lower = (int(self._sortable(np.array([value]))[0]) for value in (job.upper, job.lower))
        there = job.mask & (np.arange(len(keys)) < self.n)
        above = there & (keys >= upper) if "upper" in self.thresholds else none
        below = there & (keys <= lower) & ~above if "lower" in self.thresholds else none
        k = min(job.k, self.k_max)
        return above & (above.cumsum() <= k), below & (below.cumsum() <= k)

    def inputs(self, job: Vector) -> dict[str, Beats]:
        keys, cfg, _ = self.ports
        beats = self._beats(job)
        places = np.zeros((2, beats * self.lanes), np.int64)
        places[:, : len(job.keys)] = job.keys, job.mask
        key, valid = places.reshape(2, beats, self.lanes)
        last = np.arange(beats) == beats - 1
        limits = {name: [[getattr(job, name)]] for name in self.thresholds}
        return {"i": keys.pack(key=key, valid=valid, last=last), "cfg": cfg.pack(k=[[job.k]], **limits)}

    def _beats(self, job: Vector) -> int:
        return max(1, -(-len(job.keys) // self.lanes))

    def outputs(self, job: Vector, result: Int) -> dict[str, Beats]:
        port = self.port("o")
        beats = max(1, -(-len(result) // port.lanes))
        places = np.zeros((4, beats * port.lanes), np.int64)
        places[:3, : len(result)] = result.T
        places[3, : len(result)] = 1
        value, index, smallest, valid = places.reshape(4, beats, port.lanes)
        last = np.arange(beats) == beats - 1
        return {"o": port.pack(value=value, index=index, smallest=smallest, valid=valid, last=last)}

    def result(self, job: Vector, outputs: Mapping[str, Beats]) -> Int:
        fields = self.port("o").unpack(outputs["o"])
        chosen = np.stack([fields[name].ravel() for name in ("value", "index", "smallest")], axis=1)
        return chosen[fields["valid"].ravel() == 1]

    def cycles(self, *jobs: Vector) -> int:
        """A vector is exchanged once it is in and the one before is out; from then on the next one loads. Of
        ``threshold``: a beat stays a cycle, or one per hit; the last one a cycle per hit and two more."""
        if self.variant != "threshold":
            loads = [Load(self._beats(job), self.results(int(job.mask[: self.n].sum()), job.k)) for job in jobs]
            return self.timing.cycles(loads)
        return latency.SKID + sum(self._spent(job) for job in jobs) + latency.SKID

    def _spent(self, job: Vector) -> int:
        """Of variant ``threshold``: cycles from a vector's first beat to that of the next one."""
        above, below = self._hits(job)
        hits = np.zeros(self._beats(job) * self.lanes, np.int64)
        hits[: len(job.keys)] = above | below
        per_beat = hits.reshape(-1, self.lanes).sum(axis=1)
        return int(np.maximum(per_beat[:-1], 1).sum() + per_beat[-1] + 2)
