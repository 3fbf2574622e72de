"""Registers in a row."""

from amaranth.hdl import Module, Signal, Value


def delay(m: Module, value: Value, cycles: int, name: str) -> Value:
    """``value`` as it was ``cycles`` clock cycles ago (reset value 0)."""
    for _ in range(cycles):
        held = Signal(value.shape(), name=name)
        m.d.sync += held.eq(value)
        value = held
    return value
