"""Forward pass of the Llama architecture, real-valued (NumPy float32 by default, float64 on demand).

Shapes: T tokens in this call, S tokens seen in all (S >= T with a cache), d width, dh FFN neurons, H query heads and
Hk key/value heads of D = d / H values. One block::

    a = x + W_o attention(rmsnorm(x, g_attn))
    y = a + ffn(rmsnorm(a, g_ffn))             ffn(u) = W_down (silu(W_gate u) * (W_up u))
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from golden.llama.weights import Weights

Array = NDArray[np.floating[Any]]
Observer = Callable[[str, int, Array], None]
"""Called with the name of an intermediate value, the layer and the value; see :class:`Llama`."""


def rms_norm(x: Array, gain: Array, eps: float) -> Array:
    """``x / sqrt(mean(x^2) + eps) * gain`` over the last axis; ``x [..., d]``, ``gain [d]``."""
    y: Array = x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + x.dtype.type(eps)) * gain
    return y


def rotate(x: Array, positions: NDArray[np.int64], base: float) -> Array:
    """Rotary embedding: turns the adjacent pair ``(x[2j], x[2j+1])`` of a head by ``position * base^(-2j/D)``.

    ``x [T, heads, D]``, ``positions [T]``; angles are calculated in float64.
    """
    half = x.shape[-1] // 2
    angle = positions[:, None, None] * base ** (-np.arange(half) / half)
    cos, sin = np.cos(angle).astype(x.dtype), np.sin(angle).astype(x.dtype)
    even, odd = x[..., 0::2], x[..., 1::2]
    return np.stack([even * cos - odd * sin, even * sin + odd * cos], axis=-1).reshape(x.shape)


def attention(q: Array, k: Array, v: Array) -> Array:
    """Causal grouped-query attention: ``softmax(q k^T / sqrt(D)) v``; query head h reads key/value head
    ``h // (H/Hk)``.

    ``q [T, H, D]`` are the last T of the S tokens of ``k, v [S, Hk, D]``; token t sees the tokens up to itself.
    Result ``[T, H, D]``.
    """
    t, heads, dim = q.shape
    s, kv_heads, _ = k.shape
    grouped = q.reshape(t, kv_heads, heads // kv_heads, dim).transpose(1, 2, 0, 3)  # [Hk, H/Hk, T, D]
    scores = grouped @ k.transpose(1, 2, 0)[:, None] / q.dtype.type(np.sqrt(dim))  # [Hk, H/Hk, T, S]
    future = np.arange(s) > np.arange(s - t, s)[:, None]
    scores = np.where(future, -np.inf, scores)
    p = np.exp(scores - scores.max(axis=-1, keepdims=True))
    p /= p.sum(axis=-1, keepdims=True)
    mixed: Array = p @ v.transpose(1, 0, 2)[:, None]  # [Hk, H/Hk, T, D]
    return mixed.transpose(2, 0, 1, 3).reshape(t, heads, dim)


def silu(z: Array) -> Array:
    """``z / (1 + exp(-z))``."""
    with np.errstate(over="ignore"):  # exp(-z) = inf gives the right limit, -0
        y: Array = z / (1 + np.exp(-z))
    return y


def likeliest(logits: Array) -> int:
    """The token of the largest logit; of equal ones the lowest."""
    return int(np.argmax(logits))


class Sampled:
    """Chooses a token with probability ``softmax(logits / temperature)``, in float64; a seed repeats its choices."""

    def __init__(self, temperature: float, seed: int) -> None:
        self._temperature = temperature
        self._rng = np.random.default_rng(seed)

    def __call__(self, logits: Array) -> int:
        total = np.exp((logits.astype(np.float64) - logits.max()) / self._temperature).cumsum()
        return int(np.searchsorted(total, (1 - self._rng.random()) * total[-1]))  # above 0, at most the total


class Llama:
    """The model as a function of token numbers.

    ``linear`` and ``ffn`` are methods of their own so that a subclass can compute them in another way (an engine's
    bit-true model, a mixture of experts).

    ``observe(name, layer, value)`` is called in this order with

    ================ ========== =======================================
    ``attn_input``   [T, d]     rmsnorm of the block's input
    ``attn_output``  [T, d]     before it is added to the residual
    ``ffn_input``    [T, d]     rmsnorm of the sum
    ``ffn_hidden``   [T, dh]    ``silu(gate) * up``
    ``ffn_output``   [T, d]     before it is added to the residual
    ``block_output`` [T, d]     the residual stream after the block
    ================ ========== =======================================
    """

    def __init__(self, weights: Weights, dtype: DTypeLike = np.float32, observe: Observer | None = None) -> None:
        self.weights = weights
        self.dtype = np.dtype(dtype)
        self.observe = observe or (lambda *_: None)

    def linear(self, layer: int, name: str, x: Array) -> Array:
        """``x @ W.T`` with the matrix ``name`` (q, k, v, output, gate, up, down) of a layer."""
        return x @ self._parameter(layer, name).T

    def ffn(self, layer: int, x: Array) -> Array:
        """``W_down (silu(W_gate x) * (W_up x))``; ``x [T, d]``, result ``[T, d]``."""
        hidden = silu(self.linear(layer, "gate", x)) * self.linear(layer, "up", x)
        self.observe("ffn_hidden", layer, hidden)
        return self.linear(layer, "down", hidden)

    def hidden(self, tokens: Sequence[int], cache: list[tuple[Array, Array]] | None = None) -> Array:
        """Final vectors ``[T, d]`` (after the last norm) of ``tokens``.

        ``cache``, a list that is empty before the first call, carries keys and values from call to call: ``tokens`` are
        then the continuation of what was passed before.
        """
        c = self.weights.config
        cache = [] if cache is None else cache
        past = len(cache[0][0]) if cache else 0
        positions = np.arange(past, past + len(tokens))
        x: Array = self.weights.embedding[np.asarray(tokens)].astype(self.dtype)
        for i in range(c.layers):
            u = rms_norm(x, self._parameter(i, "attn_norm"), c.rms_eps)
            self.observe("attn_input", i, u)
            q, k, v = (self.linear(i, name, u).reshape(len(u), -1, c.head_dim) for name in "qkv")
            q, k = rotate(q, positions, c.rope_base), rotate(k, positions, c.rope_base)
            if i == len(cache):
                cache.append((k, v))
            else:
                cache[i] = (np.concatenate([cache[i][0], k]), np.concatenate([cache[i][1], v]))
            a = self.linear(i, "output", attention(q, *cache[i]).reshape(len(u), -1))
            self.observe("attn_output", i, a)
            x = x + a
            u = rms_norm(x, self._parameter(i, "ffn_norm"), c.rms_eps)
            self.observe("ffn_input", i, u)
            y = self.ffn(i, u)
            self.observe("ffn_output", i, y)
            x = x + y
            self.observe("block_output", i, x)
        return rms_norm(x, self.weights.norm.astype(self.dtype, copy=False), c.rms_eps)

    def logits(self, hidden: Array) -> Array:
        """``[T, vocabulary]`` from final vectors ``[T, d]``: products with the embedding (tied head)."""
        table: Array = self.weights.embedding.astype(self.dtype, copy=False)
        return hidden @ table.T

    def continuation(
        self, tokens: Sequence[int], choose: Callable[[Array], int] = likeliest
    ) -> Iterator[tuple[int, Array]]:
        """Token after token, without end: each with the logits ``[vocabulary]`` that ``choose`` took it from.

        ``tokens`` are read in one call of :meth:`hidden`, then one token per call, past keys and values kept.
        """
        cache: list[tuple[Array, Array]] = []
        new = list(tokens)
        while True:
            (logits,) = self.logits(self.hidden(new, cache)[-1:])
            new = [choose(logits)]
            yield new[0], logits

    def generate(self, tokens: Sequence[int], count: int, stop: int | None = None) -> list[int]:
        """Greedy continuation of up to ``count`` tokens; ``stop`` ends it and is not part of it."""
        out = []
        for token, _ in islice(self.continuation(tokens), count):
            if token == stop:
                break
            out.append(token)
        return out

    def _parameter(self, layer: int, name: str) -> Array:
        p: Array = getattr(self.weights.layers[layer], name)
        return p.astype(self.dtype, copy=False)
