"""What the benches of unit ``accelerator`` are made of: random jobs, a memory with them, a host that starts lists."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from golden.ports import Beats, StreamPort
from golden.soc.accelerator import AcceleratorSpec
from golden.soc.image import Image, Job
from golden.soc.registers import ADDRESS, Control, State
from tb import kmeans_linear, mixpe, moe_ffn, orizuru
from tb.axi import Access, AxiWorld, Host, Memory, Poll, Read, Write
from tb.transactions import Case

SMALL = {
    "gemm": "rows=2,cols=2",
    "linear": "act_bits=2,weight_bits=2,k_max=16,n_max=8,lanes=2,lines=2,codes=4,outliers=2",
    "topk": "n=8,lanes=4,key=int8",
    "moe": "d=32,neurons=32,experts=3,tokens=5,rows=2,cols=4,group=16",
}
"""Small units of all kinds."""

TINY = AcceleratorSpec(bus=64, burst=4, depth=8, outstanding=4, gemm=SMALL["gemm"])
WIDE = AcceleratorSpec(
    bus=256, burst=2, depth=4, outstanding=1, gemm=SMALL["gemm"], linear=SMALL["linear"], topk="linear"
)
ALL = AcceleratorSpec(burst=8, depth=16, **SMALL)


# --- jobs ---


def _copies(spec: AcceleratorSpec, rng: np.random.Generator) -> Iterator[Any]:
    while True:
        words = int(rng.integers(1, 3 * spec.burst))
        yield rng.integers(0, 256, (words, spec.bus_bytes), np.uint8)


def _gemms(spec: AcceleratorSpec, rng: np.random.Generator) -> Iterator[Any]:
    """Of up to 3 x 3 tiles."""
    gemm = spec.engine("gemm").spec
    while True:
        m, n = (int(rng.integers(1, 3 * size)) for size in (gemm.tokens, gemm.cols))
        yield mixpe.random_job(gemm, rng, m, int(rng.integers(1, min(50, gemm.k_max))), n)


def _linears(spec: AcceleratorSpec, rng: np.random.Generator) -> Iterator[Any]:
    linear = spec.engine("linear").spec
    while True:
        sizes = rng.integers(1, (linear.k_max, linear.n_max), (3, 2), endpoint=True)
        yield from kmeans_linear.chain(linear, rng, [(int(k), int(n)) for k, n in sizes])


def _vectors(spec: AcceleratorSpec, rng: np.random.Generator) -> Iterator[Any]:
    while True:
        yield orizuru.random_vector(spec.engine("topk").spec, rng)


def _batches(spec: AcceleratorSpec, rng: np.random.Generator) -> Iterator[Any]:
    while True:
        yield from moe_ffn.chain(spec.engine("moe").spec, rng, 2)


_JOBS: dict[str, Callable[[AcceleratorSpec, np.random.Generator], Iterator[Any]]] = {
    "copy": _copies,
    "gemm": _gemms,
    "linear": _linears,
    "topk": _vectors,
    "moe": _batches,
}


def random_jobs(spec: AcceleratorSpec, rng: np.random.Generator, number: int) -> list[Job]:
    """Jobs of all kinds, in any order; some use the tables of the one of their kind before."""
    kinds = {engine.name: _JOBS[engine.name](spec, rng) for engine in spec.engines}
    order = [kind for _ in range(number) for kind in rng.permutation(list(kinds))]
    return [Job(str(kind), next(kinds[kind])) for kind in order[:number]]


def jobs_of(spec: AcceleratorSpec, rng: np.random.Generator, kind: str, number: int) -> list[Job]:
    """Jobs of one kind."""
    jobs = _JOBS[kind](spec, rng)
    return [Job(kind, next(jobs)) for _ in range(number)]


# --- around the unit ---


@dataclass
class Watched(Memory):
    """A memory whose bytes are as expected where ``known``."""

    known: NDArray[np.bool_] = field(default_factory=lambda: np.ones(0, np.bool_))

    def ends(self) -> Iterator[str]:
        if self.expected is not None:
            self.image = np.where(self.known, self.image, self.expected)
        return super().ends()


def starts(image: Image, timeout: int = 0) -> list[Access]:
    """Everything that a list needs."""
    return writes(**image.settings, TIMEOUT=timeout, CONTROL=Control.START)


def ends(status: int = State.DONE | State.QUIET, every: int = 16) -> Poll:
    """Not busy, and in that state."""
    return Poll(address=ADDRESS["STATUS"], value=status, mask=0xF, every=every)


def stuck(status: int) -> Poll:
    """In that state, whatever it is."""
    return Poll(address=ADDRESS["STATUS"], value=status, mask=State.BUSY | State.ERROR)


def writes(**registers: int) -> list[Access]:
    return [Write(address=ADDRESS[name], value=value) for name, value in registers.items()]


def reads(**registers: int) -> list[Access]:
    return [Read(address=ADDRESS[name], value=value) for name, value in registers.items()]


def run(image: Image) -> list[Access]:
    """A list, to its end."""
    return [*starts(image), ends(), *reads(ERROR=0, JOBS_DONE=len(image.jobs), UNIT_STATUS=0)]


def world(spec: AcceleratorSpec, image: Image, script: Sequence[Access], **values: Any) -> AxiWorld:
    """``values`` of the memory."""
    around: dict[str, Any] = {"expected": image.after, "known": image.known, "base": image.base}
    memory = Watched(
        spec.ports,
        image.before,
        **around | values,
        longest=spec.burst,
        outstanding=spec.outstanding,
    )
    return AxiWorld(memory, Host(spec.ports, script))


def case(
    spec: AcceleratorSpec,
    name: str,
    around: AxiWorld,
    seed: int = 0,
    stall: dict[str, int] | int = 0,
    irq: int = 0,
    **values: Any,
) -> Case:
    levels = dict.fromkeys([p.name for p in spec.ports], stall) if isinstance(stall, int) else stall
    nothing = {p.name: _none(p) for p in spec.ports if p.direction == "in"}
    values = {"patience": 100_000} | values
    return Case(name, spec.ports, nothing, {}, levels, seed, status={"irq": irq}, world=around, **values)


def _none(port: StreamPort) -> Beats:
    return Beats(np.zeros((0, port.bytes), np.uint8), np.zeros(0, np.bool_))
