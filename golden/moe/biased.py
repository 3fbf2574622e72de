"""A network with biases, stored in INT8 with one scale per row, on the unit ``moe_ffn``, which has neither.

::

    inputs          d real ones, zeros up to a group, then a group whose first activation is 1, then zeros
    gate, up        codes as stored, the row's scale in every group; in the last group code 1, the bias its scale
    shared expert   its neurons, zero neurons up to a group, then one whose hidden value is 1, then zero neurons
    down            codes as stored, the row's scale in every group; of that neuron code 1, the bias its scale
    routed expert   its neurons, then zero neurons; nothing for the bias of down, which counts once
    results         the d real ones; those beyond are 0

The neuron is 1 exactly: ``silu(2^reach) = 2^reach`` where the table of the sigmoid ends, times a bias of up of
``2^-reach``.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from golden.formats import FLOATS
from golden.moe.convert import Conversion
from golden.moe.ffn import Ffn, Int, Real, lengths
from golden.moe.layer import LayerBatch, MoEFFNSpec, Rows
from golden.moe.precision import Expert, Weights
from golden.quantize import float_codes
from golden.spec import SpecError

Array = NDArray[Any]

LARGEST = FLOATS["fp16"].largest


class RowScaled(NamedTuple):
    """A matrix: ``codes[r, k] * scale[r]``."""

    codes: NDArray[np.int8]
    """``[rows, K]``"""
    scale: NDArray[np.float32]
    """``[rows, 1]``"""

    def values(self) -> NDArray[np.float32]:
        """The numbers that it stands for, float32."""
        return self.codes * self.scale


@dataclass(frozen=True, eq=False)
class BiasedNetwork:
    """A SwiGLU network as stored; shapes and biases as of :class:`golden.moe.ffn.Ffn`."""

    gate: RowScaled
    up: RowScaled
    down: RowScaled
    gate_bias: NDArray[np.float32]
    up_bias: NDArray[np.float32]
    down_bias: NDArray[np.float32]

    def ffn(self) -> Ffn:
        """The numbers that it stands for, float32."""
        matrices = (self.gate.values(), self.up.values(), self.down.values())
        return Ffn(*matrices, self.gate_bias, self.up_bias, self.down_bias)

    @property
    def width(self) -> int:
        """d."""
        return len(self.down.codes)

    def part(self, neurons: Int) -> "BiasedNetwork":
        """The network of those neurons, in that order; all have the bias of the down matrix."""
        gate, up = (RowScaled(matrix.codes[neurons], matrix.scale[neurons]) for matrix in (self.gate, self.up))
        down = RowScaled(self.down.codes[:, neurons], self.down.scale)
        return BiasedNetwork(gate, up, down, self.gate_bias[neurons], self.up_bias[neurons], self.down_bias)


def layer_batch(spec: MoEFFNSpec, network: BiasedNetwork, conversion: Conversion, x: Real) -> LayerBatch:
    """``network``, split by ``conversion``, for tokens ``x [T, d]``: a job of ``spec``, whose last results, beyond d,
    are 0.

    Codes are the stored ones. Scales, biases and activations are rounded to FP16, to nearest even, and nothing else is:
    by at most ``2^-11`` of each, or ``2^-25`` where that is more; activations beyond FP16 become its largest. The
    lengths of the router's rows are those of the stored ones, without biases, 1 / length rounded to FP32.

    Raises :class:`~golden.spec.SpecError` where ``spec`` is not that of the conversion or too small, for activations of
    another width, and for scales and biases that are beyond FP16.
    """
    _check(spec, network, conversion)
    experts = [_expert(spec, network.part(conversion.shared), shared=True)]
    experts += [_expert(spec, network.part(neurons), shared=False) for neurons in conversion.experts]
    router = _router(spec, network.part(conversion.representatives))
    return LayerBatch(_tokens(spec, network, x), tuple(experts), router, *_choice(conversion))


def _check(spec: MoEFFNSpec, network: BiasedNetwork, conversion: Conversion) -> None:
    c = conversion.spec
    same = {"weight": "int8", "experts": c.routed, "score": c.score, "norms": c.rows == "unit"}
    for name, value in (same | {"bias": False, "scaled": False}).items():
        if getattr(spec, name) != value:
            raise SpecError(f"{name} must be {value} for this conversion, not {getattr(spec, name)}")
    for name, used in {"d": network.width, "neurons": len(conversion.shared)}.items():
        least = _up(used, spec.group) + spec.group
        if getattr(spec, name) < least:
            raise SpecError(f"{name} must be at least {least} for {used} and a bias, not {getattr(spec, name)}")


def _choice(conversion: Conversion) -> tuple[int, int, int]:
    """``k_min``, ``k_max``, ``tau``."""
    c = conversion.spec
    if c.selection == "topk":
        return c.active, c.active, 0
    return c.least, c.most, int(np.float32(conversion.threshold).view(np.uint32))


def _tokens(spec: MoEFFNSpec, network: BiasedNetwork, x: Real) -> Int:
    """Their FP16 codes, and the activation that biases are multiplied by."""
    if x.ndim != 2 or x.shape[1] != network.width:
        raise SpecError(f"activations must be tokens of {network.width} values, not of shape {x.shape}")
    wide = np.zeros((len(x), spec.d))
    wide[:, : network.width] = x
    wide[:, _up(network.width, spec.group)] = 1
    return float_codes(wide, "fp16")


def _expert(spec: MoEFFNSpec, part: BiasedNetwork, shared: bool) -> Expert:
    """``shared``: with the bias of down."""
    n = len(part.gate_bias)
    one = _up(n, spec.group)
    m = _up(one + 1 if shared else n, int(np.lcm.reduce(spec.ffn.grain)))
    rows, bias = _both(part)
    bias = np.pad(bias, (0, 2 * (m - n)))
    if shared:
        bias[2 * one : 2 * one + 2] = 2.0**spec.reach, 2.0**-spec.reach
    down = _weights(spec, part.down, part.down_bias if shared else None, m, spec.d)
    return Expert(_weights(spec, rows, bias, spec.d, 2 * m), down)


def _router(spec: MoEFFNSpec, part: BiasedNetwork) -> Rows:
    f = part.ffn()
    norm = (1 / _interleaved(lengths(f.gate), lengths(f.up))).astype(np.float32)
    return Rows(_weights(spec, *_both(part), spec.d, 2 * spec.experts), norm if spec.norms else None)


def _both(part: BiasedNetwork) -> tuple[RowScaled, Array]:
    """Gate and up of each neuron, one after the other, and their biases."""
    gate, up = part.gate, part.up
    rows = RowScaled(_interleaved(gate.codes, up.codes), _interleaved(gate.scale, up.scale))
    return rows, _interleaved(part.gate_bias, part.up_bias)


def _weights(spec: MoEFFNSpec, matrix: RowScaled, bias: Array | None, inputs: int, columns: int) -> Weights:
    """``[inputs, columns]``, zeros where there is nothing; the bias in the first group behind the matrix."""
    rows, k = matrix.codes.shape
    codes = np.zeros((inputs, columns), np.int64)
    scale = np.zeros((inputs // spec.group, columns), np.float16)
    behind = _up(k, spec.group)
    codes[:k, :rows] = matrix.codes.T
    scale[: behind // spec.group, :rows] = _fp16(matrix.scale).T
    if bias is not None:
        codes[behind, : len(bias)] = 1
        scale[behind // spec.group, : len(bias)] = _fp16(bias)
    return Weights(codes, scale)


def _fp16(values: Array) -> NDArray[np.float16]:
    beyond = values[~(np.abs(values) <= LARGEST)]
    if len(beyond):
        raise SpecError(f"scales and biases must be between -{LARGEST:.0f} and {LARGEST:.0f}, not {beyond[0]}")
    return values.astype(np.float16)


def _interleaved(a: Array, b: Array) -> Array:
    return np.stack((a, b), axis=1).reshape(2 * len(a), *a.shape[1:])


def _up(number: int, unit: int) -> int:
    """To the next multiple."""
    return -(-number // unit) * unit
