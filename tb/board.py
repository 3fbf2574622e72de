"""A simulated board: the wire to a node in Verilator, as RTL or as the netlist of a device."""

from typing import Any

import numpy as np

from gen import fpga, netlist
from gen.export import Product
from golden.ports import Beats
from golden.soc.board import NodeSpec
from golden.soc.uart import Ear, levels
from tb.cosim import Play, compile
from tb.ecp5_cells import models
from tb.transactions import Case, Gift, World

STEP = 24
"""Bits of the line that are simulated at once."""

FOR_EVER = 1 << 62


class _Line(World):
    """Notes the changes of the node's line. Every play has the same."""

    notes = frozenset(("tx",))

    def __init__(self, ear: Ear):
        self._ear = ear

    def __deepcopy__(self, memo: Any) -> "_Line":
        return self

    @property
    def over(self) -> bool:
        return False

    def sees(self, cycle: int, stream: str, beat: int) -> tuple[Gift, ...]:
        self._ear.change(cycle)
        return ()


class Simulated:
    """The wire to a simulated node, from its reset on; time passes in ``read`` and ``settle`` alone.

    ``product`` replaces ``gen.fpga.simulation(node)``. ``patience``: cycles that the node may stay silent.
    """

    def __init__(self, node: NodeSpec, product: Product | None = None, patience: int = 1_000_000):
        self.node = node
        self.now = 0
        self._patience = patience
        self._ear = Ear(node.line.divisor)
        self._came = bytearray()
        self._free = 1  # the cycle in which the line to the node is free
        self._rtl = rtl = compile(node, optimise=True, product=product or fpga.simulation(node))  # type: ignore[arg-type]
        nothing = {"rx": Beats(np.zeros((0, 1), np.uint8), np.zeros(0, np.bool_))}
        case = Case("line", node.ports, nothing, {}, patience=FOR_EVER, world=_Line(self._ear))
        self._play = Play(rtl, case)

    def write(self, data: bytes) -> None:
        self.send(levels(data, self.node.line.divisor).tobytes())

    def send(self, level: bytes) -> None:
        """Any levels, one per cycle."""
        at = max(self.now + 1, self._free)
        self._play.give([Gift("rx", level, at)])
        self._free = at + len(level)

    def read(self, count: int) -> bytes:
        """So many bytes; fewer if the node is silent for ``patience`` cycles."""
        self._go(self._free)
        since = self.now
        while len(self._came) < count and self.now - since < self._patience:
            had = len(self._came)
            self._go(self.now + STEP * self.node.line.divisor)
            since = self.now if len(self._came) > had else since
        found = bytes(self._came[:count])
        del self._came[:count]
        return found

    def settle(self) -> None:
        self._go(max(self.now, self._free) + 2 * self.node.line.quiet)
        self._came.clear()

    def _go(self, until: int) -> None:
        if until > self.now:
            self._play.go(until)
            self.now = until
            self._came += self._ear.bytes(until)


def gates(node: NodeSpec) -> Product:
    """The simulation with the node as a netlist of ECP5 cells, as ``senbazuru fpga`` makes it."""
    product = fpga.simulation(node)
    made = netlist.ecp5(product, "line_node", dsp=True)
    return netlist.put_back(product, made, netlist.ecp5_models() + models())
