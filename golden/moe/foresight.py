"""Guesses which experts a token will need, made before its router has its input, and how often they are right.

A guess ranks all experts, best first: ``[T, L, E]``. What looks at the layer before has none for layer 0, so that rates
are those of the layers from 1 on, for all.
"""

from math import comb
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from golden.moe.clusters import first
from golden.moe.ffn import Int
from golden.moe.predictor import Predictor, pieces
from golden.moe.traces import Trace

Ranks = NDArray[np.integer]


def static(seen: Trace, active: int, tokens: int) -> Ranks:
    """The experts that were chosen most in another text, the same for all ``tokens``; ties to the lower one."""
    chosen = seen.chosen(active)
    experts = seen.order.shape[-1]
    counts = (chosen[..., None] == np.arange(experts)).sum(axis=(0, 2))
    return np.broadcast_to(first(-counts, experts), (tokens, *counts.shape))


def previous(text: Trace, at_first: Ranks) -> Ranks:
    """What the router ranked for the token before, in the same layer; for the first token of a window ``at_first``."""
    before = np.roll(text.order, 1, axis=0).astype(np.int64)
    before[text.starts] = at_first[text.starts]
    return before


def next_router(text: Trace) -> Ranks:
    """The router of a layer on the input of the layer before; of layer 0 the experts as they are numbered."""
    return text.foreseen


def learned(predictor: Predictor, text: Trace, sequence: int) -> Ranks:
    """A predictor's, which reads the text in sequences of so many tokens, the last one short."""
    return np.concatenate([_experts(predictor, text, part) for part in pieces(len(text.tokens), sequence)])


def _experts(predictor: Predictor, text: Trace, part: slice) -> Int:
    return predictor.table(text.embedding[part], predictor.spec.experts).experts


class Hits(NamedTuple):
    """Shares, over tokens and layers."""

    first: float
    """the best expert of the guess is the router's best"""
    recall: float
    """of the k chosen experts, those among the first k of the guess"""
    recall_more: float
    """among the first k + 1"""
    whole: float
    """all chosen ones are among the first k"""


def hits(guess: Ranks, text: Trace, active: int) -> Hits:
    """Of the layers from 1 on."""
    guess, chosen = guess[:, 1:], text.chosen(active)[:, 1:]
    found, more = ((guess[..., :n, None] == chosen[..., None, :]).any(axis=-2) for n in (active, active + 1))
    best = guess[..., 0] == chosen[..., 0]
    return Hits(*(float(share.mean()) for share in (best, found, more, found.all(axis=-1))))


def chance(experts: int, active: int) -> Hits:
    """Of a guess that knows nothing."""
    return Hits(1 / experts, active / experts, min(1.0, (active + 1) / experts), 1 / comb(experts, active))
