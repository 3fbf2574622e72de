"""Which experts a text will need in all layers, foretold from its tokens' embeddings alone: the hash function of
SiDA-MoE.

    H = relu(X Wc^T + bc)                                  X [S, inputs]: embeddings of a sequence of S tokens
    O = lstm(lstm(H))                                      from the first token to the last, from zero state
    P = sparsemax(O O^T), row by row                       neither scaled nor causal: tokens see later ones
    Y = P O + (H Wr^T + br)                                residual
    logits_l = Y W_l^T + b_l                               one head per layer of experts
    alpha_l = softmax(logits_l);  the table: the k largest alpha of a token and layer, ties to the lower expert

    lstm:  i, f, g, o = W_ih u + b_ih + W_hh h + b_hh;  c = sigmoid(f) c + sigmoid(i) tanh(g);  h = sigmoid(o) tanh(c)

Source: SiDA-MoE (arXiv 2310.18859). The arithmetic is that of the parameters; nothing here is bit-true to hardware.
Arrays may have any number of sequences in front: ``[..., S, inputs]``.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

from golden import npz
from golden.moe.clusters import first
from golden.moe.ffn import Int, Real
from golden.moe.router import softmax
from golden.spec import Spec, SpecError, param

DEPTH = 2
"""LSTMs, one behind the other."""

ATTENTIONS = ("sparsemax", "released")


class PredictorSpec(Spec):
    """Shape of a predictor.

    ``attention``: ``sparsemax`` as defined (:func:`sparsemax`), or as the published code has it
    (:func:`released_sparsemax`): for predictors that were trained with that code, no other use.
    """

    inputs: int = param(576, "values of an embedding", low=1, high=1 << 16)
    hidden: int = param(256, "values of a token inside", low=1, high=1 << 12)
    layers: int = param(30, "layers of experts", low=1, high=1 << 10)
    experts: int = param(14, "routed experts of a layer", low=1, high=1 << 12)
    attention: str = param("sparsemax", "as defined, or as the published code has it", choices=ATTENTIONS)

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Of all parameters, by name."""
        h, gates = self.hidden, 4 * self.hidden
        found: dict[str, tuple[int, ...]] = {"fc.weight": (h, self.inputs), "fc.bias": (h,)}
        for n in range(DEPTH):
            for kind in ("ih", "hh"):
                found |= {f"lstm{n}.weight_{kind}": (gates, h), f"lstm{n}.bias_{kind}": (gates,)}
        heads = {"heads.weight": (self.layers, self.experts, h), "heads.bias": (self.layers, self.experts)}
        return found | {"residual.weight": (h, h), "residual.bias": (h,)} | heads

    @property
    def parameters_in_all(self) -> int:
        """Numbers."""
        return int(sum(np.prod(shape) for shape in self.shapes.values()))


class Table(NamedTuple):
    """What is foretold, best expert first."""

    experts: Int
    """``[..., S, layers, k]``"""
    alpha: Real
    """``[..., S, layers, k]``"""


class Steps(NamedTuple):
    """What an LSTM has calculated, ``[..., S, hidden]`` each, gates after their function."""

    u: Real
    i: Real
    f: Real
    g: Real
    o: Real
    c: Real
    h: Real


class Inside(NamedTuple):
    """What a predictor has calculated."""

    x: Real
    hidden: Real
    lstm: tuple[Steps, ...]
    attention: Real
    y: Real
    logits: Real


class Predictor:
    """Those parameters, by their names in ``spec.shapes``."""

    def __init__(self, spec: PredictorSpec, parameters: Mapping[str, Real]) -> None:
        self.spec = spec
        self.parameters = {name: parameters[name] for name in spec.shapes}

    @classmethod
    def random(cls, spec: PredictorSpec, seed: int, dtype: DTypeLike = np.float32) -> "Predictor":
        """Uniform within one over the root of a row's length."""
        rng = np.random.default_rng(seed)
        found = {}
        for name, shape in spec.shapes.items():
            most = 1 / np.sqrt(spec.inputs if name.startswith("fc") else spec.hidden)
            found[name] = rng.uniform(-most, most, shape).astype(dtype)
        return cls(spec, found)

    def run(self, x: Real) -> Inside:
        """Of sequences ``x [..., S, inputs]``; logits ``[..., S, layers, experts]``."""
        p = self.parameters
        hidden = np.maximum(x @ p["fc.weight"].T + p["fc.bias"], 0)
        steps: list[Steps] = []
        for n in range(DEPTH):
            mine = (p[f"lstm{n}.{name}"] for name in ("weight_ih", "bias_ih", "weight_hh", "bias_hh"))
            steps.append(lstm(steps[-1].h if steps else hidden, *mine))
        out = steps[-1].h
        attend = sparsemax if self.spec.attention == "sparsemax" else released_sparsemax
        attention = attend(out @ out.swapaxes(-1, -2))
        y = attention @ out + (hidden @ p["residual.weight"].T + p["residual.bias"])
        heads = p["heads.weight"].reshape(-1, self.spec.hidden)
        logits = (y @ heads.T).reshape(*y.shape[:-1], self.spec.layers, self.spec.experts) + p["heads.bias"]
        return Inside(x, hidden, tuple(steps), attention, y, logits)

    def table(self, x: Real, k: int) -> Table:
        """Of sequences ``x [..., S, inputs]``: the first ``k`` experts of each token and layer."""
        alpha = softmax(self.run(x).logits)
        experts = first(-alpha, k)
        return Table(experts.astype(np.int64), np.take_along_axis(alpha, experts, axis=-1))

    def save(self, path: Path) -> None:
        """Whole or not at all, with the specification in it."""
        npz.save(path, {"spec": np.array(self.spec.to_toml()), **self.parameters})

    @classmethod
    def load(cls, path: Path) -> "Predictor":
        """Inverse of :meth:`save`; :class:`~golden.spec.SpecError` for another kind of file, for parameters that do not
        suit its specification, and for such that are not finite."""
        spec = PredictorSpec.from_toml(str(npz.load(path, ["spec"], "predictor")["spec"]))
        found = npz.load(path, spec.shapes, "predictor")
        npz.floats(found, spec.shapes, f"predictor {path}")
        return cls(spec, found)


def pieces(length: int, sequence: int) -> Iterator[slice]:
    """A text of ``length`` tokens, cut into sequences, the last one short."""
    if sequence < 1:
        raise SpecError(f"sequence must be an integer of at least 1, not {sequence}")
    return (slice(start, min(start + sequence, length)) for start in range(0, length, sequence))


def lstm(u: Real, weight_ih: Real, bias_ih: Real, weight_hh: Real, bias_hh: Real) -> Steps:
    """``u [..., S, inputs]``, ``weight_ih [4 hidden, inputs]``, ``weight_hh [4 hidden, hidden]``, gates in the order
    i, f, g, o; from zero state."""
    size = weight_hh.shape[1]
    sums = u @ weight_ih.T + (bias_ih + bias_hh)
    h = c = np.zeros((*u.shape[:-2], size), sums.dtype)
    steps = []
    for t in range(u.shape[-2]):
        a = sums[..., t, :] + h @ weight_hh.T
        i, f, o = (sigmoid(a[..., n * size : (n + 1) * size]) for n in (0, 1, 3))
        g = np.tanh(a[..., 2 * size : 3 * size])
        c = f * c + i * g
        h = o * np.tanh(c)
        steps.append((i, f, g, o, c, h))
    return Steps(u, *(np.stack(part, axis=-2) for part in zip(*steps, strict=True)))


def sigmoid(z: Real) -> Real:
    """``1 / (1 + exp(-z))``, without overflow."""
    y: Real = (np.tanh(z / 2) + 1) / 2
    return y


def sparsemax(z: Real) -> Real:
    """The point of the simplex that is nearest to each row of ``z [..., n]``: ``max(0, z - tau)``, which adds up to 1.

    With z sorted downwards, ``r = max{j : 1 + j z_(j) > z_(1) + ... + z_(j)}`` and
    ``tau = (z_(1) + ... + z_(r) - 1) / r``.

    Source: Martins and Astudillo (arXiv 1602.02068).
    """
    total, r = _support(z)
    return np.maximum(z - (total - 1) / r, 0)


def released_sparsemax(z: Real) -> Real:
    """What SiDA's published code calculates: it subtracts 1 twice, so that its threshold is 1 / r too low, and then
    divides by what the row adds up to. (3, 1.5, 0) gives (0.8, 0.2, 0), not (1, 0, 0)."""
    total, r = _support(z)
    p = np.maximum(z - (total - 2) / r, 0)
    return p / p.sum(axis=-1, keepdims=True)


def _support(z: Real) -> tuple[Any, NDArray[np.int64]]:
    """The sum of the r largest of each row, and r."""
    falling = np.sort(z, axis=-1)[..., ::-1]
    sums = np.cumsum(falling, axis=-1)
    count = np.arange(1, z.shape[-1] + 1)
    r = (1 + count * falling > sums).sum(axis=-1, keepdims=True)
    return np.take_along_axis(sums, r - 1, axis=-1), r
