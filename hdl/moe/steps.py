"""What an expert cache does, one thing at a time."""

from typing import Any

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

STEPS = ("table", "collect", "mark", "begin", "sweep", "look", "choose", "decide", "close", "drain")


class Steps(wiring.Component):
    """A table; then lists: collected, after each key the places that have it are marked; then, when all of it is there,
    perhaps a sweep through the places, and key after key is looked for, its place chosen, and decided.

    Members
    -------
    of each step : Out(1), it is that one now. In(1) each: table_ends, takes, ends, ended, final, none, last, sweeps: of
    the list; place_ends: the look at the places is over; go: the step ``sweep``, ``decide``, ``close`` or ``drain`` can
    be made.
    """

    kind = "steps"
    conditions = ("table_ends", "takes", "ends", "ended", "final", "none", "last", "sweeps", "place_ends", "go")

    def __init__(self) -> None:
        super().__init__(dict.fromkeys(self.conditions, In(1)) | dict.fromkeys(STEPS, Out(1)))

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        follows = {
            "table": ((self.table_ends, "collect"),),
            "collect": ((self.takes, "mark"), (self.ends, "begin")),
            "mark": ((self.place_ends & self.ended, "begin"), (self.place_ends, "collect")),
            "begin": ((self.sweeps, "sweep"), (self.none, "close"), (1, "look")),
            "sweep": ((self.go & self.place_ends & self.none, "close"), (self.go & self.place_ends, "look")),
            "look": ((self.place_ends, "choose"),),
            "choose": ((1, "decide"),),
            "decide": ((self.go & self.last, "close"), (self.go, "look")),
            "close": ((self.go & self.final, "drain"), (self.go, "collect")),
            "drain": ((self.go, "table"),),
        }
        with m.FSM(name="step"):
            for step in STEPS:
                with m.State(step):
                    m.d.comb += getattr(self, step).eq(1)
                    for condition, to in reversed(follows[step]):  # the last that holds counts
                        with m.If(condition):
                            m.next = to
        return m
