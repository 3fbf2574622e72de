"""That ``expert_cache`` never stands still: every cycle brings it nearer to the next list and to the next grant."""

from functools import partial
from typing import Any, NamedTuple

from amaranth.hdl import Assume, C, Cat, Module, Mux, Signal, Value

from golden.moe.cache import ExpertCacheSpec
from hdl.arith.bits import count_ones
from hdl.moe.cache import ExpertCache
from tb.formal import Claim
from tb.formal.cache import spec
from tb.formal.cache_state import Whole
from tb.formal.cache_unit import SIZES, size
from tb.formal.dispatch import wire
from tb.formal.stream import implies


class Cost(NamedTuple):
    """At most so many cycles for the oldest load at memory, and for the oldest job."""

    fill: int
    done: int

    @property
    def granted(self) -> int:
        """Of a need that waits: once more to memory, out, a job."""
        return (1 + self.fill) + 1 + self.done

    @property
    def decided(self) -> int:
        """That a need adds at most: a place in the queue of loads, a load, a grant."""
        return 1 + self.fill + self.granted

    def bounds(self, spec: ExpertCacheSpec) -> tuple[int, int]:
        """Of what is left of all, and until the first grant."""
        steps = 2 * spec.slots + 4 + spec.most * (spec.slots + 2 + self.decided)
        queues = spec.queue * (1 + self.granted + self.done) + max(2, spec.slots)
        loads = self.fill * (spec.slots + spec.outstanding)
        return steps + queues + loads, 2 * (spec.outstanding + 1) * self.fill + 4 + self.done


class Moves(Whole):
    """Two measures of what is left to be done. *All*: until the unit does nothing but wait for a list. *First*: until
    the first of the needs that wait is granted. Both are natural numbers with a bound.

    Without a ``cost``: each falls by one at least in every cycle, but for those in which memory has a load, a job is
    not done or a beat is not taken; then neither rises. (All may rise when a beat comes.) So the unit never waits for
    itself, and after so many cycles of its own, whatever time the others take, all is decided and granted.

    With a ``cost``, which the others keep to, and whose receivers are always ready, they fall in every cycle: their
    bounds are cycles. Where the unit has a timeout, memory need not answer.
    """

    def __init__(self, dut: ExpertCache, known: bool = True, cost: Cost | None = None):
        super().__init__(dut, known)
        self.cost, self.timed = cost or Cost(1, 1), cost is not None

    def claim(self, m: Module) -> list[Value]:
        self.states(m)
        clocks = self._clocks(m)
        stalls = wire(m, self._stalls(m, *clocks), "stalls")
        work = wire(m, self._work(*clocks), "work")
        comes = Cat(self.probe(f"dut.lists.block.{name}") for name in ("accept", "take_desc")).any()
        idle = (self.step["collect"] | self.step["table"]) & (work == 0)
        granted = ~self.needs.there[0] | self.out
        measures = ((self._left() + work, comes, stalls | idle), (self._first(*clocks), granted, stalls))
        claimed = []
        for (left, over, rests), bound in zip(measures, self.cost.bounds(self.spec), strict=True):
            now = wire(m, left, "left")
            before, stays, falls = Signal.like(now, name="before"), Signal(name="stays"), Signal(name="falls")
            m.d.sync += [before.eq(now), stays.eq(~over), falls.eq(~over & ~rests)]
            claimed += [implies(falls, now < before), implies(stays, now <= before), (now >= 0) & (now <= bound)]
        return claimed

    def _clocks(self, m: Module) -> tuple[Signal, Signal]:
        """For how many cycles the oldest load, the oldest job has been that; 0 where time does not count."""
        clocks = Signal(range(self.cost.fill), name="since_fill"), Signal(range(self.cost.done), name="since_done")
        ends = ((self.pending.there[0], self.over), (self.jobs.there[0], self.jobs.get))
        for clock, limit, (there, over) in zip(clocks, self.cost, ends, strict=True):
            self.help((clock == 0) | there, clock < limit)
            if self.timed:
                m.d.sync += clock.eq(Mux(there & ~over, clock + 1, 0))
        return clocks

    def _stalls(self, m: Module, since_fill: Value, since_done: Value) -> Value:
        """Memory, a job or a receiver is waited for; where time counts they are in time."""
        ready = ("loads.block.dma__ready", "grants.block.grant__ready", "skid_stats.block.i__ready")
        taken = Cat(self.probe(f"dut.{name}") for name in ready).all()
        loads, works = self.pending.there[0] & ~self.over, self.jobs.there[0] & ~self.jobs.get
        if not self.timed:
            return loads | works | ~taken
        m.d.comb += [Assume(taken), Assume(~works | (since_done != self.cost.done - 1))]
        if self.spec.timeout:
            self.help(self.probe("dut.loads.block.age", range(self.spec.timeout)) == since_fill)
        else:
            m.d.comb += Assume(~loads | (since_fill != self.cost.fill - 1))
        return C(0)

    def _work(self, since_fill: Value, since_done: Value) -> Value:
        """In the queues: everything weighs more than what becomes of it."""
        cost = self.cost
        needs = sum((Mux(there, Mux(need.valid, self.cost.granted, 1), 0) for there, need in self.needs), C(0))
        tried = Mux(self.tried, 1 + cost.fill, 0)
        loads = cost.fill * (count_ones(self.queued) + self.pending.level) - since_fill
        jobs = cost.done * self.jobs.level - since_done
        return self.urgent.level + self.hinted.level + loads + needs - tried + jobs

    def _left(self) -> Value:
        """Of a list that has come: steps, and the work that its keys will be."""
        step, slots, place = self.step, self.spec.slots, self.tags.place
        keys = (self.count - self.turn) * (slots + 2 + self.cost.decided) + 3
        left = {
            "mark": slots - place + 1 + slots + keys,
            "begin": 1 + slots + keys,
            "sweep": slots - place + keys,
            "look": keys - place,
            "choose": keys - slots,
            "decide": keys - slots - 1,
            "close": C(3),
            "drain": C(1),
        }
        return sum((Mux(step[name], value, 0) for name, value in left.items()), C(0))

    def _first(self, since_fill: Value, since_done: Value) -> Value:
        """Its load waits; is at memory, so many before it; has failed, and goes out once more; it waits for a job."""
        cost, need = self.cost, self.needs.items[0]
        out = 1 + cost.done
        once_more = (self.spec.outstanding + 1) * cost.fill + 2 + out
        behind = 1 + (self.pending.level + 1) * cost.fill - since_fill
        mine = (Mux(there & (load.slot == need.slot), n + 1, 0) for n, (there, load) in enumerate(self.pending))
        at_memory = sum(mine, C(0)) * cost.fill - since_fill + Mux(self.tried, out, once_more)
        loads = Mux(self.of(self.queued, need.slot), behind + once_more, at_memory)
        there = 1 + Mux(self.jobs.room, 0, cost.done - since_done)
        over = Mux(self.of(self.ready, need.slot) | self.tried, there, behind + out)
        left = Mux(need.valid, Mux(self.of(self.loading, need.slot), loads, over), 1)
        return Mux(self.needs.there[0], left, 0)


MOVES = "a cycle that waits for no one else leaves less to do, and less until the first grant: never for itself"
TIMED = "a list is decided, and the first need granted, within so many cycles"


def _moves(cost: Cost | None, **values: Any) -> Moves:
    return Moves(ExpertCache(spec(**values)), cost=cost)


def _timed(cost: Cost, **values: Any) -> Claim:
    of = spec(**values)
    all_, first = cost.bounds(of)
    memory = f"a timeout of {of.timeout}" if of.timeout else f"fills in {cost.fill}"
    what = f"{size(of)}, {memory}, jobs in {cost.done}: {all_} and {first} cycles"
    return Claim("expert_cache", TIMED, what, partial(_moves, cost, **values))


CLAIMS = (
    *(Claim("expert_cache", MOVES, size(spec(**values)), partial(_moves, None, **values)) for values in SIZES),
    _timed(Cost(4, 3), **SIZES[0], timeout=4),
    _timed(Cost(3, 2), **SIZES[1]),
)
