"""How well a model foretells a text."""

from collections.abc import Callable, Sequence

import numpy as np

from golden.llama.forward import Llama
from golden.spec import SpecError


def perplexity(
    model: Llama, tokens: Sequence[int], window: int, progress: Callable[[int], None] = lambda _: None
) -> float:
    """``exp(-mean log p(token | the tokens before it in its window))``.

    The text is cut into windows of ``window`` tokens, the last one short, which do not see one another; the first token
    of each is not foretold (it has no context). Logarithms are taken in float64. ``progress`` is called with the number
    of tokens done. Raises :class:`~golden.spec.SpecError` where no window has two tokens.
    """
    check(tokens, window)
    surprise, count = 0.0, 0
    for start in range(0, len(tokens), window):
        part = tokens[start : start + window]
        logits = model.logits(model.hidden(part)[:-1])
        likeliest = logits.max(axis=1).astype(np.float64)
        total = np.exp(logits - likeliest[:, None].astype(logits.dtype)).sum(axis=1, dtype=np.float64)
        chosen = logits[np.arange(len(part) - 1), part[1:]]
        surprise += float((likeliest + np.log(total) - chosen).sum())
        count += len(part) - 1
        progress(start + len(part))
    return float(np.exp(surprise / count))


def check(tokens: Sequence[int], window: int) -> None:
    """Raises :class:`~golden.spec.SpecError` where :func:`perplexity` would, for callers with much to do before it."""
    if window < 2 or len(tokens) < 2:
        raise SpecError(f"window and text must have at least 2 tokens, not {window} and {len(tokens)}")
