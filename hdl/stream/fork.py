"""One stream to several."""

from collections.abc import Sequence
from typing import Any

from amaranth.hdl import Cat, Module


def fork(m: Module, source: Any, sinks: Sequence[Any]) -> None:
    """A beat goes to all sinks, in the same cycle. Their ``ready`` must not wait for their ``valid``."""
    for i, sink in enumerate(sinks):
        others = [other.ready for j, other in enumerate(sinks) if j != i]
        m.d.comb += sink.valid.eq(Cat(source.valid, *others).all())
    m.d.comb += source.ready.eq(Cat(sink.ready for sink in sinks).all())
