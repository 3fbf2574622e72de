"""The processing element alone, behind streams: specification and bit-true model of the unit ``mixpe_pe``."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from golden.mixpe.formats import ACTS, ALIGNED, WEIGHTS, ActFormat, WeightFormat, signed_bits, sum_range
from golden.ports import Beats, Field, StreamPort
from golden.spec import SpecError, UnitSpec, param

CORES = ("shift_add", "booth", "two_term", "composed", "multiply", "packed")

TWO_TERM_OPERANDS = (*range(-8, 9), -12, 12)
"""What the core ``two_term`` can multiply by: zero, and at most two signed powers of two."""


@dataclass(frozen=True)
class Groups:
    """A job of ``mixpe_pe``: activation codes ``[n]`` and weight codes ``[n]`` or ``[n, columns]``, cut into groups of
    ``lengths``."""

    x: NDArray[np.int64]
    w: NDArray[np.int64]
    lengths: tuple[int, ...]


OPERANDS = ACTS | {f.name: f for f in ALIGNED.values()}
"""Activations as an element sees them."""

STAGES = "register stages from operands to sum: 1 none between, 2 product, 3 product and its terms (floats: its shift)"

MULTIPLIER = 18
"""Bits of both signed operands of the multiplier that the core ``packed`` is made for."""

PACKED_ACTS = tuple(f.name for f in ACTS.values() if not f.floating and f.bits <= 8)


def _packed_bits(weight: WeightFormat, act: ActFormat) -> int:
    """Bits of two weights in one operand, a product's bits from one to the other."""
    shift = signed_bits(*sum_range(weight.operands, act.significands, 1))
    return signed_bits(*(w + (w << shift) for w in weight.operands))


CORE_WEIGHTS = {core: tuple(WEIGHTS) for core in CORES} | {
    "two_term": tuple(
        f.name for f in WEIGHTS.values() if set(f.operand(range(f.low, f.high + 1)).tolist()) <= set(TWO_TERM_OPERANDS)
    ),
    "composed": tuple(f.name for f in WEIGHTS.values() if f.operand_bits == 8),
    "packed": tuple(f.name for f in WEIGHTS.values() if _packed_bits(f, ACTS["int8"]) <= MULTIPLIER),
}
"""The weight formats that each core takes."""


def columns(core: str) -> int:
    """Neighbouring columns of the array that are one block."""
    return 2 if core == "packed" else 1


class PESpec(UnitSpec):
    """One MixPE processing element: exact sums of products of a low-bit weight and a wider activation.

    Formula     ``sum[g] = sum over k in group g of operand(w[k]) * operand(x[k])``, integers all. The operand of an
                unsigned weight code is the code less half its range, of E2M1 twice its value; of a floating-point
                activation its significand, shifted: its value on the grid of the format's smallest number.
                Aligned ones (a significand, and above it a bit that makes it special) come from the engine's aligner.
    Pair        core ``packed`` is two elements around one 18 x 18 multiplier: a beat has two weights, ``w0`` and
                ``w1``, for one activation, and a group two sums.
    Special     a floating-point NaN or infinity adds nothing of worth to the sum but marks it: bit 0 of ``special`` for
                a product of +infinity, bit 1 of -infinity, both for NaN (infinity times zero is one).
    Latency     ``latency`` cycles from the beat that ends a group to its sum.
    Throughput  one product per cycle, a group may be as short as one product.
    Ranges      nothing is rounded; the sum's width is derived from the operand ranges and ``group``, so it cannot
                overflow. Longer groups than ``group``, and code -8 of ``int4_sym``, are outside the contract.
    Source      MixPE (arXiv 2411.16158): shift-and-add in place of a multiplier. E2M1, E4M3, E5M2: OCP formats.
    Not done    no scale, no zero point: see the GEMM engine ``mixpe``.
    """

    unit: ClassVar[str] = "mixpe_pe"

    weight: str = param("int4", "weight format", choices=tuple(WEIGHTS))
    act: str = param("int8", "activation format", choices=tuple(OPERANDS))
    group: int = param(128, "largest number of products in a sum", low=1, high=65536)
    core: str = param("shift_add", "product core", choices=CORES)
    stages: int = param(1, STAGES, low=1, high=3)

    def _check(self) -> None:
        weights = CORE_WEIGHTS[self.core]
        if self.weight not in weights:
            raise SpecError(f"weight must be one of {', '.join(weights)} for core {self.core}, not {self.weight!r}")
        if self.core == "packed" and self.act not in PACKED_ACTS:
            raise SpecError(f"act must be one of {', '.join(PACKED_ACTS)} for core packed, not {self.act!r}")
        if self.sum_width > 63:
            raise SpecError(
                f"group must be shorter for {self.weight} and {self.act}, not {self.group}: "
                f"its sum would have {self.sum_width} bits, the most are 63"
            )

    @property
    def weight_format(self) -> WeightFormat:
        return WEIGHTS[self.weight]

    @property
    def act_format(self) -> ActFormat:
        return OPERANDS[self.act]

    @property
    def columns(self) -> int:
        return columns(self.core)

    @property
    def depth(self) -> int:
        """Register stages from the operands of the first column to its sum: the pair waits for its second weight."""
        return self.stages + self.columns - 1

    def _sum_width(self, x: tuple[int, int], terms: int) -> int:
        return signed_bits(*sum_range(self.weight_format.operands, x, terms))

    @property
    def product_width(self) -> int:
        """Bits of a product; of floating-point activations before the shift."""
        return self._sum_width(self.act_format.significands, 1)

    @property
    def sum_width(self) -> int:
        """Bits of the accumulator: the smallest that no group of ``group`` products can overflow."""
        return self._sum_width((self.act_format.low, self.act_format.high), self.group)

    @property
    def special_width(self) -> int:
        """Bits that mark a sum as infinite or NaN."""
        return 2 if self.act_format.floating else 0

    @property
    def ports(self) -> tuple[StreamPort, ...]:
        w, x = self.weight_format, self.act_format
        each = [""] if self.columns == 1 else [str(c) for c in range(self.columns)]
        operands = [Field("x", x.bits, x.name), *(Field(f"w{c}", w.bits, w.code_format) for c in each)]
        sums = [Field(f"sum{c}", self.sum_width, f"int{self.sum_width}") for c in each]
        if self.special_width:
            sums.append(Field("special", self.special_width, f"uint{self.special_width}"))
        weights = "two weight codes" if self.columns == 2 else "one weight code"
        groups = "two sums" if self.columns == 2 else "one sum"
        return (
            StreamPort("i", "in", 1, tuple(operands), "group", f"one activation and {weights} per beat"),
            StreamPort("o", "out", 1, tuple(sums), "", f"{groups} per group"),
        )

    @property
    def latency(self) -> int:
        # operand registers and stages to the sum, then two cycles through the queue of sums
        return self.depth + 3

    def compute(self, job: Groups) -> NDArray[np.int64]:
        """``[groups, columns]``: the sums; for floating-point activations beside them their marks."""
        products = self.weight_format.operand(self._weights(job)) * self.act_format.operand(job.x)[:, None]
        starts = np.cumsum((0, *job.lengths[:-1]))
        sums = np.add.reduceat(products, starts)
        if not self.special_width:
            return sums
        special = self.act_format.special(job.x)[:, None]
        marks = (special & (products >= 0)) | (special & (products <= 0)) * 2
        return np.concatenate([sums, np.bitwise_or.reduceat(marks, starts)], axis=1)

    def inputs(self, job: Groups) -> dict[str, Beats]:
        last = np.zeros(len(job.x), dtype=np.bool_)
        last[np.cumsum(job.lengths) - 1] = True
        port = self.ports[0]
        weights = {f.name: w for f, w in zip(port.fields[1:], self._weights(job).T, strict=True)}
        return {"i": port.pack(x=job.x, last=last, **weights)}

    def _weights(self, job: Groups) -> NDArray[np.int64]:
        """``[n, columns]``."""
        return job.w.reshape(len(job.x), self.columns)

    def outputs(self, job: Groups, result: NDArray[np.int64]) -> dict[str, Beats]:
        port = self.ports[1]
        return {"o": port.pack(**{f.name: result[:, i] for i, f in enumerate(port.fields)})}

    def result(self, job: Groups, outputs: Mapping[str, Beats]) -> NDArray[np.int64]:
        fields = self.ports[1].unpack(outputs["o"])
        return np.concatenate([fields[f.name] for f in self.ports[1].fields], axis=1)

    def cycles(self, *jobs: Groups) -> int:
        return sum(len(job.x) for job in jobs) + self.latency
