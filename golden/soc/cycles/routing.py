"""From tokens to the queues of experts: :mod:`hdl.layers.routing`, ``router``, ``gate``, :mod:`hdl.moe.dispatch`."""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

from golden.moe.dispatch import DispatchSpec
from golden.moe.gate import PROBABILITY, GateSpec
from golden.moe.layer import LayerBatch, MoEFFNSpec
from golden.moe.routing import ByRouter
from golden.moe.scoring import RouterSpec
from golden.soc.cycles.channels import Sink, Source
from golden.soc.cycles.gemm import Aligner, Feeder
from golden.soc.cycles.parts import Block, Clock, Delay, Queue, Register
from golden.soc.cycles.topk import Core


class Replay:
    """Words that are kept, and given once for each ``again``."""

    def __init__(self, clock: Clock, depth: int, o: Queue):
        self.depth, self.o = depth, o
        self.coming, self.again = Register(clock), Register(clock)
        self._at, self._there = 0, False

    def cycle(self, source: Source) -> None:
        if self._there and self.o.ready:
            self.o.push()
        if not self._there or self.o.ready:
            self._there = bool(self.again.value) and not self.coming.value
            self._at += self._there
            if self._at == self.depth:
                self._at = 0
                self.again.add(-1)
        if self.coming.value and source.valid:
            source.take()
            self.coming.add(-1)


class Router:
    """Activations one by one, the rows for each token, their scores."""

    def __init__(self, clock: Clock, spec: RouterSpec, o: Queue):
        self.spec, self.o = spec, o
        engine = spec.engine
        names = ("act", "wgt", "par", "o", *(["norm"] if spec.norms else []))
        self.skids = {name: Queue(clock) for name in names}
        self._aligner = Aligner(clock, engine, self.skids["act"])
        self._feeder = Feeder(clock, engine, self.skids | {"act": self._aligner}, self.skids["o"])
        depth = spec.score_latency + 2
        self._credit = Register(clock, depth)
        self._scores, self._queue = Delay(clock, spec.score_latency), Queue(clock, depth)
        self._out = Queue(clock)

    def cycle(self) -> None:
        if self._out.valid and self.o.ready:
            self.o.push(self._out.pop())
        if self._queue.valid and self._out.ready:
            self._out.push(self._queue.pop())
            self._credit.add(1)
        came = self._scores.pop()
        if came is not None:
            self._queue.push(came)
        sums = self.skids["o"]
        if sums.valid and self._credit.value and (not self.spec.norms or self.skids["norm"].valid):
            last = sums.pop()
            self._feeder.free.add(last)
            self._credit.add(-1)
            self._scores.push(last)
            if last and self.spec.norms:
                self.skids["norm"].pop()
        self._feeder.cycle()
        self._aligner.cycle()


@dataclass
class Choice:
    """A token at the gate: its ranks, and which of them are selected."""

    kept: list[bool]
    load: bool


class Gate:
    """Scores to selected experts. Items of ``o`` say whether one is valid, and whether it is the token's last."""

    def __init__(self, clock: Clock, spec: GateSpec):
        self.clock, self.spec = clock, spec
        self.i, self.cfg, self.o = Queue(clock), Queue(clock), Queue(clock)
        self._full = [Register(clock), Register(clock)]
        self._writes, self._reads, self._busy = 0, 1, False
        self._keys: deque[tuple[int, bool]] = deque()
        self._core_i, self._core_cfg, self._core_o = Queue(clock), Queue(clock), Queue(clock)
        self._core = Core(clock, spec.engine, self._core_i, self._core_cfg, self._core_o)
        self._there = self._ended = False
        self._kept: list[bool] = []
        self._rank = 0
        self.table = Queue(clock)
        self._entries, self._needed = 0, True  # of the table, that have come
        self._complete = False

    def cycle(self) -> None:
        over = self._select()
        begins = self._turn(over)
        self._core.cycle()
        if self._keys and self._keys[0][0] == self.clock.now:
            self._core_i.push(self._keys.popleft()[1])
        if begins:
            self._core_cfg.push(len(self._kept))
        if self.i.valid and not self._full[self._writes].value and self.i.pop():
            self._full[self._writes].set(1)
            self._writes ^= 1

    def _select(self) -> bool:
        """A rank is kept until it is known whether it is the last. Returns that the token is through."""
        ready, comes = self.o.ready, self._core_o.valid
        real = comes and self._rank < len(self._kept)
        keep = real and self._kept[self._rank]
        gives = self._ended or (self._there and keep)
        if gives and ready:
            self.o.push((self._there, self._ended))
        over = self._ended and ready
        if comes and (ready or not (self._ended or (self._there and keep))):
            last = self._core_o.pop()
            self._rank += 1
            self._there = keep or (self._there and not self._ended)
            self._ended = last
        elif over:
            self._ended = self._there = False
        return over

    def _turn(self, over: bool) -> bool:
        """Returns that a token begins."""
        has = not self.spec.parameters_of_experts or self._has_table()
        begins = self.cfg.valid and bool(self._full[self._reads ^ 1].value) and has and (not self._busy or over)
        if over:
            self._full[self._reads].set(0)
        if begins:
            choice: Choice = self.cfg.pop()
            self._kept, self._rank, self._complete = choice.kept, 0, False
            self._busy, self._reads = True, self._reads ^ 1
            self._read()
        elif over:
            self._busy = False
        return begins

    def _has_table(self) -> bool:
        """Its entries are taken while no token is under way."""
        needs = self._needed or (self.cfg.valid and self.cfg.head.load)
        has = self._complete or not needs
        if self.cfg.valid and not has and not self._busy and self.table.valid:
            self.table.pop()
            self._entries += 1
            if self._entries == self.spec.experts:
                self._entries, self._complete, self._needed = 0, True, False
        return has

    def _read(self) -> None:
        n, apart = self.spec.experts, PROBABILITY if self.spec.softmax else 1
        end = self.clock.now + self.spec.keys(n)
        self._keys += [(end - apart * left, not left) for left in reversed(range(n))]


class Walk:
    """Through experts; of none one step."""

    def __init__(self) -> None:
        self.items: list[int] = []

    def free(self, goes: bool) -> bool:
        return not self.items or (goes and len(self.items) == 1)


class Dispatch:
    """Selected experts to queues: batch after batch."""

    def __init__(self, clock: Clock, spec: DispatchSpec, job: Queue, entry: Queue):
        self.spec, self.job, self.entry = spec, job, entry
        self.i = Queue(clock)
        self._job, self._entry, self._stats = Queue(clock), Queue(clock), Queue(clock)
        self._full = [Register(clock), Register(clock)]
        self._writes = self._turn = 0
        self._jobs, self._entries, self._counts = Walk(), Walk(), Walk()
        self._rank = 0
        self._there = False
        self.queues: list[int] = []
        """How many each expert has, of those that have any."""

    def cycle(self, counts: Sink) -> None:
        for source, sink in ((self._job, self.job), (self._entry, self.entry)):
            if source.valid and sink.ready:
                sink.push(source.pop())
        if self._stats.valid and counts.ready:
            self._stats.pop()
            counts.put()
        walking = any(walk.items for walk in (self._jobs, self._entries, self._counts))
        steps = self._walk_jobs(), self._walk_entries(), self._walk_counts()
        over = all(walk.free(goes) for walk, goes in zip(self._walks, steps, strict=True))
        for walk, goes in zip(self._walks, steps, strict=True):
            if goes:
                walk.items.pop(0)
        if over and walking:
            self._full[self._turn ^ 1].set(0)
        if over and self._full[self._turn].value:
            self._jobs.items, self._entries.items = ((self.queues or [0]).copy() for _ in range(2))
            self._counts.items = [0] * self.spec.experts
            self._turn ^= 1
        if self.i.valid and not self._full[self._writes].value and self.i.pop():
            self._full[self._writes].set(1)
            self._writes ^= 1

    @property
    def _walks(self) -> tuple[Walk, Walk, Walk]:
        return self._jobs, self._entries, self._counts

    def _walk_jobs(self) -> bool:
        items = self._jobs.items
        if not items or not self._job.ready:
            return False
        self._job.push((items[0], len(items) == 1))
        return True

    def _walk_entries(self) -> bool:
        items = self._entries.items
        moves = not self._there or self._entry.ready
        if self._there and self._entry.ready:
            self._entry.push()
        reads = bool(items) and items[0] > 0 and moves
        if moves:
            self._there = reads
        if reads:
            self._rank += 1
            if self._rank == items[0]:
                self._rank = 0
                return True
        return bool(items) and not items[0]

    def _walk_counts(self) -> bool:
        if not self._counts.items or not self._stats.ready:
            return False
        self._stats.push()
        return True


class Routing:
    """All of it, up to the queues of jobs and entries that the experts take."""

    def __init__(self, clock: Clock, spec: MoEFFNSpec, job: Queue, entry: Queue):
        self.spec = spec
        self.gate = Gate(clock, spec.gate)
        self.router = Router(clock, spec.router, self.gate.i)
        self.dispatch = Dispatch(clock, spec.dispatch, job, entry)
        skids = self.router.skids
        sizes = {"wgt": spec.d, "par": spec.d // spec.group} | ({"norm": 1} if spec.norms else {})
        self._rows = {name: Replay(clock, depth, skids[name]) for name, depth in sizes.items()}
        self._waiting = Block(clock, spec.tokens * spec.beats + 3)
        self._narrow = 0  # activations of the word that is handed out
        self._ends, self._final = Queue(clock, spec.tokens + 2), Queue(clock, spec.tokens + 2)
        self._come = self._sent = 0

    def prepare(self, job: LayerBatch) -> None:
        """A batch to come."""
        self._job = job
        self._choices = deque(self._choose(job))
        self.dispatch.queues = [int(count) for _, _, count in self.spec.queues(job).jobs]

    def _choose(self, job: LayerBatch) -> list[Choice]:
        gate, group = self.spec.gate, ByRouter(self.spec).scored(job)
        return [
            Choice(gate.ranks(token, job.table)[1].tolist(), job.load and not n) for n, token in enumerate(group.tokens)
        ]

    @property
    def takes(self) -> bool:
        return self._waiting.ready and self._ends.ready

    def take(self, last: bool) -> None:
        self._waiting.push()
        self._come += 1
        if self._come == self.spec.beats:
            self._come = 0
            self._ends.push(last)
            for rows in self._rows.values():
                rows.again.add(1)

    def load(self, load: bool) -> None:
        if load:
            for rows in self._rows.values():
                rows.coming.set(rows.depth)

    def cycle(self, sources: Mapping[str, Source], counts: Sink) -> None:
        self.dispatch.cycle(counts)
        gate = self.gate
        if gate.o.valid and self._final.valid and self.dispatch.i.ready:
            _, last = gate.o.pop()
            self.dispatch.i.push(last and self._final.head)
            if last:
                self._final.pop()
        configured = self._ends.valid and gate.cfg.ready and self._final.ready
        gate.cycle()
        if configured:
            final = self._ends.pop()
            gate.cfg.push(self._choices.popleft())
            self._final.push(final)
        self.router.cycle()
        self._activations()
        for name, rows in self._rows.items():
            rows.cycle(sources[f"r{name}"])
        if "table" in sources and sources["table"].valid and gate.table.ready:
            sources["table"].take()
            gate.table.push()

    def _activations(self) -> None:
        """Out of their words, one by one."""
        act = self.router.skids["act"]
        assert self.spec.lanes
        leaves = self._narrow > 0 and act.ready
        if leaves:
            self._sent = (self._sent + 1) % self.spec.d
            act.push(not self._sent)
        if self._waiting.valid and (not self._narrow or (leaves and self._narrow == 1)):
            self._waiting.pop()
            self._narrow = self.spec.lanes
        elif leaves:
            self._narrow -= 1
