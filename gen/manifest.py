"""The manifest ``UNIT.json``: all that a stranger needs in order to drive an exported module."""

import hashlib
from typing import Any

from gen import __version__
from golden.ports import StreamPort
from golden.spec import UnitSpec

CLOCK, RESET = "clk", "rst"


def manifest(spec: UnitSpec, top: str, verilog: str) -> dict[str, Any]:
    """Unit, version, configuration, ports, streams with their fields, status bits, figures, SHA-256 of the Verilog.

    ``ports`` are in the module's order. Field ``f`` of lane ``i`` of a stream is
    ``tdata[i * lane.stride + lsb +: width]``; ``format`` is its encoding (see :class:`golden.ports.Field`).
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
        "status": [{"name": f"sts_{s.name}", "width": s.width, "bits": list(s.causes)} for s in spec.status],
        "figures": spec.figures(),
        "sha256": hashlib.sha256(verilog.encode()).hexdigest(),
    }


def port_table(spec: UnitSpec) -> list[dict[str, Any]]:
    """Name, direction (``input`` or ``output``) and width of every port of the module, in order."""
    rows = [(CLOCK, "input", 1), (RESET, "input", 1)]
    for p in spec.ports:
        forward, back = ("input", "output") if p.direction == "in" else ("output", "input")
        rows.append((f"{p.prefix}_tdata", forward, 8 * p.bytes))
        rows.append((f"{p.prefix}_tvalid", forward, 1))
        rows.append((f"{p.prefix}_tready", back, 1))
        if p.last:
            rows.append((f"{p.prefix}_tlast", forward, 1))
    rows += [(f"sts_{s.name}", "output", s.width) for s in spec.status]
    return [{"name": name, "direction": direction, "width": width} for name, direction, width in rows]


def _stream(port: StreamPort) -> dict[str, Any]:
    lane = {"count": port.lanes, "stride": port.lane_width}
    return {
        "name": port.name,
        "prefix": port.prefix,
        "direction": port.direction,
        "tdata_width": 8 * port.bytes,
        "tlast": port.last or None,
        "doc": port.doc,
        "fields": [
            {"name": f.name, "lsb": port.lsb(f.name), "width": f.width, "format": f.format, "lane": lane}
            for f in port.fields
        ],
    }
