"""What is proved of the gate's and the load balance's blocks: selection, quotient, comparison with the mean."""

from functools import partial
from typing import Any

from amaranth.hdl import Array, Assert, Assume, C, Cat, Module, Mux, Signal, Value

from golden.moe.balance import BalanceSpec
from golden.moe.gate import GateSpec
from hdl.moe.balance import Compare, Gather
from hdl.moe.divide import Divide
from hdl.moe.select import Select
from tb.formal import Claim, Property
from tb.formal.dispatch import count, wire


class Quotient(Property):
    """Any operands at any time; ``b`` stays while a quotient is made."""

    def __init__(self, dut: Divide):
        super().__init__()
        self.dut = dut
        self.inputs += [dut.begin, dut.a, dut.b]

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.dut = dut = self.dut
        a, b = (Signal(dut.width, name=f"their_{name}", reset_less=True) for name in "ab")
        some = Signal(name="some")  # one has begun
        since = Signal(range(dut.fraction + 3), name="since")
        with m.If(dut.begin):
            m.d.sync += [a.eq(dut.a), some.eq(1), since.eq(0)]
        with m.Elif(since != dut.fraction + 2):
            m.d.sync += since.eq(since + 1)
        m.d.sync += b.eq(dut.b)
        wide = dut.width + dut.fraction + 2
        left, below, above = (Signal(wide, name=name) for name in ("left", "below", "above"))
        # by addition: so often the divisor, and once more
        multiples = [C(0, wide)]
        for _ in range((2 << dut.fraction) + 1):
            multiples.append((multiples[-1] + dut.b)[:wide])
        m.d.comb += [
            left.eq(a << dut.fraction),
            below.eq(Array(multiples)[dut.o]),
            above.eq(Array(multiples[1:])[dut.o]),
        ]
        done = some & dut.ready
        right = Mux(dut.b.any(), (below <= left) & (left < above), dut.o.all())
        m.d.comb += [
            Assume(~dut.begin | dut.ready),
            Assume(~some | (since == 0) | (dut.b == b)),
            Assume((since != 0) | ~some | (a <= dut.b)),
            Assert(~done | right),
            Assert(~some | (dut.ready == (since >= dut.fraction + 1))),
        ]
        return m


class Selected(Property):
    """Ranks at any time, up to ``most`` of them in all; what is above the threshold stays as it is."""

    def __init__(self, dut: Select, most: int):
        super().__init__()
        self.dut, self.most = dut, most
        self.inputs += [
            dut.write,
            dut.expert,
            dut.weight,
            dut.above,
            dut.k_min,
            dut.i.valid,
            dut.i.payload.as_value(),
            dut.o.ready,
        ]

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.dut = dut = self.dut
        experts = 1 << len(dut.expert)
        words = [self.probe(f"dut.scores[{e}]", 33) for e in range(experts)]
        came = dut.i.payload
        k_min, begun = Signal.like(dut.k_min, name="their_k_min"), Signal(name="begun")
        token, rank, number = (Signal(4, name=f"their_{name}") for name in ("token", "rank", "number"))
        above = Array(word[0] for word in words)[came.expert]
        accept = dut.i.valid & dut.i.ready
        m.d.comb += [
            Assume(~dut.write),
            Assume(~begun | (dut.k_min == k_min)),
            Assume(~dut.i.valid | (number < self.most)),
        ]
        m.d.sync += [begun.eq(1), k_min.eq(dut.k_min)]
        shapes = {"there": 1, "keep": 1, "last": 1, "expert": len(came.expert), "token": 4}
        ranks = [{name: Signal(w, name=f"{name}_{i}") for name, w in shapes.items()} for i in range(self.most)]
        values = {
            "there": C(1, 1),
            "keep": came.valid & ((rank < dut.k_min) | above),
            "last": came.last,
            "expert": came.expert,
            "token": token,
        }
        with m.If(accept):
            m.d.sync += [number.eq(number + 1), token.eq(token + came.last), rank.eq(Mux(came.last, 0, rank + 1))]
            for i, kept in enumerate(ranks):
                with m.If(number == i):
                    m.d.sync += [signal.eq(values[name]) for name, signal in kept.items()]
        # what stands there in this cycle counts: an expert goes out when the next one is seen
        known = [
            {
                name: wire(m, Mux(dut.i.valid & (number == i), values[name], signal), f"now_{name}_{i}")
                for name, signal in k.items()
            }
            for i, k in enumerate(ranks)
        ]
        self._check(m, known, words)
        return m

    def _check(self, m: Module, ranks: list[dict[str, Signal]], words: list[Signal]) -> None:
        """The n-th that goes out is the n-th that is kept, or the end of a token that keeps none."""
        o = self.dut.o
        out = Signal(4, name="their_out")
        with m.If(o.valid & o.ready):
            m.d.sync += out.eq(out + 1)

        def kept_of(token: Value, among: list[dict[str, Signal]]) -> Value:
            return Cat(r["there"] & r["keep"] & (r["token"] == token) for r in among).any()

        gives = [
            wire(m, r["there"] & (r["keep"] | (r["last"] & ~kept_of(r["token"], ranks))), f"gives_{i}")
            for i, r in enumerate(ranks)
        ]
        right = []
        for i, r in enumerate(ranks):
            ended = Cat(x["there"] & x["last"] & (x["token"] == r["token"]) for x in ranks).any()
            more = kept_of(r["token"], ranks[i + 1 :])
            weight = Array(word[1:] for word in words)[r["expert"]]
            data = Mux(r["keep"], Cat(r["expert"], weight, C(1, 1)), 0)
            mine = gives[i] & (count(gives[:i]) == out)
            right.append(mine & (more | ended) & (o.payload.last == ~more) & (o.payload.data.as_value() == data))
        m.d.comb += Assert(~o.valid | Cat(right).any())


class Mean(Property):
    """All counts and all sums of them."""

    def __init__(self, dut: Compare):
        super().__init__()
        self.dut = dut
        self.inputs += [dut.count, dut.total]

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.dut = dut = self.dut
        mine = wire(m, sum((dut.count for _ in range(dut.spec.experts)), C(0, 1)), "their_mine")
        m.d.comb += [Assert(dut.more == (mine > dut.total)), Assert(dut.less == (mine < dut.total))]
        return m


class Gathered(Property):
    """Beats at any time: while a batch goes out its sum and its beats are those that came."""

    def __init__(self, dut: Gather):
        super().__init__()
        self.dut = dut
        self.inputs += [dut.i.valid, dut.i.payload.as_value(), dut.open, dut.go]

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.dut = dut = self.dut
        n = dut.spec.experts
        number, at = Signal(range(n + 2), name="their_number"), Signal(range(n + 1), name="their_at")
        whole = Signal(name="their_whole")
        held = [Signal(dut.spec.count_bits + 32, name=f"their_{i}", reset_less=True) for i in range(n)]
        accept, beat, last = dut.i.valid & dut.i.ready, dut.i.payload.data[0], dut.i.payload.last
        kept = Mux(number > n, n, number)
        with m.If(accept):
            m.d.sync += [number.eq(Mux(number > n, number, number + 1)), whole.eq(last), at.eq(0)]
            for i, word in enumerate(held):
                with m.If(number == i):
                    m.d.sync += word.eq(beat.as_value())
        with m.If(dut.go):
            m.d.sync += at.eq(at + 1)
            with m.If(dut.last):
                m.d.sync += [whole.eq(0), number.eq(0)]
        total = sum((Mux(kept > i, word[: dut.spec.count_bits], 0) for i, word in enumerate(held)), C(0, 1))
        m.d.comb += [
            Assume(~dut.go | dut.valid),
            Assume(~beat.b[1:].any()),
            Assert(dut.valid == whole),
            Assert(~whole | (dut.total == total)),
            Assert(~whole | (Cat(dut.count, dut.b) == Array(held)[at])),
            Assert(~whole | (dut.last == (at + 1 == kept))),
            Assert(dut.wrong == (accept & last & (number + 1 != n))),
        ]
        return m


QUOTIENT = "restoring division gives the floor of the quotient, of a divisor 0 all ones"
SELECTED = "selected are the first k_min ranks and those above the threshold, and the last one is marked"
MEAN = "a count is compared with the mean exactly"
GATHERED = "a batch goes out as it came, with its sum; a wrong length is told"


def balance(experts: int, tokens: int) -> BalanceSpec:
    return BalanceSpec(experts=experts, tokens=tokens)


def _quotient(width: int, fraction: int) -> Quotient:
    return Quotient(Divide(width, fraction))


def _selected(experts: int) -> Selected:
    return Selected(Select(GateSpec(experts=experts)), 4)


def _mean(experts: int, tokens: int) -> Mean:
    return Mean(Compare(balance(experts, tokens)))


def _gathered(experts: int, tokens: int) -> Gathered:
    return Gathered(Gather(balance(experts, tokens)))


CLAIMS = (
    *(
        Claim("gate", QUOTIENT, f"{width} bits, {fraction} after the point", partial(_quotient, width, fraction), 12)
        for width, fraction in ((2, 2), (3, 3))
    ),
    *(Claim("gate", SELECTED, f"{n} experts", partial(_selected, n), 8) for n in (2, 3)),
    *(
        Claim("load_balance", MEAN, f"{n} experts, counts to {t}", partial(_mean, n, t))
        for n, t in ((1, 1), (3, 7), (8, 31), (14, 127))
    ),
    *(
        Claim("load_balance", GATHERED, f"{n} experts, counts to {t}", partial(_gathered, n, t), 9)
        for n, t in ((1, 1), (2, 3), (3, 1))
    ),
)
