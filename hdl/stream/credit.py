"""Credits: the right to start work whose result is sure to find room."""

from typing import Any

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out


class Credit(wiring.Component):
    """Counts places in a queue behind a pipeline that cannot be stopped.

    ``take`` when work starts, ``give`` when its result has left the queue; ``ready`` says that a place is free. With
    ``take`` only while ``ready``, at most ``depth`` results are ever under way or queued.

    Latency     ``ready`` follows ``take`` and ``give`` by one cycle.

    Members
    -------
    take, give : In(1); ready : Out(1).
    """

    kind = "credit"

    def __init__(self, depth: int):
        self.depth = depth
        super().__init__({"take": In(1), "give": In(1), "ready": Out(1)})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        free = Signal(range(self.depth + 1), init=self.depth)
        m.d.comb += self.ready.eq(free.any())
        m.d.sync += free.eq(free + self.give - self.take)
        return m
