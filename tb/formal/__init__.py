"""Formal proofs: a property is a circuit of assertions around the unit, decided by the SAT solver of Yosys.

``python -m tb.formal [SUBJECT ...]`` prints a table of what is proved. Two words are never mixed: *proved* holds for
all time (by induction) or for all inputs (circuits without state); *bounded* holds for so many cycles from reset.

Sequential proofs start from an arbitrary power-up state and one cycle of reset; later resets may come at any time.
"""

import importlib.metadata
import importlib.util
import inspect
import re
import subprocess
import sys
import tempfile
import time
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from amaranth.back import rtlil
from amaranth.hdl import Assert, Elaboratable, Fragment, Module, Signal, Value

from tb.kept import kept


class Property(Elaboratable):
    """Assertions around a unit. Its elaboration adds ``Assert`` and ``Assume`` to the ``comb`` domain.

    Induction must know the unit's hidden state: :meth:`probe` reads any signal below by its hierarchical name, so that
    an assertion can relate it to the property's own state and the unit needs no ports for it.
    """

    def __init__(self) -> None:
        self.inputs: list[Value] = []  # signals that take any value in any cycle
        self.probes: dict[str, Signal] = {}

    def probe(self, path: str, shape: Any = 1) -> Signal:
        """The signal or memory word (``name[0]``) of that hierarchical name."""
        return self.probes.setdefault(path, Signal(shape, name=f"probe_{len(self.probes)}"))

    @abstractmethod
    def elaborate(self, platform: Any) -> Module: ...


class Inductive(Property):
    """``claim`` is proved together with what is known of the states (:meth:`help`). Without that (``known`` false) a
    broken unit shows from reset that the claim is false."""

    def __init__(self, dut: Any, known: bool = True):
        super().__init__()
        self.dut, self.known, self.spec = dut, known, dut.spec
        self.helping: list[Value] = []
        for port in dut.spec.ports:
            stream = getattr(dut, port.name)
            self.inputs += [stream.valid, stream.payload.as_value()] if port.direction == "in" else [stream.ready]

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.dut = self.dut
        claimed = self.claim(m)
        m.d.comb += [Assert(value) for value in (*claimed, *(self.helping if self.known else ()))]
        return m

    @abstractmethod
    def claim(self, m: Module) -> Sequence[Value]: ...

    def help(self, *values: Value) -> None:
        """These hold as well; without them no induction."""
        self.helping += values


@dataclass(frozen=True)
class Claim:
    """What is to be proved of which unit at which size; ``cycles`` asks for a bounded check in place of a proof, which
    ``engine`` may be :data:`ABC` for."""

    subject: str
    text: str
    size: str
    circuit: Callable[[], Property]
    cycles: int | None = None
    engine: str = "Yosys sat"


@dataclass(frozen=True)
class Proof:
    """A claim that holds; ``result`` says in which sense."""

    claim: Claim
    result: str
    engine: str
    seconds: float


class Refuted(AssertionError):
    """The claim is false; the text ends with an input that shows it."""


class Undecided(AssertionError):
    """No counterexample, and no proof either: the induction needs more steps or a stronger invariant."""


ABC = "ABC bmc3"
"""Model checker for many gates and many cycles; the reset is high in the first cycle alone."""

MAX_STEPS = 20

# Yosys ends its process on an error, so it gets one of its own.
_CHILD = "import sys; from pyosys import libyosys; libyosys.run_pass(f'script {sys.argv[1]}', libyosys.Design())"

_READ = """\
read_rtlil top.il
hierarchy -check -top top
proc
flatten
memory_collect
memory_map
"""

_WORDS = """\
async2sync
chformal -lower
setattr -unset init w:*
cd top
"""

_BITS = """\
chformal -lower
setattr -unset init w:*
chformal -assert -skip 1
cd top
"""

_GATES = """\
setundef -undriven -zero
opt -full
techmap
opt
formalff -clk2ff
dffunmap
techmap
opt
aigmap
opt_clean
"""

_RESET = "  wire width 1 \\\\rst\\n  cell $initstate \\\\first_cycle\\n    connect \\\\Y \\\\rst\\n  end\\n"


def prove(claim: Claim, timeout: float = 1800, again: bool = False) -> Proof:
    """Decide a claim; what was decided before of the same netlist, by the same tools, is not decided ``again`` unless
    asked for.

    Raises :class:`Refuted` with a counterexample, :class:`Undecided` when induction up to ``MAX_STEPS`` steps does not
    close, and ``subprocess.TimeoutExpired`` after ``timeout`` seconds.
    """
    start = time.monotonic()
    circuit = claim.circuit()
    fragment = Fragment.get(circuit, None)  # from here on its inputs and probes are known
    netlist = rtlil.convert(fragment, ports=[*circuit.inputs, *circuit.probes.values()], emit_src=False)
    decide, judge = (_abc, _abc_verdict) if claim.engine == ABC else (_sat, _verdict)

    def log() -> str:
        return decide(claim, circuit, netlist, timeout)

    paths = "".join(f"{s.name} {path} " for path, s in circuit.probes.items())
    parts = (netlist, paths, repr((claim.cycles, claim.engine)), inspect.getsource(sys.modules[__name__]), _version())
    result = judge(claim, log() if again else kept("proofs", parts, log))
    return Proof(claim, result, claim.engine, time.monotonic() - start)


def _sat(claim: Claim, circuit: Property, netlist: str, timeout: float) -> str:
    script = _READ + _WORDS + _probed(circuit)
    command = "sat -prove-asserts -set-assumes -show-ports"
    if re.search(r"^  wire .*\\clk$", netlist, re.MULTILINE):
        command += " -seq 1 -set-at 1 rst 1"
        command += (
            f" -tempinduct-baseonly -maxsteps {claim.cycles}" if claim.cycles else f" -tempinduct -maxsteps {MAX_STEPS}"
        )
    return _yosys(netlist, f"{script}{command}\n", timeout)


def _abc(claim: Claim, circuit: Property, netlist: str, timeout: float) -> str:
    """Assertions become outputs of a network of gates, each of which must stay 0."""
    with tempfile.TemporaryDirectory() as folder:
        aiger, found = Path(folder, "gates.aig"), Path(folder, "counterexample")
        top = netlist.index("module \\top\n")
        netlist = netlist[:top] + re.sub(r"  wire width 1 input \d+ +\\rst\n", _RESET, netlist[top:], count=1)
        script = _READ + _BITS + _probed(circuit) + _GATES
        _yosys(netlist, f"{script}write_aiger -zinit -symbols {aiger}\n", timeout)
        commands = f"read_aiger {aiger}; strash; fold; strash; bmc3 -F {claim.cycles}; write_cex -n {found}"
        command = [str(yosys_abc()), "-q", commands]
        run = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)
        return f"{run.stdout}{run.stderr}\n{found.read_text() if found.exists() else ''}"


def _abc_verdict(claim: Claim, log: str) -> str:
    if "was asserted in frame" in log:
        raise Refuted(f"{claim.subject}, {claim.size}: {claim.text}: false\n{log}")
    if f"No output asserted in {claim.cycles} frames" not in log:
        raise RuntimeError(f"ABC said neither yes nor no:\n{log}")
    return f"bounded, {claim.cycles} cycles"


def _version() -> str:
    return importlib.metadata.version("pyosys")


def _probed(circuit: Property) -> str:
    """Probes are inputs of the netlist until here. Drivers stay (``-nounset``): another name of a probe is none."""
    connected = [f"connect -nounset -set {s.name} \\{path}\n" for path, s in circuit.probes.items()]
    return "".join([*connected, *(f"delete -input w:{s.name}\n" for s in circuit.probes.values())])


def yosys_abc() -> Path:
    """The program beside the module, which is not imported: matplotlib could not be any more, in the same process."""
    found = importlib.util.find_spec("pyosys")
    assert found and found.origin
    return Path(found.origin).parent / "yosys-abc"


def _yosys(netlist: str, script: str, timeout: float) -> str:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "top.il").write_text(netlist)
        Path(folder, "prove.ys").write_text(script)
        child = [sys.executable, "-c", _CHILD, "prove.ys"]
        run = subprocess.run(child, cwd=folder, capture_output=True, text=True, timeout=timeout, check=False)
    if run.returncode:
        raise RuntimeError(f"Yosys failed:\n{(run.stdout + run.stderr)[-2000:]}")
    return run.stdout


def _verdict(claim: Claim, log: str) -> str:
    if "no model found: SUCCESS!" in log:
        return "proved for all inputs"
    if "Induction step proven: SUCCESS!" in log:
        return f"proved by induction, {re.findall(r'induction with length ([0-9]+)', log)[-1]}"
    if found := re.search(r"proved base case for ([0-9]+) steps: SUCCESS!", log):
        return f"bounded, {found[1]} cycles"
    what = f"{claim.subject}, {claim.size}: {claim.text}"
    if "model found: FAIL!" in log or "model found for base case: FAIL!" in log:
        table = re.search(r"^ +(Time )?Signal Name.*", log, re.MULTILINE | re.DOTALL)
        raise Refuted(f"{what}: false\n{table[0] if table else log}")
    if "proof failed." in log:
        raise Undecided(f"{what}: no induction up to {MAX_STEPS} steps")
    raise RuntimeError(f"Yosys said neither yes nor no:\n{log[-2000:]}")
