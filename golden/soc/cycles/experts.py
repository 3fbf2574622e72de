"""Experts: :mod:`hdl.layers.expert_ffn`, with what it places of :mod:`hdl.moe`."""

from collections import deque
from typing import NamedTuple

from golden.moe.expert import ExpertBatch, ExpertFFNSpec
from golden.soc.cycles.gemm import Aligner, Feeder
from golden.soc.cycles.parts import Clock, Delay, Queue, Register

READ = 2
"""Cycles from a position to its word of activations."""


class Phase(NamedTuple):
    """Half of an expert, as the array sees it."""

    tiles: int
    passes: int
    steps: int
    down: bool


class Ring:
    """Weights, or their parameters: ``i`` to ``o``, a phase's tiles so many times each."""

    def __init__(self, clock: Clock, i: Queue, o: Queue, unit: int):
        self.i, self.o, self.unit = i, o, unit
        self.coming, self._ahead = Register(clock), Register(clock)
        self._running = self._there = False
        self._step = self._pass = self._tile = 0

    def cycle(self, phase: Phase | None, starts: bool) -> bool:
        """Returns that a word is free."""
        if self.i.valid and self.coming.value:
            self.i.pop()
            self.coming.add(-1)
            self._ahead.add(1)
        if self._there and self.o.ready:
            self.o.push()
        free = False
        if not self._there or self.o.ready:
            self._there = self._running and self._step < self._ahead.value
            free = self._there and self._read(phase)
        self._running = self._running or starts
        return free

    def _read(self, phase: Phase | None) -> bool:
        assert phase
        free = self._pass == phase.passes - 1
        self._step += 1
        if self._step == phase.steps // self.unit:
            self._ahead.add(-self._step if free else 0)
            self._step = 0
            self._pass += 1
            if free:
                self._pass, self._tile = 0, self._tile + 1
                if self._tile == phase.tiles:
                    self._tile, self._running = 0, False
        return free


class Gather:
    """Activations to steps of the array: a word per row is read while those before leave."""

    def __init__(self, spec: ExpertFFNSpec, o: Queue):
        assert spec.lanes
        self.o, self.rows, self.lanes = o, spec.rows, spec.lanes
        self._left_words = 0  # still to be read, of all rows
        self._row = self._word = 0
        self._filling = self._kept = self._full = self._there = False
        self._left = 0
        self._last = self._next_last = False
        self._pipe = deque([(False, False)] * READ)

    def cycle(self, phase: Phase | None, starts: bool) -> None:
        ready = self.o.ready
        gone = not self._there or (ready and not self._left)
        swap = self._full and gone
        take = self._left_words > 0 and (self._filling or not self._kept or swap)
        if self._there and ready:
            self.o.push(self._last and not self._left)
        if gone:
            self._there, self._left, self._last = self._full, self.lanes - 1, self._next_last
        elif ready:
            self._left -= 1
        complete, last = self._pipe.popleft()
        if complete:
            self._full, self._next_last = True, last
        elif swap:
            self._full = False
        ends_row, ends_tile = self._row == self.rows - 1, bool(phase) and self._word == self._words(phase) - 1
        self._pipe.append((take and ends_row, ends_tile))
        if take:
            self._filling, self._kept = not ends_row, True
            self._left_words -= 1
            self._row = 0 if ends_row else self._row + 1
            if ends_row:
                self._word = 0 if ends_tile else self._word + 1
        elif swap:
            self._kept = False
        if starts:
            assert phase
            self._left_words = phase.tiles * phase.passes * self._words(phase) * self.rows

    def _words(self, phase: Phase | None) -> int:
        assert phase
        return phase.steps // self.lanes


class Table:
    """Whose turn it is: two readers of the experts of a batch, the shared one first."""

    def __init__(self, clock: Clock):
        self.turns = {name: Register(clock, -1) for name in ("fetch", "compute")}  # -1: the shared one
        self.coming, self.active = Register(clock), Register(clock)
        self.stored, self.complete = Register(clock), Register(clock)
        self.announced, self.came = Register(clock), Register(clock)

    def none(self, reader: str) -> bool:
        turn = self.turns[reader].value
        return turn >= 0 and bool(self.complete.value) and turn == self.stored.value

    def there(self, reader: str) -> bool:
        return self.turns[reader].value < self.stored.value

    def next(self, reader: str) -> None:
        self.turns[reader].add(1)

    def end(self) -> None:
        for register in (self.active, self.stored, self.complete, self.announced, self.came):
            register.set(0)
        for turn in self.turns.values():
            turn.set(-1)


class Experts:
    """The unit behind its skid buffers."""

    def __init__(self, clock: Clock, spec: ExpertFFNSpec):
        self.clock, self.spec = clock, spec
        names = ("i", "cfg", "desc", "job", "entry", "fetch", "wgt", "par", "o", "stats")
        self.skids = {name: Queue(clock) for name in names}
        inner = {name: Queue(clock) for name in ("act", "wgt", "par", "o")}
        self._engine_o = inner["o"]
        self._aligner = Aligner(clock, spec.engine, inner["act"])
        self._feeder = Feeder(clock, spec.engine, inner | {"act": self._aligner}, inner["o"])
        self._gather = Gather(spec, inner["act"])
        self._rings = {
            name: Ring(clock, self.skids[name], inner[name], unit) for name, unit in (("wgt", 1), ("par", spec.group))
        }
        self._table = Table(clock)
        self._space, self._fetching, self._tile = Register(clock, spec.depth), Register(clock), Register(clock)
        self._coming = Register(clock)  # activations
        self._state = "idle"
        self._starts = Register(clock)
        self._phase: Phase | None = None
        self._results = 0  # beats of the phase
        self._done = {False: Delay(clock, spec.silu.swiglu_latency("fp16")), True: Delay(clock, spec.combining)}
        self._sending, self._there = Register(clock), False
        self._rows_left = 0

    def prepare(self, job: ExpertBatch) -> None:
        """A batch to come."""
        self._job = job
        self._phases = self.spec.phases(job)
        self._tiles = [list(self.spec.wanted(job, number)) for number in self.spec.fetched(job)]

    def cycle(self) -> None:
        self._send()
        sent = self._sent
        self._collect()
        self._sequence(sent)
        starts = bool(self._starts.value)
        self._feeder.cycle()
        self._aligner.cycle()
        self._gather.cycle(self._phase, starts)
        for name, ring in self._rings.items():
            if ring.cycle(self._phase, starts) and name == "wgt":
                self._space.add(1)
        self._fetch()
        self._take()

    def _send(self) -> None:
        """Sums leave."""
        o = self.skids["o"]
        self._sent = False
        if self._there and o.ready:
            o.push()
            self._sent = not self._sending.value
        if not self._there or o.ready:
            self._there = bool(self._sending.value)
            if self._there:
                self._rows_left -= 1
                if not self._rows_left:
                    self._sending.set(0)

    def _collect(self) -> None:
        """Results of the array are counted."""
        if self._engine_o.valid:
            self._feeder.free.add(self._engine_o.pop())
            phase = self._phase
            assert phase
            self._results += 1
            if self._results == phase.tiles * phase.passes * self._feeder.timing.beats:
                self._results = 0
                self._done[phase.down].push()

    def _sequence(self, sent: bool) -> None:
        table, state = self._table, self._state
        up, down = (self._done[half].pop() for half in (False, True))
        done = up or down
        self._starts.set(0)
        if state == "idle" and self.skids["cfg"].valid:
            self.skids["cfg"].pop()
            self._begin()
            self._state = "loading"
        elif state == "loading" and not self._coming.value and not table.coming.value:
            self._start(False)
        elif state == "up" and done:
            self._start(True)
        elif state == "down" and done:
            table.next("compute")
            self._state = "queue"
        elif state == "queue":
            turn = table.turns["compute"].value
            if table.none("compute"):
                self._state = "sending"
                self._sending.set(1)
                self._rows_left = len(self._job.x) * self.spec.d // self.spec.words
            elif table.there("compute") and table.came.value >= self._ends[turn]:
                self._start(False)
        elif state == "sending" and sent:
            table.end()
            self._state = "report"
        elif state == "report" and self.skids["stats"].ready:
            self.skids["stats"].push()
            self._state = "idle"

    def _begin(self) -> None:
        table = self._table
        table.active.set(1)
        table.coming.set(len(self._job.experts) if self._job.load else 0)
        self._coming.set(1)
        self._fetching.set(1)
        self._ends: list[int] = []  # of the queues, in entries
        for queue in self._job.queues:
            self._ends.append(len(queue.tokens) + (self._ends[-1] if self._ends else 0))

    def _start(self, down: bool) -> None:
        phase = self._phases[2 * (self._table.turns["compute"].value + 1) + down]
        self._phase = Phase(*phase, down)
        self._starts.set(1)
        self._state = "down" if down else "up"

    def _fetch(self) -> None:
        """Tile after tile, as soon as there is room."""
        table, turn = self._table, self._table.turns["fetch"].value
        if not self._fetching.value:
            return
        if table.none("fetch"):
            self._fetching.set(0)
            return
        if table.coming.value or not table.there("fetch"):
            return
        tiles = self._tiles[turn + 1]
        _, address, beats, par, pars, final = tiles[self._tile.value]
        if self._space.value < beats or not self.skids["fetch"].ready:
            return
        self.skids["fetch"].push({"wgt": (address, beats), "par": (par, pars)})
        self._space.add(-beats)
        self._rings["wgt"].coming.add(beats)
        self._rings["par"].coming.add(beats // self.spec.group)
        self._tile.set(0 if final else self._tile.value + 1)
        if final:
            table.next("fetch")

    def _take(self) -> None:
        """What comes in."""
        table, skids = self._table, self.skids
        if skids["i"].valid and self._coming.value and skids["i"].pop():
            self._coming.set(0)
        if skids["desc"].valid and table.coming.value:
            skids["desc"].pop()
            table.coming.add(-1)
        if skids["job"].valid and table.active.value and not table.complete.value:
            count, last = skids["job"].pop()
            if count:
                table.stored.add(1)
                table.announced.add(count)
            table.complete.set(last)
        if skids["entry"].valid and table.came.value < table.announced.value:
            skids["entry"].pop()
            table.came.add(1)
