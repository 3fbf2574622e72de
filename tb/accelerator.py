"""The bench of unit ``accelerator``: lists of jobs in a memory behind AXI4, started over AXI4-Lite."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from golden.axi import PAGE, SLVERR
from golden.soc.accelerator import AcceleratorSpec
from golden.soc.image import Image, Job, lay_out
from golden.soc.kinds import Engine
from golden.soc.registers import ADDRESS, REGISTERS, Control, State
from tb import accelerator_errors
from tb.accelerator_host import case, ends, jobs_of, random_jobs, reads, run, starts, world
from tb.axi import Access, Read, Write
from tb.transactions import Case

FAR = 0x9A_BCDE_F000
"""An address of 40 bits, at the beginning of a page."""


def bench(spec: AcceleratorSpec, seed: int) -> list[Case]:
    """Registers; jobs of all kinds under every memory and stall; resets in mid-job, of the units and of all; errors."""
    rng = np.random.default_rng(seed)
    mixed = lay_out(spec, random_jobs(spec, rng, 2 * len(spec.engines)), FAR - 96, rng)

    def play(name: str, image: Image = mixed, stall: dict[str, int] | int = 0, **memory: Any) -> Case:
        return case(spec, name, world(spec, image, run(image), seed=seed, **memory), seed, stall)

    sources = {p.name: 96 for p in spec.ports if p.direction == "in"}
    sinks = {p.name: 96 for p in spec.ports if p.direction == "out"}
    return [
        _registers(spec, seed),
        *(play(f"{e.name}-alone", lay_out(spec, jobs_of(spec, rng, e.name, 3), 0, rng)) for e in spec.engines),
        *(play(f"{e.name}-at-once", _early(spec, rng, e), latency=60) for e in spec.engines if e.asking),
        play("pages", _pages(spec, rng)),
        *(play(f"latency-{n}", latency=n) for n in (1, 20, 150)),
        play("slow", pace=3),
        play("jitter", jitter=40),
        *(play(name, stall=stall) for name, stall in {"idle": sources, "back": sinks, "both": sources | sinks}.items()),
        play("both-jitter", stall=128, jitter=30),
        *(play(f"{p.name}-late", stall={p.name: 220}) for p in spec.ports),
        *_cut(spec, rng, seed),
        *(accelerator_errors.cases(spec, seed) if any(e.name == "gemm" for e in spec.engines) else ()),
    ]


def _early(spec: AcceleratorSpec, rng: np.random.Generator, engine: Engine) -> Image:
    """The shortest of some jobs, with its tables: its unit asks for rows before the list's later entries have come."""
    jobs = [jobs_of(spec, rng, engine.name, 1)[0] for _ in range(8)]
    return lay_out(spec, [min(jobs, key=lambda job: len(engine.spec.inputs(job.job)["i"]))])


def _pages(spec: AcceleratorSpec, rng: np.random.Generator) -> Image:
    """Copies of more than a page each, from any word on: bursts that would cross 4 KiB."""
    words = PAGE // spec.bus_bytes + spec.burst + 1
    jobs = [Job("copy", rng.integers(0, 256, (words, spec.bus_bytes), np.uint8)) for _ in range(3)]
    return lay_out(spec, jobs, 0, rng)


def _registers(spec: AcceleratorSpec, seed: int) -> Case:
    """All can be read; those that keep what is written do so, byte by byte; there are no others."""
    script: list[Access] = [Read(address=r.address, value=spec.constants.get(r.name, r.reset)) for r in REGISTERS]
    for r in REGISTERS:
        if r.access == "rw":
            script += [
                Write(address=r.address, value=0xFFFFFFFF),
                Read(address=r.address, value=r.mask),
                Write(address=r.address, value=0x12345678, strobes=0b0101),
                Read(address=r.address, value=0xFF34FF78 & r.mask),
                Write(address=r.address, value=0),
            ]
        elif r.access == "ro":
            script += [
                Write(address=r.address, value=~r.reset & 0xFFFFFFFF),
                Read(address=r.address, value=spec.constants.get(r.name, r.reset)),
            ]
    there = {r.address for r in REGISTERS}
    for address in sorted({a + 4 for a in there} | {a - 4 for a in there if a} | {0xFFC, 0x800})[::2]:
        if address not in there:
            script += [
                Write(address=address, value=0xFFFFFFFF, resp=SLVERR),
                Read(address=address, value=0, resp=SLVERR),
            ]
    image = lay_out(spec, [Job("copy", np.zeros((1, spec.bus_bytes), np.uint8))])
    return case(spec, "registers", world(spec, image, script, expected=image.before), seed, stall=64)


def _cut(spec: AcceleratorSpec, rng: np.random.Generator, seed: int) -> Iterator[Case]:
    """A list is stopped in mid-job and begun again, by RESET and by a reset of all."""
    jobs = [job for e in spec.engines for job in jobs_of(spec, rng, e.name, 1)]
    long = Job("copy", rng.integers(0, 256, (400, spec.bus_bytes), np.uint8))  # not over before the last cut
    image = lay_out(spec, [*jobs, long], 64, rng)
    for n, at in enumerate((1, 9, 40, 90, 140, 200, 333)):
        script = [
            *starts(image),
            Write(address=ADDRESS["CONTROL"], value=Control.RESET, after=at),
            ends(State.QUIET),
            *reads(ERROR=0, ERROR_JOB=0, JOBS_DONE=0, UNIT_STATUS=0, IRQ_STATUS=0),
            *run(image),
        ]
        yield case(spec, f"stopped-{at}", world(spec, image, script), seed, stall=64 * (n % 2))
        if not n % 2:
            cut = world(spec, image, run(image), expected=None)
            yield case(spec, f"reset-{at}", cut, seed, reset_at=20 + at)
            yield case(spec, f"after-reset-{at}", world(spec, image, run(image)), seed)
