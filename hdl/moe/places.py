"""The places of an expert cache: whose they are, and who goes next."""

from typing import Any

from amaranth.hdl import Array, Cat, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from golden.moe.cache import ExpertCacheSpec
from hdl.arith.bits import choose, count_ones, named


class Places(wiring.Component):
    """A key per place, the order in which places go, and what protects them.

    Members
    -------
    clear : In(1), all places are empty; begin : In(1), a list comes: nothing is protected; fresh_list : In(1), a
    list of needs is decided: no place is of the last one. look : In(1), a place per cycle is looked at for ``key``
    : In; ends : Out(1), it is the last; mark : In(1), it is protected if it has the key; forget : In(1), nothing
    else is kept of that look; choose : In(1), in the cycle after: what was found stays at found : Out(1), a place
    has the key; some : Out(1), there is a place, its own or a victim's; slot : Out. decide : In(1), about that
    place: load : In(1), it takes the key; need : In(1), one for a need is to come; pin : In(1); evicts : Out(1), a
    key goes, useless : Out(1), which was never needed; refused : Out(1), the pin. sweep : In(1), slot is place
    after place; goes : Out(1), its key is to go; go : In(1), on to the next. done : In(1), a need of done_slot : In
    is over; busy : Out(1), needs of ``slot`` are not; idle : Out(1), no place is busy; free : Out, places that are
    not pinned.
    """

    kind = "places"

    def __init__(self, spec: ExpertCacheSpec):
        self.spec = spec
        ins = ("clear", "begin", "fresh_list", "look", "mark", "forget", "choose", "decide", "load", "need", "pin")
        outs = ("ends", "found", "some", "evicts", "useless", "refused", "goes", "busy", "idle")
        super().__init__(
            dict.fromkeys((*ins, "sweep", "go", "done"), In(1))
            | dict.fromkeys(outs, Out(1))
            | {
                "key": In(spec.key_bits),
                "done_slot": In(spec.slot_bits),
                "slot": Out(spec.slot_bits),
                "free": Out(spec.slots.bit_length()),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        masks = {name: Signal(self.spec.slots, name=name) for name in ("there", "pinned", "guarded", "recent", "fresh")}
        order = Signal(self.spec.slots * self.spec.slot_bits, init=self._ascending)
        place = Signal(self.spec.slot_bits)
        chosen = self._look(m, masks, order, place)
        self._decide(m, masks)
        self._touch(m, order, chosen)
        self._count(m)
        self._clear(m, masks)
        m.d.comb += self.free.eq(self.spec.slots - count_ones(masks["pinned"]))
        with m.If(self.clear):
            m.d.sync += order.eq(self._ascending)
        return m

    @property
    def _ascending(self) -> int:
        return sum(slot << (slot * self.spec.slot_bits) for slot in range(self.spec.slots))

    def _look(self, m: Module, masks: dict[str, Signal], order: Value, place: Signal) -> Signal:
        """In the order of the policy; the first of each kind is kept. Returns the place in that order."""
        spec = self.spec
        m.submodules.keys = keys = Memory(shape=spec.key_bits, depth=max(2, spec.slots), init=[])
        write, read = keys.write_port(), keys.read_port(domain="comb")
        slot = named(m, Mux(self.sweep, place, choose(order, spec.slot_bits, place)), "looked_at")
        is_ = {name: named(m, choose(mask, 1, slot), f"is_{name}") for name, mask in masks.items()}
        open_ = named(m, is_["there"] & ~is_["pinned"] & ~is_["guarded"], "open")
        kinds = (is_["there"] & (read.data == self.key), ~is_["there"], open_ & ~is_["recent"], open_ & is_["recent"])
        m.d.comb += [
            read.addr.eq(slot),
            write.addr.eq(self.slot),
            write.data.eq(self.key),
            write.en.eq(self.decide & self.load),
            self.ends.eq(place == spec.slots - 1),
            self.goes.eq(open_),
        ]
        seen, chosen, at = self._kept(m, kinds, place)
        kept = Signal(spec.slot_bits, reset_less=True)
        m.d.comb += self.slot.eq(Mux(self.sweep, place, kept))
        with m.If(self.look | (self.sweep & self.go)):
            m.d.sync += place.eq(Mux(self.ends, 0, place + 1))
        with m.If(self.look & self.mark & kinds[0]):
            m.d.sync += masks["guarded"].bit_select(slot, 1).eq(1)
        with m.If(self.choose):
            m.d.sync += [self.found.eq(seen[0]), self.some.eq(seen.any()), chosen.eq(at)]
            m.d.sync += kept.eq(choose(order, spec.slot_bits, at))
        return chosen

    def _kept(self, m: Module, kinds: tuple[Value, ...], place: Value) -> tuple[Signal, Signal, Value]:
        """Which kinds were seen; a register for the place that is chosen; which one that is: of the first kind seen."""
        seen = Signal(len(kinds))
        chosen = Signal(self.spec.slot_bits, reset_less=True)
        at: Value = chosen
        for n in reversed(range(len(kinds))):
            first = Signal(self.spec.slot_bits, name=f"first_{n}", reset_less=True)
            with m.If(self.look & ~self.forget & kinds[n] & ~seen[n]):
                m.d.sync += [seen[n].eq(1), first.eq(place)]
            at = Mux(seen[n], first, at)
        with m.If(self.choose):
            m.d.sync += seen.eq(0)
        return seen, chosen, named(m, at, "best")

    def _decide(self, m: Module, masks: dict[str, Signal]) -> None:
        there, pinned, guarded, recent, fresh = (mask.bit_select(self.slot, 1) for mask in masks.values())
        goes = named(m, self.sweep & self.go & self.goes, "sweeps")
        use, load = named(m, self.decide & self.need, "use"), named(m, self.decide & self.load, "takes")
        held = named(m, choose(masks["pinned"], 1, self.slot), "held")
        m.d.comb += [
            self.evicts.eq((load & choose(masks["there"], 1, self.slot)) | goes),
            self.useless.eq(self.evicts & choose(masks["fresh"], 1, self.slot)),
            self.refused.eq(self.decide & self.some & self.pin & ~held & (self.free == 1)),
        ]
        with m.If(load):
            m.d.sync += [there.eq(1), fresh.eq(~self.need), guarded.eq(~self.need), recent.eq(0)]
        with m.If(use):
            m.d.sync += [fresh.eq(0), guarded.eq(0), recent.eq(1)]
        with m.If(self.decide & self.some & self.pin & (self.free != 1)):
            m.d.sync += pinned.eq(1)
        with m.If(goes):
            m.d.sync += [there.eq(0), fresh.eq(0), recent.eq(0)]

    def _touch(self, m: Module, order: Signal, chosen: Value) -> None:
        """To the end of the order; all behind it move up."""
        spec = self.spec
        used = self.need if spec.policy == "lru" else 0
        slots = [order.word_select(n, spec.slot_bits) for n in range(spec.slots)]
        with m.If(self.decide & (self.load | used)):
            for n, after in enumerate((*slots[1:], self.slot)):
                with m.If(1 if n == len(slots) - 1 else chosen <= n):  # the last place moves always
                    m.d.sync += slots[n].eq(after)

    def _count(self, m: Module) -> None:
        """Needs that are decided and not done, of each place."""
        spec = self.spec
        uses = [Signal(range(2 * spec.queue + 1), name=f"use_{n}") for n in range(spec.slots)]
        m.d.comb += [self.busy.eq(Array(uses)[self.slot].any()), self.idle.eq(~Cat(uses).any())]
        for n, use in enumerate(uses):
            more = self.decide & self.need & (self.slot == n)
            less = self.done & (self.done_slot == n)
            m.d.sync += use.eq((use + more - less)[: len(use)])

    def _clear(self, m: Module, masks: dict[str, Signal]) -> None:
        with m.If(self.begin):
            m.d.sync += masks["guarded"].eq(0)
        with m.If(self.fresh_list):
            m.d.sync += masks["recent"].eq(0)
        with m.If(self.clear):
            m.d.sync += [mask.eq(0) for mask in masks.values()]
