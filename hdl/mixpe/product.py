"""An element's product: what elements of all dataflows have in common."""

from amaranth.hdl import Cat, Module, Signal, Value

from golden.mixpe.pe import PESpec
from hdl.arith.bits import add_modulo, extend, named, shift_left
from hdl.arith.delay import delay
from hdl.mixpe.cores import product_core
from hdl.mixpe.operands import Operand


def product_of(m: Module, spec: PESpec, x: Operand, w: Value) -> tuple[Value, Value]:
    """The product of an activation and a decoded weight, ``stages - 1`` cycles late, and which of the infinities it is
    (two bits; none for integers)."""
    terms = product_core(spec).terms(x.significand, w)
    if not spec.special_width:
        if spec.stages == 3:
            terms = [delay(m, t, 1, "term") for t in terms]
        product = Signal(spec.product_width, reset_less=True)
        m.d["comb" if spec.stages == 1 else "sync"] += product.eq(add_modulo(len(product), *terms))
        return product.as_signed(), Cat()

    early = min(spec.stages - 1, 1)
    product = named(m, add_modulo(spec.product_width, *terms), "product_now")
    product = delay(m, product, early, "product").as_signed()
    shift, special = delay(m, x.shift, early, "shift"), delay(m, x.special, early, "special")
    zero, negative = ~product.any(), product[-1]
    marks = Cat(special & (zero | ~negative), special & (zero | negative))
    wide = extend(product, spec.product_width + spec.act_format.max_shift)
    shifted = shift_left(m, wide, shift, "up_by").as_signed()
    late = spec.stages - 1 - early
    return delay(m, shifted, late, "shifted"), delay(m, marks, late, "marks")
