"""Lists of jobs with anything in them: the accelerator ends with a code that names the cause, and runs the next one."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from gen.registry import UNITS
from golden.axi import DECERR
from golden.ports import Beats
from golden.soc.accelerator import AcceleratorSpec
from golden.soc.descriptor import ADDRESS_BITS, ENTRY, HEADER, RECORD
from golden.soc.image import Image, lay_out
from golden.soc.registers import ADDRESS, Control, Error, State
from tb.accelerator_host import random_jobs
from tb.axi import Memory
from tb.cosim import Session

TIMEOUT = 200
SOON = 20_000
"""Cycles in which any list ends: jobs that move data for longer are left out."""

FIELDS = [(port, f.name, f.width) for port in (HEADER, ENTRY) for f in port.fields]


def configuration() -> AcceleratorSpec:
    spec = UNITS["accelerator"].configure("tiny")
    assert isinstance(spec, AcceleratorSpec)
    return spec


def changed(record: NDArray[np.uint8], port: Any, name: str, value: int) -> NDArray[np.uint8]:
    values = port.unpack(Beats(record[None], np.zeros(1, np.bool_)))
    values[name][:] = value
    made: NDArray[np.uint8] = port.pack(**values).data[0]
    return made


@st.composite
def records(draw: st.DrawFn, good: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Fields with other values, records that are gone, twice, or anything at all."""
    made = good.copy()
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(made) - 1))
        match draw(st.sampled_from(["field", "field", "gone", "twice", "swapped", "anything"])):
            case "field":
                port, name, width = draw(st.sampled_from(FIELDS))
                bit = st.integers(0, width - 1).map(lambda n: 1 << n)
                value = draw(st.integers(0, 9) | bit | st.integers(0, (1 << width) - 1))
                made[at] = changed(made[at], port, name, value)
            case "gone" if len(made) > 1:
                made = np.delete(made, at, axis=0)
            case "twice":
                made = np.insert(made, at, made[at], axis=0)
            case "swapped":
                other = draw(st.integers(0, len(made) - 1))
                made[[at, other]] = made[[other, at]]
            case _:
                made[at] = np.frombuffer(draw(st.binary(min_size=RECORD, max_size=RECORD)), np.uint8)
    return made


def test_the_accelerator_bears_lists_of_anything() -> None:
    spec = configuration()
    rng = np.random.default_rng(5)
    good = lay_out(spec, random_jobs(spec, rng, 3), 0, rng)
    size = 1 << 16
    session = Session(spec, memory(spec, good, size))
    seen: set[Error] = set()

    @settings(max_examples=100, derandomize=True, database=None)
    @given(records(listed(good)))
    def judge(made: NDArray[np.uint8]) -> None:
        session.memory[:] = 0
        session.memory[: len(good.before)] = good.before
        at = size // 2
        session.memory[at : at + made.size] = made.ravel()
        status = run(session, at, len(made))
        assert status & (State.DONE | State.ERROR) in (State.DONE, State.ERROR)
        code = Error(session.read(ADDRESS["ERROR"]))
        assert bool(status & State.ERROR) == (code != Error.NONE)
        seen.add(code)
        session.write(ADDRESS["CONTROL"], Control.CLEAR)
        session.memory[: len(good.before)] = good.before
        assert run(session, good.list, good.records) == State.DONE | State.QUIET
        assert (session.memory[: len(good.after)] == good.after)[good.known].all()

    judge()
    assert {Error.NONE, Error.DESCRIPTOR} < seen  # the benches have a case for every code


def memory(spec: AcceleratorSpec, good: Image, size: int) -> Memory:
    """Around it every address is answered with an error."""
    beyond: Mapping[range, int] = {range(size, 1 << ADDRESS_BITS): DECERR}
    return Memory(spec.ports, np.zeros(size, np.uint8), longest=spec.burst, outstanding=spec.outstanding, errors=beyond)


def listed(good: Image) -> NDArray[np.uint8]:
    return good.before[good.list :][: RECORD * good.records].reshape(-1, RECORD)


def run(session: Session, at: int, count: int) -> int:
    """The status at the end of a list."""
    values = {"LIST": at, "LIST_HIGH": 0, "LIST_RECORDS": count, "TIMEOUT": TIMEOUT, "CONTROL": Control.START}
    for name, value in values.items():
        session.write(ADDRESS[name], value)
    begun = session.cycle
    while (status := session.read(ADDRESS["STATUS"])) & State.BUSY:
        assert session.cycle < begun + SOON, "it hangs"
        session.step(100)
    return status & 0xF
