"""How a :class:`golden.ports.StreamPort` looks inside: the payload layout and the ready/valid signature."""

from collections.abc import Iterable
from typing import Any

from amaranth.hdl import Value, signed, unsigned
from amaranth.lib import data, stream
from amaranth.lib.wiring import In, Out

from golden.ports import Field, StreamPort


def field_shape(field: Field) -> Any:
    return signed(field.width) if field.signed else unsigned(field.width)


def lane_shape(port: StreamPort) -> Any:
    """The field itself where a lane has one field, else a struct of all fields."""
    if len(port.fields) == 1:
        return field_shape(port.fields[0])
    return data.StructLayout({f.name: field_shape(f) for f in port.fields})


def lane_field(lane: Any, name: str) -> Value:
    """A field of a lane, which is the field itself where it has no other."""
    return getattr(lane, name) if hasattr(lane, name) else lane


def payload_layout(port: StreamPort) -> data.StructLayout:
    """``data`` (an array of lanes) and, where the port carries ``tlast``, ``last``."""
    members: dict[str, Any] = {"data": data.ArrayLayout(lane_shape(port), port.lanes)}
    if port.last:
        members["last"] = 1
    return data.StructLayout(members)


def stream_members(ports: Iterable[StreamPort]) -> dict[str, Any]:
    """A component's members for its streams, by name."""
    return {p.name: (In if p.direction == "in" else Out)(stream_signature(p)) for p in ports}


def stream_signature(port: StreamPort) -> stream.Signature:
    """Ready/valid stream of :func:`payload_layout`."""
    return stream.Signature(payload_layout(port))
