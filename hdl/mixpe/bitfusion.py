"""BitFusion's processing element: 2-bit bricks, fused by shifts and adders into products as wide as a beat asks for.

A node of ``n`` bits has four children of ``n / 2``. In a mode whose operands are as wide as the node, the children
hold the partial products of one product; where an operand is narrower, they hold products of their own, which are added
without the shift::

    join     x and w         w narrower        both narrower
    u0       xl * wl         x0l * w0          x0 * w0
    u1       xh * wl << n/2  x0h * w0 << n/2   x1 * w1
    u2       xl * wh << n/2  x1l * w1          x2 * w2
    u3       xh * wh << n    x1h * w1 << n/2   x3 * w3

What each child multiplies is put in its place at the edge of the array, so that the cells need no multiplexers before
the bricks.
"""

from collections.abc import Sequence

from amaranth.hdl import C, Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import data

from golden.mixpe.baseline import MODES, BaselineSpec
from hdl.arith.bits import add_modulo, extend
from hdl.arith.delay import delay
from hdl.mixpe.design import Design

Word = Sequence[int]
"""Positions in an operand of a beat of the bits of a word, from the low one up."""


class BitFusion(Design):
    """The products of a beat, as many as its mode has, exactly added to an integer sum.

    A mode travels as one bit per join that some mode of the specification undoes, in the order in which modes undo
    them: the weights of 8 bits, the activations of 8 bits, the weights of 4 bits, the activations of 4 bits.
    """

    def __init__(self, spec: BaselineSpec):
        super().__init__(spec)
        undone = len(spec.modes) - 1
        placed = [
            _placed(8, undone, [_words(mode, i) for i in range(spec.products(at))])
            for at, mode in enumerate(spec.modes)
        ]
        # bits of bricks that come from the same place in every mode travel once
        self._x, self._w = (list(zip(*(p[side] for p in placed), strict=True)) for side in (0, 1))
        self._x_sources, self._w_sources = (list(dict.fromkeys(bits)) for bits in (self._x, self._w))
        self.x_width = len(self._x_sources)
        self.w_width = len(self._w_sources) + len(spec.modes) - 1
        self.sum_width = spec.sum_width

    def operands(self, m: Module, beat: data.View) -> tuple[Value, Value]:
        x, w = (
            Cat(_by_mode(beat.mode, [operand[at] for at in source]) for source in sources)
            for operand, sources in ((beat.x, self._x_sources), (beat.w, self._w_sources))
        )
        return x, Cat(w, (beat.mode < n for n in range(1, len(self.spec.modes))))

    def product(self, m: Module, x: Value, w: Value) -> Value:
        joins = list(w[len(self._w_sources) :])
        bricks_x = Cat(x[self._x_sources.index(source)] for source in self._x)
        bricks_w = Cat(w[self._w_sources.index(source)] for source in self._w)
        halves = _halves(m, 8, bricks_x, bricks_w, C(1, 1), C(1, 1), joins)
        if self.spec.stages == 3:
            halves = [delay(m, half, 1, "half") for half in halves]
        return add_modulo(16, *halves)

    def add(self, m: Module, acc: Value, product: Value) -> Value:
        return add_modulo(self.sum_width, acc, product.as_signed())

    def result(self, total: Value) -> Value:
        return total


def _words(mode: str, i: int) -> tuple[Word, Word]:
    """The operands of product ``i`` of a beat."""
    x, w = MODES[mode]
    return range(i * x, i * x + x), range(i * w, i * w + w)


def _placed(n: int, undone: int, products: Sequence[tuple[Word, Word]]) -> tuple[list[int], list[int]]:
    """The positions of the bits that the bricks of a node multiply, brick after brick: of x, of w. ``undone`` is how
    many joins, from this node's own down, some mode undoes."""
    if n == 2:
        ((x, w),) = products
        return [*x], [*w]
    half = n // 2
    halves = [(x, part) for x, w in products for part in (w[:half], w[half:])] if len(products) == 1 else products
    if undone < 2:
        return [at for x, _ in halves for at in x], [at for _, w in halves for at in w]
    if len(products[0][0]) == n:
        children = [[(part, w)] for x, w in halves for part in (x[:half], x[half:])]
    else:
        quarter = len(products) // 4
        children = [list(products[at : at + quarter]) for at in range(0, len(products), quarter)]
    placed = [_placed(half, undone - 2, child) for child in children]
    return [at for x, _ in placed for at in x], [at for _, w in placed for at in w]


def _by_mode(mode: Value, values: Sequence[Value]) -> Value:
    """The value of the mode; the last one's also where there is no such mode."""
    chosen = values[-1]
    for i, value in reversed(list(enumerate(values[:-1]))):
        chosen = Mux(mode == i, value, chosen)
    return chosen


def _fused(m: Module, n: int, x: Value, w: Value, signed_x: Value, signed_w: Value, joins: list[Value]) -> Value:
    """The sum of a node's products, signed; ``joins`` from its own down, as far as some mode undoes them."""
    if n == 2:
        return _brick(m, x, w, signed_x, signed_w)
    return _named(m, "fused", add_modulo(2 * n + 1, *_halves(m, n, x, w, signed_x, signed_w, joins)), 2 * n + 1)


def _halves(m: Module, n: int, x: Value, w: Value, signed_x: Value, signed_w: Value, joins: list[Value]) -> list[Value]:
    """Two terms of that sum: of the lower and of the upper weights."""
    join_w, join_x = (joins[at] if at < len(joins) else None for at in (0, 1))
    low_x, low_w = (C(0, 1) if join is None else ~join for join in (join_x, join_w))  # half a word is unsigned
    half = n // 2
    if join_x is None:
        low, high = (
            _brick(m, x.word_select(i, n), w.word_select(i, half), signed_x, s) for i, s in enumerate((low_w, signed_w))
        )
    else:
        bits = len(x) // 4
        u = [
            _fused(m, half, x.word_select(i, bits), w.word_select(i, len(w) // 4), sx, sw, joins[2:])
            for i, (sw, sx) in enumerate((sw, sx) for sw in (low_w, signed_w) for sx in (low_x, signed_x))
        ]
        wide = n + half + 1
        low, high = (_named(m, "half", add_modulo(wide, a, _shifted(b, half, join_x)), wide) for a, b in (u[:2], u[2:]))
    return [low, _shifted(high, half, join_w)]


def _brick(m: Module, x: Value, w: Value, signed_x: Value, signed_w: Value) -> Value:
    """A product of words that no mode splits."""
    a, wide = Cat(x, x[-1] & signed_x).as_signed(), len(x) + len(w) + 1
    if len(w) == 2:
        return _named(m, "brick", a * Cat(w, w[-1] & signed_w).as_signed(), wide)
    a = extend(a, len(x) + 2)
    low, mid, high, top = (a & bit.replicate(len(a)) for bit in w)
    pairs = [(low + (mid << 1))[: len(a)], Mux(signed_w, high - (top << 1), high + (top << 1))[: len(a)]]
    return _named(m, "brick", add_modulo(wide, pairs[0].as_signed(), Cat(C(0, 2), pairs[1]).as_signed()), wide)


def _named(m: Module, name: str, value: Value, width: int) -> Value:
    """A signal of its own, since what is used twice would be written twice."""
    named = Signal(signed(width), name=name)
    m.d.comb += named.eq(value[:width])
    return named


def _shifted(value: Value, by: int, join: Value | None) -> Value:
    """Moved up where two halves are joined."""
    moved = Cat(C(0, by), value)
    return (moved if join is None else Mux(join, moved, extend(value, len(moved)))).as_signed()
