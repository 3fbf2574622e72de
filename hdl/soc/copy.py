"""The unit of copy jobs: a wire."""

from typing import Any

from amaranth.hdl import Module
from amaranth.lib import wiring

from golden.soc.copy import CopySpec
from hdl.stream.signature import stream_members


class Copy(wiring.Component):
    """The datasheet is :class:`golden.soc.copy.CopySpec`."""

    kind = "copy"

    def __init__(self, spec: CopySpec):
        super().__init__(stream_members(spec.ports))

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        wiring.connect(m, wiring.flipped(self.i), wiring.flipped(self.o))
        return m
