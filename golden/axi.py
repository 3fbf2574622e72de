"""AXI4 and AXI4-Lite interfaces as streams: one :class:`golden.ports.AxiChannel` per channel.

In a packed beat data or address come first, so that they stand on whole bytes, and the number last. The interfaces have
no ``qos``, ``region``, ``lock`` and ``user``.
"""

from collections.abc import Iterable
from dataclasses import replace

from golden.ports import AxiChannel, Field

INCR = 1
"""``burst``: addresses count up."""

RESPONSES = ("OKAY", "EXOKAY", "SLVERR", "DECERR")
OKAY, SLVERR, DECERR = (RESPONSES.index(name) for name in ("OKAY", "SLVERR", "DECERR"))
"""``resp``."""

PAGE = 4096
"""No burst may cross a multiple of so many bytes."""

LITE_BYTES = 4
"""Bytes of an AXI4-Lite register."""


def axi4_master(prefix: str, data_width: int, id_width: int, addr_width: int) -> tuple[AxiChannel, ...]:
    """``ar``, ``r``, ``aw``, ``w``, ``b`` of a unit that reads and writes memory."""
    number = _bits("id", id_width)
    address = (
        _bits("addr", addr_width),
        _bits("len", 8),
        _bits("size", 3),
        _bits("burst", 2),
        _bits("cache", 4),
        _bits("prot", 3),
        number,
    )
    data, resp, last = _bits("data", data_width), _bits("resp", 2), _bits("last", 1)
    return (
        _channel(prefix, "ar", "out", address, "read bursts"),
        _channel(prefix, "r", "in", (data, resp, last, number), "words read"),
        _channel(prefix, "aw", "out", address, "write bursts"),
        _channel(prefix, "w", "out", (data, _bits("strb", data_width // 8), last), "words to write"),
        _channel(prefix, "b", "in", (resp, number), "one answer per write burst"),
    )


def axi4_lite_slave(prefix: str, addr_width: int) -> tuple[AxiChannel, ...]:
    """``aw``, ``w``, ``b``, ``ar``, ``r`` of a unit with registers of 32 bits."""
    address = (_bits("addr", addr_width), _bits("prot", 3))
    data, resp = _bits("data", 8 * LITE_BYTES), _bits("resp", 2)
    return (
        _channel(prefix, "aw", "in", address, "registers to write"),
        _channel(prefix, "w", "in", (data, _bits("strb", LITE_BYTES)), "values to write"),
        _channel(prefix, "b", "out", (resp,), "one answer per write"),
        _channel(prefix, "ar", "in", address, "registers to read"),
        _channel(prefix, "r", "out", (data, resp), "values read"),
    )


def opposite(channels: Iterable[AxiChannel]) -> tuple[AxiChannel, ...]:
    """The same channels at the other end of the wires."""
    return tuple(replace(c, direction="out" if c.direction == "in" else "in") for c in channels)


def _bits(name: str, width: int) -> Field:
    return Field(name, width, f"uint{width}")


def _channel(prefix: str, name: str, direction: str, fields: tuple[Field, ...], doc: str) -> AxiChannel:
    return AxiChannel(f"{prefix}_{name}", direction, 1, fields, "", doc)
