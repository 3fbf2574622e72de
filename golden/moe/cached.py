"""A converted layer whose routed experts are computed from the places of a cache: hints change what is loaded when, and
no bit of a result."""

from collections.abc import Sequence

import numpy as np

from golden.moe import router
from golden.moe.convert import Conversion
from golden.moe.ffn import Ffn, Real
from golden.moe.residency import Decision, KeyList, Residency


class CachedLayer:
    """As :func:`golden.moe.forward.moe_forward`, with ``slots`` places and a policy. The dense network ``ffn`` is the
    memory that experts are copied from; the shared block stays."""

    def __init__(self, ffn: Ffn, conversion: Conversion, slots: int, policy: str) -> None:
        self.conversion = conversion
        self.residency = Residency(slots, policy)
        self._memory, self._shared = ffn, ffn.part(conversion.shared)
        self._router = ffn.part(conversion.representatives)
        self._places: list[Ffn | None] = [None] * slots

    def hint(self, experts: Sequence[int]) -> None:
        """These may be needed."""
        for decision in self.residency.decide(KeyList(experts, need=False)):
            self._load(decision)

    def __call__(self, x: Real) -> Real:
        """``[T, d]`` in, float64 ``[T, d]`` out; the router decides."""
        x = x.astype(np.float64)
        spec = self.conversion.spec
        routing = router.route(router.scores(x, self._router, spec), spec, self.conversion.threshold)
        needed = np.flatnonzero(routing.chosen.any(axis=0)).tolist()
        y = np.zeros((len(x), len(self._memory.down)))
        for decision in self.residency.decide(KeyList(needed)):
            self._load(decision)
            assert decision.slot is not None
            expert, mine = self._places[decision.slot], np.flatnonzero(routing.chosen[:, decision.key])
            assert expert
            y[mine] += routing.weights[mine, decision.key, None] * expert(x[mine])
        return y + self._shared(x)

    def _load(self, decision: Decision) -> None:
        """Decisions come in the order of use, so that a place is overwritten when its expert is through."""
        if decision.miss:
            assert decision.slot is not None
            self._places[decision.slot] = self._memory.part(self.conversion.experts[decision.key], last=False)
