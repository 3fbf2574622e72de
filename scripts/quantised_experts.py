"""What formats of experts cost in bytes and accuracy: ``python -m scripts.quantised_experts [--model full]``.

The fixture's layer: signal to noise of its result, all experts on, over the second half of its tokens. A whole model:
perplexity with all experts on, so that formats alone are seen, and with the experts that the router chooses (by rows as
stored). ``of float32``: bytes of codes, scales and minima over those of the same matrices in float32; the router's rows
(0.2 % of that) and the descriptors are not in it.

Rows are names of formats (see :func:`golden.moe.quantizers.named`), or

    elephants8, corrected4     the published quantiser per output channel, and its correction
    adaptive4                  signed, the largest groups that cost at most twice the error of groups of 32, per matrix
    knapsack3.25               the best formats of all experts in 3.25 bits per weight, router's rows included
    unsigned3x64+16            with a compensator of rank 16
"""

import argparse
import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain
from typing import Any

import numpy as np

from golden import fixture, model_store
from golden.llama.forward import Array, Llama
from golden.llama.perplexity import perplexity, surprises
from golden.llama.weights import Layer, Weights
from golden.mixpe.layer import sqnr
from golden.moe import fixture as moe_fixture
from golden.moe import mixed, quantizers, router
from golden.moe.compensate import Coded, compensated
from golden.moe.convert import Conversion
from golden.moe.ffn import Ffn, Real
from golden.moe.llama import Conversions, MoeLlama
from golden.moe.mixed import Formats, Part
from golden.moe.pack import Stored, cut, packed_order
from golden.spec import SpecError
from scripts import evaluation, experts
from scripts.resumable import aligned

ADAPTIVE = 2.0
"""Times the error of the smallest groups."""

WINDOW = 512

ROWS = (
    *("elephants8", "corrected8", "q4_1", "elephants4", "corrected4", "signed4x64", "lookup4x64"),
    *("adaptive4", "unsigned3x64", "lookup3x64", "unsigned3x64+16", "lookup2x64"),
    *("knapsack4", "knapsack3.5", "knapsack3.25", "knapsack2.75"),
)

Quantiser = Callable[[int, int, Part], Sequence[Coded]]
"""Of a layer's expert (0: the shared block): gate, up, down."""

Errors = Mapping[int, Sequence[mixed.Errors]]


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m scripts.quantised_experts", description="formats of experts")
    parser.add_argument("--model", default="fixture", help="fixture (default), full, or a GGUF file's path")
    parser.add_argument("--moe", metavar="NAME", default=moe_fixture.SPEC.name, help="default: %(default)s")
    parser.add_argument("--rows", metavar="A,B", default=",".join(ROWS), help="default: %(default)s")
    parser.add_argument("--tokens", type=int, metavar="N", help="read only the text's first N tokens")
    parser.add_argument("--json", action="store_true", help="for a program to read")
    experts.add_arguments(parser)
    args = parser.parse_args(argv)
    try:
        found = list(_fixture(args) if args.model == "fixture" else _model(args))
    except SpecError as e:
        print(e, file=sys.stderr)
        return 2
    lines = [list(found[0]), *([str(value) for value in row.values()] for row in found)]
    print(json.dumps(found, indent=2) if args.json else aligned(lines))
    return 0


# --- rows ---


def quantiser(name: str, errors: Callable[[], Errors], width: int) -> Quantiser:
    """The row of that name; ``errors`` are those of all formats, for a knapsack. :class:`~golden.spec.SpecError` for
    another name."""
    base, _, rank = name.partition("+")
    if rank.isascii() and rank.isdecimal():
        return partial(_compensated, quantiser(base, errors, width), int(rank))
    preset, bits = base[:-1], base[-1:]
    if preset in quantizers.PRESETS and bits in ("4", "8"):
        return partial(_each, lambda w: quantizers.PRESETS[preset](w, int(bits)))
    if preset == "adaptive" and bits in ("2", "3", "4", "8"):
        return partial(_each, partial(_adaptive, int(bits)))
    if found := re.fullmatch(r"knapsack(\d{1,2}(?:\.\d{1,3})?)", base, re.ASCII):
        return _best(float(found[1]), errors(), width)
    form = quantizers.named(base)
    return lambda layer, expert, part: mixed.weights(part, Formats(form, form))


def _each(quantise: Callable[[Real], Coded], layer: int, expert: int, part: Part) -> Sequence[Coded]:
    return [quantise(matrix.T) for matrix in (part.exact.gate, part.exact.up, part.exact.down)]


def _adaptive(bits: int, w: Real) -> Coded:
    def error(q: quantizers.Quantised) -> float:
        return float(np.square(w - q.values()).sum())

    return quantizers.adaptive(lambda share: quantizers.symmetric(w, bits, share), error, ADAPTIVE)


def _compensated(base: Quantiser, rank: int, layer: int, expert: int, part: Part) -> Sequence[Coded]:
    matrices = (part.exact.gate, part.exact.up, part.exact.down)
    made = base(layer, expert, part)
    return [compensated(w.T, q, rank) for w, q in zip(matrices, made, strict=True)]


def _best(bits: float, errors: Errors, width: int) -> Quantiser:
    weights = 3 * width * sum(one.neurons for one in chain(*errors.values()))
    formats = experts.chosen(errors, width, int(bits * weights / 8))
    return lambda layer, expert, part: mixed.weights(part, formats[layer][expert])


def layer_of(
    dense: Stored, conversion: Conversion, quantise: Callable[[int, Part], Sequence[Coded]]
) -> tuple[Ffn, int]:
    """The dense network that quantised experts are together, float32, and their bytes."""
    exact = dense.ffn()
    made = Ffn(*(np.empty_like(matrix) for matrix in (exact.gate, exact.up, exact.down)))
    order, size, first = packed_order(conversion), 0, 0
    for expert, part in enumerate(cut(dense, conversion)):
        where = order[first : first + part.exact.neurons]
        gate, up, down = coded = quantise(expert, part)
        made.gate[where], made.up[where], made.down[:, where] = gate.values().T, up.values().T, down.values().T
        size += sum(one.bytes for one in coded)
        first += len(where)
    return made, size


# --- one layer ---


def _fixture(args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    for option in ("tokens", "variant"):
        if getattr(args, option) is not None:
            raise SpecError(f"{option} must be left out with the fixture, it is for --model full")
    if args.moe != moe_fixture.SPEC.name:
        raise SpecError(f"moe must be {moe_fixture.SPEC.name} with the fixture, not {args.moe!r}")
    dense, conversion = moe_fixture.dense(), moe_fixture.load().conversion
    learn, judge = np.split(fixture.load().x, 2)
    exact = dense.ffn()(judge)

    def errors() -> Errors:
        return {fixture.LAYER: [mixed.errors(p, learn, np.ones(len(learn))) for p in cut(dense, conversion)]}

    for name in args.rows.split(","):
        quantise = partial(quantiser(name, errors, fixture.WIDTH), fixture.LAYER)
        made, size = layer_of(dense, conversion, quantise)
        yield {"row": name, **_sizes(size, 3 * dense.gate.codes.size), "dB": round(sqnr(exact, made(judge)), 2)}


def _sizes(size: int, weights: int) -> dict[str, Any]:
    return {"bytes": size, "bits": round(8 * size / weights, 3), "of float32": round(size / weights / 4, 4)}


# --- a whole model ---


class StoredRouter(MoeLlama):
    """Chooses by rows of its own."""

    def __init__(self, weights: Weights, conversions: Conversions, exact: Weights) -> None:
        super().__init__(weights, conversions)
        self._rows = MoeLlama(exact, conversions)

    def select(self, layer: int, x: Array, hidden: Array) -> Real:
        c = self.conversions[layer]
        v = router.scores(x, self._rows.network(layer).part(c.representatives), c.spec)
        return router.route(v, c.spec, c.threshold).weights


def _model(args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    from golden.llama.tokenizer import Tokenizer
    from golden.llama.weights import ModelFile

    file = ModelFile(model_store.find(args.model))
    spec, layers = experts.specification(args.moe, args), range(file.config.layers)
    tokenizer = Tokenizer.of(file)
    tokens = tokenizer.encode(evaluation.text())[: args.tokens]
    calibration = tokenizer.encode(experts.text())[: min(experts.TOKENS, file.config.context)]
    _, conversions = experts.converted(file, spec, calibration, layers, None, _say)
    exact, kept = file.weights(), dict[str, Errors]()

    def errors() -> Errors:
        if not kept:
            kept["all"] = experts.surveyed(file, conversions, calibration, _say)
        return kept["all"]

    def judged(weights: Weights) -> dict[str, Any]:
        every, some = (
            surprises(m, tokens, WINDOW) for m in (Llama(weights), StoredRouter(weights, conversions, exact))
        )
        more = every - reference
        return {
            "perplexity": round(perplexity(every), 2),
            "nats more": round(float(more.mean()), 4),
            "standard error": round(float(more.std() / np.sqrt(len(more))), 4),
            "routed": round(perplexity(some), 2),
        }

    reference = surprises(Llama(exact), tokens, WINDOW)
    count = 3 * file.config.ffn * file.config.width * len(layers)
    yield {"row": "as stored", **_sizes(count // 32 * 20, count), **judged(exact)}
    for name in args.rows.split(","):
        quantise = quantiser(name, errors, file.config.width)
        made = {i: layer_of(experts.blocks(file, i), conversions[i], partial(quantise, i)) for i in layers}
        size = sum(bytes for _, bytes in made.values())
        found = {"row": name, **_sizes(size, count), **judged(_with(exact, {i: ffn for i, (ffn, _) in made.items()}))}
        _say(str(found))
        yield found


def _with(weights: Weights, networks: Mapping[int, Ffn]) -> Weights:
    def layer(i: int) -> Layer:
        return replace(weights.layers[i], gate=networks[i].gate, up=networks[i].up, down=networks[i].down)

    return replace(weights, layers=[layer(i) for i in range(len(weights.layers))])


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
