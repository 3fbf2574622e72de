"""From codes to operands, at the edge of the array: once per lane, not once per element.

An activation's operand is what travels along a row::

    integers    the code itself, signed
    floats      significand (signed) | shift | special           operand = significand << shift
    aligned     significand (signed) | special
"""

from typing import NamedTuple

from amaranth.hdl import C, Cat, Module, Mux, Value

from golden.mixpe.formats import ActFormat, AlignedFormat, WeightFormat
from hdl.arith.bits import extend, lookup, shift_left


def weight_operand(code: Value, fmt: WeightFormat) -> Value:
    """The signed operand of a weight code."""
    code = Value.cast(code)
    if fmt.magnitudes:
        table = [int(v) for v in fmt.operand(range(1 << fmt.bits))]
        return lookup(table, fmt.operand_bits, code.as_unsigned()).as_signed()
    flipped = Cat(code[:-1], ~code[-1]) if fmt.offset else code
    return flipped.as_signed()


def shift_bits(fmt: ActFormat) -> int:
    return fmt.max_shift.bit_length()


def operand_width(fmt: ActFormat) -> int:
    """Bits of an activation's operand."""
    return fmt.significand_bits + shift_bits(fmt) + int(fmt.floating)


class Operand(NamedTuple):
    """The parts of an activation's operand; ``shift`` and ``special`` are empty for integers."""

    significand: Value
    shift: Value
    special: Value


def parts(operand: Value, fmt: ActFormat) -> Operand:
    low, high = fmt.significand_bits, fmt.significand_bits + shift_bits(fmt)
    return Operand(operand[:low].as_signed(), operand[low:high], operand[high:])


def integer(m: Module, x: Operand, fmt: ActFormat) -> Value:
    """The signed integer that an operand is."""
    wide = extend(x.significand, fmt.significand_bits + fmt.max_shift)
    return shift_left(m, wide, x.shift, "x_up_by").as_signed()


def act_operand(code: Value, fmt: ActFormat) -> Value:
    """The operand of an activation code, as bits. All zeros for the code 0, which is what a bubble is."""
    code = Value.cast(code).as_unsigned()
    if not fmt.floating or isinstance(fmt, AlignedFormat):
        return code
    fraction, field, negative = code[: fmt.fraction_bits], code[fmt.fraction_bits : -1], code[-1]
    special = field.all() if fmt.infinities else code[:-1].all()
    infinite = ~fraction.any() if fmt.infinities else C(0, 1)
    magnitude = Cat(fraction, field.any(), C(0, 1))
    magnitude = Mux(special, infinite, magnitude)[: fmt.significand_bits]
    significand = Mux(negative, (~magnitude + 1)[: fmt.significand_bits], magnitude)
    shift = Mux(field.any() & ~special, field - 1, 0)[: shift_bits(fmt)]
    return Cat(significand, shift, special)
