"""Registers in a row."""

from amaranth.hdl import Cat, Module, Signal, Value


def delay(m: Module, value: Value, cycles: int, name: str) -> Value:
    """``value`` as it was ``cycles`` clock cycles ago (reset value 0): one shift register, the newest at the bottom."""
    if not cycles:
        return value
    line = Signal(cycles * len(value), name=name)
    m.d.sync += line.eq(Cat(value, line)[: len(line)])
    oldest = line[-len(value) :]
    return oldest.as_signed() if value.shape().signed else oldest
