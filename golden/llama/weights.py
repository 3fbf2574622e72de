"""Weights of a Llama-architecture model, and a reader for GGUF files.

A linear layer is stored as in the file: ``float32[out, in]``, ``y = x @ w.T``. The rows of ``q`` and ``k`` stand in
the order in which GGUF files keep them, so that the rotary embedding turns *adjacent* pairs of a head (2j, 2j + 1).
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from golden import q4_1, q8_0
from golden.spec import SpecError

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
    or the architecture is another one.
    """

    def __init__(self, path: Path) -> None:
        try:
            import gguf
        except ImportError:
            raise SpecError("reading a model needs the Python package gguf, which is not installed") from None
        try:
            reader = gguf.GGUFReader(path)
        except OSError as e:
            raise SpecError(f"model file {path} cannot be read: {e.strerror}") from None
        except Exception as e:  # damage surfaces as IndexError, KeyError, UnicodeDecodeError, ValueError, ...
            raise SpecError(f"model file {path} cannot be read as GGUF: {e}") from None
        self.path = path
        self._dequantise = gguf.quants.dequantize
        self._fields: dict[str, Any] = dict(reader.fields)
        self._tensors: dict[str, Any] = {t.name: t for t in reader.tensors}
        architecture = self.field("general.architecture")
        if architecture != "llama":
            raise SpecError(f"general.architecture of {path} must be llama, not {architecture!r}")
        if "output.weight" in self._tensors:
            raise SpecError(f"model file {path} must have a tied head, not a tensor output.weight")

    def field(self, name: str) -> Any:
        """Value of a metadata field."""
        if name not in self._fields:
            raise SpecError(f"model file {self.path} must have the field {name}")
        return self._fields[name].contents()

    def raw(self, name: str) -> NDArray[np.uint8]:
        """A tensor's bytes as stored, one row per output."""
        t = self._tensor(name)
        return np.asarray(t.data).view(np.uint8)

    def tensor(self, name: str) -> Array:
        """A tensor as float32, dequantised if need be; ``[out, in]`` or ``[n]``."""
        t = self._tensor(name)
        if t.tensor_type.name == "Q4_1":
            return q4_1.dequantise(*self.blocks(name))
        try:
            return np.asarray(self._dequantise(t.data, t.tensor_type), dtype=np.float32)
        except NotImplementedError:
            raise SpecError(f"tensor {name} must be of a known type, not {t.tensor_type.name}") from None

    def blocks(self, name: str) -> q4_1.Matrix:
        """A tensor in Q4_1 as stored."""
        return q4_1.unpack(*self._stored(name, "Q4_1"))

    def head(self) -> q8_0.Matrix:
        """The embedding, which is the head too, in Q8_0 as stored."""
        return q8_0.unpack(*self._stored(EMBEDDING, "Q8_0"))

    @cached_property
    def config(self) -> Config:
        def f(name: str) -> Any:
            return self.field(f"llama.{name}")

        return Config(
            width=f("embedding_length"),
            ffn=f("feed_forward_length"),
            layers=f("block_count"),
            heads=f("attention.head_count"),
            kv_heads=f("attention.head_count_kv"),
            vocabulary=len(self.field("tokenizer.ggml.tokens")),
            context=f("context_length"),
            rms_eps=f("attention.layer_norm_rms_epsilon"),
            rope_base=f("rope.freq_base"),
        )

    def layer(self, i: int) -> Layer:
        """Layer ``i``, dequantised."""
        return Layer(*(self.part(i, part.name) for part in fields(Layer)))

    def part(self, i: int, name: str) -> Array:
        """A part of layer ``i``, by its name in :class:`Layer`, dequantised."""
        return self.tensor(f"blk.{i}.{TENSORS[name]}.weight")

    def matrix(self, i: int, name: str) -> q4_1.Matrix:
        """Likewise a matrix, in Q4_1 as stored."""
        return self.blocks(f"blk.{i}.{TENSORS[name]}.weight")

    def weights(self) -> Weights:
        """The whole model; each layer is dequantised when it is first used, and kept."""
        layers = _LazyLayers(self)
        return Weights(self.config, self.tensor(EMBEDDING), layers, self.tensor("output_norm.weight"))

    def _stored(self, name: str, kind: str) -> tuple[NDArray[np.uint8], int, int]:
        """Bytes, rows and columns of a tensor of that type."""
        t = self._tensor(name)
        if t.tensor_type.name != kind:
            raise SpecError(f"tensor {name} must be of type {kind}, not {t.tensor_type.name}")
        cols, rows = (int(n) for n in t.shape)
        return self.raw(name), rows, cols

    def _tensor(self, name: str) -> Any:
        if name not in self._tensors:
            raise SpecError(f"model file {self.path} must have the tensor {name}")
        return self._tensors[name]


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
