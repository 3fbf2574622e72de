"""A predictor of experts, learned from a routing trace and kept in the cache folder; what it foretells, beside what
costs nothing to guess; and the whole model with the prediction in place of its routers."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from golden.llama.forward import Array
from golden.llama.perplexity import surprises
from golden.llama.weights import ModelFile, Weights
from golden.model_store import cache_folder
from golden.moe import foresight
from golden.moe.distill import Lesson, TrainingSpec, train
from golden.moe.ffn import Real
from golden.moe.foresight import Hits, Ranks
from golden.moe.llama import Conversions
from golden.moe.predictor import Predictor, PredictorSpec, Table, pieces
from golden.moe.traces import Trace
from golden.spec import SpecError
from scripts import experts
from scripts.traces import WINDOW, Traces

Say = Callable[[str], None]

HIDDEN = 64
"""Published: 256."""


def predictor(traces: Traces, hidden: int, how: TrainingSpec, file: Path | None, say: Say) -> tuple[Path, Predictor]:
    """One for the traces' model, and the file where it is: in the cache folder unless ``file`` says another one. What
    the file has is taken as it is; else it is learned from ``traces.train`` and written there."""
    text = traces.train
    spec = PredictorSpec(
        inputs=text.embedding.shape[1], hidden=hidden, layers=text.order.shape[1], experts=text.order.shape[2]
    )
    path = file or _place(traces, spec, how)
    if path.exists():
        found = Predictor.load(path)
        for name in ("inputs", "layers", "experts"):
            want, got = getattr(spec, name), getattr(found.spec, name)
            if want != got:
                raise SpecError(f"{name} of predictor {path} must be {want}, as in the trace, not {got}")
        return path, found
    lesson = Lesson(text.embedding, text.scores, text.chosen(traces.spec.active).astype(np.int64))
    found = train(spec, lesson, how, partial(_progress, say, how))
    found.save(path)
    return path, found


def _progress(say: Say, how: TrainingSpec, epoch: int, loss: float, held: float) -> None:
    if epoch % 10 == 0 or epoch == how.epochs:
        say(f"epoch {epoch} of {how.epochs}: loss {loss:.5f}, of what is held back {held:.5f}")


def _place(traces: Traces, spec: PredictorSpec, how: TrainingSpec) -> Path:
    digest = hashlib.sha256(f"{spec.to_toml()}\0{how.to_toml()}".encode())
    for f in fields(Trace):
        digest.update(np.ascontiguousarray(getattr(traces.train, f.name)).data)
    return cache_folder() / "predictors" / f"{traces.spec.name}-{digest.hexdigest()[:16]}.npz"


def guesses(traces: Traces, found: Predictor, sequence: int) -> dict[str, Ranks]:
    """For the text that is judged, by name; ``oracle`` is the router itself."""
    judged, active = traces.test, traces.spec.active
    often = foresight.static(traces.train, active, len(judged.tokens))
    return {
        "static": often,
        "previous": foresight.previous(judged, often),
        "next-router": foresight.next_router(judged),
        "sida": foresight.learned(found, judged, sequence),
        "oracle": judged.order,
    }


def rates(traces: Traces, found: Predictor, sequence: int) -> dict[str, Hits]:
    """How often each guess is right."""
    active = traces.spec.active
    rows = {
        name: foresight.hits(guess, traces.test, active) for name, guess in guesses(traces, found, sequence).items()
    }
    del rows["oracle"]
    return {"chance": foresight.chance(traces.test.order.shape[-1], active)} | rows


class Foretold(experts.Counting):
    """The prediction is the routing: experts and what they count from the table, made from the tokens' embeddings in
    sequences of so many tokens; routers are not asked. Experts count 1, or with ``alpha`` what the table says, over the
    mean of the token's chosen ones."""

    def __init__(
        self, weights: Weights, conversions: Conversions, found: Predictor, sequence: int, alpha: bool = False
    ) -> None:
        super().__init__(weights, conversions)
        self._predictor, self._sequence, self._alpha = found, sequence, alpha
        self._table: Table | None = None

    def hidden(self, tokens: Sequence[int], cache: list[tuple[Array, Array]] | None = None) -> Array:
        x = self.weights.embedding[np.asarray(tokens)].astype(np.float32)
        active = next(iter(self.conversions.values())).spec.active
        parts = [self._predictor.table(x[part], active) for part in pieces(len(x), self._sequence)]
        self._table = Table(*(np.concatenate(part) for part in zip(*parts, strict=True)))
        return super().hidden(tokens, cache)

    def pick(self, layer: int, x: Array, hidden: Array) -> Real:
        assert self._table is not None
        chosen, alpha = self._table.experts[:, layer], self._table.alpha[:, layer]
        weights = np.zeros((len(x), self.conversions[layer].spec.routed))
        counts = alpha / alpha.mean(axis=1, keepdims=True) if self._alpha else 1
        np.put_along_axis(weights, chosen, counts, axis=1)
        return weights


def substituted(
    file: ModelFile, traces: Traces, found: Predictor, sequence: int, say: Say
) -> Iterator[tuple[str, NDArray[np.float64]]]:
    """Surprise at each token of the text that is judged: of the router, and of others in its place."""
    weights, tokens = file.weights(), traces.test.tokens.tolist()
    models = {
        "router": experts.Counting(weights, traces.conversions),
        "random": experts.Random(weights, traces.conversions),
        "sida": Foretold(weights, traces.conversions, found, sequence),
        "sida, alpha": Foretold(weights, traces.conversions, found, sequence, alpha=True),
        "oracle": experts.Oracle(weights, traces.conversions),
    }
    for name, model in models.items():
        yield name, surprises(model, tokens, WINDOW, partial(_read, say, name))


def _read(say: Say, name: str, tokens: int) -> None:
    say(f"{name}: {tokens} tokens")
