"""Load balance: specification and bit-true model of the unit ``load_balance``."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from golden import latency
from golden.moe.fp32 import add
from golden.ports import Beats, Field, StatusPort, StreamPort
from golden.spec import UnitSpec, param

Int = NDArray[np.int64]

SIGN = 1 << 31
"""Of FP32."""


@dataclass(frozen=True, eq=False)
class Load:
    """A job: how many tokens chose each expert, its bias, and the step; the last two FP32 bit patterns."""

    count: Int
    b: Int
    gamma: int


class BalanceSpec(UnitSpec):
    """Biases that follow the load: down by a step where an expert had more than the mean, up where it had less.

    Formula     ``b_j - gamma`` if ``count_j * experts`` is more than the sum of all counts, ``b_j + gamma`` if it is
                less, ``b_j`` where they are equal: integers, exact. ``b`` is FP32, its sum rounded once.
    Streams     ``i``: count and bias of an expert a beat, in order, tlast on the last. ``cfg``: gamma, one beat per
                batch. ``o``: the new biases, in order, tlast on the last.
    Latency     ``latency`` cycles from the last count to the first new bias, if cfg was there before.
    Throughput  a batch at a time: ``2 * experts + latency - 3`` cycles from one to the next. ``cycles`` is exact.
    Ranges      counts above ``tokens`` are allowed up to their field's largest. A batch of more or fewer beats than
                experts sets bit 0 of ``sts_error``; what is too much is lost, what is missing counts as nothing.
    Source      load balance by biases of CMoE (arXiv 2502.04416).
    Not done    biases have no limit; batches are not added up.
    """

    unit: ClassVar[str] = "load_balance"

    experts: int = param(8, "experts", low=1, high=64)
    tokens: int = param(1024, "largest count", low=1, high=65535)

    @property
    def count_bits(self) -> int:
        return self.tokens.bit_length()

    @property
    def total_bits(self) -> int:
        return (self.experts * ((1 << self.count_bits) - 1)).bit_length()

    @property
    def ports(self) -> tuple[StreamPort, ...]:
        count, b = Field("count", self.count_bits, f"uint{self.count_bits}"), Field("b", 32, "fp32")
        return (
            StreamPort("i", "in", 1, (count, b), "batch", "tokens that chose an expert, and its bias"),
            StreamPort("cfg", "in", 1, (Field("gamma", 32, "fp32"),), "", "the step, one per batch"),
            StreamPort("o", "out", 1, (b,), "batch", "new biases"),
        )

    @property
    def status(self) -> tuple[StatusPort, ...]:
        return (StatusPort("error", ("a batch had more or fewer counts than experts",)),)

    @property
    def latency(self) -> int:
        """All are there; added; queued."""
        return latency.SKID + 1 + latency.ADD + latency.QUEUE + latency.SKID

    def compute(self, job: Load) -> Int:
        count, b = job.count[: self.experts], job.b[: self.experts]
        mine, total = count * self.experts, count.sum()
        stepped = add(b, np.where(mine > total, job.gamma ^ SIGN, job.gamma))
        return np.where(mine == total, b, stepped)

    def errors(self, job: Load) -> int:
        """The bits of ``sts_error`` that a batch sets."""
        return int(len(job.count) != self.experts)

    def inputs(self, job: Load) -> dict[str, Beats]:
        last = np.arange(len(job.count)) == len(job.count) - 1
        return {
            "i": self.port("i").pack(count=job.count, b=job.b, last=last),
            "cfg": self.port("cfg").pack(gamma=[[job.gamma]]),
        }

    def outputs(self, job: Load, result: Int) -> dict[str, Beats]:
        return {"o": self.port("o").pack(b=result, last=np.arange(len(result)) == len(result) - 1)}

    def result(self, job: Load, outputs: Mapping[str, Beats]) -> Int:
        return self.port("o").unpack(outputs["o"])["b"][:, 0]

    def cycles(self, *jobs: Load) -> int:
        inside = 1 + latency.ADD + latency.QUEUE  # from the last count to the first bias
        beats = [(len(job.count), min(len(job.count), self.experts)) for job in jobs]
        return 2 * latency.SKID + sum(came + inside + kept - 1 for came, kept in beats)
