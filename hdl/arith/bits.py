"""Bit-level functions."""

from collections.abc import Iterable
from functools import reduce

from amaranth.hdl import Array, C, Cat, Module, Mux, Signal, Value


def index_bits(n: int) -> int:
    """Bits of an index into ``n`` things; one at least, so that no port is empty."""
    return max(1, (n - 1).bit_length())


def extend(value: Value, width: int) -> Value:
    """The signed ``value`` in ``width`` bits, or its low ones."""
    return Cat(value, value[-1].replicate(max(0, width - len(value))))[:width]


def add_modulo(width: int, *terms: Value) -> Value:
    """Sum of signed terms modulo ``2**width``.

    Every adder is as wide as the result: sums that grow bit by bit would be merged by synthesis into one carry-save
    tree, whose sign extensions cost more than they save here, and a simulator would extend signs at every step.
    """
    return reduce(lambda a, b: (a + b)[:width], (extend(t, width) for t in terms))


def choose(words: Value, width: int, index: Value) -> Value:
    """Word ``index`` of ``words``: a multiplexer. (``word_select`` by a signal would be a barrel shifter of bits.)"""
    return Array(words.word_select(n, width) for n in range(len(words) // width))[index]


def lookup(table: Iterable[int], width: int, index: Value) -> Value:
    """Entry ``index`` of a table of constants, as bits."""
    return Cat(Array(C(value & ((1 << width) - 1), width) for value in table)[index])


def count_ones(value: Value) -> Value:
    """How many bits are set: a tree of sums."""
    if len(value) < 2:
        return value
    half = len(value) // 2
    return count_ones(value[:half]) + count_ones(value[half:])


def leading_one(value: Value) -> Value:
    """Position of the highest set bit (0 where none is set): a tree of two-way choices."""
    position, _ = _leading(value)
    return position


def _leading(value: Value) -> tuple[Value, Value]:
    """Position, and whether any bit is set."""
    if len(value) == 1:
        return C(0, 0), value
    half = 1 << ((len(value) - 1).bit_length() - 1)
    low, low_any = _leading(value[:half])
    high, high_any = _leading(value[half:])
    missing = (half.bit_length() - 1) - len(high)
    padded = Cat(high, C(0, missing))
    below = Cat(low, C(0, (half.bit_length() - 1) - len(low)))
    return Cat(Mux(high_any, padded, below), high_any), high_any | low_any


def named(m: Module, value: Value, name: str) -> Value:
    """``value`` as a wire. An expression is copied wherever it is used: what is used more than once wants a name."""
    wire = Signal(value.shape(), name=name)
    m.d.comb += wire.eq(value)
    return wire


def normalize(m: Module, value: Value, name: str, fill: Value | int = 0) -> tuple[Value, Value]:
    """``value`` shifted left until its highest set bit is at the top, and by how much; ``fill`` comes in from below.

    Each step looks at the bits that it would shift out, so that nothing has to find the leading one before: smaller
    than :func:`leading_one` and a shift, and slower. Without a set bit the amount means nothing.
    """
    amount = Signal((len(value) - 1).bit_length(), name=f"{name}_by")
    for i in reversed(range(len(amount))):
        moved = Signal(len(value), name=f"{name}_{1 << i}")
        below = Value.cast(fill)[:1].replicate(1 << i)
        m.d.comb += [
            amount[i].eq(~value[-(1 << i) :].any()),
            moved.eq(Mux(amount[i], Cat(below, value)[: len(value)], value)),
        ]
        value = moved
    return value, amount


def shift_left(m: Module, value: Value, amount: Value, name: str) -> Value:
    """``value << amount`` in the value's width; ``value`` is unsigned."""
    for i, bit in enumerate(amount):
        step = min(1 << i, len(value))
        value = named(m, Mux(bit, Cat(C(0, step), value)[: len(value)], value), f"{name}_{i}")
    return value


def shift_right_jam(m: Module, value: Value, amount: Value, name: str) -> Value:
    """``value >> amount`` with all bits that fall out ORed into the lowest bit."""
    for i, bit in enumerate(amount):
        step = min(1 << i, len(value))
        lost = value[:step].any()
        moved = Cat(value[step:], C(0, step))
        value = named(m, Mux(bit, moved | lost, value)[: len(value)], f"{name}_{i}")
    return value
