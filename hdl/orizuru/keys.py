"""Keys on their way into the trees and out again: words whose upper bits sort as unsigned integers."""

from amaranth.hdl import Cat, Module, Mux, Value

from golden.orizuru.keys import KeyFormat
from hdl.arith.bits import named


def word_width(fmt: KeyFormat, magnitude: bool) -> int:
    """Bits of a word, the upper ``fmt.bits`` of which are compared; with ``magnitude`` the sign is below them."""
    return fmt.bits + magnitude


def encode(value: Value, fmt: KeyFormat, magnitude: bool) -> Value:
    """The word of a value: what :class:`~golden.orizuru.keys.KeyFormat` says, in gates."""
    body, sign = value[:-1], value[-1]
    if magnitude:
        return Cat(sign, body, 0) if fmt.kind == "float" else Cat(sign, Mux(sign, -value, value)[: fmt.bits])
    if fmt.kind == "float":
        return Cat(body ^ sign.replicate(len(body)), ~sign)
    return Cat(body, ~sign) if fmt.kind == "int" else value


def decode(m: Module, word: Value, fmt: KeyFormat, magnitude: bool) -> Value:
    """Inverse of :func:`encode`."""
    if magnitude:
        sign, body = word[0], word[1:]
        return Cat(body[:-1], sign) if fmt.kind == "float" else named(m, Mux(sign, -body, body)[: fmt.bits], "value")
    body, sign = word[:-1], word[-1]
    if fmt.kind == "float":
        return Cat(body ^ (~sign).replicate(len(body)), ~sign)
    return Cat(body, ~sign) if fmt.kind == "int" else word
