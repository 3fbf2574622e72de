"""That a claim says something: of wrong units made out of the right one, by Yosys' ``mutate``, it refutes one soon.

A mutant has one wrong bit at a port of one cell of the unit; where a property has the unit's logic in itself, as those
of product cores do, of the property. One that nobody can see from the unit's ports is no fault, so the first need not
be refuted, and how many it takes says nothing about the claim. A claim under assumptions that nothing fulfils, or whose
assertions do not look at the unit, refutes none.
"""

import subprocess
from collections.abc import Iterator
from dataclasses import replace

from amaranth.back import rtlil
from amaranth.hdl import Fragment

from gen.netlist import yosys
from tb import formal
from tb.formal import Claim

COUNT, SEED = 10, 1

CYCLES = 12
"""Looked at from reset on, of a claim that is proved for all time."""

_READ = ["hierarchy -check -top top", "proc"]


def refuted(claim: Claim, count: int = COUNT, timeout: float = 120) -> int | None:
    """How many mutants were tried up to the first that is refuted, if one of ``count`` is."""
    circuit = claim.circuit()
    fragment = Fragment.get(circuit, None)
    netlist = rtlil.convert(fragment, ports=[*circuit.inputs, *circuit.probes.values()], emit_src=False)
    decide, judge = (formal._abc, formal._abc_verdict) if claim.engine == formal.ABC else (formal._sat, formal._verdict)
    bounded = replace(claim, cycles=claim.cycles or CYCLES)
    for tried, mutant in enumerate(_mutants(netlist, count), 1):
        try:
            judge(bounded, decide(bounded, circuit, mutant, timeout))
        except formal.Refuted:
            return tried
        except subprocess.TimeoutExpired:
            continue
    return None


def _mutants(netlist: str, count: int) -> Iterator[str]:
    where = "top.dut*" if "\nmodule \\top.dut\n" in netlist else "top/t:$* top/t:$check %d"
    script = [
        "read_rtlil top.il",
        *_READ,
        f"mutate -list {count} -seed {SEED} -o mutants.ys {where}",
        "write_rtlil base.il",
    ]
    made = yosys(script, {"top.il": netlist}, ["mutants.ys", "base.il"])
    for line in made["mutants.ys"].splitlines():
        script = ["read_rtlil base.il", line, "write_rtlil mutant.il"]
        text = yosys(script, {"base.il": made["base.il"]}, ["mutant.il"])["mutant.il"]
        yield text.replace("  wire input", "  wire width 1 input")  # as Amaranth writes it
