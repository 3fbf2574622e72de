"""From the words of rows to transactions: cut, held until they may go, one channel after the other."""

from typing import Any

from amaranth.hdl import C, Cat, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from golden.soc.accelerator import AcceleratorSpec
from hdl.arith.bits import named
from hdl.soc.layouts import burst, extent, grant


class Splitter(wiring.Component):
    """Cuts the words of a row at the multiples of ``burst`` words, and so at every 4 KiB.

    Latency     1 cycle.
    Throughput  a burst per cycle.

    Members
    -------
    i : In(stream of extents); o : Out(stream of bursts).
    """

    kind = "splitter"

    def __init__(self, spec: AcceleratorSpec):
        self.spec = spec
        super().__init__({"i": In(stream.Signature(extent(spec))), "o": Out(stream.Signature(burst(spec)))})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        most = self.spec.burst
        word = Signal(self.spec.word_width, reset_less=True)
        left = Signal(self.spec.words_width)
        room = named(m, C(most) - word[: most.bit_length() - 1], "room")
        all_ = named(m, left <= room, "all")
        length = named(m, Mux(all_, left, room)[: most.bit_length()], "length")
        taken = named(m, self.o.valid & self.o.ready, "taken")
        m.d.comb += [
            self.o.valid.eq(left.any()),
            self.o.payload.word.eq(word),
            self.o.payload.length.eq(length),
            self.i.ready.eq(~self.o.valid | (self.o.ready & all_)),
        ]
        with m.If(self.i.ready):
            m.d.sync += [
                word.eq(self.i.payload.word),
                left.eq(Mux(self.i.valid, self.i.payload.words, 0)),
            ]
        with m.Elif(taken):
            m.d.sync += [word.eq(word + length), left.eq(left - length)]
        return m


class Allowance(wiring.Component):
    """Lets a burst through when there are words enough, of room or of data, for all of it.

    ``give``: one word more; a burst that goes takes its words. The count begins with ``begin`` and never exceeds
    ``most``, if no more is given than was taken or did not exist.

    Latency     none; ``give`` counts from the next cycle on.

    Members
    -------
    give : In(1); i : In(stream of bursts); o : Out(the same).
    """

    kind = "allowance"

    def __init__(self, spec: AcceleratorSpec, begin: int, most: int):
        self.spec = spec
        self.begin = begin
        self.most = most
        shape = stream.Signature(burst(spec))
        super().__init__({"give": In(1), "i": In(shape), "o": Out(shape)})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        words = Signal(range(self.most + 1), init=self.begin)
        enough = named(m, words >= self.i.payload.length, "enough")
        m.d.comb += [
            self.o.valid.eq(self.i.valid & enough),
            self.o.payload.eq(self.i.payload),
            self.i.ready.eq(self.o.ready & enough),
        ]
        taken = Mux(self.o.valid & self.o.ready, self.i.payload.length, 0)
        m.d.sync += words.eq(words + self.give - taken)
        return m


class Arbiter(wiring.Component):
    """Bursts of several channels, one after the other, each channel in its turn.

    A channel that waits is passed over by each other one once at most.

    Latency     1 cycle; what is offered stays.
    Throughput  a burst per cycle.

    Members
    -------
    go : In(1): another one may come; i_0, i_1, ... : In(stream of bursts); taken : Out(1): one is taken; next : Out,
    it and its channel; o : Out(stream of these).
    """

    kind = "arbiter"

    def __init__(self, spec: AcceleratorSpec, channels: int):
        self.spec = spec
        self.channels = channels
        members: dict[str, Any] = {f"i_{n}": In(stream.Signature(burst(spec))) for n in range(channels)}
        shape = grant(spec, channels)
        super().__init__(
            members | {"go": In(1), "taken": Out(1), "next": Out(shape), "o": Out(stream.Signature(shape))}
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        inputs = [getattr(self, f"i_{n}") for n in range(self.channels)]
        wants = Signal(self.channels)
        after = Signal(self.channels)  # the channels behind the one that went last
        m.d.comb += wants.eq(Cat(i.valid for i in inputs))
        turn = named(m, Mux((wants & after).any(), wants & after, wants), "turn")
        first = named(m, turn & (~turn + 1)[: self.channels], "first")  # one-hot: the lowest
        go = named(m, self.go & (~self.o.valid | self.o.ready), "go_now")
        m.d.comb += [
            self.taken.eq(go & wants.any()),
            *(i.ready.eq(go & first[n]) for n, i in enumerate(inputs)),
        ]
        with m.Switch(first):
            for n, i in enumerate(inputs):
                with m.Case(1 << n):
                    m.d.comb += [self.next.channel.eq(n), self.next.burst.eq(i.payload)]
        with m.If(~self.o.valid | self.o.ready):
            m.d.sync += self.o.valid.eq(self.taken)
        with m.If(self.taken):
            m.d.sync += [self.o.payload.eq(self.next), after.eq(~(first | (first - 1)[: self.channels]))]
        return m
