"""Clustering: activations to indices, with a scale per token. Specification and model of ``kmeans_quantizer``."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from golden import latency
from golden.kmeans import token
from golden.kmeans.codebook import Codebook
from golden.ports import Beats, Field, StatusPort, StreamPort
from golden.spec import UnitSpec, param

Int = NDArray[np.int64]

SHIFT_BITS = 5
BOUNDARY_BITS = 9
"""Of twice the middle between two INT8 centroids."""


@dataclass(frozen=True, eq=False)
class Token:
    """A job: FP16 codes ``x[K]``, the layer's codebook and ``shift``. ``present`` leaves out some of the activations,
    which keep their place."""

    x: Int
    book: Codebook
    shift: int
    present: NDArray[np.bool_] | None = None

    @property
    def mask(self) -> NDArray[np.bool_]:
        return np.ones(len(self.x), np.bool_) if self.present is None else self.present


@dataclass(frozen=True, eq=False)
class Indices:
    """A token as indices: ``x[i] ~= 2**exponent * centroid[index[i]]``."""

    index: Int
    """``[K]``; 0 where there is no activation"""
    exponent: int


class QuantizerSpec(UnitSpec):
    """A token's activations as indices of the nearest centroids, under a power-of-two scale of its own.

    Formula     ``e = floor(log2 sum |x|) - shift``, at least -24 and at most 11; the index is the number of boundaries
                ``(C[i] + C[i+1]) / 2`` that are not above ``x / 2**e``: a value on a boundary goes up. Exact: no
                activation is rounded.
    Streams     ``i``: ``lanes`` activations per beat, each with a ``valid`` bit; a lane without it is none. tlast ends
                the token. ``cfg``: one beat per token: ``shift`` and twice each boundary. ``o``: indices, beat for beat
                as they came, with their ``valid`` bits. ``exp``: one beat per token, e.
    Latency     ``latency`` cycles from the beat that ends a token to its first indices.
    Throughput  a beat per cycle; the next token loads meanwhile. A token of fewer than ``bits + 1`` beats takes that
                many.
    Ranges      infinity and NaN set bit 1 of ``sts_error`` and count as the numbers that would follow 65504; a token of
                more beats than ``k_max`` activations need sets bit 0 and loses those. Boundaries must ascend.
    Source      clustering units of KLLM (arXiv 2507.23035, later OASIS): boundaries, binary search. The per-token
                scale is ours: the paper does not say how one codebook serves all tokens.
    Not done    boundaries are not calculated from centroids; the scale is not a maximum, so an activation may be far
                beyond the outermost centroid.
    """

    unit: ClassVar[str] = "kmeans_quantizer"

    bits: int = param(4, "bits of an index", low=1, high=4)
    k_max: int = param(4096, "most activations of a token", low=8, high=32768)
    lanes: int = param(8, "activations per beat", low=1, high=64)

    @property
    def rows(self) -> int:
        """Beats of the longest token."""
        return -(-self.k_max // self.lanes)

    @property
    def sum_width(self) -> int:
        """Of the sum of magnitudes."""
        return token.X_BITS - 1 + (self.rows * self.lanes - 1).bit_length()

    @property
    def log_width(self) -> int:
        """Of the position of its highest bit."""
        return (self.sum_width - 1).bit_length()

    @property
    def ports(self) -> tuple[StreamPort, ...]:
        valid = Field("valid", 1, "uint1")
        activation = (Field("x", 16, "fp16"), valid)
        index = (Field("index", self.bits, f"uint{self.bits}"), valid)
        limits = [Field(f"boundary_{i}", BOUNDARY_BITS, f"int{BOUNDARY_BITS}") for i in range((1 << self.bits) - 1)]
        cfg = (Field("shift", SHIFT_BITS, f"uint{SHIFT_BITS}"), *limits)
        return (
            StreamPort(
                "i", "in", self.lanes, activation, "token", "activation beat * lanes + lane; valid 0: none there"
            ),
            StreamPort("cfg", "in", 1, cfg, "", "shift, and boundary i as C[i] + C[i+1]; one per token"),
            StreamPort("o", "out", self.lanes, index, "token", "index of i's beat and lane; 0 where valid is 0"),
            StreamPort("exp", "out", 1, (Field("e", 6, "int6"),), "", "exponent of the token's scale; one per token"),
        )

    @property
    def status(self) -> tuple[StatusPort, ...]:
        return (
            StatusPort("error", ("a token had more beats than k_max activations need", "an activation was not finite")),
        )

    @property
    def settle(self) -> int:
        """From the write of a token's last beat to its scale: magnitudes, their sum, the total, its logarithm, kept."""
        return 1 + latency.tree(self.lanes) + 1 + 1 + 1

    @property
    def path(self) -> int:
        """From the cycle in which a token's reading begins to its first indices: read, align, a level a cycle."""
        return 1 + 2 + self.bits

    @property
    def latency(self) -> int:
        return latency.SKID + self.settle + self.path + latency.SKID

    def figures(self) -> dict[str, int | float]:
        return {"latency": self.latency, "beats_per_token": self.rows, "comparators": self.lanes * self.bits}

    def compute(self, job: Token) -> Indices:
        x = np.where(job.mask, job.x, 0)[None, : self.rows * self.lanes]
        e = token.exponents(x, job.shift)
        return Indices(np.where(job.mask[: x.size], token.indices(x, e, job.book)[0], 0), int(e[0]))

    def beats(self, job: Token) -> int:
        return max(1, -(-len(job.x) // self.lanes))

    def inputs(self, job: Token) -> dict[str, Beats]:
        beats = self.beats(job)
        places = np.zeros((2, beats * self.lanes), np.int64)
        places[:, : len(job.x)] = job.x, job.mask
        x, valid = places.reshape(2, beats, self.lanes)
        limits = {f"boundary_{i}": [[b]] for i, b in enumerate(job.book.boundaries)}
        return {
            "i": self.port("i").pack(x=x, valid=valid, last=np.arange(beats) == beats - 1),
            "cfg": self.port("cfg").pack(shift=[[job.shift]], **limits),
        }

    def outputs(self, job: Token, result: Indices) -> dict[str, Beats]:
        beats = min(self.beats(job), self.rows)
        places = np.zeros((2, beats * self.lanes), np.int64)
        places[:, : len(result.index)] = result.index, job.mask[: len(result.index)]
        index, valid = places.reshape(2, beats, self.lanes)
        return {
            "o": self.port("o").pack(index=index, valid=valid, last=np.arange(beats) == beats - 1),
            "exp": self.port("exp").pack(e=[[result.exponent]]),
        }

    def result(self, job: Token, outputs: Mapping[str, Beats]) -> Indices:
        index = self.port("o").unpack(outputs["o"])["index"].ravel()[: len(job.x)]
        return Indices(index, int(self.port("exp").unpack(outputs["exp"])["e"][0, 0]))

    def begins(self, *jobs: Token) -> list[int]:
        """The cycle in which the reading of each token begins: its scale is known, and the token before has been read.
        Two tokens have room, so the third one waits for the first."""
        begins: list[int] = []
        free, write, spacing = [0, 0], latency.SKID - 1, 0
        for job in jobs:
            rows = min(self.beats(job), self.rows)
            write = max(write + 1, free[0]) + self.beats(job) - 1
            ready = write + self.settle
            begins.append(max(ready, begins[-1] + spacing) if begins else ready)
            spacing = max(rows, self.bits + 1)
            free = [free[1], begins[-1] + rows + 1]
        return begins

    def cycles(self, *jobs: Token) -> int:
        return self.begins(*jobs)[-1] + self.path + min(self.beats(jobs[-1]), self.rows) - 1 + latency.SKID + 1
