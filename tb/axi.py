"""What stands around a unit with AXI4 and AXI4-Lite ports: a memory that watches the protocol, a host with a script.

Both are worlds of a case (``tb.transactions``); :class:`AxiWorld` joins them. That a channel's beats stay as they are
until they are taken is watched by the players, and how long ``ready`` stays low is the case's ``stall``.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from golden.axi import INCR, OKAY, PAGE
from golden.ports import StreamPort
from tb.transactions import CheckFailed, Gift, World


class Channel:
    """Beats of one channel as integers."""

    def __init__(self, ports: Sequence[StreamPort], name: str):
        (self.port,) = (p for p in ports if p.name == name)
        self._places = {f.name: (self.port.lsb(f.name), (1 << f.width) - 1) for f in self.port.fields}

    def get(self, beat: int, name: str) -> int:
        lsb, mask = self._places[name]
        return beat >> lsb & mask

    def gift(self, at: int, **values: int) -> Gift:
        """One beat; fields that are not given are 0."""
        beat = sum(value << self._places[name][0] for name, value in values.items())
        return Gift(self.port.name, beat.to_bytes(self.port.bytes, "little"), at)


@dataclass
class Burst:
    """A burst under way: ``done`` of ``words`` words have passed."""

    number: int
    address: int
    words: int
    stop: int
    resp: int = OKAY
    done: int = 0
    silent: bool = False


@dataclass
class Memory(World):
    """An AXI4 memory over ``image``, whose first byte has the address ``base``.

    Answers come in the order of the bursts. The first word of a read burst can be presented ``latency`` cycles after
    its address was taken, and up to ``jitter`` more, at random; further words every ``pace`` cycles; the answer to a
    write burst ``latency`` cycles after its last word. A read burst gives what is in memory when its address is taken.

    Words in the ranges ``errors`` have that response and stay as they are; they may lie outside the image. A burst with
    a word in one of ``silent`` is never answered, nor are those after it in the same direction.

    It finds: bursts that are not INCR, not of whole words, longer than ``longest`` words, across 4 KiB, or outside
    memory; more than ``outstanding`` of either direction; words to write that no burst has announced, or with ``last``
    in the wrong place; reads of what a burst writes that is not answered yet; at the end, bursts that are under way,
    and bytes that are not as ``expected``.

    Stricter than AXI4: no words before their address, no narrow or unaligned bursts, no WRAP and FIXED. With those gone
    any strobes are legal.
    """

    ports: Sequence[StreamPort]
    image: NDArray[np.uint8]
    expected: NDArray[np.uint8] | None = None
    base: int = 0
    latency: int = 20
    jitter: int = 0
    pace: int = 1
    longest: int = 256
    outstanding: int = 16
    errors: Mapping[range, int] = field(default_factory=dict)
    silent: Sequence[range] = ()
    seed: int = 0
    prefix: str = "m_axi"

    def __post_init__(self) -> None:
        self._names = {f"{self.prefix}_{name}": name for name in ("ar", "r", "aw", "w", "b")}
        self._channels = {name: Channel(self.ports, f"{self.prefix}_{name}") for name in self._names.values()}
        self.answers = frozenset((f"{self.prefix}_ar", f"{self.prefix}_w"))
        self.notes = frozenset(self._names) - self.answers
        (self._word,) = (f.width // 8 for f in self._channels["r"].port.fields if f.name == "data")
        self._size = self._word.bit_length() - 1
        self._rng = np.random.default_rng(self.seed)
        self._bursts = dict.fromkeys(("ar", "aw"), 0)
        self._reads, self._writes, self._written = deque[Burst](), deque[Burst](), deque[Burst]()
        self._free = {"r": 0, "b": 0}  # cycle from which the next answer can be presented

    def sees(self, cycle: int, stream: str, beat: int) -> Iterable[Gift]:
        name = self._names[stream]
        if name == "r":
            self._reads[0].done += 1
            if self._reads[0].done == self._reads[0].words:
                self._reads.popleft()
        elif name == "b":
            self._written.popleft()
        elif name == "w":
            return self._write(cycle, beat)
        else:
            burst = self._announced(cycle, name, beat)
            if name == "ar":
                return self._read(cycle, burst)
            self._writes.append(burst)
        return ()

    def ends(self) -> Iterator[str]:
        for name, bursts in (("ar", self._reads), ("aw", self._writes), ("aw", self._written)):
            if bursts and not bursts[0].silent:
                at, done = bursts[0].address, f"{bursts[0].done} of {bursts[0].words} words"
                yield f"{self.prefix}_{name}: the burst at {at:#x} is under way at the end, {done} passed"
        if self.expected is not None:
            wrong = np.flatnonzero(self.image != self.expected)
            if len(wrong):
                at = int(wrong[0])
                yield (
                    f"memory at {self.base + at:#x}: expected {self.expected[at]:#04x}, got {self.image[at]:#04x} "
                    f"({len(wrong)} bytes differ)"
                )

    def _announced(self, cycle: int, name: str, beat: int) -> Burst:
        """The burst of an address, by the rules."""
        channel = self._channels[name]
        address, words = channel.get(beat, "addr"), channel.get(beat, "len") + 1
        burst = Burst(channel.get(beat, "id"), address, words, address + words * self._word)
        for breach in self._breaches(name, burst, channel.get(beat, "burst"), channel.get(beat, "size")):
            at = f"burst {self._bursts[name]} at {address:#x} in cycle {cycle}"
            raise CheckFailed(f"{self.prefix}_{name}: {at}: {breach}")
        self._bursts[name] += 1
        burst.silent = any(_overlap(r, burst) for r in self.silent)
        return burst

    def _breaches(self, name: str, burst: Burst, kind: int, size: int) -> Iterator[str]:
        span, inside = range(burst.address, burst.stop), range(self.base, self.base + len(self.image))
        if kind != INCR:
            yield f"type must be INCR (1), not {kind}"
        if size != self._size:
            yield f"size must be {self._size} ({self._word} bytes), not {size}"
        if span[0] % self._word:
            yield f"address must be a multiple of {self._word}"
        if burst.words > self.longest:
            yield f"words must be at most {self.longest}, not {burst.words}"
        if span[0] // PAGE != span[-1] // PAGE:
            yield f"{len(span)} bytes must not cross {PAGE}"
        if not any(span[0] in r and span[-1] in r for r in (inside, *self.errors, *self.silent)):
            yield f"{len(span)} bytes must be in memory, {inside[0]:#x} to {inside[-1]:#x}"
        if (len(self._reads) if name == "ar" else len(self._writes) + len(self._written)) >= self.outstanding:
            yield f"at most {self.outstanding} may be under way"
        if name == "ar" and any(_overlap(span, w) for w in (*self._writes, *self._written)):
            yield "what it reads is being written"

    def _read(self, cycle: int, burst: Burst) -> Iterator[Gift]:
        self._reads.append(burst)
        if any(b.silent for b in self._reads):
            return
        port, word = self._channels["r"].port, self._word
        at = burst.address - self.base
        beats = np.zeros((burst.words, port.bytes), np.uint8)
        data = self.image[max(at, 0) : max(at + burst.words * word, 0)]
        beats[:, :word].flat[: len(data)] = data
        rest = np.full(burst.words, burst.number << port.lsb("id") - 8 * word, np.uint32)
        rest[-1] |= 1 << port.lsb("last") - 8 * word
        for i, resp in self._wrong(burst):
            rest[i] |= resp
        beats[:, word:] = rest.view(np.uint8).reshape(burst.words, 4)[:, : port.bytes - word]
        start = self._later("r", cycle)
        self._free["r"] = start + burst.words * self.pace
        yield Gift(port.name, beats.tobytes(), start, self.pace)

    def _write(self, cycle: int, beat: int) -> Iterator[Gift]:
        channel, word = self._channels["w"], self._word
        if not self._writes:
            raise CheckFailed(f"{self.prefix}_w: a word in cycle {cycle} that no burst has announced")
        burst = self._writes[0]
        at = burst.address + burst.done * word
        burst.done += 1
        ends = burst.done == burst.words
        if channel.get(beat, "last") != ends:
            raise CheckFailed(
                f"{self.prefix}_w: word {burst.done} of {burst.words} at {at:#x} in cycle {cycle}: "
                f"last must be {ends:d}, not {not ends:d}"
            )
        resp = self._resp(at)
        burst.resp = max(burst.resp, resp)
        if resp == OKAY and not burst.silent:
            data = channel.get(beat, "data").to_bytes(word, "little")
            strobes = channel.get(beat, "strb")
            where = at - self.base
            if strobes == (1 << word) - 1:
                self.image[where : where + word] = np.frombuffer(data, np.uint8)
            else:
                for i in range(word):
                    if strobes >> i & 1:
                        self.image[where + i] = data[i]
        if not ends:
            return
        self._written.append(self._writes.popleft())
        if not any(b.silent for b in self._written):
            start = self._later("b", cycle)
            self._free["b"] = start + 1
            yield self._channels["b"].gift(start, resp=burst.resp, id=burst.number)

    def _later(self, name: str, cycle: int) -> int:
        """When an answer can be presented: in turn, after the latency."""
        more = int(self._rng.integers(0, self.jitter, endpoint=True)) if self.jitter else 0
        return max(self._free[name], cycle + self.latency + more)

    def _wrong(self, burst: Burst) -> Iterator[tuple[int, int]]:
        """Number and response of the words that have an error."""
        if any(_overlap(r, burst) for r in self.errors):
            for i in range(burst.words):
                if resp := self._resp(burst.address + i * self._word):
                    yield i, resp

    def _resp(self, address: int) -> int:
        return next((resp for r, resp in self.errors.items() if address in r), OKAY)


def _overlap(span: range, burst: Burst) -> bool:
    return span.start < burst.stop and burst.address < span.stop


@dataclass(frozen=True, kw_only=True)
class Access:
    """Of a register, ``after`` cycles after the answer to the one before. ``resp`` is expected; any, if ``None``."""

    address: int
    resp: int | None = OKAY
    after: int = 1


@dataclass(frozen=True, kw_only=True)
class Write(Access):
    value: int
    strobes: int = 0xF


@dataclass(frozen=True, kw_only=True)
class Read(Access):
    """``value`` is expected in the bits ``mask``; any if ``None``."""

    value: int | None = None
    mask: int = 0xFFFFFFFF


@dataclass(frozen=True, kw_only=True)
class Poll(Access):
    """Read until ``value`` stands in the bits ``mask``, up to ``limit`` times, ``every`` so many cycles."""

    value: int
    mask: int
    every: int = 16
    limit: int = 10_000


@dataclass
class Host(World):
    """One access after another, each when the one before is answered; the case is not over before the last is.

    ``seen``: value (0 of a write) and response of every access that was answered, reads of a poll each.
    """

    ports: Sequence[StreamPort]
    script: Sequence[Access]
    prefix: str = "s_axil"

    def __post_init__(self) -> None:
        self._channels = {n: Channel(self.ports, f"{self.prefix}_{n}") for n in ("aw", "w", "b", "ar", "r")}
        self.answers = frozenset((f"{self.prefix}_b", f"{self.prefix}_r"))
        self.notes = frozenset(f"{self.prefix}_{name}" for name in ("aw", "w", "ar"))
        self.seen: list[tuple[int, int]] = []
        self._at = 0
        self._polls = 0
        self._given = set[str]()  # beats of this access that were not taken yet

    @property
    def over(self) -> bool:
        return self._at >= len(self.script)

    def begins(self) -> Iterable[Gift]:
        return self._next(-1)

    def sees(self, cycle: int, stream: str, beat: int) -> Iterable[Gift]:
        if stream in self.notes:
            self._given.remove(stream)
            return ()
        writes = stream == f"{self.prefix}_b"
        if self._given or self.over or isinstance(self.script[self._at], Write) != writes:
            raise CheckFailed(f"{stream}: an answer in cycle {cycle} to what was not asked")
        channel, access = self._channels["b" if writes else "r"], self.script[self._at]
        resp = channel.get(beat, "resp")
        value = 0 if writes else channel.get(beat, "data")
        self.seen.append((value, resp))
        if access.resp is not None and resp != access.resp:
            raise CheckFailed(f"{self._name}: expected response {access.resp}, got {resp} in cycle {cycle}")
        if isinstance(access, Read) and access.value is not None and value & access.mask != access.value:
            raise CheckFailed(
                f"{self._name}: expected {access.value:#x}, got {value & access.mask:#x} in cycle {cycle}"
            )
        if isinstance(access, Poll) and value & access.mask != access.value:
            self._polls += 1
            if self._polls == access.limit:
                raise CheckFailed(
                    f"{self._name}: expected {access.value:#x}, is {value & access.mask:#x} in cycle {cycle}"
                )
            return self._next(cycle, access.every)
        self._at += 1
        self._polls = 0
        return self._next(cycle)

    def ends(self) -> Iterator[str]:
        if not self.over:
            yield f"{self._name}: not answered"

    def asks(self, cycle: int, access: Access) -> Iterable[Gift]:
        """Another access, in place of a script that is over, after a cycle."""
        self.script, self._at, self.seen = [access], 0, []
        return self._next(cycle)

    @property
    def _name(self) -> str:
        access = self.script[self._at]
        return f"{self.prefix} access {self._at}, {type(access).__name__} of {access.address:#05x}"

    def _next(self, cycle: int, after: int | None = None) -> Sequence[Gift]:
        if self.over:
            return ()
        access = self.script[self._at]
        at = cycle + (access.after if after is None else after)
        if isinstance(access, Write):
            gifts = [
                self._channels["aw"].gift(at, addr=access.address),
                self._channels["w"].gift(at, data=access.value, strb=access.strobes),
            ]
        else:
            gifts = [self._channels["ar"].gift(at, addr=access.address)]
        self._given = {g.stream for g in gifts}
        return gifts


class AxiWorld(World):
    """A memory and a host around one unit."""

    def __init__(self, memory: Memory, host: Host):
        self.memory, self.host = memory, host
        self.answers = memory.answers | host.answers
        self.notes = memory.notes | host.notes
        self._hosts = host.answers | host.notes

    @property
    def over(self) -> bool:
        return self.host.over

    def begins(self) -> Iterable[Gift]:
        return self.host.begins()

    def sees(self, cycle: int, stream: str, beat: int) -> Iterable[Gift]:
        part = self.host if stream in self._hosts else self.memory
        return part.sees(cycle, stream, beat)

    def ends(self) -> Iterable[str]:
        return [*self.host.ends(), *self.memory.ends()]
