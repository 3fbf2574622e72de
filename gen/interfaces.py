"""The interfaces of a module as data: which of its ports belong together, under the names that ARM gives them.

What stands around the Verilog for other people's tools (:mod:`gen.vivado`, :mod:`gen.litex`) reads this and the
manifest, and nothing else of a unit.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from gen.manifest import pins, signal_name

AXIS, AXI4, AXI4_LITE = "AXI4-Stream", "AXI4", "AXI4-Lite"


@dataclass(frozen=True)
class Signal:
    """A port of the module; ``logical`` is its name in the protocol (``TDATA``, ``ARADDR``)."""

    logical: str
    port: str
    width: int


@dataclass(frozen=True)
class Interface:
    """``name`` is what its ports begin with; ``master``: the module is the side that sends or asks."""

    name: str
    protocol: str
    master: bool
    signals: tuple[Signal, ...]
    doc: str

    def width(self, logical: str) -> int:
        """Width of a signal, 0 for one that is not there."""
        return next((s.width for s in self.signals if s.logical == logical), 0)


def interfaces(streams: Iterable[Mapping[str, Any]]) -> list[Interface]:
    """The interfaces that the streams of a manifest make: each a stream, or the channels of one AXI4 or AXI4-Lite."""
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for s in streams:
        name = s["prefix"].rpartition("_")[0] if "signals" in s else s["prefix"]
        groups.setdefault(name, []).append(s)
    return [_interface(name, channels) for name, channels in groups.items()]


def _interface(name: str, channels: list[Mapping[str, Any]]) -> Interface:
    signals = []
    for s in channels:
        ports = [(pin.name, pin.width) for pin in pins(s)] + [
            (signal_name(s, "valid"), 1),
            (signal_name(s, "ready"), 1),
        ]
        if s["tlast"]:
            ports.append((signal_name(s, "last"), 1))
        signals += [Signal(port.removeprefix(f"{name}_").upper(), port, width) for port, width in ports]
    protocol = AXIS
    if "signals" in channels[0]:
        bursts = any(s.logical in ("ARLEN", "AWLEN") for s in signals)
        protocol = AXI4 if bursts else AXI4_LITE
    sends = next((s for s in channels if s["prefix"].endswith(("_ar", "_aw"))), channels[0])
    return Interface(name, protocol, sends["direction"] == "out", tuple(signals), channels[0]["doc"])
