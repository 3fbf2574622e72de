"""Attributes in the Verilog that tell Vivado's block designs which ports are one interface, and of which clock.

Other tools skip them. The ports' names alone show Vivado AXI, but not the clock that it belongs to. Spelling as in its
guide UG994, "List of Supported X_ Attributes".
"""

import re
from collections.abc import Sequence

from gen.interfaces import AXI4_LITE, AXIS, Interface

_PORT = re.compile(r"^  (?:input|output) .*?(\w+)(?: = \S+)?,?$", re.MULTILINE)


def annotated(module: str, found: Sequence[Interface], clock: str, reset: str) -> str:
    """The text of the top module with an attribute before each port of an interface, the clock and the reset."""
    buses = ":".join(i.name for i in found)
    marks = {
        clock: _info("signal:clock", clock, "CLK", f"ASSOCIATED_BUSIF {buses}, ASSOCIATED_RESET {reset}"),
        reset: _info("signal:reset", reset, "RST", "POLARITY ACTIVE_HIGH"),
    }
    for i in found:
        kind = "axis" if i.protocol == AXIS else "aximm"
        for s in i.signals:
            marks[s.port] = _info(f"interface:{kind}", i.name, s.logical)
        if i.protocol == AXI4_LITE:
            first = i.signals[0]
            marks[first.port] = _info(f"interface:{kind}", i.name, first.logical, "PROTOCOL AXI4LITE")

    header, end, body = module.partition("\n);\n")
    return _PORT.sub(lambda m: f"{marks[m[1]]}{m[0]}" if m[1] in marks else m[0], header) + end + body


def _info(kind: str, name: str, logical: str, parameters: str = "") -> str:
    mark = f'  (* X_INTERFACE_INFO = "xilinx.com:{kind}:1.0 {name} {logical}" *)\n'
    if parameters:
        mark += f'  (* X_INTERFACE_PARAMETER = "XIL_INTERFACENAME {name}, {parameters}" *)\n'
    return mark
