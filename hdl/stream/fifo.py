"""First-in first-out queue between two streams."""

from typing import Any

from amaranth.hdl import Module, Shape, Value
from amaranth.lib import stream, wiring
from amaranth.lib.fifo import SyncFIFO, SyncFIFOBuffered
from amaranth.lib.wiring import In, Out

from golden import latency
from golden.spec import SpecError


class StreamFIFO(wiring.Component):
    """A queue of ``depth`` items in a memory with asynchronous read (LUT RAM on an FPGA).

    Latency     1 cycle from an accepted item to the same item at ``o`` of an empty queue.
    Throughput  one item per cycle for ``depth`` of 2 or more, one item in two cycles for 1; ``i`` is refused only while
                ``depth`` items are queued, also in a cycle that takes one.

    ``SpecError`` if ``depth`` is less than 1.

    Members
    -------
    i : In(stream of shape); o : Out(stream of shape).
    """

    kind = "fifo"
    latency = latency.QUEUE

    def __init__(self, shape: Any, depth: int):
        if depth < 1:
            raise SpecError(f"depth must be at least 1, not {depth}")
        self.shape = shape
        self.depth = depth
        super().__init__({"i": In(stream.Signature(shape)), "o": Out(stream.Signature(shape))})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.queue = queue = self._queue()
        m.d.comb += [
            queue.w_data.eq(Value.cast(self.i.payload)),
            queue.w_en.eq(self.i.valid),
            self.i.ready.eq(queue.w_rdy),
            Value.cast(self.o.payload).eq(queue.r_data),
            self.o.valid.eq(queue.r_rdy),
            queue.r_en.eq(self.o.ready),
        ]
        return m

    def _queue(self) -> Any:
        # A memory of one word would have an address of no bits; of depth 1 the buffered kind is a plain register.
        kind = SyncFIFO if self.depth > 1 else SyncFIFOBuffered
        return kind(width=Shape.cast(self.shape).width, depth=self.depth)


class BlockFIFO(StreamFIFO):
    """A queue of ``depth`` items in a memory with synchronous read (block RAM on an FPGA), its head in a register.

    Latency     2 cycles from an accepted item to the same item at ``o`` of an empty queue.
    Throughput  one item per cycle for ``depth`` of 3 or more; ``i`` is refused only while ``depth - 1`` items or more
                are queued, also in a cycle that takes one.

    ``SpecError`` if ``depth`` is less than 3.

    Members
    -------
    i : In(stream of shape); o : Out(stream of shape).
    """

    kind = "block_fifo"
    latency = latency.BLOCK_QUEUE

    def __init__(self, shape: Any, depth: int):
        if depth < 3:
            raise SpecError(f"depth must be at least 3, not {depth}")
        super().__init__(shape, depth)

    def _queue(self) -> Any:
        return SyncFIFOBuffered(width=Shape.cast(self.shape).width, depth=self.depth)
