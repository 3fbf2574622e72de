"""Routing traces: which experts the routers of a converted model rank how, token by token and layer by layer, and what
predictors of that may know beforehand."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from golden import npz
from golden.llama.forward import Array
from golden.llama.weights import Weights
from golden.moe import router
from golden.moe.clusters import first
from golden.moe.ffn import Int, Real
from golden.moe.llama import Conversions, MoeLlama
from golden.moe.spec import ConversionSpec
from golden.spec import SpecError, told

F32 = NDArray[np.float32]

MOST = (1 << 31) - 1
"""Of a token's number."""


@dataclass(frozen=True, eq=False)
class Trace:
    """Of T tokens in L layers of E routed experts."""

    tokens: Int
    """``[T]``: the model's numbers"""
    starts: Int
    """where windows begin; they do not see one another"""
    embedding: F32
    """``[T, d]``: the tokens' vectors, before any layer"""
    scores: F32
    """``[T, L, E]``: v of :mod:`golden.moe.router`"""
    ahead: F32
    """``[T, L, E]``: the same router on the input of the layer before; layer 0 has none before it: zeros"""
    order: NDArray[np.uint16]
    """``[T, L, E]``: experts as the router ranked them, best first"""

    def chosen(self, active: int) -> NDArray[np.uint16]:
        """``[T, L, active]``, best first."""
        return self.order[..., :active]

    @property
    def foreseen(self) -> NDArray[np.intp]:
        """``[T, L, E]``: experts as ``ahead`` ranks them, ties to the lower one."""
        return first(-self.ahead, self.ahead.shape[-1])

    def then(self, more: "Trace") -> "Trace":
        """This one and another text after it."""
        joined = {f.name: np.concatenate([getattr(self, f.name), getattr(more, f.name)]) for f in fields(self)}
        return Trace(**joined | {"starts": np.concatenate([self.starts, more.starts + len(self.tokens)])})


class Tracer(MoeLlama):
    """Reads as the converted model does, and keeps what routers see. All layers must be converted, by one
    specification, and select ``topk``; :class:`~golden.spec.SpecError` for others."""

    def __init__(self, weights: Weights, conversions: Conversions) -> None:
        super().__init__(weights, conversions)
        if sorted(conversions) != list(range(weights.config.layers)):
            raise SpecError(f"layers must all be converted for a trace, not {len(conversions)}")
        selections = {c.spec.selection for c in conversions.values()} - {"topk"}
        if selections:
            raise SpecError(f"selection must be topk for a trace, not {selections.pop()!r}")
        self._seen: list[tuple[Real, Real, NDArray[Any]]] = []
        self._before: Array | None = None

    def select(self, layer: int, x: Array, hidden: Array) -> Real:
        spec, v = self.conversions[layer].spec, self._scores(layer, x)
        ahead = np.zeros_like(v) if self._before is None else self._scores(layer, self._before)
        routing = router.route(v, spec, 0.0)
        self._seen.append((v, ahead, routing.order))
        self._before = x
        return routing.weights

    def _scores(self, layer: int, x: Array) -> Real:
        c = self.conversions[layer]
        return router.scores(x, self.network(layer).part(c.representatives), c.spec)

    def read(self, tokens: Sequence[int]) -> Trace:
        """Of a window."""
        self._seen, self._before = [], None
        self.hidden(tokens)
        scores, ahead, order = (np.stack(part, axis=1) for part in zip(*self._seen, strict=True))
        numbers = np.array(tokens, np.int64)
        embedding = self.weights.embedding[numbers].astype(np.float32)
        start = np.zeros(1, np.int64)
        scores, ahead = scores.astype(np.float32), ahead.astype(np.float32)
        return Trace(numbers, start, embedding, scores, ahead, order.astype(np.uint16))


def save(path: Path, spec: ConversionSpec, origin: str, trace: Trace) -> None:
    """``origin``: what text was read by what, in a line. The file is whole or not there."""
    arrays: dict[str, Any] = {f.name: getattr(trace, f.name) for f in fields(trace)}
    npz.save(path, arrays | {"spec": np.array(spec.to_toml()), "origin": np.array(origin)})


def load(path: Path) -> tuple[ConversionSpec, str, Trace]:
    """Inverse of :func:`save`; :class:`~golden.spec.SpecError` for another kind of file."""
    names = [f.name for f in fields(Trace)]
    raw = npz.load(path, ("spec", "origin", *names), "trace")
    count, layers, experts = (*raw["order"].shape, 0, 0, 0)[:3]
    width = raw["embedding"].shape[-1] if raw["embedding"].ndim else 0
    what, each = f"trace {path}", (count, layers, experts)
    npz.integers(raw, {"order": each}, experts - 1, what)
    npz.integers(raw, {"tokens": (count,), "starts": (raw["starts"].size,)}, MOST, what)
    npz.floats(raw, {"embedding": (count, width), "scores": each, "ahead": each}, what)
    starts = raw["starts"].astype(np.int64)
    if not len(starts) or starts[0] or (np.diff(starts) < 1).any() or starts[-1] >= count:
        raise SpecError(f"starts of {what} must ascend from 0 to below {count}, not {told(starts.tolist())}")
    trace = Trace(**{name: raw[name] for name in names})
    return ConversionSpec.from_toml(str(raw["spec"])), str(raw["origin"]), trace
