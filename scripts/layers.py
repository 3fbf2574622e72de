"""Where a real FFN layer comes from: the fixture in the repository, or a whole model."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from golden import fixture, model_store, q4_1
from golden.spec import SpecError

MATRICES = ("gate", "up", "down")
Say = Callable[[str], None]
"""Progress, a line."""

Settings = Sequence[Mapping[str, Any]]
"""What a user sets of a unit, layer by layer."""


@dataclass(frozen=True)
class LinearLayer:
    """One matrix of an FFN and real activations that it meets, ``x[tokens, K]``."""

    name: str
    matrix: q4_1.Matrix
    x: NDArray[np.float32]

    def first(self, tokens: int, learned: int = 0) -> "LinearLayer":
        """The layer with its first tokens; ``learned`` others must be left to learn from."""
        most = len(self.x) - learned
        if not 1 <= tokens <= most:
            raise SpecError(f"tokens must be an integer between 1 and {most}, not {tokens}")
        return replace(self, x=self.x[:tokens])


@dataclass(frozen=True, kw_only=True)
class Report(ABC):
    """What a run through the RTL measured. ``busy``: cycles in which the engine's array or main path takes a step, of
    all."""

    layer: str
    shape: tuple[int, int, int]
    configuration: dict[str, Any]
    outputs: int
    mismatches: int
    sqnr_db: float
    cycles: int
    busy: float
    macs_per_cycle: float
    build_seconds: float
    simulation_seconds: float
    cycles_per_second: float
    total_seconds_after_build: float

    @abstractmethod
    def engine(self) -> str:
        """The configuration in a few words."""

    @abstractmethod
    def details(self) -> list[str]:
        """Lines of the one engine."""

    def text(self) -> str:
        m, k, n = self.shape
        after = self.total_seconds_after_build
        return "\n".join(
            [
                f"{self.layer}: [{m} x {k}] x [{k} x {n}], {self.engine()}",
                f"outputs compared     {self.outputs:,}",
                f"mismatches           {self.mismatches:,}",
                f"SQNR                 {self.sqnr_db:.1f} dB against float32 of the stored weights",
                *self.details(),
                f"simulated            {self.cycles_per_second:,.0f} cycles/s",
                f"time                 {self.build_seconds:.1f} s build, {after:.1f} s after it",
            ]
        )


def load(model: str, layer: int | None, matrix: str) -> LinearLayer:
    """The named matrix of a layer's FFN with its inputs while the model reads the fixture's text.

    ``model`` is ``fixture`` (layer 15 alone, no download), ``full`` or the path of a GGUF file.
    :class:`~golden.spec.SpecError` for a layer or a file that is not there.
    """
    if model == "fixture":
        if layer not in (None, fixture.LAYER):
            raise SpecError(f"layer must be {fixture.LAYER} with the fixture, not {layer}; others need --model full")
        f = fixture.load()
        name = f"SmolLM2-135M-Instruct layer {fixture.LAYER} {matrix}"
        return LinearLayer(name, getattr(f, matrix), _hidden(f) if matrix == "down" else f.x)

    from golden.llama.forward import Llama
    from golden.llama.tokenizer import Tokenizer
    from golden.llama.weights import ModelFile

    file = ModelFile(model_store.find(model))
    layer = fixture.LAYER if layer is None else layer
    if not 0 <= layer < file.config.layers:
        raise SpecError(f"layer must be an integer between 0 and {file.config.layers - 1}, not {layer}")
    wanted = "ffn_hidden" if matrix == "down" else "ffn_input"
    seen: dict[int, NDArray[Any]] = {}

    def observe(what: str, at: int, value: NDArray[Any]) -> None:
        if what == wanted:
            seen[at] = value

    Llama(file.weights(), observe=observe).hidden(Tokenizer.of(file).encode(fixture.load().text))
    x = seen[layer].astype(np.float32)
    return LinearLayer(f"{model} layer {layer} {matrix}", file.matrix(layer, matrix), x)


def _hidden(f: fixture.Fixture) -> NDArray[np.float32]:
    """Inputs of the down matrix: ``silu(W_gate x) * (W_up x)``."""
    gate, up = (f.x @ q4_1.dequantise(*m).T for m in (f.gate, f.up))
    return gate / (1 + np.exp(-gate)) * up
