"""One Verilog module per kind of block, however often it is placed.

``m.submodules.pe_0_1 = pe = Shared(PE, spec)`` places a block of kind ``PE(spec)``. What that becomes is decided by the
platform it is elaborated for:

- the exporter passes a platform with a method ``kind(cls, args) -> str``; the placement becomes an ``Instance`` of the
  module of that name, and the exporter writes that module once;
- without a platform (Amaranth's own simulator) the block itself is nested, one copy per placement.
"""

from functools import cache
from typing import Any

from amaranth.hdl import ClockSignal, Instance, Module, ResetInserter, ResetSignal, Value
from amaranth.lib import wiring


class Shared(wiring.Component):
    """A placement of ``cls(*args)``, with its signature. ``args`` are hashable, and equal ones are one kind. ``reset``
    resets this placement alone."""

    def __init__(self, cls: Any, *args: Any, reset: Value | None = None):
        self._cls = cls
        self._args = args
        self._reset = reset
        super().__init__(prototype(cls, args).signature)

    def elaborate(self, platform: Any) -> Any:
        if platform is None:
            m = Module()
            block = self._cls(*self._args)
            m.submodules.block = block if self._reset is None else ResetInserter(self._reset)(block)
            wiring.connect(m, wiring.flipped(self), block)
            return m
        reset = ResetSignal() if self._reset is None else ResetSignal() | self._reset
        ports = {"i_clk": ClockSignal(), "i_rst": reset}
        for path, member, value in self.signature.flatten(self):
            direction = "i" if member.flow == wiring.In else "o"
            ports[f"{direction}_{'__'.join(map(str, path))}"] = value
        return Instance(platform.kind(self._cls, self._args), **ports)


@cache
def prototype(cls: Any, args: tuple[Any, ...]) -> wiring.Component:
    """The one component of a kind: its signature is read for every placement, and the exporter elaborates it."""
    component = cls(*args)
    component._MustUse__silence = True  # nested placements never elaborate it
    return component
