"""Byte-level BPE tokenizer (GPT-2 style), built from the vocabulary and merges that a GGUF file carries."""

from collections.abc import Sequence
from typing import Any

from golden.llama.weights import ModelFile
from golden.spec import SpecError, told

CONTROL = 3
"""Token type of control tokens such as ``<|im_start|>`` in a GGUF file."""


class Tokenizer:
    """Text to token numbers and back.

    Text is cut before every digit and by GPT-2's pattern (contractions; a word, a number or punctuation with at most
    one leading space; white space), each piece is taken as UTF-8 bytes, and pairs are merged, earliest merge first.
    Control tokens, whose numbers are ``control``, are recognised in the text. Nothing is added in front.
    ``decode(encode(text)) == text`` for any text.

    Raises :class:`~golden.spec.SpecError` when the ``tokenizers`` package is missing.
    """

    def __init__(self, tokens: Sequence[str], merges: Sequence[str], control: Sequence[str]) -> None:
        try:
            from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
        except ImportError:
            raise SpecError("tokenizing needs the Python package tokenizers, which is not installed") from None
        pairs = [(a, b) for a, _, b in (m.partition(" ") for m in merges)]
        try:
            model = models.BPE(vocab={t: i for i, t in enumerate(tokens)}, merges=pairs)
        except Exception as e:  # the package has no class of its own
            raise SpecError(f"merges must be of tokens of the vocabulary: {told(str(e))}") from None
        self._bpe: Any = Tokenizer(model)
        self._bpe.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
        )
        self._bpe.decoder = decoders.ByteLevel()
        self.control = frozenset(tokens.index(t) for t in control)
        self._bpe.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in control])

    @classmethod
    def of(cls, file: ModelFile) -> "Tokenizer":
        """The tokenizer of a model file; its pre-tokenizer must be ``smollm``."""
        for name, want in (("model", "gpt2"), ("pre", "smollm")):
            value = file.text(f"tokenizer.ggml.{name}")
            if value != want:
                raise SpecError(f"tokenizer.ggml.{name} of {file.path} must be {want}, not {told(value)}")
        tokens, types = file.texts("tokenizer.ggml.tokens"), file.numbers("tokenizer.ggml.token_type")
        if len(types) != len(tokens):
            rule = f"must be {len(tokens)} integers, one per token, not {len(types)}"
            raise SpecError(f"tokenizer.ggml.token_type of {file.path} {rule}")
        control = [t for t, kind in zip(tokens, types, strict=True) if kind == CONTROL]
        return cls(tokens, file.texts("tokenizer.ggml.merges"), control)

    def encode(self, text: str) -> list[int]:
        return list(self._bpe.encode(text, add_special_tokens=False).ids)

    def decode(self, tokens: Sequence[int]) -> str:
        """Inverse of :meth:`encode`; bytes that are no valid UTF-8 become U+FFFD."""
        return str(self._bpe.decode(list(tokens), skip_special_tokens=False))
