"""The processing element alone, behind streams: specification and bit-true model of the unit ``mixpe_pe``."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from golden.mixpe.formats import ACTS, WEIGHTS, signed_bits, sum_range
from golden.ports import Beats, Field, StreamPort
from golden.spec import UnitSpec, param

CORES = ("shift_add", "booth", "multiply")


@dataclass(frozen=True)
class Groups:
    """A job of ``mixpe_pe``: activations and weight codes, both ``[n]``, cut into groups of ``lengths``."""

    x: NDArray[np.int64]
    w: NDArray[np.int64]
    lengths: tuple[int, ...]


class PESpec(UnitSpec):
    """One MixPE processing element: exact sums of products of a low-bit weight and a wider activation.

    Formula     ``sum[g] = sum over k in group g of (w[k] - offset) * x[k]``; the offset is 8 for unsigned codes, else
    0.
    Latency     ``latency`` cycles from the beat that ends a group to its sum.
    Throughput  one product per cycle, a group may be as short as one product.
    Ranges      nothing is rounded; the sum's width is derived from the operand ranges and ``group``, so it cannot
                overflow. Longer groups than ``group``, and code -8 of ``int4_sym``, are outside the contract.
    Source      MixPE (arXiv 2411.16158): shift-and-add in place of a multiplier.
    Not done    no scale, no zero point: see the GEMM engine ``mixpe``.
    """

    unit: ClassVar[str] = "mixpe_pe"

    weight: str = param("int4", "weight format", choices=tuple(WEIGHTS))
    act: str = param("int8", "activation format", choices=tuple(ACTS))
    group: int = param(128, "largest number of products in a sum", low=1, high=65536)
    core: str = param("shift_add", "product core", choices=CORES)
    stages: int = param(
        1, "register stages from operands to sum: 1 none between, 2 product, 3 terms and product", low=1, high=3
    )

    @property
    def sum_width(self) -> int:
        """Bits of the accumulator: the smallest that no group of ``group`` products can overflow."""
        x = ACTS[self.act]
        return signed_bits(*sum_range(WEIGHTS[self.weight].operands, (x.low, x.high), self.group))

    @property
    def ports(self) -> tuple[StreamPort, ...]:
        w, x = WEIGHTS[self.weight], ACTS[self.act]
        operands = (Field("x", x.bits, x.name), Field("w", w.bits, w.code_format))
        return (
            StreamPort("i", "in", 1, operands, "group", "one activation and one weight code per beat"),
            StreamPort("o", "out", 1, (Field("sum", self.sum_width, f"int{self.sum_width}"),), "", "one sum per group"),
        )

    @property
    def latency(self) -> int:
        # operand registers and stages to the sum, then two cycles through the queue of sums
        return self.stages + 3

    def compute(self, job: Groups) -> NDArray[np.int64]:
        products = (job.w - WEIGHTS[self.weight].offset) * job.x
        starts = np.cumsum((0, *job.lengths[:-1]))
        return np.add.reduceat(products, starts)

    def inputs(self, job: Groups) -> dict[str, Beats]:
        last = np.zeros(len(job.x), dtype=np.bool_)
        last[np.cumsum(job.lengths) - 1] = True
        return {"i": self.ports[0].pack(x=job.x, w=job.w, last=last)}

    def outputs(self, job: Groups, result: NDArray[np.int64]) -> dict[str, Beats]:
        return {"o": self.ports[1].pack(sum=result)}

    def result(self, job: Groups, outputs: Mapping[str, Beats]) -> NDArray[np.int64]:
        return self.ports[1].unpack(outputs["o"])["sum"][:, 0]

    def cycles(self, *jobs: Groups) -> int:
        return sum(len(job.x) for job in jobs) + self.latency
