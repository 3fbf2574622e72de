"""Codes in bytes: of any width, and the published layouts with which 4-bit and 8-bit codes become FP16 numbers in a few
operations on words."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from golden.spec import SpecError

Int16 = NDArray[np.int16]

# --- any width ---


def to_bytes(codes: NDArray[Any], bits: int) -> NDArray[np.uint8]:
    """``[N, K * bits / 8]`` of codes ``[K, N]``: each column's codes one behind the other, two's complement, the first
    in the low bits of its first byte."""
    if len(codes) * bits % 8:
        raise SpecError(f"inputs must fill whole bytes with {bits} bits each, not {len(codes)}")
    each = (codes.T[:, :, None].astype(np.int16) >> np.arange(bits, dtype=np.int16)) & 1
    return np.packbits(each.astype(np.uint8).reshape(len(each), -1), axis=1, bitorder="little")


def from_bytes(raw: NDArray[np.uint8], bits: int, k: int, n: int, signed: bool) -> Int16:
    """Inverse of :func:`to_bytes`."""
    each = np.unpackbits(raw.reshape(n, -1), axis=1, bitorder="little").reshape(n, k, bits)
    worth = 1 << np.arange(bits, dtype=np.int16)
    worth[-1] *= -1 if signed else 1
    found: Int16 = (each @ worth).T
    return found


def to_pairs(codes: NDArray[Any]) -> NDArray[np.uint8]:
    """``[K, N / 2]`` of signed 4-bit codes ``[K, N]``, as published: two neighbouring outputs per byte, the even one in
    the low bits."""
    if codes.shape[1] % 2:
        raise SpecError(f"outputs must be an even number, not {codes.shape[1]}")
    nibbles = (codes & 15).astype(np.uint8)
    low, high = nibbles[:, ::2], nibbles[:, 1::2]
    return (low | high << 4).astype(np.uint8)


def from_pairs(raw: NDArray[np.uint8]) -> Int16:
    """Inverse of :func:`to_pairs`."""
    both = np.stack([raw & 15, raw >> 4], axis=-1).reshape(len(raw), -1).astype(np.int16)
    return (both ^ 8) - 8


# --- to FP16 in a few operations: 1024 + e has the bits 0x6400 | e for e below 1024 ---

NIBBLES = (0, 2, 4, 6, 1, 3, 5, 7)
"""Which of eight codes each nibble of a word holds, the lowest first."""

BYTES = (0, 2, 1, 3)
"""Which of four codes each byte holds."""

MAGIC = 0x64006400
"""1024 twice, to be joined with two codes."""

LOW = -1032
"""To add to 1024 + e, e = code + 8."""

HIGH = -72
"""To add to (1024 + 16 e) / 16. A published revision has -64.5 here, 7.5 too much."""

WIDE = -1152
"""To add to 1024 + e, e = code + 128."""


def to_words(codes: NDArray[Any], bits: int) -> NDArray[np.uint32]:
    """``[...]`` of signed codes ``[..., 32 / bits]`` of 4 or 8 bits, stored as code + half the range, in the order that
    :func:`to_fp16` undoes."""
    order = NIBBLES if bits == 4 else BYTES
    e = (codes[..., list(order)].astype(np.int64) + (1 << (bits - 1))) << bits * np.arange(len(order))
    return e.sum(axis=-1).astype(np.uint32)


def to_fp16(words: NDArray[np.uint32], bits: int) -> NDArray[np.float16]:
    """``[..., 32 / bits]``: the codes of :func:`to_words` as FP16 numbers, in order: mask, join with :data:`MAGIC`,
    add.

    Codes in the upper half of a byte stay there, 16 times as large, and are multiplied by 1/16.
    """
    found = []
    for shift in (0, 8):
        word = words >> shift
        if bits == 8:
            found.append(_pair(word & 0x00FF00FF) + np.float16(WIDE))
        else:
            found.append(_pair(word & 0x000F000F) + np.float16(LOW))
            found.append(_pair(word & 0x00F000F0) * np.float16(1 / 16) + np.float16(HIGH))
    return np.concatenate(found, axis=-1)


def _pair(codes: NDArray[Any]) -> NDArray[np.float16]:
    """``[..., 2]``: both halves of each word, the low one first."""
    joined = codes | MAGIC
    halves = np.stack([joined & 0xFFFF, joined >> 16], axis=-1)
    return halves.astype(np.uint16).view(np.float16)
