"""Jobs of a whole model through the RTL: compared with the golden models, counted."""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from golden.mixpe.gemm import MixPESpec
from golden.moe.layer import MoEFFNSpec
from golden.spec import UnitSpec
from scripts import moe_layer
from scripts.layers import Say


@dataclass(frozen=True, kw_only=True)
class Tally:
    """What jobs took, summed. ``steps``: cycles in which an array takes a step; ``places``: rows * cols * cycles;
    ``ran``: simulated cycles, resets and the wait for what should not come included, in ``seconds``."""

    outputs: int = 0
    mismatches: int = 0
    cycles: int = 0
    steps: int = 0
    macs: int = 0
    places: int = 0
    ran: int = 0
    seconds: float = 0.0

    def __add__(self, other: "Tally") -> "Tally":
        return Tally(**{f.name: getattr(self, f.name) + getattr(other, f.name) for f in fields(self)})


class Simulated:
    """Computes jobs in the RTL of their units, one design per specification.

    With ``verify`` each result is compared with the golden model's for the same job, which a thread of its own
    computes; :class:`~tb.transactions.CheckFailed` for a job that takes other than its stated cycles or breaks a
    stream's rules in any case.
    """

    def __init__(self, specs: Iterable[UnitSpec], verify: bool, say: Say) -> None:
        from tb.cosim import Rtl, compile

        self._rtl: dict[UnitSpec, Rtl] = {}
        for spec in dict.fromkeys(specs):
            say(f"building {spec.unit} with Verilator (some minutes for a new configuration) ...")
            self._rtl[spec] = compile(spec, optimise=True)
        self._golden = ThreadPoolExecutor(1) if verify else None
        self.tally = Tally()

    def __call__(self, spec: Any, job: Any) -> Any:
        rtl = self._rtl[spec]
        expected = self._golden.submit(spec.compute, job) if self._golden else None
        y = rtl(job, exact=not isinstance(spec, MoEFFNSpec) or spec.hidden(job))
        wrong = 0 if expected is None else int((_bits(y) != _bits(expected.result())).sum())
        steps, macs = _effort(spec, job)
        self.tally += Tally(
            outputs=y.size if self._golden else 0,
            mismatches=wrong,
            cycles=rtl.cycles,
            steps=steps,
            macs=macs,
            places=spec.rows * spec.cols * rtl.cycles,
            ran=rtl.ran,
            seconds=rtl.seconds,
        )
        return y

    def take(self) -> Tally:
        """What has been counted since the last call."""
        taken, self.tally = self.tally, Tally()
        return taken


def _bits(y: Any) -> Any:
    return y.view(np.uint32)


def _effort(spec: MixPESpec | MoEFFNSpec, job: Any) -> tuple[int, int]:
    """Steps and real multiply-accumulates; of a layer of experts those of the experts."""
    if isinstance(spec, MoEFFNSpec):
        return moe_layer.effort(spec, spec.work(job))
    m, k, n = job.shape
    return spec.steps(job), m * k * n
