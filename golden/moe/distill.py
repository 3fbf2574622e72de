"""How a predictor learns from routers: truncated distillation (SiDA-MoE, arXiv 2310.18859), back-propagated in NumPy.

Of a token and layer, v the router's scores and z the predictor's logits:

    loss = weight * CE + TKD
    CE   = - mean over the k chosen experts of log softmax(z)                    published for k = 1
    TKD  = KL( softmax(v over its T largest) || softmax(z over the same) )       temperature 1, T = 30 or all experts

averaged over tokens and layers. The published code takes the sum of absolute differences in place of the divergence.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from golden.moe.clusters import first
from golden.moe.ffn import Int, Real
from golden.moe.predictor import DEPTH, Inside, Predictor, PredictorSpec, Steps
from golden.moe.router import softmax
from golden.spec import Spec, SpecError, param

Gradients = dict[str, Real]

MEAN, SQUARE, SMALL = 0.9, 0.999, 1e-8
"""Adam's constants (arXiv 1412.6980)."""


class TrainingSpec(Spec):
    """How a predictor learns. What is ``held`` back does not move parameters: it tells which epoch's are kept.

    Raises :class:`~golden.spec.SpecError` for a rate that is not between 0 and 1, and a negative weight.
    """

    epochs: int = param(60, "times that the text is read at most", low=1, high=100_000)
    sequence: int = param(64, "tokens of a sequence", low=1, high=1 << 16)
    batch: int = param(8, "sequences of a step", low=1, high=1 << 12)
    rate: float = param(0.001, "Adam's rate")
    weight: float = param(1.0, "of the cross-entropy; published: 0.005")
    truncate: int = param(30, "experts of the divergence: those of largest scores", low=1, high=1 << 12)
    held: int = param(8, "the last of so many parts of the text is held back; 0: nothing is", low=0, high=1000)
    seed: int = param(1, "of parameters, and of where sequences begin", low=0, high=(1 << 31) - 1)

    def _check(self) -> None:
        if not 0 < self.rate <= 1:
            raise SpecError(f"rate must be above 0 and at most 1, not {self.rate}")
        if not 0 <= self.weight < float("inf"):
            raise SpecError(f"weight must be 0 or more, not {self.weight}")


@dataclass(frozen=True, eq=False)
class Lesson:
    """Sequences: embeddings ``[..., S, inputs]``, the router's scores ``[..., S, layers, experts]`` and the experts it
    chose ``[..., S, layers, k]``."""

    x: Real
    scores: Real
    chosen: Int

    def __getitem__(self, places: Any) -> "Lesson":
        """Some of the tokens."""
        return Lesson(self.x[places], self.scores[places], self.chosen[places])


def loss(logits: Real, lesson: Lesson, weight: float, truncate: int) -> tuple[float, Real]:
    """Mean over tokens and layers, and its gradient with respect to ``logits``."""
    share = logits.size // logits.shape[-1]
    hard: Real = np.zeros_like(logits)
    np.put_along_axis(hard, lesson.chosen, 1 / lesson.chosen.shape[-1], axis=-1)
    p = softmax(logits)
    total = -weight * (hard * np.log(p)).sum()
    gradient = weight * (p - hard)
    kept = first(-lesson.scores, min(truncate, logits.shape[-1]))
    teacher, student = (softmax(np.take_along_axis(a, kept, axis=-1)) for a in (lesson.scores, logits))
    total += (teacher * np.log(teacher / student)).sum()
    soft = np.zeros_like(logits)
    np.put_along_axis(soft, kept, student - teacher, axis=-1)
    return float(total) / share, (gradient + soft) / share


def backward(predictor: Predictor, inside: Inside, gradient: Real) -> Gradients:
    """Of all parameters, from that of the logits."""
    p, out, found = predictor.parameters, inside.lstm[-1].h, Gradients()
    if predictor.spec.attention != "sparsemax":
        raise SpecError(f"attention must be sparsemax for training, not {predictor.spec.attention!r}")
    flat = gradient.reshape(*inside.y.shape[:-1], -1)
    heads = p["heads.weight"].reshape(-1, predictor.spec.hidden)
    found["heads.weight"] = _outer(flat, inside.y).reshape(p["heads.weight"].shape)
    found["heads.bias"] = _total(flat).reshape(p["heads.bias"].shape)
    d_y = flat @ heads
    found["residual.weight"], found["residual.bias"] = _outer(d_y, inside.hidden), _total(d_y)
    d_hidden = d_y @ p["residual.weight"]
    d_z = sparsemax_backward(inside.attention, d_y @ out.swapaxes(-1, -2))
    d_out: Real = inside.attention.swapaxes(-1, -2) @ d_y + (d_z + d_z.swapaxes(-1, -2)) @ out
    for n in reversed(range(DEPTH)):
        d_out = _lstm_backward(predictor, n, inside.lstm[n], d_out, found)
    d_hidden = (d_hidden + d_out) * (inside.hidden > 0)
    found["fc.weight"], found["fc.bias"] = _outer(d_hidden, inside.x), _total(d_hidden)
    return found


def sparsemax_backward(p: Real, gradient: Real) -> Real:
    """Of its argument, from that of its result ``p``: on the support, less the mean there; elsewhere 0."""
    support = p > 0
    mean = (gradient * support).sum(axis=-1, keepdims=True) / support.sum(axis=-1, keepdims=True)
    return np.where(support, gradient - mean, 0)


def _lstm_backward(predictor: Predictor, n: int, s: Steps, d_out: Real, found: Gradients) -> Real:
    """Adds the gradients of LSTM ``n`` to ``found``; returns that of its input."""
    own = {name: predictor.parameters[f"lstm{n}.{name}"] for name in ("weight_ih", "weight_hh")}
    after = np.tanh(s.c)
    d_sums = np.empty((*s.h.shape[:-1], 4 * s.h.shape[-1]), s.h.dtype)
    d_h = d_c = np.zeros_like(s.h[..., 0, :])
    for t in reversed(range(s.h.shape[-2])):
        i, f, g, o, c = (part[..., t, :] for part in (s.i, s.f, s.g, s.o, after))
        d_h = d_h + d_out[..., t, :]
        d_c = d_c + d_h * o * (1 - c * c)
        before = s.c[..., t - 1, :] if t else np.zeros_like(c)
        parts = (d_c * g * i * (1 - i), d_c * before * f * (1 - f), d_c * i * (1 - g * g), d_h * c * o * (1 - o))
        d_sums[..., t, :] = np.concatenate(parts, axis=-1)
        d_h, d_c = d_sums[..., t, :] @ own["weight_hh"], d_c * f
    found[f"lstm{n}.weight_ih"] = _outer(d_sums, s.u)
    found[f"lstm{n}.weight_hh"] = _outer(d_sums[..., 1:, :], s.h[..., :-1, :])
    found[f"lstm{n}.bias_ih"] = found[f"lstm{n}.bias_hh"] = _total(d_sums)
    return d_sums @ own["weight_ih"]


def _outer(d: Real, x: Real) -> Real:
    """Sum over sequences and tokens of ``d x^T``."""
    return d.reshape(-1, d.shape[-1]).T @ x.reshape(-1, x.shape[-1])


def _total(d: Real) -> Real:
    return d.reshape(-1, d.shape[-1]).sum(axis=0)


class Adam:
    """Moves parameters in place."""

    def __init__(self, parameters: Gradients, rate: float) -> None:
        self.parameters, self.rate, self.steps = parameters, rate, 0
        self.mean, self.square = ({name: np.zeros_like(a) for name, a in parameters.items()} for _ in range(2))

    def step(self, gradients: Gradients) -> None:
        self.steps += 1
        rate = self.rate * np.sqrt(1 - SQUARE**self.steps) / (1 - MEAN**self.steps)
        for name, g in gradients.items():
            self.mean[name] += (1 - MEAN) * (g - self.mean[name])
            self.square[name] += (1 - SQUARE) * (g * g - self.square[name])
            self.parameters[name] -= (rate * self.mean[name] / (np.sqrt(self.square[name]) + SMALL)).astype(g.dtype)


def train(
    spec: PredictorSpec, lesson: Lesson, how: TrainingSpec, say: Callable[[int, float, float], None] = lambda *_: None
) -> Predictor:
    """From a text ``[T, ...]``, which is cut anew into sequences in every epoch. ``say`` is called with the epoch, the
    mean loss of its steps, and the loss of what is held back (without that, the mean loss again): the parameters of the
    epoch where this is least are the result. :class:`~golden.spec.SpecError` for a text with less than a sequence in
    either part, or of another shape than ``spec``."""
    learned, held = _parts(lesson, how)
    _suits(spec, lesson)
    predictor = Predictor.random(spec, how.seed, lesson.x.dtype)
    adam = Adam(predictor.parameters, how.rate)
    rng = np.random.default_rng([how.seed, 1])
    least, kept = np.inf, predictor
    for epoch in range(how.epochs):
        mean = float(np.mean([_step(predictor, adam, some, how) for some in _batches(learned, how, rng)]))
        value = _judged(predictor, held, how) if len(held.x) else mean
        say(epoch + 1, mean, value)
        if value < least:
            least, kept = value, Predictor(spec, {name: a.copy() for name, a in predictor.parameters.items()})
    return kept


def _step(predictor: Predictor, adam: Adam, some: Lesson, how: TrainingSpec) -> float:
    inside = predictor.run(some.x)
    value, gradient = loss(inside.logits, some, how.weight, how.truncate)
    adam.step(backward(predictor, inside, gradient))
    return value


def _judged(predictor: Predictor, held: Lesson, how: TrainingSpec) -> float:
    """The loss of whole sequences, one after the other."""
    whole = len(held.x) // how.sequence
    some = held[np.arange(whole * how.sequence).reshape(whole, how.sequence)]
    return loss(predictor.run(some.x).logits, some, how.weight, how.truncate)[0]


def _batches(learned: Lesson, how: TrainingSpec, rng: np.random.Generator) -> Iterator[Lesson]:
    """Sequences, one after the other from a random token on, in random order."""
    tokens = len(learned.x)
    starts = np.arange(rng.integers(0, tokens % how.sequence + 1), tokens - how.sequence + 1, how.sequence)
    shuffled = rng.permutation(starts)
    for at in range(0, len(shuffled), how.batch):
        places = shuffled[at : at + how.batch, None] + np.arange(how.sequence)
        yield learned[places]


def _parts(lesson: Lesson, how: TrainingSpec) -> tuple[Lesson, Lesson]:
    """What is learned from, and what is held back."""
    tokens = len(lesson.x)
    held = tokens // how.held if how.held else 0
    parts = lesson[: tokens - held], lesson[tokens - held :]
    shortest = min(len(part.x) for part in parts[: 1 + bool(how.held)])
    if shortest < how.sequence:
        raise SpecError(f"sequence must be at most the {shortest} tokens of a part of the text, not {how.sequence}")
    return parts


def _suits(spec: PredictorSpec, lesson: Lesson) -> None:
    for name, got in (
        ("inputs", lesson.x.shape[-1]),
        ("layers", lesson.scores.shape[-2]),
        ("experts", lesson.scores.shape[-1]),
    ):
        if getattr(spec, name) != got:
            raise SpecError(f"{name} must be {got}, as in the trace, not {getattr(spec, name)}")
