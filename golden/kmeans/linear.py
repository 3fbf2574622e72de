"""The K-Means quantised linear layer: specification and bit-true model of the unit ``kmeans_linear``."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from golden import latency
from golden.formats import FLOATS
from golden.kmeans import token
from golden.kmeans.codebook import Codebook
from golden.kmeans.lutgemm import (
    CENTROID_BITS,
    MODULE_BITS,
    REDUCERS,
    RESULTS,
    SCALES,
    IndexGemm,
    LutGemmSpec,
    scaled,
)
from golden.kmeans.quantizer import BOUNDARY_BITS, SHIFT_BITS, QuantizerSpec, Token
from golden.kmeans.timing import Work
from golden.orizuru import area
from golden.orizuru.engine import RANKED, OrizuruSpec, Vector
from golden.ports import Beats, Field, StatusPort, StreamPort
from golden.spec import AUTO, SpecError, UnitSpec, param

Int = NDArray[np.int64]

SELECTORS = ("systolic", "comb", "unit16", "level", "memory", "bitonic", "radix")
"""Variants of ``orizuru`` that take a beat per cycle, as the quantizer beside it does; ``queue``, which takes a key per
cycle, would hold it up."""

ACCUMULATE = 3
"""Cycles from the reading of a partial sum to when it may be read again: read, multiply, add."""

STAGES = 3
"""Cycles from an outlier to its residual."""

MERGE = 2
"""Cycles in which both sums are added."""


@dataclass(frozen=True, eq=False)
class LinearToken:
    """A job, one token: FP16 codes ``x[K]``, activations' codebook and ``shift``; indices ``weights[N, K]``, their
    codebook, FP32 ``scale[N]``; ``k`` outliers on each side. ``load``: the table comes with the job; without it, it is
    the one of the job before. ``present`` leaves activations out.
    """

    x: Int
    acts: Codebook
    shift: int
    weights: Int
    weight_book: Codebook
    scale: NDArray[np.float32]
    k: int
    load: bool = True
    present: NDArray[np.bool_] | None = None

    @property
    def mask(self) -> NDArray[np.bool_]:
        return np.ones(len(self.x), np.bool_) if self.present is None else self.present


class KMeansLinearSpec(UnitSpec):
    """A linear layer whose weights and activations are K-Means indices, with the outliers of each token exact.

    Formula     ``y[n] = fp32(fp32(main + side) * scale[n])``, rounded once more with ``out=fp16``;
                ``main = 2**e * sum_k A[i_k] * W[weights[n, k]]`` over all activations, with the exponent ``e`` and the
                indices ``i`` of ``kmeans_quantizer``; ``side = sum_k (x_k - 2**e * A[i_k]) * W[weights[n, k]]`` over
                the ``k`` largest and the ``k`` smallest of them (``orizuru``, ``ties=order``): these count as they are.
                Both sums are exact.
    Streams     ``i``: ``lanes`` activations per beat, each with a ``valid`` bit; tlast ends the token. ``cfg``: a beat
                per token: shift, twice each boundary, both codebooks, the number of outputs, k, and whether a table
                comes. ``lut``, ``w``, ``scl``: as of ``lutgemm``. ``fetch``: the channel of each outlier, in the order
                of ``orizuru``; ``col`` answers with that channel's weight indices, those of ``lines * macs`` outputs
                per beat. ``o``: ``lines`` results per beat, tlast on the token's last; lanes beyond the last are 0.
    Latency     ``latency`` is that of a token of one beat, one group and no outliers: from its beat to its results.
    Throughput  ``interval`` cycles per token, of full size: main path, outliers and loading run side by side, on three
                tokens. A token that brings a table waits until the main path is empty, which is not in ``interval``.
                ``cycles`` of one token is exact; of several it is an upper estimate.
    Ranges      no sum overflows. ``sts_error``: bits 0 and 1 as of ``kmeans_quantizer``, 2: n was 0 or above ``n_max``,
                3: k was above ``outliers``. The first token after a reset must bring a table; without it results mean
                nothing. ``lut`` must be the products of ``cfg``'s codebooks, or, with ``reducer=bucket``, these.
    Source      OASIS, once KLLM (arXiv 2507.23035): look-ahead, the main path does not wait for the outliers; error
                calculation, compensation, merge.
    Not done    several tokens do not share one reading of the weights. The memory that answers ``fetch`` is outside.
    """

    unit: ClassVar[str] = "kmeans_linear"

    act_bits: int = param(4, "bits of an activation's index", low=1, high=4)
    weight_bits: int = param(4, "bits of a weight's index", low=1, high=4)
    k_max: int = param(576, "most activations of a token", low=8, high=4096)
    n_max: int = param(1536, "most outputs", low=1, high=65536)
    lanes: int = param(16, "activations per beat", low=1, high=64)
    lines: int = param(4, "outputs at a time", low=1, high=64)
    codes: int = param(16, "codes per line and cycle", low=1, high=1024)
    width: int = param(16, "counters, or buckets, per line and cycle in the weighted sum", low=1, high=256)
    reducer: str = param(AUTO, "how codes become a sum; auto: the least area times cycles", choices=(*REDUCERS, AUTO))
    outliers: int = param(8, "most outliers on each side", low=1, high=2048)
    selector: str = param(
        AUTO,
        "variant of orizuru that takes a beat per cycle; auto: the smallest that the main path does not wait for",
        choices=(*SELECTORS, AUTO),
    )
    macs: int = param(1, "outliers' products per line and cycle", low=1, high=64)
    out: str = param("fp32", "results", choices=("fp32", "fp16"))

    def _derive(self) -> dict[str, Any]:
        self._fit()
        selector = {"selector": self._smallest()} if self.selector == AUTO else {}
        return selector | {"reducer": self.gemm.reducer}

    def _smallest(self) -> str:
        """Of the variants with results by rank whose last result comes while the main path is busy, and which keep up
        with it; the fastest if there is none."""
        engines = [self._engine(variant) for variant in SELECTORS if variant in RANKED]
        busy = max(self.main_interval, self.side_interval)
        enough = [e for e in engines if max(e.interval, e.span) <= busy]
        return min(enough, key=area.luts).variant if enough else min(engines, key=lambda e: e.span).variant

    def _fit(self) -> None:
        """Rules between the units' sizes."""
        if self.codes % self.lanes:
            raise SpecError(f"codes must be a multiple of lanes = {self.lanes}, not {self.codes}")
        if self.k_max % self.codes:
            raise SpecError(f"k_max must be a multiple of codes = {self.codes}, not {self.k_max}")
        if self.outliers > self.k_max:
            raise SpecError(f"outliers must be at most k_max = {self.k_max}, not {self.outliers}")
        _ = self.quantizer, self.gemm
        most = MODULE_BITS // (2 * self.lines * self.side_width)  # sums of outliers, to be added to and to be read out
        if self.macs > most:
            raise SpecError(f"macs must be at most {most} with {self.lines} lines, not {self.macs}")

    @cached_property
    def quantizer(self) -> QuantizerSpec:
        return QuantizerSpec(bits=self.act_bits, k_max=self.k_max, lanes=self.lanes)

    @cached_property
    def engine(self) -> OrizuruSpec:
        return self._engine(self.selector)

    def _engine(self, variant: str) -> OrizuruSpec:
        return OrizuruSpec(n=self.k_max, lanes=self.lanes, k_max=self.outliers, variant=variant)

    @cached_property
    def gemm(self) -> LutGemmSpec:
        shared = ("act_bits", "weight_bits", "lines", "codes", "width", "k_max", "n_max", "reducer")
        return LutGemmSpec(**{name: getattr(self, name) for name in shared})

    @property
    def groups(self) -> int:
        """Of outputs, at most."""
        return -(-self.n_max // self.lines)

    @property
    def columns(self) -> int:
        """Beats of a weight column, at most."""
        return -(-self.groups // self.macs)

    @property
    def side_width(self) -> int:
        """Of an output's sum over outliers, with its sign."""
        return token.RESIDUAL_BITS + CENTROID_BITS - 1 + (2 * self.outliers).bit_length()

    @property
    def sum_width(self) -> int:
        """Of an output's exact sum, with its sign."""
        return max(self.gemm.sum_width + token.EXPONENTS[1] - token.GRID, self.side_width) + 1

    @property
    def ports(self) -> tuple[StreamPort, ...]:
        gemm, count = self.gemm, 1 << self.act_bits
        w = (Field("index", self.weight_bits, f"uint{self.weight_bits}"),)
        n, k = self.gemm.n_width, self.engine.k_width
        boundary, centroid = (f"int{bits}" for bits in (BOUNDARY_BITS, CENTROID_BITS))
        cfg = (
            Field("shift", SHIFT_BITS, f"uint{SHIFT_BITS}"),
            Field("n", n, f"uint{n}"),
            Field("k", k, f"uint{k}"),
            Field("load", 1, "uint1"),
            *(Field(f"boundary_{i}", BOUNDARY_BITS, boundary) for i in range(count - 1)),
            *(Field(f"act_{i}", CENTROID_BITS, centroid) for i in range(count)),
            *(Field(f"weight_{i}", CENTROID_BITS, centroid) for i in range(1 << self.weight_bits)),
        )
        channel = Field("channel", self.engine.index_width, f"uint{self.engine.index_width}")
        y = Field("y", FLOATS[self.out].bits, self.out)
        order = "by channel on each side" if self.selector == "radix" else "outermost first"
        fetch = f"channel of an outlier: of the largest, of the smallest, in turn, {order}"
        col = "weights' indices of a channel's outputs, beat * lines * macs + lane; channels as fetch asks for them"
        return (
            self.quantizer.port("i"),
            StreamPort(
                "cfg",
                "in",
                1,
                cfg,
                "",
                "of a token, also with load 0: boundary i is CA[i] + CA[i+1], acts are CA, weights CW",
            ),
            gemm.port("lut"),
            gemm.port("w"),
            StreamPort("fetch", "out", 1, (channel,), "", fetch),
            StreamPort("col", "in", self.lines * self.macs, w, "", col),
            StreamPort("scl", "in", self.lines, (Field("scale", 32, "fp32"),), "", SCALES),
            StreamPort("o", "out", self.lines, (y,), "token", RESULTS),
        )

    @property
    def status(self) -> tuple[StatusPort, ...]:
        (quantizer,), (gemm,) = self.quantizer.status, self.gemm.status
        return (StatusPort("error", (*quantizer.causes, gemm.causes[1], "k was above outliers")),)

    @property
    def scaling(self) -> int:
        """Of results: rounded, multiplied, perhaps rounded again, queued."""
        return latency.ROUND + latency.MULTIPLY + (latency.CONVERT if self.out == "fp16" else 0) + latency.QUEUE

    @property
    def latency(self) -> int:
        return self._end(1, 1, 1, 0, False)

    @property
    def interval(self) -> int:
        """Cycles from token to token, of full size, with one table, while no stream stalls."""
        return max(self.main_interval, self.side_interval, self.engine.interval, self.quantizer.rows)

    @property
    def main_interval(self) -> int:
        """Of the main path alone."""
        return self.groups * max(self.gemm.rows, self.gemm.reduce)

    @property
    def side_interval(self) -> int:
        """Of the outliers alone: a token's last sum is written before the next one's first outlier comes in."""
        return (2 * self.outliers - 1) * max(self.columns, ACCUMULATE) + self.columns + ACCUMULATE - 1 + STAGES

    def figures(self) -> dict[str, int | float]:
        return {
            "latency": self.latency,
            "cycles_between_tokens": self.interval,
            "cycles_between_tokens_main": self.main_interval,
            "cycles_between_tokens_outliers": self.side_interval,
        }

    def compute(self, job: LinearToken) -> NDArray[np.float32] | NDArray[np.float16]:
        mask = job.mask[: self.k_max]
        x = np.where(mask, job.x[: self.k_max], 0)
        e = token.exponents(x[None], job.shift)
        index = token.indices(x[None], e, job.acts)[0]
        chosen = self.chosen(job)
        weights = job.weights[:, : len(x)]
        main = job.acts.centroids[index[mask]] @ job.weight_book.centroids[weights[:, mask]].T
        over = token.residuals(x[None], e, job.acts)[0]
        side = (over[chosen] * job.weight_book.centroids[weights[:, chosen]]).sum(axis=1)
        y = scaled((main << (e[0] - token.GRID)) + side, token.GRID, job.scale)
        with np.errstate(over="ignore"):
            return y if self.out == "fp32" else y.astype(np.float16)

    def chosen(self, job: LinearToken) -> Int:
        """Their channels, in the order in which they come."""
        return self.engine.compute(Vector(job.x, job.k, job.mask))[:, 1]

    def inputs(self, job: LinearToken) -> dict[str, Beats]:
        n = len(job.weights)
        first = self.quantizer.inputs(Token(job.x, job.acts, job.shift, job.present))
        index = np.zeros(len(job.x), np.int64)
        books = job.acts.centroids, job.weight_book.centroids
        gemm = self.gemm.inputs(IndexGemm(index, job.weights, *books, load=job.load))
        groups = -(-n // self.lines)
        factors = np.zeros(groups * self.lines, np.float32)
        factors[:n] = job.scale
        numbers = {"boundary": job.acts.boundaries, "act": books[0], "weight": books[1]}
        listed = {f"{name}_{i}": [[v]] for name, values in numbers.items() for i, v in enumerate(values)}
        return {
            "i": first["i"],
            "cfg": self.port("cfg").pack(shift=[[job.shift]], n=[[n]], k=[[job.k]], load=[[job.load]], **listed),
            "lut": gemm["lut"],
            "w": gemm["w"],
            "col": self.column(job, self.chosen(job)),
            "scl": self.port("scl").pack(scale=factors.view(np.uint32).astype(np.int64).reshape(groups, -1)),
        }

    def column(self, job: LinearToken, channels: Int) -> Beats:
        """What ``col`` answers when ``fetch`` asks for these channels."""
        n = len(job.weights)
        lanes = self.lines * self.macs
        index = np.zeros((len(channels), -(-n // lanes) * lanes), np.int64)
        index[:, :n] = job.weights[:, channels].T
        return self.port("col").pack(index=index.reshape(-1, lanes))

    def outputs(self, job: LinearToken, result: NDArray[np.float32] | NDArray[np.float16]) -> dict[str, Beats]:
        groups = -(-len(result) // self.lines)
        y = np.zeros(groups * self.lines, np.int64)
        y[: len(result)] = FLOATS[self.out].code(result)
        chosen = self.chosen(job)
        return {
            "fetch": self.port("fetch").pack(channel=chosen[:, None]),
            "o": self.port("o").pack(y=y.reshape(groups, -1), last=np.arange(groups) == groups - 1),
        }

    def result(self, job: LinearToken, outputs: Mapping[str, Beats]) -> NDArray[np.float32] | NDArray[np.float16]:
        y = self.port("o").unpack(outputs["o"])["y"].ravel()[: len(job.weights)]
        if self.out == "fp16":
            return y.astype(np.uint16).view(np.float16)
        return y.astype(np.uint32).view(np.float32)

    def cycles(self, *jobs: LinearToken) -> int:
        """Of one token exactly; several take no longer than one after the other."""
        ends = []
        for job in jobs:
            beats = max(1, -(-len(job.x) // self.lanes))
            results = self.engine.results(int(job.mask.sum()), job.k)
            ends.append(self._end(beats, len(job.x), len(job.weights), results, job.load))
        return sum(ends) + len(ends)

    def _end(self, beats: int, length: int, n: int, results: int, load: bool) -> int:
        """The cycle of a token's last result, its first activations coming in cycle 0."""
        begin = latency.SKID + beats - 1 + self.quantizer.settle
        # ---- main path: indices, collected to rows, written, read, ...
        written = begin + self.quantizer.path + beats - 1 + latency.SKID + 1 + latency.SKID
        work = Work(-(-max(length, 1) // self.codes), -(-n // self.lines), load)
        main = self.gemm.pipeline.transfers([work], latency.SKID, written + 1)
        main = [at + self.gemm.back + latency.SKID + latency.BLOCK_QUEUE for at in main]
        # ---- side path: one outlier after the other
        side = self._side(begin, beats - 1, results, work.groups)
        merged = 0
        for at in main:
            merged = max(merged + 1, at, side)
        return merged + MERGE + self.scaling + latency.SKID

    def _side(self, begin: int, last: int, results: int, groups: int) -> int:
        """The cycle from which on sums may be merged."""
        timing = self.engine.timing
        first = last + timing.latency
        exponent = begin + latency.SKID + latency.QUEUE
        if not results:
            return max(first - timing.fill + latency.QUEUE, exponent) + STAGES + 1
        rows = -(-groups // self.macs)
        period = max(rows, ACCUMULATE)
        column = 0
        for number in range(results):
            came = first + timing.result(number, results) - timing.fill + latency.QUEUE
            column = max(max(came, exponent) + STAGES, column + (period if number else 0))
        return column + rows - 1 + ACCUMULATE
