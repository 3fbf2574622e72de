"""The manifest ``UNIT.json``: all that a stranger needs in order to drive an exported module."""

import hashlib
from collections.abc import Mapping
from typing import Any

from gen import __version__
from golden.ports import AxiChannel, Pin, StreamPort
from golden.spec import UnitSpec

CLOCK, RESET = "clk", "rst"


def manifest(spec: UnitSpec, top: str, verilog: str) -> dict[str, Any]:
    """Unit, version, configuration, ports, streams with their fields, status bits, figures, SHA-256 of the Verilog.

    ``ports`` are in the module's order. Field ``f`` of lane ``i`` of a stream is
    ``tdata[i * lane.stride + lsb +: width]``; ``format`` is its encoding (see :class:`golden.ports.Field`). A channel
    of AXI4 or AXI4-Lite has ``signals`` in place of ``tdata_width``, one per field: ``lsb`` is then its place in a beat
    that is packed as ``tdata`` would be.
    """
    return {
        "unit": spec.unit,
        "version": __version__,
        "top": top,
        "configuration": spec.values(),
        "clock": CLOCK,
        "reset": RESET,
        "reset_style": "synchronous, active high",
        "packing": "field of lane i: tdata[i*lane.stride + lsb +: width]; unused high bits are 0 out, ignored in",
        "ports": port_table(spec),
        "streams": [_stream(p) for p in spec.ports],
        "status": [{"name": s.signal, "width": s.width, "bits": list(s.causes)} for s in spec.status],
        "figures": spec.figures(),
        "sha256": hashlib.sha256(verilog.encode()).hexdigest(),
    }


def port_table(spec: UnitSpec) -> list[dict[str, Any]]:
    """Name, direction (``input`` or ``output``) and width of every port of the module, in order."""
    rows = [(CLOCK, "input", 1), (RESET, "input", 1)]
    for p in spec.ports:
        forward, back = ("input", "output") if p.direction == "in" else ("output", "input")
        rows += [(pin.name, forward, pin.width) for pin in p.pins]
        rows.append((p.signal("valid"), forward, 1))
        rows.append((p.signal("ready"), back, 1))
        if p.last:
            rows.append((p.signal("last"), forward, 1))
    rows += [(s.signal, "output", s.width) for s in spec.status]
    return [{"name": name, "direction": direction, "width": width} for name, direction, width in rows]


def signal_name(stream: Mapping[str, Any], name: str) -> str:
    """The signal ``data``, ``valid``, ``ready`` or ``last`` of a stream of a manifest."""
    return f"{stream['prefix']}{'' if 'signals' in stream else '_t'}{name}"


def pins(stream: Mapping[str, Any]) -> list[Pin]:
    """The signals that carry a beat of a stream of a manifest, but for ``last``."""
    if "signals" in stream:
        return [Pin(**s) for s in stream["signals"]]
    return [Pin(signal_name(stream, "data"), 0, stream["tdata_width"])]


def beat_bytes(stream: Mapping[str, Any]) -> int:
    """Bytes of a packed beat of a stream of a manifest."""
    return (max(p.lsb + p.width for p in pins(stream)) + 7) // 8


def _stream(port: StreamPort) -> dict[str, Any]:
    lane = {"count": port.lanes, "stride": port.lane_width}
    beat: dict[str, Any] = {"tdata_width": 8 * port.bytes}
    if isinstance(port, AxiChannel):
        beat = {"signals": [vars(pin) for pin in port.pins]}
    return {
        "name": port.name,
        "prefix": port.prefix,
        "direction": port.direction,
        **beat,
        "tlast": port.last or None,
        "doc": port.doc,
        "fields": [
            {"name": f.name, "lsb": port.lsb(f.name), "width": f.width, "format": f.format, "lane": lane}
            for f in port.fields
        ],
    }
