"""The processing elements that MixPE is measured against: specification and bit-true models of ``pe_baseline``."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from golden.mixpe.formats import signed_bits, sum_range
from golden.numerics import canonical
from golden.ports import Beats, Field, StreamPort
from golden.spec import SpecError, UnitSpec, param

Int = NDArray[np.int64]
F16 = NDArray[np.float16]
F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

DESIGNS = ("fp16", "fp16_dequant", "bitfusion")

MODES = {"8x8": (8, 8), "8x4": (8, 4), "4x4": (4, 4), "4x2": (4, 2), "2x2": (2, 2)}
"""Bits of activation and weight, from the mode without parallel products to the one with most."""


@dataclass(frozen=True)
class Groups:
    """A job of ``pe_baseline``: ``n`` beats, cut into groups of ``lengths``.

    ``fp16``: ``x`` and ``w`` are ``float16[n]``. ``fp16_dequant``: ``w`` is codes ``int64[n]``, ``scale`` is
    ``float16[n]``. ``bitfusion``: ``mode`` is ``int64[n]``, the position in ``spec.modes``; ``x`` and ``w`` are
    ``int64[n, p]``, of which a beat uses the first ``spec.products(mode)``.
    """

    x: NDArray[Any]
    w: NDArray[Any]
    lengths: tuple[int, ...]
    scale: F16 | None = None
    mode: Int | None = None


class BaselineSpec(UnitSpec):
    """One processing element of the designs that MixPE is compared with, in the same cell and behind the same streams.

    Formula     ``sum[g] = sum over k in group g of w[k] * x[k]``. ``fp16``: both FP16; ``fp16_dequant``: ``w`` is
    ``code * scale`` rounded to FP16, the scheme that dequantises before the sum; ``bitfusion``: two's complement
    integers of the widths of the beat's mode, all products of a beat in one sum.
    Latency     ``latency`` cycles from the beat that ends a group to its sum.
    Throughput  one beat per cycle: one product, of ``bitfusion`` ``products(mode)``; a group may be one beat.
    Ranges      FP16: a product is exact, and each addition rounds once to FP32, to nearest even, in the order of the
                beats, from +0. Subnormals, infinities and NaN as in IEEE 754; a NaN leaves as 0x7FC00000. Sums of
                products cannot overflow. ``group`` sets no width. ``bitfusion``: nothing is rounded; the sum's width
                is derived from ``group``, longer groups are outside the contract.
    Source      MixPE (arXiv 2411.16158), whose comparisons are with FP16 and BitFusion; BitFusion (ISCA 2018): bricks
                that are fused by shifts and adders, and whose products are added where they are not.
    Not done    no unsigned operands; no wider or narrower sums than FP32 for FP16.
    """

    unit: ClassVar[str] = "pe_baseline"

    design: str = param("fp16", "what it computes with", choices=DESIGNS)
    group: int = param(128, "largest number of beats in a sum", low=1, high=65536)
    stages: int = param(
        1, "register stages from operands to sum: 1 none between, 2 product, 3 terms and product", low=1, high=3
    )
    narrowest: str = param("8x4", "bitfusion: mode with most products per beat", choices=tuple(MODES))

    def _check(self) -> None:
        if self.design != "bitfusion" and self.narrowest != "8x4":
            raise SpecError(f"narrowest must be left out with design {self.design}, not {self.narrowest!r}")

    @property
    def modes(self) -> tuple[str, ...]:
        """The modes of ``bitfusion``, from 8x8 to ``narrowest``; a beat says its own by position."""
        known = list(MODES)
        return tuple(known[: known.index(self.narrowest) + 1])

    def products(self, mode: int) -> int:
        """Products of a beat of ``bitfusion``."""
        x, w = MODES[self.modes[mode]]
        return 64 // (x * w)

    @property
    def sum_width(self) -> int:
        """Bits of the sum."""
        if self.design != "bitfusion":
            return 32
        byte = (-128, 127)  # the products of a beat are largest where there is one
        return signed_bits(*sum_range(byte, byte, self.group))

    @property
    def ports(self) -> tuple[StreamPort, ...]:
        kind = "fp32" if self.design != "bitfusion" else f"int{self.sum_width}"
        return (
            StreamPort("i", "in", 1, _FIELDS[self.design](self), "group", "the operands of one step"),
            StreamPort("o", "out", 1, (Field("sum", self.sum_width, kind),), "", "one sum per group"),
        )

    @property
    def latency(self) -> int:
        # operand registers and stages to the sum, then two cycles through the queue of sums
        return self.stages + 3

    def figures(self) -> dict[str, int | float]:
        products = self.products(len(self.modes) - 1) if self.design == "bitfusion" else 1
        return {"latency": self.latency, "products_per_cycle": products}

    def compute(self, job: Groups) -> NDArray[Any]:
        if self.design == "bitfusion":
            return np.add.reduceat(self._dots(job), _starts(job))
        with np.errstate(all="ignore"):
            products = job.x.astype(np.float32) * self.weights(job).astype(np.float32)  # 22 bits: exact
            return canonical(_running_sums(products, job))

    def weights(self, job: Groups) -> F16:
        """What FP16 designs multiply by: the weight itself, or code times scale rounded to FP16."""
        if job.scale is None:
            return job.w
        with np.errstate(all="ignore"):
            return job.w.astype(np.float16) * job.scale

    def reference(self, job: Groups) -> F64:
        """The sums of FP16 designs in float64, from weights that are not rounded."""
        return np.add.reduceat(self._real_products(job), _starts(job))

    def budget(self, job: Groups) -> F64:
        """Largest ``|compute - reference|`` of FP16 designs, for finite operands.

        A term passes at most as many roundings as its group is long, each 2^-24 of it, and before, where the weight
        was rounded to FP16, one of 2^-11 of it (an integer multiple of a subnormal scale is rounded no more than that);
        1 % on top for float64's own error and the product of roundings.
        """
        terms = np.add.reduceat(np.abs(self._real_products(job)), _starts(job))
        once = 2.0**-11 if self.design == "fp16_dequant" else 0.0
        return 1.01 * terms * (np.array(job.lengths) * 2.0**-24 + once)

    def inputs(self, job: Groups) -> dict[str, Beats]:
        last = np.zeros(len(job.x), dtype=np.bool_)
        last[np.cumsum(job.lengths) - 1] = True
        return {"i": self.ports[0].pack(last=last, **self._fields(job))}

    def outputs(self, job: Groups, result: NDArray[Any]) -> dict[str, Beats]:
        return {"o": self.ports[1].pack(sum=result if self.design == "bitfusion" else result.view(np.uint32))}

    def result(self, job: Groups, outputs: Mapping[str, Beats]) -> NDArray[Any]:
        sums = self.ports[1].unpack(outputs["o"])["sum"][:, 0]
        return sums if self.design == "bitfusion" else sums.astype(np.uint32).view(np.float32)

    def cycles(self, *jobs: Groups) -> int:
        return sum(len(job.x) for job in jobs) + self.latency

    def _fields(self, job: Groups) -> dict[str, Int]:
        if job.mode is not None:
            return {"x": self._packed(job, 0), "w": self._packed(job, 1), "mode": job.mode}
        if job.scale is not None:
            return {"x": _bits(job.x), "w": job.w, "scale": _bits(job.scale)}
        return {"x": _bits(job.x), "w": _bits(job.w)}

    def _dots(self, job: Groups) -> Int:
        """The sum of a beat's products."""
        out = np.zeros(len(job.x), dtype=np.int64)
        for _, n, chosen in self._by_mode(job):
            out += (job.x * job.w)[:, :n].sum(axis=1) * chosen
        return out

    def _packed(self, job: Groups, side: int) -> Int:
        """One operand of each beat: its parts side by side, the first in the low bits."""
        parts, out = (job.x, job.w)[side], np.zeros(len(job.x), dtype=np.int64)
        for bits, n, chosen in self._by_mode(job):
            words = ((parts[:, :n] & (1 << bits[side]) - 1) << np.arange(n) * bits[side]).sum(axis=1)
            out = np.where(chosen, words, out)
        return out

    def _by_mode(self, job: Groups) -> Iterator[tuple[tuple[int, int], int, NDArray[np.bool_]]]:
        """Operand bits, number of products, and which beats, of each mode."""
        assert job.mode is not None
        for i, mode in enumerate(self.modes):
            yield MODES[mode], self.products(i), job.mode == i

    def _real_products(self, job: Groups) -> F64:
        w = job.w.astype(np.float64)
        return job.x.astype(np.float64) * (w if job.scale is None else w * job.scale)


def _fp16_fields(spec: BaselineSpec) -> tuple[Field, ...]:
    return Field("x", 16, "fp16"), Field("w", 16, "fp16")


def _dequant_fields(spec: BaselineSpec) -> tuple[Field, ...]:
    return Field("x", 16, "fp16"), Field("w", 4, "int4"), Field("scale", 16, "fp16")


def _bitfusion_fields(spec: BaselineSpec) -> tuple[Field, ...]:
    widths = [max(MODES[m][side] * spec.products(i) for i, m in enumerate(spec.modes)) for side in (0, 1)]
    mode = max(1, (len(spec.modes) - 1).bit_length())
    x, w = (Field(name, bits, f"uint{bits}") for name, bits in zip("xw", widths, strict=True))
    return x, w, Field("mode", mode, f"uint{mode}")


_FIELDS: dict[str, Callable[[BaselineSpec], tuple[Field, ...]]] = {
    "fp16": _fp16_fields,
    "fp16_dequant": _dequant_fields,
    "bitfusion": _bitfusion_fields,
}


def _bits(values: F16) -> Int:
    return values.view(np.uint16).astype(np.int64)


def _starts(job: Groups) -> Int:
    return np.cumsum((0, *job.lengths[:-1]))


def _running_sums(products: F32, job: Groups) -> F32:
    """One float32 addition per beat, all groups at a time."""
    sums = np.zeros(len(job.lengths), dtype=np.float32)
    starts, lengths = _starts(job), np.array(job.lengths)
    for k in range(max(job.lengths)):
        longer = lengths > k
        sums[longer] += products[starts[longer] + k]
    return sums
