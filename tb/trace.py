"""Every port of a unit in every cycle, as the bulk player saw it; other simulators and coverage read it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gen.manifest import pins, signal_name
from tb.build import recorded


@dataclass(frozen=True)
class Pins:
    """A port: where its bytes stand in a row, low byte first. ``valid``: the port beside which it means something."""

    name: str
    direction: str
    width: int
    first: int
    valid: str | None

    @property
    def bytes(self) -> slice:
        return slice(self.first, self.first + (self.width + 7) // 8)


@dataclass(frozen=True)
class Trace:
    """``rows``: cycles x bytes, the ports as they were when the clock rose."""

    ports: tuple[Pins, ...]
    rows: NDArray[np.uint8]

    @classmethod
    def of(cls, manifest: Mapping[str, Any], recording: bytes) -> "Trace":
        """What the player of a design with this manifest has recorded."""
        ports, end = [], 0
        beside = {
            name: signal_name(s, "valid")
            for s in manifest["streams"]
            for name in [*(p.name for p in pins(s)), signal_name(s, "last")]
        }
        for p in recorded(manifest):
            ports.append(Pins(p["name"], p["direction"], p["width"], end, beside.get(p["name"])))
            end = ports[-1].bytes.stop
        return cls(tuple(ports), np.frombuffer(recording, np.uint8).reshape(-1, end))

    def __len__(self) -> int:
        return len(self.rows)

    def first(self, cycles: int) -> "Trace":
        """Its beginning."""
        return Trace(self.ports, self.rows[:cycles])

    def directed(self, direction: str) -> list[Pins]:
        """The ports of a direction, ``input`` or ``output``."""
        return [p for p in self.ports if p.direction == direction]

    def flag(self, name: str, bit: int = 0) -> NDArray[np.bool_]:
        """A bit of a port, in every cycle."""
        (port,) = (p for p in self.ports if p.name == name)
        return (self.rows[:, port.first + bit // 8] >> bit % 8 & 1).astype(np.bool_)
