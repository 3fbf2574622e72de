"""Registers in a row."""

from amaranth.hdl import Cat, Module, Signal, Value


def delay(m: Module, value: Value, cycles: int, name: str, init: int | None = None, go: Value | None = None) -> Value:
    """``value`` as it was ``cycles`` clock cycles ago, or so many in which ``go`` was high: one shift register, the
    newest at the bottom.

    Control gives ``init``, what every place holds after a reset. Data is not reset: what stands beside a reset valid
    bit is never looked at, and registers without reset are smaller.
    """
    if not cycles:
        return value
    everywhere = sum((init or 0) << (i * len(value)) for i in range(cycles))
    line = Signal(cycles * len(value), name=name, init=everywhere, reset_less=init is None)
    shift = line.eq(Cat(value, line)[: len(line)])
    if go is None:
        m.d.sync += shift
    else:
        with m.If(go):
            m.d.sync += shift
    oldest = line[-len(value) :]
    return oldest.as_signed() if value.shape().signed else oldest
