"""How long lists of jobs take: what the golden model says, and what the register CYCLES of the RTL says."""

import numpy as np
import pytest

from gen.registry import unit
from golden.moe import fixture as converted
from golden.soc import timing
from golden.soc.accelerator import AcceleratorSpec
from golden.soc.cycles.parts import Clock
from golden.soc.cycles.run import cycles as counted
from golden.soc.cycles.units import model
from golden.soc.image import Image, Job, lay_out
from golden.soc.registers import ADDRESS
from golden.spec import SpecError
from scripts import moe_layer
from tb.accelerator_host import ALL, WIDE, case, jobs_of, random_jobs, run, world
from tb.axi import Read
from tb.cosim import Rtl, compile
from tb.faults import later
from tb.transactions import check

IDEAL, FAR = 1, 20
"""Latencies of memories that give and take a word in every cycle."""


def preset(name: str) -> AcceleratorSpec:
    spec = unit("accelerator").configure(name)
    assert isinstance(spec, AcceleratorSpec)
    return spec


def cycles(rtl: Rtl, image: Image, latency: int) -> int:
    """What the register CYCLES says behind a list that is right."""
    spec = rtl.spec
    assert isinstance(spec, AcceleratorSpec)
    script = [*run(image), Read(address=ADDRESS["CYCLES"])]
    one = case(spec, "timed", world(spec, image, script, latency=latency))
    played = rtl.play(one)
    check(one, played)
    value: int = played.world.host.seen[-1][0]  # type: ignore[attr-defined]
    return value


@pytest.mark.parametrize(("bus", "burst"), [(64, 8), (128, 16), (256, 4)])
def test_formula_of_a_copy_is_exact(bus: int, burst: int) -> None:
    """From any address to any other; and every cycle is counted right."""
    spec = AcceleratorSpec(bus=bus, burst=burst, depth=64, outstanding=16)
    rtl, rng = compile(spec), np.random.default_rng(bus)
    for _ in range(40):
        words = rng.integers(0, 256, (int(rng.integers(1, 90)), spec.bus_bytes), np.uint8)
        jobs = [Job("copy", words)]
        image = lay_out(spec, jobs, 32 * int(rng.integers(0, 40)), rng)
        latency = int(rng.integers(1, 21))
        assert cycles(rtl, image, latency) == timing.copy_cycles(spec, image, latency)
        assert counted(spec, image, jobs, latency) == timing.copy_cycles(spec, image, latency)


OTHERS = (
    AcceleratorSpec(
        bus=64, burst=8, gemm="rows=2,cols=4,act=fp16_aligned,group=16,k_max=64", topk="n=24,lanes=4,variant=memory"
    ),
    AcceleratorSpec(
        burst=4,
        depth=8,
        outstanding=2,
        gemm="rows=2,cols=2,act_scale=pow2,group=16,k_max=128",
        topk="n=24,lanes=4,variant=queue,key=int8,sides=largest",
    ),
    AcceleratorSpec(
        bus=64,
        burst=4,
        depth=4,
        outstanding=2,
        gemm="rows=4,cols=4,group=16,scale=uint8,weight=int4,out=fp16",
        topk="n=16,lanes=2,variant=memory,pair=true",
    ),
    AcceleratorSpec(
        bus=64,
        burst=4,
        depth=8,
        linear="act_bits=3,weight_bits=2,k_max=32,n_max=24,lanes=4,lines=4,codes=8,outliers=3,macs=2,"
        "reducer=histogram,out=fp16",
        topk="n=16,lanes=2,variant=radix",
    ),
    AcceleratorSpec(
        bus=64,
        moe="d=32,neurons=48,experts=4,tokens=6,rows=2,cols=8,group=16,softmax=true,bias=true,scaled=true,slots=2,"
        "selector=memory,norms=false",
    ),
)
"""Where a stream, a queue or a variant is another one."""


@pytest.mark.parametrize("spec", [WIDE, preset("small"), *later(ALL, *OTHERS)], ids=lambda s: str(s.bus))
def test_every_cycle_of_a_job_is_counted(spec: AcceleratorSpec) -> None:
    """Jobs of all kinds alone, then lists of them, at both latencies."""
    rtl, rng = compile(spec), np.random.default_rng(1)
    alone = [[job] for e in spec.engines for job in jobs_of(spec, rng, e.name, 6)]
    for n, jobs in enumerate([*alone, random_jobs(spec, rng, 8), random_jobs(spec, rng, 7)]):
        image = lay_out(spec, jobs, 32 * int(rng.integers(0, 40)), rng)
        latency = (IDEAL, FAR)[n % 2]
        assert counted(spec, image, jobs, latency) == cycles(rtl, image, latency), (n, jobs[0].kind)


@pytest.mark.parametrize(
    ("values", "kind", "said"),
    [
        (
            {"gemm": "dataflow=weight_stationary"},
            "gemm",
            "dataflow of gemm must not be 'weight_stationary' where cycles are counted",
        ),
        ({"moe": "pruning=true"}, "moe", "pruning of moe must not be True where cycles are counted"),
    ],
)
def test_what_is_not_counted_is_refused(values: dict[str, str], kind: str, said: str) -> None:
    spec = AcceleratorSpec(**values)
    with pytest.raises(SpecError) as refused:
        model(Clock(), spec.engine(kind))
    assert str(refused.value) == said


def the_real_layer() -> tuple[AcceleratorSpec, Job]:
    """16 tokens of the fixture."""
    spec = preset("smollm2")
    return spec, Job("moe", moe_layer.real_batch(spec.engine("moe").spec, converted.load(), 16))


def test_the_real_layer_in_memory() -> None:
    """Its unit is the slower one: 133,944 cycles, 105,209 words."""
    spec, job = the_real_layer()
    image = lay_out(spec, [job])
    assert spec.engine("moe").spec.cycles(job.job) == 133_944
    assert timing.read_words(spec, image, job) == 105_209


@pytest.mark.slow
def test_the_real_layer_through_the_rtl() -> None:
    """Every bit, every cycle; at least 85 % of the bound."""
    spec, job = the_real_layer()
    image = lay_out(spec, [job])
    taken = cycles(compile(spec), image, FAR)
    bound = max(spec.engine("moe").spec.cycles(job.job), timing.read_words(spec, image, job))
    print(f"{taken} cycles, {bound / taken:.1%} of the bound")
    assert bound / taken > 0.85
    assert counted(spec, image, [job], FAR) == taken
