"""The two sides of the bus, :mod:`hdl.soc.ports`, and a memory that takes and gives a word per cycle."""

from collections import deque
from collections.abc import Sequence

from golden.soc.accelerator import AcceleratorSpec
from golden.soc.cycles.channels import Channel, Sink, Source
from golden.soc.cycles.parts import Clock, Queue


class _Side:
    """Channels take turns, burst by burst."""

    def __init__(self, clock: Clock, spec: AcceleratorSpec, channels: Sequence[Channel], latency: int):
        self.clock, self.channels, self.latency = clock, channels, latency
        self.under_way = Queue(clock, spec.outstanding)
        self._last = len(channels)
        self.free = 0  # from when on the next answer may come

    def arbitrate(self) -> tuple[int, int] | None:
        """The channel whose burst goes, and its words."""
        lengths = [channel.burst for channel in self.channels]
        wants = [n for n, length in enumerate(lengths) if length] if self.under_way.ready else []
        chosen = next((n for n in wants if n > self._last), wants[0] if wants else None)
        for n, channel in enumerate(self.channels):
            channel.go(n == chosen)
        if chosen is None:
            return None
        self._last = chosen
        self.under_way.push()
        return chosen, lengths[chosen]


class Reader(_Side):
    """The first word of a burst comes ``latency`` cycles after its address, in turn."""

    def __init__(self, clock: Clock, spec: AcceleratorSpec, channels: Sequence[Source], latency: int):
        super().__init__(clock, spec, channels, latency)
        self.sources = channels
        self._bursts: deque[list[int]] = deque()  # channel, when it begins, words that are left

    def cycle(self) -> None:
        now = self.clock.now
        if self._bursts and now >= self._bursts[0][1]:
            burst = self._bursts[0]
            self.sources[burst[0]].come()
            burst[2] -= 1
            if not burst[2]:
                self._bursts.popleft()
                self.under_way.pop()
        if chosen := self.arbitrate():
            channel, length = chosen
            begin = max(self.free, now + 1 + self.latency)  # the address stands there in the next cycle
            self.free = begin + length
            self._bursts.append([channel, begin, length])


class Writer(_Side):
    """The answer to a burst comes ``latency`` cycles after its last word."""

    def __init__(self, clock: Clock, spec: AcceleratorSpec, channels: Sequence[Sink], latency: int):
        super().__init__(clock, spec, channels, latency)
        self.sinks = channels
        self._address: tuple[int, int] | None = None
        self._announced = Queue(clock, spec.outstanding)
        self._skid = Queue(clock)
        self._sent = 0
        self._answers: deque[int] = deque()

    @property
    def busy(self) -> bool:
        return self.under_way.valid

    def cycle(self) -> None:
        now = self.clock.now
        if self._answers and now >= self._answers[0]:
            self._answers.popleft()
            self.under_way.pop()
        if self._skid.valid and self._skid.pop():
            self.free = max(self.free, now + self.latency)
            self._answers.append(self.free)
            self.free += 1
        if self._announced.valid:
            channel, length = self._announced.head
            words = self.sinks[channel].words
            if words.valid and self._skid.ready:
                words.pop()
                self._sent += 1
                last = self._sent == length
                self._skid.push(last)
                if last:
                    self._sent = 0
                    self._announced.pop()
        if self._address:
            self._announced.push(self._address)
        self._address = self.arbitrate()
