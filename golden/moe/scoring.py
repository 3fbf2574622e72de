"""The unit ``router``: a score per routed expert and token, from rows of the experts' own gate and up matrices."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from golden import latency, q4_1
from golden.formats import FLOATS
from golden.mixpe import layer, schedule
from golden.mixpe.formats import ACTS, SOURCES, WEIGHTS
from golden.mixpe.gemm import MixPESpec, ends, listed, pad
from golden.mixpe.job import Gemm
from golden.mixpe.pe import CORES, columns
from golden.moe.ffn import lengths
from golden.moe.spec import SCORES
from golden.moe.swiglu import SiluSpec, swiglu
from golden.numerics import F32
from golden.ports import Beats, Field, StatusPort, StreamPort
from golden.spec import SpecError, UnitSpec, param

MOST_COLUMNS = 64

_SHARED = ("weight", "act", "rows", "cols", "group", "k_max", "scale", "align", "core", "lanes", "words")
"""Fields that are the engine's, under the same names."""


@dataclass(frozen=True)
class Tokens:
    """A job of ``router``.

    gemm  tokens and rows: column 2j of the weights is expert j's row of gate, column 2j + 1 its row of up.
    norm  float32 ``[2 * experts]``: a factor of each column's sums, 1 / length of its row; ``None`` without norms.
    """

    gemm: Gemm
    norm: NDArray[np.float32] | None


class RouterSpec(UnitSpec):
    """Scores of ``experts`` experts for each token: what a representative neuron of each one gives.

    Formula     ``a[j] = x . gate[j]``, ``e[j] = x . up[j]`` by the engine ``mixpe``;
                ``v[j] = |silu(a[j]*s[j]) * (e[j]*r[j])|``, or with its sign (``score=signed``). ``s`` and ``r`` are
                1 / length of the rows, so that rows are used as they are stored; ``norms=false`` leaves them out.
    Rounding    sums as in :class:`~golden.mixpe.gemm.MixPESpec`, to FP32; silu as in
                :class:`~golden.moe.swiglu.SiluSpec`; each of the three products once, to FP32. NaN is 0x7FC00000.
    Handshake   AXI4-Stream. A tile is ``rows`` tokens; it takes ``passes`` passes, each through ``cols`` columns.
                ``i``, ``wgt``, ``par`` (and ``scl``, ``chn``, where the formats have them) as ``act`` ... of ``mixpe``:
                all are streamed anew for every pass. Columns beyond the last expert are filled up with anything.
                ``norm``: one beat per pass. Scores leave token by token, experts ascending, ``words / 2`` per beat,
                tlast on a token's last; lanes beyond the last expert are 0, and so is their bit ``valid``.
    Latency     ``latency`` cycles from the step that ends a pass, and where activations are aligned a full group, to
                its first scores; ``cycles(job)`` for all.
    Throughput  one step per cycle, so K cycles per pass, or as many as its scores take: ``rows * cols / words``.
    Status      ``sts_error``: that of ``mixpe``.
    Source      CMoE (arXiv 2502.04416): analytical router, in the variants of paper and code.
    Not done    selection. Several passes are for one row only, or a token's scores would not come in one piece.
                Unused rows of a last tile are fed zeros, and their scores come like any others.
    """

    unit: ClassVar[str] = "router"

    experts: int = param(5, "routed experts", low=1, high=1024)
    rows: int = param(1, "tokens at a time", low=1, high=64)
    cols: int | None = param(
        None, "columns per pass, two per expert; derived: for the fewest passes", low=2, high=MOST_COLUMNS
    )
    k_max: int = param(576, "most values of a token; sets the accumulator widths", low=1, high=65536)
    weight: str = param("uint4_min", "weight format", choices=tuple(WEIGHTS))
    act: str = param("fp16_aligned", "activation format", choices=(*ACTS, *SOURCES))
    align: int | None = param(None, "bits of aligned activations: 8, 12, 16, 20, 24; derived: 16, or 0", low=0, high=24)
    scale: str = param("fp16", "format of weight scales and minima", choices=tuple(FLOATS))
    group: int = param(32, "steps that share a scale, 16 to 256; 0: one scale per row", low=0, high=256)
    core: str = param("shift_add", "product core", choices=CORES)
    score: str = param("abs", "magnitude of the product, or with its sign", choices=SCORES)
    norms: bool = param(True, "rows come with 1 / length")
    reach: int = param(4, "log2 of the |z| from which the sigmoid is 0 or 1", low=1, high=5)
    segments: int = param(5, "log2 of the sigmoid's lines per unit of |z|", low=1, high=8)
    sigmoid_bits: int = param(20, "fractional bits of the sigmoid", low=8, high=23)
    lanes: int | None = param(None, "dequantiser lanes; derived: as in mixpe, or the fewest", low=1, high=schedule.MOST)
    words: int | None = param(
        None, "sums per beat, twice the scores; derived: the fewest for all lanes", low=2, high=MOST_COLUMNS
    )

    def _derive(self) -> dict[str, Any]:
        if self.cols is None:
            passes = -(-2 * self.experts // MOST_COLUMNS)
            least = 2 * -(-self.experts // passes)
            # the next even number may be one that lanes can share without splitting a pair
            cols = min(range(least, min(least + 3, MOST_COLUMNS + 1), 2), key=lambda c: self._sized(c)["words"])
        else:
            cols = self.cols
        return self._sized(cols)

    def _sized(self, cols: int) -> dict[str, Any]:
        """Values derived for so many columns."""
        passes = -(-2 * self.experts // cols)
        if cols % 2:
            raise SpecError(f"cols must be even, not {cols}")
        if self.rows > 1 and passes > 1:
            raise SpecError(f"rows must be 1 where {self.experts} experts need {passes} passes, not {self.rows}")
        engine = self._engine(cols)
        options, lanes = _words(engine), engine.lanes or 1
        words = next((w for w in options if w >= lanes), options[-1])
        return {"cols": cols, "align": engine.align, "lanes": lanes, "words": words}

    def _engine(self, cols: int) -> MixPESpec:
        """With beats of the engine's own choice."""
        lanes = self.lanes
        if not self.group and lanes is None:
            lanes = next(iter(schedule.grids(self.rows, cols, columns(self.core))))
        values = {name: getattr(self, name) for name in _SHARED}
        return MixPESpec(**values | {"cols": cols, "lanes": lanes, "words": None})

    def _check(self) -> None:
        assert self.cols
        options = _words(self._engine(self.cols))
        if self.words not in options:
            shape = f"{self.cols} columns and {self.lanes} lanes"
            raise SpecError(f"words must be one of {listed(options)} for {shape}, not {self.words}")
        _ = self.silu

    # --- parts ---

    @cached_property
    def engine(self) -> MixPESpec:
        """The engine that multiplies."""
        return MixPESpec(**{name: getattr(self, name) for name in _SHARED})

    @cached_property
    def silu(self) -> SiluSpec:
        return SiluSpec(reach=self.reach, segments=self.segments, bits=self.sigmoid_bits)

    @property
    def pairs(self) -> int:
        """Scores per beat."""
        assert self.words
        return self.words // 2

    @property
    def blocks(self) -> int:
        """Beats of a token's pass."""
        assert self.cols and self.words
        return self.cols // self.words

    @property
    def passes(self) -> int:
        """Of a tile."""
        assert self.cols
        return -(-2 * self.experts // self.cols)

    @property
    def left(self) -> int:
        """Experts of the last pass."""
        assert self.cols
        return self.experts - (self.passes - 1) * self.cols // 2

    # --- time ---

    @property
    def score_latency(self) -> int:
        """From two sums to their score."""
        return (latency.MULTIPLY if self.norms else 0) + self.silu.swiglu_latency("fp32")

    @property
    def behind(self) -> int:
        """From the engine's output to that of the unit."""
        return self.score_latency + latency.QUEUE + latency.SKID

    @property
    def latency(self) -> int:
        engine, align = self.engine, self.engine.timing.align
        return (align + engine.length - 1 if align else 0) + engine.latency + self.behind

    def figures(self) -> dict[str, int | float]:
        k = min(576, self.k_max)
        timing, group = self.engine.timing, self.group
        few, many = (timing.cycles([k] * tiles * self.passes, group) for tiles in (16, 32))
        return {"latency": self.latency, "passes": self.passes, f"cycles_per_tile_k{k}": (many - few) / 16}

    def cycles(self, *jobs: Tokens) -> int:
        return self.engine.cycles(*(job.gemm for job in jobs)) + self.behind

    # --- arithmetic ---

    def compute(self, job: Tokens) -> F32:
        """``[M, experts]``"""
        self._check_job(job)
        y = self.engine.compute(job.gemm)
        with np.errstate(all="ignore"):
            if job.norm is not None:
                y = y * job.norm
        v = swiglu(y[:, 0::2], y[:, 1::2], self.silu, "fp32")
        return np.abs(v) if self.score == "abs" else v

    def _check_job(self, job: Tokens) -> None:
        n = job.gemm.shape[2]
        if n != 2 * self.experts:
            raise SpecError(f"w must have two columns for each of {self.experts} experts, not {n}")
        if (job.norm is None) == self.norms:
            raise SpecError(f"norm must {'be given' if self.norms else 'be None'} where norms is {self.norms}")
        if job.norm is not None and (job.norm.shape != (n,) or job.norm.dtype != np.float32):
            raise SpecError(f"norm must be {n} numbers of type float32, not {list(job.norm.shape)} of {job.norm.dtype}")

    # --- streams ---

    @property
    def ports(self) -> tuple[StreamPort, ...]:
        act, *others, _ = self.engine.ports
        score = (Field("score", 32, "fp32"), Field("valid", 1, "uint1"))
        norm = (Field("norm", 32, "fp32"),)
        assert self.cols
        return (
            replace(act, name="i"),
            *others,
            *(
                [StreamPort("norm", "in", self.cols, norm, "", "1 / length of the rows; one beat per pass")]
                * self.norms
            ),
            StreamPort("o", "out", self.pairs, score, "token", f"scores; {self.passes * self.blocks} beats per token"),
        )

    @property
    def status(self) -> tuple[StatusPort, ...]:
        return self.engine.status

    def inputs(self, job: Tokens) -> dict[str, Beats]:
        self._check_job(job)
        beats = self.engine.inputs(job.gemm)
        beats["i"] = beats.pop("act")
        if job.norm is not None:
            assert self.cols
            filled = np.zeros(self.passes * self.cols, np.float32)
            filled[: len(job.norm)] = job.norm
            tiles = -(-len(job.gemm.x) // self.rows)
            codes = np.tile(filled.view(np.uint32).astype(np.int64).reshape(self.passes, self.cols), (tiles, 1))
            beats["norm"] = self.port("norm").pack(norm=codes)
        return beats

    def outputs(self, job: Tokens, result: F32) -> dict[str, Beats]:
        idle = -len(result) % self.rows
        if idle:
            result = np.concatenate([result, np.repeat(self.compute(_nothing(job)), idle, axis=0)])
        port, each = self.port("o"), self.passes * self.blocks
        lanes = each * self.pairs
        scores = pad(result.view(np.uint32).astype(np.int64), lanes).reshape(-1, self.pairs)
        valid = np.tile(np.arange(lanes) < self.experts, len(result)).reshape(-1, self.pairs)
        return {"o": port.pack(score=scores, valid=valid, last=ends(len(scores), each))}

    def result(self, job: Tokens, outputs: Mapping[str, Beats]) -> F32:
        words = self.port("o").unpack(outputs["o"])["score"].astype(np.uint32).view(np.float32)
        return words.reshape(-1, self.passes * self.blocks * self.pairs)[: len(job.gemm.x), : self.experts]


def _words(engine: MixPESpec) -> list[int]:
    """Whole pairs, and no beat with parts of two rows."""
    return [w for w in schedule.words_options(engine.grid) if w % 2 == 0 and engine.cols % w == 0]


def _nothing(job: Tokens) -> Tokens:
    """A token of zeros, as what unused rows are fed."""
    x_scale = None if job.gemm.x_scale is None else np.zeros_like(job.gemm.x_scale[:1])
    return replace(job, gemm=replace(job.gemm, x=np.zeros_like(job.gemm.x[:1]), x_scale=x_scale))


def real_tokens(
    spec: RouterSpec,
    x: NDArray[np.floating[Any]],
    gate: q4_1.Matrix,
    up: q4_1.Matrix,
    representatives: NDArray[np.integer[Any]],
) -> Tokens:
    """Real tokens ``x [M, d]`` and the representatives' rows of stored matrices, in the formats of ``spec``.

    Rows of Q4_1 are used as stored. Lengths are those of the stored rows, rounded to FP32 as 1 / length, whatever the
    format. Raises as :func:`golden.mixpe.layer.gemm`.
    """

    def both(g: NDArray[Any], u: NDArray[Any]) -> NDArray[Any]:
        return np.stack([g[representatives], u[representatives]], axis=1).reshape(-1, g.shape[1])

    rows = q4_1.Matrix(both(gate.codes, up.codes), both(gate.d, up.d), both(gate.m, up.m))
    norm = (1 / lengths(q4_1.dequantise(*rows))).astype(np.float32)
    return Tokens(layer.gemm(spec.engine, x, rows), norm if spec.norms else None)
