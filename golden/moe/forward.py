"""The converted network, real-valued: what its hardware is held to within an error budget."""

import numpy as np

from golden.moe import router
from golden.moe.convert import Conversion
from golden.moe.ffn import Ffn, Real
from golden.moe.router import Routing


def moe_forward(
    x: Real, ffn: Ffn, conversion: Conversion, bias: Real | float = 0.0, scale: Real | float = 0.0
) -> tuple[Real, Routing]:
    """``y[t] = sum over chosen experts, ascending, of w * expert(x[t])  +  shared(x[t])``, float64 ``[T, d]``, and who
    was chosen.

    ``ffn`` is the dense network that ``conversion`` splits; ``bias`` and ``scale`` (``[routed]``) are explained in
    :mod:`golden.moe.router`. An expert is computed for its tokens only. A token without routed experts (selection
    ``threshold``) has the shared block alone.
    """
    x = x.astype(np.float64)
    v = router.scores(x, ffn.part(conversion.representatives), conversion.spec)
    routing = router.route(v, conversion.spec, conversion.threshold, bias, scale)
    y = np.zeros((len(x), len(ffn.down)))
    for j, neurons in enumerate(conversion.experts):
        tokens = np.flatnonzero(routing.chosen[:, j])
        y[tokens] += routing.weights[tokens, j, None] * ffn.part(neurons, last=False)(x[tokens])
    return y + ffn.part(conversion.shared)(x), routing
