"""The processing element alone, behind streams: specification and bit-true model of the unit ``mixpe_pe``."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from golden.mixpe.formats import ACTS, ALIGNED, WEIGHTS, ActFormat, WeightFormat, signed_bits, sum_range
from golden.ports import Beats, Field, StreamPort
from golden.spec import SpecError, UnitSpec, param

CORES = ("shift_add", "booth", "two_term", "multiply")

TWO_TERM_OPERANDS = (*range(-8, 9), -12, 12)
"""What the core ``two_term`` can multiply by: zero, and at most two signed powers of two."""


@dataclass(frozen=True)
class Groups:
    """A job of ``mixpe_pe``: activation and weight codes, both ``[n]``, cut into groups of ``lengths``."""

    x: NDArray[np.int64]
    w: NDArray[np.int64]
    lengths: tuple[int, ...]


OPERANDS = ACTS | {f.name: f for f in ALIGNED.values()}
"""Activations as an element sees them."""

STAGES = "register stages from operands to sum: 1 none between, 2 product, 3 product and its terms (floats: its shift)"

TWO_TERM = tuple(
    f.name for f in WEIGHTS.values() if set(f.operand(range(f.low, f.high + 1)).tolist()) <= set(TWO_TERM_OPERANDS)
)


class PESpec(UnitSpec):
    """One MixPE processing element: exact sums of products of a low-bit weight and a wider activation.

    Formula     ``sum[g] = sum over k in group g of operand(w[k]) * operand(x[k])``, integers all. The operand of an
                unsigned weight code is the code less half its range, of E2M1 twice its value; of a floating-point
                activation its significand, shifted: its value on the grid of the format's smallest number.
                Aligned ones (a significand, and above it a bit that makes it special) come from the engine's aligner.
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
        if self.core == "two_term" and self.weight not in TWO_TERM:
            raise SpecError(f"weight must be one of {', '.join(TWO_TERM)} for core two_term, not {self.weight!r}")
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
        operands = (Field("x", x.bits, x.name), Field("w", w.bits, w.code_format))
        sums = [Field("sum", self.sum_width, f"int{self.sum_width}")]
        if self.special_width:
            sums.append(Field("special", self.special_width, f"uint{self.special_width}"))
        return (
            StreamPort("i", "in", 1, operands, "group", "one activation and one weight code per beat"),
            StreamPort("o", "out", 1, tuple(sums), "", "one sum per group"),
        )

    @property
    def latency(self) -> int:
        # operand registers and stages to the sum, then two cycles through the queue of sums
        return self.stages + 3

    def compute(self, job: Groups) -> NDArray[np.int64]:
        """``[groups, 1]``: the sums; for floating-point activations ``[groups, 2]``: beside them their marks."""
        products = self.weight_format.operand(job.w) * self.act_format.operand(job.x)
        starts = np.cumsum((0, *job.lengths[:-1]))
        columns = [np.add.reduceat(products, starts)]
        if self.special_width:
            special = self.act_format.special(job.x)
            marks = (special & (products >= 0)) | (special & (products <= 0)) * 2
            columns.append(np.bitwise_or.reduceat(marks, starts))
        return np.stack(columns, axis=1)

    def inputs(self, job: Groups) -> dict[str, Beats]:
        last = np.zeros(len(job.x), dtype=np.bool_)
        last[np.cumsum(job.lengths) - 1] = True
        return {"i": self.ports[0].pack(x=job.x, w=job.w, last=last)}

    def outputs(self, job: Groups, result: NDArray[np.int64]) -> dict[str, Beats]:
        port = self.ports[1]
        return {"o": port.pack(**{f.name: result[:, i] for i, f in enumerate(port.fields)})}

    def result(self, job: Groups, outputs: Mapping[str, Beats]) -> NDArray[np.int64]:
        fields = self.ports[1].unpack(outputs["o"])
        return np.concatenate([fields[f.name] for f in self.ports[1].fields], axis=1)

    def cycles(self, *jobs: Groups) -> int:
        return sum(len(job.x) for job in jobs) + self.latency
