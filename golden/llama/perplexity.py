"""How well a model foretells a text."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from golden.llama.forward import Llama
from golden.spec import SpecError


def surprises(
    model: Llama, tokens: Sequence[int], window: int, progress: Callable[[int], None] = lambda _: None
) -> NDArray[np.float64]:
    """``-log p(token | the tokens before it in its window)``, in nats; perplexity is ``exp`` of the mean.

    The text is cut into windows of ``window`` tokens, the last one short, which do not see one another; the first token
    of each is not foretold (it has no context). Logarithms are taken in float64. ``progress`` is called with the number
    of tokens done. Raises :class:`~golden.spec.SpecError` where no window has two tokens.
    """
    check(tokens, window)
    found = []
    for start in range(0, len(tokens), window):
        part = tokens[start : start + window]
        logits = model.logits(model.hidden(part)[:-1])
        likeliest = logits.max(axis=1, keepdims=True)
        total = np.exp(logits - likeliest).sum(axis=1, dtype=np.float64)
        chosen = (likeliest[:, 0] - logits[np.arange(len(part) - 1), part[1:]]).astype(np.float64)
        found.append(np.log(total) + chosen)
        progress(start + len(part))
    return np.concatenate(found)


def perplexity(surprises: NDArray[np.float64]) -> float:
    """``exp(mean)``."""
    return float(np.exp(surprises.mean()))


def check(tokens: Sequence[int], window: int) -> None:
    """Raises :class:`~golden.spec.SpecError` where :func:`surprises` would, for callers with much to do before it."""
    if window < 2 or len(tokens) < 2:
        raise SpecError(f"window and text must have at least 2 tokens, not {window} and {len(tokens)}")
