"""GEMM on indices: specification and bit-true model of the unit ``lutgemm``."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from golden import latency
from golden.formats import FLOATS
from golden.kmeans import area, token
from golden.kmeans.timing import Pipeline, Work
from golden.numerics import canonical, round_fp32, shifted
from golden.ports import Beats, Field, StatusPort, StreamPort
from golden.spec import AUTO, SpecError, UnitSpec, param

Int = NDArray[np.int64]

REDUCERS = ("histogram", "bucket", "direct")
CENTROID_BITS = 8
UNIT = 16
"""Codes that one index counter, or one small tree of adders, takes."""

MULTIPLY = 1
"""Cycles of the products of a weighted sum."""

SCALES = "scale of output beat * lines + lane, beat for beat as o"
RESULTS = "result of output beat * lines + lane; 0 beyond the last"

MODULE_BITS = 65_000
"""Most bits of data in or out of a block: Amaranth builds no module with more than 65,535 port bits."""


@dataclass(frozen=True, eq=False)
class IndexGemm:
    """A job, one token: ``y[n] = 2**exponent * scale[n] * sum_k A[index[k]] * W[weights[n, k]]``.

    ``index[K]`` and ``weights[N, K]`` are indices into the centroids ``acts`` and ``books``: INT8, or FP16 codes for a
    table of FP16. ``present`` leaves activations out. ``load``: the table comes with the job; without it, it is the one
    of the job before. ``exponent`` and ``scale[N]`` (FP32) are for FP32 results only.
    """

    index: Int
    weights: Int
    acts: Int
    books: Int
    present: NDArray[np.bool_] | None = None
    load: bool = True
    exponent: int = 0
    scale: NDArray[np.float32] | None = None

    @property
    def mask(self) -> NDArray[np.bool_]:
        return np.ones(len(self.index), np.bool_) if self.present is None else self.present

    @property
    def factors(self) -> NDArray[np.float32]:
        return np.ones(len(self.weights), np.float32) if self.scale is None else self.scale


class LutGemmSpec(UnitSpec):
    """One token's activations times a weight matrix, both as K-Means indices, without dequantising either.

    Formula     ``y[n] = sum_k T[index[k], weights[n, k]]`` with the table ``T`` of all products of two centroids,
                exact: INT8 centroids with 16-bit products, or FP16 entries (products rounded once), multiples of 2^-24.
                With ``out=fp32`` that sum times ``2**e`` is rounded to FP32, multiplied by ``scale[n]``, and rounded
                again.
    Reducers    ``histogram``: how often each pair of indices comes is counted, ``2**(act_bits+weight_bits)`` counters a
                line; then each count is multiplied by its product, ``width`` at a time (the paper). ``bucket``: the
                activations' centroids are added up per weight index, then ``2**weight_bits`` multiplications (as in
                GOBO). ``direct``: each pair's product is looked up and added. All give the same bits. ``auto``: of
                those that these sizes allow the one with the least area times cycles of a token of full size, by the
                estimate of :mod:`golden.kmeans.area`.
    Streams     ``act``: ``codes`` indices per beat, each with a ``valid`` bit; a lane without it counts nowhere; tlast
                ends the token. ``w``: for each group of ``lines`` output channels, for each beat of ``act``, the weight
                indices of all lines: lane ``line * codes + code``. ``cfg``: one beat per token: the number of output
                channels, and whether a table comes. ``lut``: the table, ``T[a, w]`` in rising order of ``a, w``; of
                ``bucket`` the centroids, those of activations first. A table loads while the one before is in use.
                ``o``: ``lines`` results per beat, tlast on the token's last; lanes beyond the last channel are 0.
                With ``out=fp32`` also ``scl``: ``lines`` scales per beat of ``o``; ``exp``: the exponent of each token,
                -24 to 11.
    Latency     ``latency`` cycles from the beat of ``w`` that ends a group to its results.
    Throughput  ``ceil(N / lines) * max(ceil(K / codes), reduce)`` cycles per token, ``reduce = ceil(bins / width)``,
                while no stream stalls; the next token loads meanwhile. A new table waits until the one before is no
                longer in use.
    Ranges      no sum overflows. A token of more beats than ``k_max`` needs sets bit 0 of ``sts_error``, and loses
                those; an n of 0, which counts as 1, or above ``n_max``, which counts as ``n_max``, sets bit 1.
                The first token after a reset must bring a table; without it results mean nothing.
    Source      WAQ LUT-GEMM of KLLM (arXiv 2507.23035, later OASIS): concatenation, index counters, table, weighted
                sum. ``direct`` and ``bucket`` are rivals.
    Not done    outliers (see ``kmeans_linear``); several tokens do not share one reading of the weights.
    """

    unit: ClassVar[str] = "lutgemm"

    act_bits: int = param(4, "bits of an activation's index", low=1, high=4)
    weight_bits: int = param(4, "bits of a weight's index", low=1, high=4)
    lines: int = param(4, "output channels at a time", low=1, high=64)
    codes: int = param(16, "codes per line and cycle", low=1, high=1024)
    width: int = param(16, "counters, or buckets, per line and cycle in the weighted sum", low=1, high=256)
    k_max: int = param(4096, "most activations of a token", low=1, high=32768)
    n_max: int = param(4096, "most output channels", low=1, high=65536)
    reducer: str = param(
        "histogram", "how codes become a sum; auto: the least area times cycles", choices=(*REDUCERS, AUTO)
    )
    table: str = param("int16", "format of the table's entries", choices=("int16", "fp16"))
    out: str = param("raw", "results: exact sums, or scaled to FP32", choices=("raw", "fp32"))

    def _derive(self) -> dict[str, Any]:
        return {"reducer": self._cheapest()} if self.reducer == AUTO else {}

    def _cheapest(self) -> str:
        allowed = []
        for reducer in REDUCERS:
            try:
                allowed.append(type(self)(**self.values() | {"reducer": reducer}))
            except SpecError as e:
                refusal = e
        if not allowed:
            raise refusal
        return min(allowed, key=lambda spec: area.luts(spec) * max(spec.rows, spec.reduce)).reducer

    def _check(self) -> None:
        if self.codes > UNIT and self.codes % UNIT:
            raise SpecError(f"codes must be at most {UNIT} or a multiple of it, not {self.codes}")
        if self.width & (self.width - 1):
            raise SpecError(f"width must be a power of two, not {self.width}")
        if self.lines * self.codes * self.weight_bits > 32768:
            most = 32768 // (self.codes * self.weight_bits)
            raise SpecError(
                f"lines must be at most {most} with {self.codes} codes of {self.weight_bits} bits, not {self.lines}"
            )
        if self.reducer == "bucket" and self.table == "fp16":
            raise SpecError("table must be int16 for reducer bucket, not 'fp16'")
        per_code = self.operand_bits + self.weight_bits
        most = (MODULE_BITS - self.per_cycle * self.factor_bits) // per_code // UNIT * UNIT
        if self.codes > most:
            raise SpecError(
                f"codes must be at most {most} for reducer {self.reducer} with {per_code} bits a code, not {self.codes}"
            )

    @property
    def rows(self) -> int:
        """Beats of the longest token."""
        return -(-self.k_max // self.codes)

    @property
    def units(self) -> int:
        return -(-self.codes // UNIT)

    @property
    def entries(self) -> int:
        """Of the product table."""
        return 1 << (self.act_bits + self.weight_bits)

    @property
    def bins(self) -> int:
        """Sums that a line keeps."""
        return {"histogram": self.entries, "bucket": 1 << self.weight_bits, "direct": 1}[self.reducer]

    @property
    def per_cycle(self) -> int:
        """Of them, in a cycle of the weighted sum."""
        return min(self.width, self.bins)

    @property
    def reduce(self) -> int:
        """Cycles of a weighted sum."""
        return self.bins // self.per_cycle

    @property
    def entry_bits(self) -> int:
        """Of an entry as an integer."""
        return token.X_BITS if self.table == "fp16" else 16

    @property
    def operand_bits(self) -> int:
        """Of what a line gets for an activation's index: the index and its valid bit, its centroid, its products."""
        products = self.entry_bits << self.weight_bits
        return {"histogram": self.act_bits + 1, "bucket": CENTROID_BITS, "direct": products}[self.reducer]

    @property
    def factor_bits(self) -> int:
        """Of what a bin is multiplied by."""
        return CENTROID_BITS if self.reducer == "bucket" else self.entry_bits

    @property
    def bin_width(self) -> int:
        """Of a bin's sum, with its sign if it has one."""
        most = (self.rows * self.codes - 1).bit_length()
        return {"histogram": most + 1, "bucket": CENTROID_BITS + most, "direct": self.entry_bits + most}[self.reducer]

    @property
    def sum_width(self) -> int:
        """Of a result, with its sign."""
        return self.entry_bits + (self.rows * self.codes - 1).bit_length()

    @property
    def grid(self) -> int:
        """A sum counts steps of two to this."""
        return token.GRID if self.table == "fp16" else 0

    @property
    def lut_lanes(self) -> int:
        """Entries, or centroids, per beat of ``lut``."""
        return {"histogram": self.per_cycle, "bucket": 1, "direct": 1 << self.weight_bits}[self.reducer]

    @property
    def lut_beats(self) -> int:
        """Of a table."""
        if self.reducer == "bucket":
            return (1 << self.act_bits) + (1 << self.weight_bits)
        return self.entries // self.lut_lanes

    @property
    def n_width(self) -> int:
        return self.n_max.bit_length()

    @property
    def ports(self) -> tuple[StreamPort, ...]:
        a, w, n = self.act_bits, self.weight_bits, self.n_width
        index = (Field("index", a, f"uint{a}"), Field("valid", 1, "uint1"))
        cfg = (Field("n", n, f"uint{n}"), Field("load", 1, "uint1"))
        bits, name = (CENTROID_BITS, "int8") if self.reducer == "bucket" else (16, self.table)
        y = Field("y", 32, "fp32") if self.out == "fp32" else Field("y", self.sum_width, f"int{self.sum_width}")
        products = "CA[a] * CW[w], entry a * 2^weight_bits + w at beat * lanes + lane"
        table = "CA, then CW, one a beat" if self.reducer == "bucket" else products
        weights = "weights' indices, lane line * codes + code; groups of outputs, in each the beats of act"
        scaled = (
            StreamPort("scl", "in", self.lines, (Field("scale", 32, "fp32"),), "", SCALES),
            StreamPort("exp", "in", 1, (Field("e", 6, "int6"),), "", "the token's exponent; one per token"),
        )
        return (
            StreamPort(
                "act", "in", self.codes, index, "token", "index of activation beat * codes + lane; valid 0: none there"
            ),
            StreamPort("w", "in", self.lines * self.codes, (Field("index", w, f"uint{w}"),), "", weights),
            StreamPort("cfg", "in", 1, cfg, "", "n outputs; load 1: a table comes; one per token"),
            StreamPort("lut", "in", self.lut_lanes, (Field("entry", bits, name),), "", table),
            *(scaled if self.out == "fp32" else ()),
            StreamPort("o", "out", self.lines, (y,), "token", RESULTS),
        )

    @property
    def status(self) -> tuple[StatusPort, ...]:
        return (StatusPort("error", ("a token had more beats than k_max needs", "n was 0 or above n_max")),)

    @property
    def pipeline(self) -> Pipeline:
        """Codes, units, their tree."""
        return Pipeline(1 + 1 + latency.tree(self.units), self.reduce, self.lut_beats)

    @property
    def back(self) -> int:
        """From the cycle in which a group's sums are handed on to its result: kept, multiplied, added up."""
        weighted = MULTIPLY + latency.tree(self.per_cycle) + 1 if self.reducer != "direct" else 0
        return self.reduce + weighted + latency.QUEUE

    @property
    def scaling(self) -> int:
        """Of FP32 results: rounded, multiplied, queued."""
        return latency.ROUND + latency.MULTIPLY + latency.QUEUE if self.out == "fp32" else 0

    @property
    def latency(self) -> int:
        return latency.SKID + self.pipeline.front + self.back + self.scaling + latency.SKID

    def figures(self) -> dict[str, int | float]:
        steady = -(-self.n_max // self.lines) * max(self.rows, self.reduce)
        return {
            "latency": self.latency,
            "table_entries": self.entries,
            "bins_per_line": self.bins,
            "products_per_result": 0 if self.reducer == "direct" else self.bins,
            "reduce_cycles": self.reduce,
            f"cycles_n{self.n_max}_k{self.k_max}": steady,
        }

    def products(self, job: IndexGemm) -> Int:
        """The table, ``[2**act_bits, 2**weight_bits]``: what is loaded, integers or FP16 codes."""
        if self.table == "int16":
            return np.multiply.outer(job.acts, job.books)
        acts, books = (codes.astype(np.uint16).view(np.float16) for codes in (job.acts, job.books))
        return FLOATS["fp16"].code(np.multiply.outer(acts, books))

    def compute(self, job: IndexGemm) -> NDArray[np.int64] | NDArray[np.float32]:
        products = self.products(job)
        table = token.steps(products) if self.table == "fp16" else products
        present = job.mask[: self.rows * self.codes]
        index, weights = job.index[: len(present)][present], job.weights[:, : len(present)][:, present]
        y = table[index, weights].sum(axis=1)
        return y if self.out == "raw" else scaled(y, job.exponent + self.grid, job.factors)

    def beats(self, job: IndexGemm) -> int:
        return max(1, -(-len(job.index) // self.codes))

    def groups(self, job: IndexGemm) -> int:
        return -(-len(job.weights) // self.lines)

    def inputs(self, job: IndexGemm) -> dict[str, Beats]:
        beats, groups, n = self.beats(job), self.groups(job), len(job.weights)
        places = np.zeros((2, beats * self.codes), np.int64)
        places[:, : len(job.index)] = job.index, job.mask
        index, valid = places.reshape(2, beats, self.codes)
        kept = min(beats, self.rows)
        weights = np.zeros((groups * self.lines, kept * self.codes), np.int64)
        weights[:n, : job.weights.shape[1]] = job.weights[:, : weights.shape[1]]
        tiles = weights.reshape(groups, self.lines, kept, self.codes).transpose(0, 2, 1, 3)
        inputs = {
            "act": self.port("act").pack(index=index, valid=valid, last=np.arange(beats) == beats - 1),
            "w": self.port("w").pack(index=tiles.reshape(groups * kept, -1)),
            "cfg": self.port("cfg").pack(n=[[n]], load=[[job.load]]),
            "lut": self.port("lut").pack(entry=self._table(job)),
        }
        if self.out == "fp32":
            factors = np.zeros(groups * self.lines, np.float32)
            factors[:n] = job.factors
            inputs["scl"] = self.port("scl").pack(scale=factors.view(np.uint32).astype(np.int64).reshape(groups, -1))
            inputs["exp"] = self.port("exp").pack(e=[[job.exponent]])
        return inputs

    def _table(self, job: IndexGemm) -> Int:
        """Beats of ``lut``."""
        if not job.load:
            return np.zeros((0, self.lut_lanes), np.int64)
        what = np.concatenate([job.acts, job.books]) if self.reducer == "bucket" else self.products(job).ravel()
        return what.reshape(-1, self.lut_lanes)

    def outputs(self, job: IndexGemm, result: NDArray[np.int64] | NDArray[np.float32]) -> dict[str, Beats]:
        groups = self.groups(job)
        y = np.zeros(groups * self.lines, np.int64)
        y[: len(result)] = result.view(np.uint32) if self.out == "fp32" else result
        return {"o": self.port("o").pack(y=y.reshape(groups, -1), last=np.arange(groups) == groups - 1)}

    def result(self, job: IndexGemm, outputs: Mapping[str, Beats]) -> NDArray[np.int64] | NDArray[np.float32]:
        y = self.port("o").unpack(outputs["o"])["y"].ravel()[: len(job.weights)]
        return y.astype(np.uint32).view(np.float32) if self.out == "fp32" else y

    def cycles(self, *jobs: IndexGemm) -> int:
        works = [Work(min(self.beats(job), self.rows), self.groups(job), job.load) for job in jobs]
        end = self.pipeline.transfers(works, latency.SKID)[-1]
        return end + self.back + self.scaling + latency.SKID + 1


def scaled(y: Int, exponent: int, factors: NDArray[np.float32]) -> NDArray[np.float32]:
    """``fp32(fp32(y * 2**exponent) * factors)``."""
    with np.errstate(over="ignore", invalid="ignore"):
        return canonical(round_fp32(shifted(y, np.zeros_like(y)), exponent) * factors)
