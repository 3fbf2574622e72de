"""Weights of a Llama-architecture model, and a reader for GGUF files.

A linear layer is stored as in the file: ``float32[out, in]``, ``y = x @ w.T``. The rows of ``q`` and ``k`` stand in
the order in which GGUF files keep them, so that the rotary embedding turns *adjacent* pairs of a head (2j, 2j + 1).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from golden import q4_1, q8_0
from golden.llama import gguf_file
from golden.spec import SpecError, told

Array = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Config:
    """Sizes and constants of the architecture."""

    width: int
    """d: length of a token's vector"""
    ffn: int
    """dh: neurons of the feed-forward network"""
    layers: int
    heads: int
    kv_heads: int
    """divides ``heads``; ``heads / kv_heads`` consecutive query heads share one key and value head"""
    vocabulary: int
    context: int
    """largest number of tokens the model was trained for"""
    rms_eps: float
    rope_base: float

    @property
    def head_dim(self) -> int:
        return self.width // self.heads

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Of the parts of a :class:`Layer`."""
        d, dh, kd = self.width, self.ffn, self.kv_heads * self.head_dim
        matrices = {"q": (d, d), "k": (kd, d), "v": (kd, d), "output": (d, d)}
        return matrices | {"gate": (dh, d), "up": (dh, d), "down": (d, dh), "attn_norm": (d,), "ffn_norm": (d,)}


@dataclass(frozen=True)
class Layer:
    """One transformer block; ``kd = kv_heads * head_dim``."""

    attn_norm: Array
    """``[d]``"""
    q: Array
    """``[d, d]``"""
    k: Array
    """``[kd, d]``"""
    v: Array
    """``[kd, d]``"""
    output: Array
    """``[d, d]``"""
    ffn_norm: Array
    """``[d]``"""
    gate: Array
    """``[dh, d]``"""
    up: Array
    """``[dh, d]``"""
    down: Array
    """``[d, dh]``"""


TENSORS = {name: f"attn_{name}" for name in ("q", "k", "v", "output")}
TENSORS |= {name: f"ffn_{name}" for name in ("gate", "up", "down")}
TENSORS |= {name: name for name in ("attn_norm", "ffn_norm")}
"""What a file calls the parts of a :class:`Layer`."""

MOST = (1 << 31) - 1
"""Of a size."""

EMBEDDING = "token_embd.weight"


@dataclass(frozen=True)
class Weights:
    """All parameters; the head is tied: logits are products with the rows of ``embedding``."""

    config: Config
    embedding: Array
    """``[vocabulary, d]``"""
    layers: Sequence[Layer]
    norm: Array
    """``[d]``"""


class ModelFile:
    """A GGUF file, opened: sizes, vocabulary and tensors of a Llama-architecture model with tied head.

    Tensors stay on disk (mapped) until they are asked for. Opening takes some seconds: the vocabulary is long.

    Raises :class:`~golden.spec.SpecError` when the ``gguf`` package is missing, the file cannot be read or is damaged,
    the architecture is another one, or sizes and tensors do not fit together.
    """

    def __init__(self, path: Path) -> None:
        try:
            import gguf
        except ImportError:
            raise SpecError("reading a model needs the Python package gguf, which is not installed") from None
        self._types = {kind.name: kind for kind in gguf.GGMLQuantizationType}
        sizes = {int(kind): (kind.name, *size) for kind, size in gguf.GGML_QUANT_SIZES.items()}
        try:
            self._fields, self._tensors = gguf_file.read(path, sizes)
        except gguf_file.Damaged as e:
            raise SpecError(f"model file {path} cannot be read as GGUF: {e}") from None
        self.path = path
        self._dequantise = gguf.quants.dequantize
        if (architecture := self.text("general.architecture")) != "llama":
            raise SpecError(f"general.architecture of {path} must be llama, not {told(architecture)}")
        if "output.weight" in self._tensors:
            raise SpecError(f"model file {path} must have a tied head, not a tensor output.weight")

    def text(self, name: str) -> str:
        """A field that is a text."""
        return self._of(name, "a text", lambda value: isinstance(value, str))

    def texts(self, name: str) -> list[str]:
        """A field that is a list of texts."""
        return self._of(name, "a list of texts", lambda value: _all(value, str))

    def numbers(self, name: str) -> list[int]:
        """A field that is a list of integers."""
        return self._of(name, "a list of integers", lambda value: _all(value, int))

    def size(self, name: str) -> int:
        """A field that is a size."""
        return self._of(name, f"an integer between 1 and {MOST}", lambda v: type(v) is int and 1 <= v <= MOST)

    def positive(self, name: str) -> float:
        """A field that is a positive number."""
        return self._of(name, "a positive number", lambda v: type(v) in (int, float) and 0 < v < math.inf)

    def _of(self, name: str, rule: str, right: Callable[[Any], bool]) -> Any:
        if name not in self._fields:
            raise SpecError(f"model file {self.path} must have the field {name}")
        if not right(self._fields[name]):
            raise SpecError(f"{name} of {self.path} must be {rule}, not {told(self._fields[name])}")
        return self._fields[name]

    def raw(self, name: str) -> NDArray[np.uint8]:
        """A tensor's bytes as stored, one row per output."""
        return self._tensor(name).data.view(np.uint8)

    def tensor(self, name: str, *shape: int) -> Array:
        """A tensor of that shape as float32, dequantised if need be; ``[out, in]`` or ``[n]``."""
        t = self._tensor(name)
        if t.shape[::-1] != shape:
            raise SpecError(f"tensor {name} of {self.path} must be of shape {list(shape)}, not {list(t.shape[::-1])}")
        if t.type == "Q4_1":
            return q4_1.dequantise(*self.blocks(name, *shape))
        try:
            return np.asarray(self._dequantise(t.data, self._types[t.type]), dtype=np.float32)
        except NotImplementedError:
            raise SpecError(f"tensor {name} must be of a known type, not {t.type}") from None

    def blocks(self, name: str, *shape: int) -> q4_1.Matrix:
        """A tensor in Q4_1 as stored."""
        return q4_1.unpack(self._stored(name, "Q4_1", *shape), *shape)

    def head(self) -> q8_0.Matrix:
        """The embedding, which is the head too, in Q8_0 as stored."""
        shape = self.config.vocabulary, self.config.width
        return q8_0.unpack(self._stored(EMBEDDING, "Q8_0", *shape), *shape)

    @cached_property
    def config(self) -> Config:
        def size(name: str) -> int:
            return self.size(f"llama.{name}")

        config = Config(
            width=size("embedding_length"),
            ffn=size("feed_forward_length"),
            layers=size("block_count"),
            heads=size("attention.head_count"),
            kv_heads=size("attention.head_count_kv"),
            vocabulary=len(self.texts("tokenizer.ggml.tokens")),
            context=size("context_length"),
            rms_eps=self.positive("llama.attention.layer_norm_rms_epsilon"),
            rope_base=self.positive("llama.rope.freq_base"),
        )
        if config.width % (2 * config.heads):
            raise SpecError(f"embedding_length of {self.path} must be a multiple of 2 * head_count, not {config.width}")
        if config.heads % config.kv_heads:
            raise SpecError(f"head_count of {self.path} must be a multiple of head_count_kv, not {config.heads}")
        return config

    def layer(self, i: int) -> Layer:
        """Layer ``i``, dequantised."""
        return Layer(*(self.part(i, part.name) for part in fields(Layer)))

    def part(self, i: int, name: str) -> Array:
        """A part of layer ``i``, by its name in :class:`Layer`, dequantised."""
        return self.tensor(f"blk.{i}.{TENSORS[name]}.weight", *self.config.shapes[name])

    def matrix(self, i: int, name: str) -> q4_1.Matrix:
        """Likewise a matrix, in Q4_1 as stored."""
        return self.blocks(f"blk.{i}.{TENSORS[name]}.weight", *self.config.shapes[name])

    def weights(self) -> Weights:
        """The whole model; each layer is dequantised when it is first used, and kept."""
        c = self.config
        embedding = self.tensor(EMBEDDING, c.vocabulary, c.width)
        return Weights(c, embedding, _LazyLayers(self), self.tensor("output_norm.weight", c.width))

    def _stored(self, name: str, kind: str, *shape: int) -> NDArray[np.uint8]:
        """Bytes of a tensor of that type and shape."""
        t = self._tensor(name)
        if t.type != kind:
            raise SpecError(f"tensor {name} must be of type {kind}, not {t.type}")
        if t.shape[::-1] != shape:
            raise SpecError(f"tensor {name} of {self.path} must be of shape {list(shape)}, not {list(t.shape[::-1])}")
        return t.data

    def _tensor(self, name: str) -> gguf_file.Stored:
        if name not in self._tensors:
            raise SpecError(f"model file {self.path} must have the tensor {name}")
        return self._tensors[name]


def _all(value: Any, of: type) -> bool:
    return isinstance(value, list) and all(type(item) is of for item in value)


class _LazyLayers(Sequence[Layer]):
    def __init__(self, file: ModelFile) -> None:
        self._file = file
        self._kept: dict[int, Layer] = {}

    def __len__(self) -> int:
        return self._file.config.layers

    @overload
    def __getitem__(self, i: int) -> Layer: ...
    @overload
    def __getitem__(self, i: slice) -> list[Layer]: ...
    def __getitem__(self, i: int | slice) -> Layer | list[Layer]:
        if isinstance(i, slice):
            return [self[j] for j in range(*i.indices(len(self)))]
        i = range(len(self))[i]
        if i not in self._kept:
            self._kept[i] = self._file.layer(i)
        return self._kept[i]
