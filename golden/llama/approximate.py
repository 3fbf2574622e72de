"""The model with its linear layers approximated: other weights, other activations, float arithmetic between them."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from golden.llama.forward import Array, Llama
from golden.llama.weights import Config, Weights

READERS = {"attention": ("q", "k", "v"), "output": ("output",), "ffn": ("gate", "up"), "down": ("down",)}
"""The inputs of a block's linear layers, and the matrices that read each."""

INPUT = {name: group for group, names in READERS.items() for name in names}

Place = tuple[int, str]
"""A layer and one of its inputs."""

Approximation = Callable[[Array], Array]


class Recorder(Llama):
    """Keeps what reaches the linear layers: ``seen[layer, input]``, float32 ``[T, K]`` of the last call."""

    def __init__(self, weights: Weights) -> None:
        super().__init__(weights)
        self.seen: dict[Place, NDArray[np.float32]] = {}

    def linear(self, layer: int, name: str, x: Array) -> Array:
        self.seen[layer, INPUT[name]] = x.astype(np.float32, copy=False)
        return super().linear(layer, name, x)


class Approximate(Llama):
    """Every input of a linear layer is replaced by its approximation first, once for all matrices that read it.

    Products are float32, so against the exact sums of an engine there is float32 rounding in between.
    """

    def __init__(self, weights: Weights, inputs: Mapping[Place, Approximation]) -> None:
        super().__init__(weights)
        self._inputs = inputs
        self._last: tuple[Any, Any] = (None, None)

    def linear(self, layer: int, name: str, x: Array) -> Array:
        if self._last[0] is not x:
            self._last = x, self._inputs[layer, INPUT[name]](x)
        return super().linear(layer, name, self._last[1])


def sizes(config: Config) -> dict[str, int]:
    """Length of each input."""
    return dict.fromkeys(READERS, config.width) | {"down": config.ffn}
