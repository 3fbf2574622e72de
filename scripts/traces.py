"""Routing traces of a converted model, in the cache folder: which text, where kept, read window by window."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from golden.llama.weights import ModelFile
from golden.model_store import cache_folder
from golden.moe import traces
from golden.moe.llama import Conversions
from golden.moe.spec import ConversionSpec
from golden.moe.traces import Trace, Tracer
from golden.spec import SpecError
from scripts import evaluation, experts

Say = Callable[[str], None]

WINDOW = 512
"""Tokens that see one another, as in ``senbazuru eval``."""


@dataclass(frozen=True)
class Traces:
    """Of one conversion: of the text that predictors learn from, which is the conversion's own, and of the one that
    they are judged on."""

    spec: ConversionSpec
    conversions: Conversions
    train: Trace
    test: Trace


def read(file: ModelFile, spec: ConversionSpec, say: Say, most: int | None = None, more: Sequence[str] = ()) -> Traces:
    """Both traces, from the cache folder as far as they are there; conversions likewise. ``most``: tokens of each text
    at most. ``more``: other texts to learn from, after the conversion's own."""
    from golden.llama.tokenizer import Tokenizer

    tokenizer = Tokenizer.of(file)
    if spec.selection != "topk":
        raise SpecError(f"selection must be topk for traces, not {spec.selection!r}")
    calibration = tokenizer.encode(experts.text())[: min(experts.TOKENS, file.config.context)]
    judged = tokenizer.encode(evaluation.text())[:most]
    learned = [calibration[:most], *(tokenizer.encode(text) for text in more)]
    layers = range(file.config.layers)
    _, conversions = experts.converted(file, spec, calibration, layers, None, say)
    made_from = experts.origin(file.path, calibration, layers)
    tracer = Tracer(file.weights(), conversions)
    train, *others, test = (_kept(tracer, spec, made_from, tokens, say) for tokens in (*learned, judged))
    for other in others:
        train = train.then(other)
    return Traces(spec, conversions, train, test)


def _kept(tracer: Tracer, spec: ConversionSpec, made_from: str, tokens: Sequence[int], say: Say) -> Trace:
    """The trace of a text; each window is written as soon as it is read, so that what was interrupted goes on."""
    origin = f"{made_from}; windows of {WINDOW}; {','.join(map(str, tokens))}"
    path = _place(spec, origin)
    trace: Trace | None = None
    if path.exists():
        found = traces.load(path)
        if found[:2] != (spec, origin):
            raise SpecError(f"trace {path} must be of {spec.name} and this text, delete it and try again")
        trace = found[2]
    while trace is None or len(trace.tokens) < len(tokens):
        start = 0 if trace is None else len(trace.tokens)
        window = tracer.read(tokens[start : start + WINDOW])
        trace = window if trace is None else trace.then(window)
        traces.save(path, spec, origin, trace)
        say(f"{spec.name}: routing of {len(trace.tokens)} of {len(tokens)} tokens")
    return trace


def _place(spec: ConversionSpec, origin: str) -> Path:
    digest = hashlib.sha256(f"{spec.to_toml()}\0{origin}".encode()).hexdigest()
    return cache_folder() / "traces" / f"{spec.name}-{digest[:16]}.npz"
