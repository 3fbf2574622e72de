"""The channels of :mod:`hdl.soc.channels`, with what is at their ends: :mod:`hdl.soc.rows`, ``bursts``, ``pack``."""

from collections import deque
from typing import NamedTuple

from golden.soc.accelerator import ROWS, AcceleratorSpec
from golden.soc.cycles.parts import Block, Clock, Queue, Register


class Row(NamedTuple):
    """Beats one after the other, from a byte address on."""

    address: int
    beats: int


class Extent(NamedTuple):
    """A row as words of memory; its first and last byte in the first and last of them."""

    word: int
    words: int
    first: int
    end: int


class Channel:
    """Rows to bursts, and to the beats of each word; ``room``: words that bursts may have.

    ``_several``: words of a beat, 0 where several beats have one.
    """

    def __init__(self, clock: Clock, spec: AcceleratorSpec, room: int):
        self._clock = clock
        self._most, self._size, self._edge = spec.burst, spec.bus_bytes, spec.word_bits
        self.slot, self._several = 0, 0
        self.words = Block(clock, spec.depth + 1)
        self.room = Register(clock, room)
        self._coming: list[Row] = []
        self._rows: deque[Row] = deque()
        self._asked: Queue | None = None
        self._base = 0
        self._measured: Extent | None = None
        self._word = self._left = 0  # the splitter's
        self._queue = Queue(clock, ROWS)
        self._met = 0  # words of the row at the meter that are through
        self._beat = 0  # beats of the word, likewise

    def load(self, slot: int, rows: list[Row]) -> None:
        """An entry; its rows stand there in the next cycle."""
        self._coming, self._asked = rows, None
        self._begin(slot)

    def follow(self, slot: int, asked: Queue, base: int) -> None:
        """An entry whose rows are those that the unit asks for: beats from ``base`` on."""
        self._asked, self._base = asked, base
        self._begin(slot)

    def _begin(self, slot: int) -> None:
        self.slot = slot
        self._several = 1 << slot - self._edge if slot >= self._edge else 0
        self._clock.touch(self)

    @property
    def busy(self) -> bool:
        asked = self._asked and self._asked.valid
        return bool(self._rows or asked or self._measured or self._left or self._queue.valid)

    @property
    def idle(self) -> bool:
        return not self.busy

    def move(self) -> None:
        """A cycle of what stands behind the bursts of inputs, before those of outputs."""
        raise NotImplementedError

    @property
    def burst(self) -> int:
        """Words of the burst that is wanted, and may go; else 0."""
        length = min(self._left, self._most - self._word % self._most)
        return length if self.room.value >= length else 0

    def go(self, taken: bool) -> None:
        """A cycle of what stands before the bursts, of which one is ``taken`` or not."""
        if not (self._left or self._measured or self._rows or self._asked):
            return
        length = self.burst
        splits = not self._left or (taken and length == self._left)
        moves = self._measured if splits and self._queue.ready else None
        if taken:
            self.room.add(-length)
            self._word, self._left = self._word + length, self._left - length
        if moves:
            self._queue.push(moves)
            self._word, self._left = moves.word, moves.words
        if moves or not self._measured:
            row = self._next_row()
            self._measured = self._measure(row) if row else None

    def _next_row(self) -> Row | None:
        if self._asked:
            if not self._asked.valid:
                return None
            at, beats = self._asked.pop()
            return Row(self._base + (at << self.slot), beats)
        return self._rows.popleft() if self._rows else None

    def _measure(self, row: Row) -> Extent:
        stop = row.address + (row.beats << self.slot) - 1
        size = self._size
        return Extent(row.address // size, stop // size - row.address // size + 1, row.address % size, stop % size)

    def tick(self) -> None:
        self._rows += self._coming
        self._coming = []

    # --- words and beats ---

    @property
    def _ends_word(self) -> bool:
        """Whether the beat is the last one of the row in its word."""
        row: Extent = self._queue.head
        first = 0 if self._met else row.first
        end = row.end if self._met == row.words - 1 else self._size - 1
        return self._beat == (end >> self.slot) - (first >> self.slot)

    def _next_word(self) -> None:
        """The meter goes on."""
        self._met, self._beat = self._met + 1, 0
        if self._met == self._queue.head.words:
            self._queue.pop()
            self._met = 0


class Source(Channel):
    """From memory: ``come`` with every word, ``valid`` while a beat stands there, which ``take`` takes."""

    def __init__(self, clock: Clock, spec: AcceleratorSpec):
        super().__init__(clock, spec, spec.depth)
        self._parts = 0  # words of the beat that is collected
        self._whole = self._taken = False

    @property
    def idle(self) -> bool:
        return not (self.busy or self._whole)

    @property
    def valid(self) -> bool:
        return self._whole if self._several else self.words.valid and self._queue.valid

    def come(self) -> None:
        self.words.push()

    def take(self) -> None:
        self._taken = True

    def move(self) -> None:
        leaves = self.words.valid and self._queue.valid
        if self._several:
            free = not self._whole or self._taken
            leaves = leaves and free
            if free:
                self._parts += leaves
                self._whole = self._parts == self._several
                self._parts = 0 if self._whole else self._parts
        elif self._taken:
            leaves = self._ends_word
            self._beat += 1
        else:
            leaves = False
        if leaves:
            self.words.pop()
            self.room.add(1)
            self._next_word()
        self._taken = False


class Sink(Channel):
    """To memory: a beat that is ``put`` while it is ``ready``."""

    def __init__(self, clock: Clock, spec: AcceleratorSpec):
        super().__init__(clock, spec, 0)
        self._parts = 0  # words of the beat that are left
        self._put = False

    @property
    def ready(self) -> bool:
        if self._several:
            return not self._parts or (self._parts == 1 and self._writes)
        return self._queue.valid and (not self._ends_word or self.words.ready)

    @property
    def _writes(self) -> bool:
        return self._queue.valid and self.words.ready

    def put(self) -> None:
        self._put = True

    def move(self) -> None:
        if self._several:
            leaves = bool(self._parts) and self._writes
            self._parts -= leaves
            if self._put:
                self._parts = self._several
        else:
            leaves = self._put and self._ends_word
            self._beat += self._put
        if leaves:
            self.words.push()
            self.room.add(1)
            self._next_word()
        self._put = False
