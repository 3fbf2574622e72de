"""The language model with its feed-forward networks converted, and how it is converted layer by layer."""

from collections.abc import Callable, Collection

import numpy as np

from golden.llama.forward import Array, Llama
from golden.llama.weights import Weights
from golden.moe import router
from golden.moe.convert import Conversion, convert
from golden.moe.ffn import SMALLEST, Ffn, Real
from golden.moe.mixed import Errors, errors
from golden.moe.pack import Stored, cut
from golden.moe.spec import ConversionSpec

Conversions = dict[int, Conversion]
"""By layer; layers that are not in it stay dense."""


class MoeLlama(Llama):
    """The model with ``conversions``; unchosen neurons are computed and set to zero, which is the same result.

    :meth:`select` is a method of its own so that a subclass can choose experts in another way.
    """

    def __init__(self, weights: Weights, conversions: Conversions) -> None:
        super().__init__(weights)
        self.conversions = conversions

    def ffn(self, layer: int, x: Array) -> Array:
        if layer not in self.conversions:
            return super().ffn(layer, x)
        conversion, network = self.conversions[layer], self.network(layer)
        hidden = network.hidden(x)
        weights = self.select(layer, x, hidden).astype(self.dtype)
        every = np.concatenate([weights, np.ones((len(x), 1), self.dtype)], axis=1)  # the last: the shared block
        return (hidden * every[:, conversion.owner]) @ network.down.T

    def select(self, layer: int, x: Array, hidden: Array) -> Real:
        """What the routed experts count for tokens ``x [T, d]``: weights ``[T, routed]``, 0 of those not chosen.
        ``hidden [T, dh]`` are the dense network's, which this selection, by the router, has no use for."""
        c = self.conversions[layer]
        v = router.scores(x, self.network(layer).part(c.representatives), c.spec)
        return router.route(v, c.spec, c.threshold).weights

    def network(self, layer: int) -> Ffn:
        """The dense network of a layer."""
        return Ffn(*(self._parameter(layer, name) for name in ("gate", "up", "down")))


class Converter(MoeLlama):
    """Converts layers while it reads: a layer's calibration tokens are what the converted layers before it make of
    them, as they will when the model is used.

    One call of :meth:`hidden` with all calibration tokens converts the ``wanted`` layers that are not in
    ``conversions`` yet; ``found`` is called after each.
    """

    def __init__(
        self,
        weights: Weights,
        spec: ConversionSpec,
        conversions: Conversions,
        wanted: Collection[int],
        found: Callable[[int], None],
    ) -> None:
        super().__init__(weights, conversions)
        self._spec, self._wanted, self._found = spec, wanted, found

    def ffn(self, layer: int, x: Array) -> Array:
        if layer in self._wanted and layer not in self.conversions:
            self.conversions[layer] = convert(x, self.network(layer), self._spec)
            self._found(layer)
        return super().ffn(layer, x)


class Surveyor(MoeLlama):
    """Finds while it reads what each format of each expert's matrices would cost, in the layers that are converted.

    An expert's tokens are those of one call of :meth:`hidden` that choose it. Errors count by the square of the
    expert's weight over the squared length of the token's vector after the block: the next norm divides by it.
    ``stored(layer)`` are the matrices in Q4_1; ``found`` is called after each layer.
    """

    def __init__(
        self,
        weights: Weights,
        conversions: Conversions,
        stored: Callable[[int], Stored],
        found: Callable[[int], None],
    ) -> None:
        super().__init__(weights, conversions)
        self.errors: dict[int, list[Errors]] = {}
        self._stored, self._found = stored, found
        self._x: Array = np.zeros((0, 0))
        self._chosen: Real = self._x
        self.observe = self._seen

    def select(self, layer: int, x: Array, hidden: Array) -> Real:
        self._x, self._chosen = x, super().select(layer, x, hidden)
        return self._chosen

    def _seen(self, name: str, layer: int, value: Array) -> None:
        if name == "block_output" and layer in self.conversions:
            weight = 1 / np.maximum(np.square(value, dtype=np.float64).sum(axis=1), SMALLEST)
            weights = np.concatenate([np.ones((len(value), 1)), self._chosen], axis=1)
            self.errors[layer] = [
                errors(part, self._x[mine != 0], (weight * mine * mine)[mine != 0])
                for part, mine in zip(cut(self._stored(layer), self.conversions[layer]), weights.T, strict=True)
            ]
            self._found(layer)
