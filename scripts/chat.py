"""A whole language model that goes on with a text, its matrices computed by the RTL, by the golden models or in float.

The model as a mixture of experts has its attention and its head as before; its feed-forward networks are jobs of
``moe_ffn``, a token each: router, gate, dispatcher, experts and their sum.
"""

import dataclasses
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any, NamedTuple

import numpy as np

from gen.registry import unit
from golden.llama.forward import Array, Llama, Sampled, likeliest
from golden.llama.quantised import Engines, Parts, Quantised, golden
from golden.llama.tokenizer import Tokenizer
from golden.llama.weights import Config, ModelFile
from golden.mixpe.gemm import MixPESpec
from golden.moe.layer import LayerBatch, MoEFFNSpec
from golden.moe.llama import Conversions, MoeLlama
from golden.moe.pack import pack
from golden.moe.spec import ConversionSpec, preset, shape
from golden.quantize import float_codes
from golden.spec import SpecError
from scripts import experts, moe_layer
from scripts.layers import Say
from scripts.simulated import Simulated, Tally

ENGINES = ("rtl", "golden", "float")

TEMPLATE = (
    "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
    "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"
)
"""What SmolLM2-Instruct was trained to answer in: its file's template, of one message."""


def engines(config: Config) -> Engines:
    """Presets ``square`` and ``decode`` of ``mixpe``, the latter with INT8 weights composed of halves for the head."""
    presets, size = unit("mixpe").presets, {"k_max": max(MixPESpec().k_max, config.ffn)}
    square, decode = (MixPESpec.from_values({**presets[name], **size}) for name in ("square", "decode"))
    head = MixPESpec.from_values(decode.values() | {"weight": "int8", "core": "composed"})
    return Engines(square, decode, head)


@dataclass(frozen=True)
class Mixture:
    """The feed-forward networks as experts: how many a token has, and each layer's batch but for the tokens."""

    spec: MoEFFNSpec
    batches: Mapping[int, LayerBatch]

    @classmethod
    def of(cls, file: ModelFile, conversions: Conversions) -> "Mixture":
        """Packed in Q4_1."""
        packed = {i: pack(experts.blocks(file, i), conversion) for i, conversion in conversions.items()}
        conversion = conversions[0]
        sizes = {"experts": len(conversion.experts), "neurons": max(len(conversion.shared), conversion.size)}
        spec = unit("moe_ffn").configure("decode", [sizes, {"d": file.config.width}])
        assert isinstance(spec, MoEFFNSpec)
        none, active = np.zeros((1, file.config.width), np.float32), conversion.spec.active
        return cls(spec, {i: moe_layer.layer_batch(spec, one, none, active, active) for i, one in packed.items()})


class QuantisedMixture(Quantised):
    """Tokens reach the experts in FP16, one after the other."""

    def __init__(self, mixture: Mixture, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._mixture = mixture

    def ffn(self, layer: int, x: Array) -> Array:
        spec, batch = self._mixture.spec, self._mixture.batches[layer]
        tokens = (dataclasses.replace(batch, x=codes[None]) for codes in float_codes(x, "fp16"))
        return np.concatenate([self.compute(spec, job) for job in tokens])


@dataclass(frozen=True, kw_only=True)
class Stretch:
    """From the last new token to the next: how many tokens were read, wall time, what the RTL did."""

    read: int
    seconds: float
    tally: Tally

    def row(self) -> dict[str, int | float]:
        """Figures: *busy* and *useful* are shares, of the cycles and of rows * cols * cycles."""
        t = self.tally
        found: dict[str, int | float] = {"tokens read": self.read, "seconds": round(self.seconds, 1)}
        found["seconds per token"] = round(self.seconds / self.read, 2)
        if t.cycles:
            found |= {
                "cycles": t.cycles,
                "cycles per token": round(t.cycles / self.read),
                "busy": round(t.steps / t.cycles, 4),
                "useful": round(t.macs / t.places, 4),
                "MACs per cycle": round(t.macs / t.cycles, 1),
                "simulated cycles/s": round(t.ran / t.seconds),
            }
        return found


@dataclass(frozen=True, kw_only=True)
class Report:
    """What was said and what it took: ``stretches`` are the prompt, then each new token but the last."""

    engine: str
    prompt: list[int]
    tokens: list[int]
    text: str
    ended: bool
    how: str
    verified: bool
    stretches: list[Stretch]

    @property
    def total(self) -> Tally:
        return sum((s.tally for s in self.stretches), Tally())

    def rows(self) -> dict[str, dict[str, int | float]]:
        """Figures of the prompt, and of all tokens that were read alone."""
        first, *others = self.stretches
        found = {"prompt": first.row()}
        if others:
            tally = sum((s.tally for s in others), Tally())
            found["alone"] = Stretch(read=len(others), seconds=sum(s.seconds for s in others), tally=tally).row()
        return found

    def summary(self) -> dict[str, object]:
        """For a program to read."""
        checks = {"outputs compared": self.total.outputs, "mismatches": self.total.mismatches} if self.verified else {}
        names = ("engine", "how", "prompt", "tokens", "text", "ended")
        figures = {f"{name} figures": row for name, row in self.rows().items()}
        return {name: getattr(self, name) for name in names} | checks | figures

    def table(self) -> str:
        rows = self.rows()
        ended = ", ended by itself" if self.ended else ""
        lines = [
            f"engine               {self.engine}",
            f"tokens               {len(self.tokens)} new, {self.how}{ended}",
        ]
        lines += [f"{'':20}" + "".join(f" {name:>14}" for name in ("prompt", "tokens alone")[: len(rows)])]
        for what in rows["prompt"]:
            figures = (row[what] for row in rows.values())
            lines.append(f"{what:20}" + "".join(f" {_figure(what, v):>14}" for v in figures))
        if self.verified:
            lines.append(f"outputs compared     {self.total.outputs:,}, every one of every job")
            lines.append(f"mismatches           {self.total.mismatches:,}")
        return "\n".join(lines)


def _figure(what: str, value: float) -> str:
    return f"{value:.2%}" if what in ("busy", "useful") else f"{value:,}"


@dataclass(frozen=True, kw_only=True)
class Options:
    """What is wanted. ``temperature`` 0: always the likeliest token."""

    engine: str
    moe: str | None
    tokens: int
    temperature: float
    seed: int
    verify: bool

    @property
    def how(self) -> str:
        chosen = f"temperature {self.temperature:g}" if self.temperature else "greedy"
        return f"{chosen}, seed {self.seed}"


def talk(file: ModelFile, prompt: str, options: Options, emit: Callable[[str], None], say: Say) -> Report:
    """Goes on with ``prompt`` until there are so many new tokens, or a control token comes, which is none of them.

    ``emit`` is called with pieces of text as they come. :class:`~golden.spec.SpecError` for a prompt or a number of
    tokens that does not fit into the model.
    """
    tokenizer = Tokenizer.of(file)
    read = tokenizer.encode(prompt)
    check(len(read), options.tokens, file.config.context)
    model, counts, about = speaker(file, tokenizer, options, say)
    choose = Sampled(options.temperature, options.seed) if options.temperature else likeliest
    stretches: list[Stretch] = []
    new: list[int] = []
    text, ended = "", False
    model.observe = partial(_progress, say, f"prompt, {len(read)} tokens", file.config.layers)
    start = time.monotonic()
    for token, _ in islice(model.continuation(read, choose), options.tokens):
        tally = Tally() if counts is None else counts.take()
        stretches.append(Stretch(read=1 if new else len(read), seconds=time.monotonic() - start, tally=tally))
        ended = token in tokenizer.control
        if ended:
            break
        new.append(token)
        whole = tokenizer.decode(new)
        if not whole.endswith("\ufffd"):  # else the next token may end the character
            emit(whole[len(text) :])
            text = whole
        model.observe = partial(_progress, say, f"token {len(new)}", file.config.layers)
        start = time.monotonic()
    whole = tokenizer.decode(new)
    emit(whole[len(text) :])
    return Report(
        engine=about,
        prompt=read,
        tokens=new,
        text=whole,
        ended=ended,
        how=options.how,
        verified=options.engine == "rtl" and options.verify,
        stretches=stretches,
    )


def check(prompt: int, tokens: int, context: int) -> None:
    """:class:`SpecError` where a prompt of so many tokens and as many new ones do not fit."""
    if not 1 <= prompt < context:
        raise SpecError(f"prompt must be 1 to {context - 1} tokens, not {prompt}")
    if not 1 <= tokens <= context - prompt:
        raise SpecError(f"tokens must be an integer between 1 and {context - prompt}, not {tokens}")


class Speaker(NamedTuple):
    """A model, what counts its jobs if the RTL computes them, and both in words."""

    model: Llama
    counts: Simulated | None
    about: str


def speaker(file: ModelFile, tokenizer: Tokenizer, options: Options, say: Say) -> Speaker:
    """The model that the options describe; with engine ``rtl`` everything is built."""
    name = "" if options.moe is None else f", feed-forward networks as {options.moe}"
    if options.engine == "float":
        model = MoeLlama(file.weights(), _conversions(file, tokenizer, options, say))
        return Speaker(model, None, f"float: float32 of the stored weights{name}")
    chosen, parts = engines(file.config), Parts.of(file)
    conversions = _conversions(file, tokenizer, options, say)
    mixture = Mixture.of(file, conversions) if conversions else None
    specs: list[MixPESpec | MoEFFNSpec] = [*chosen, mixture.spec] if mixture else [*chosen]
    counts = Simulated(specs, options.verify, say) if options.engine == "rtl" else None
    arguments = (file.weights(), parts, chosen, counts or golden)
    sizes = [f"{spec.rows} x {spec.cols}" for spec in specs]
    about = f"{options.engine}: mixpe W4A8, {sizes[0]} for the prompt, {sizes[1]} for a token; W8A8, {sizes[2]}: head"
    if mixture is None:
        return Speaker(Quantised(*arguments), counts, about)
    return Speaker(QuantisedMixture(mixture, *arguments), counts, f"{about}{name} by moe_ffn, {sizes[3]}")


def _conversions(file: ModelFile, tokenizer: Tokenizer, options: Options, say: Say) -> Conversions:
    """As ``senbazuru convert`` keeps them, converted first where they are not there; none without ``moe``."""
    if options.moe is None:
        return {}
    spec = ConversionSpec(**preset("code") | shape(options.moe))
    if options.engine != "float":
        experts.check_size(spec, file.config.ffn)
    calibration = tokenizer.encode(experts.text())[: min(experts.TOKENS, file.config.context)]
    return experts.converted(file, spec, calibration, range(file.config.layers), None, say)[1]


def _progress(say: Say, what: str, layers: int, name: str, layer: int, _: Array) -> None:
    if name == "block_output":
        say(f"{what}: layer {layer + 1} of {layers}")
