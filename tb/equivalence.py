"""Whether a unit can be told from itself with another value of an input that is held: for mutants.

Compared is what the other side of a port can see: ``tready``, ``tvalid`` and status in every cycle, ``tdata`` and
``tlast`` while ``tvalid`` is high. It begins with all registers and memories at their initial values (0 where the
Verilog declares none) and one cycle of reset; inputs keep the rules of the streams and may else be anything, further
resets may come at any time.

There are two questions, the easy one first. *Steps*: is there a reachable state of the unit in which the other would
take a different step, or show something different? If not, the other never leaves the unit's side. *Outputs*: can the
two, each with registers of its own, ever show something different?
"""

import re
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from gen.export import Product
from gen.netlist import yosys
from tb.formal import yosys_abc

TIMEOUT = 10
"""Seconds for each attempt."""

_GATES = """\
read_verilog unit.v seen.v
hierarchy -top seen
proc
flatten
memory_collect
memory_map
setundef -undriven -init -zero
opt
techmap
opt
formalff -clk2ff
dffunmap
techmap
opt
setundef -undriven -zero
aigmap
opt_clean
write_aiger -zinit seen.aig
"""

_PROVERS = ("pdr", "dprove")
_PROVED = re.compile(
    "Property proved|UNSATISFIABLE|Networks are equivalent|lat = +0  and = +0 (?!.*asserted)", re.DOTALL
)
"""Where nothing is left for the prover, it does not say so."""


@dataclass(frozen=True)
class Verdict:
    """``same``: proved that nobody can tell; else told apart, or undecided."""

    same: bool
    text: str


@dataclass(frozen=True)
class Aig:
    """And-inverter graph. Literal ``2 * v`` is variable ``v``, ``2 * v + 1`` its complement, 0 and 1 are constants;
    variables are the inputs from 1 on, then the latches, which start at 0, then the gates.
    """

    inputs: int
    latches: list[int]
    outputs: list[int]
    gates: list[tuple[int, int]]

    @classmethod
    def read(cls, aiger: bytes) -> Self:
        """From the binary format of AIGER."""
        header, rest = aiger.split(b"\n", 1)
        inputs, latches, outputs, gates = map(int, header.split()[2:6])
        *lines, body = rest.split(b"\n", latches + outputs)
        words, deltas = [int(line) for line in lines], _numbers(body)
        made = []
        for lhs in range(2 * (inputs + latches + 1), 2 * (inputs + latches + gates + 1), 2):
            a = lhs - next(deltas)
            made.append((a, a - next(deltas)))
        return cls(inputs, words[:latches], words[latches:], made)

    def write(self) -> bytes:
        """Inverse of :meth:`read`."""
        first = self.inputs + len(self.latches) + 1
        sizes = (first + len(self.gates) - 1, self.inputs, len(self.latches), len(self.outputs), len(self.gates))
        text = "".join(f"{n}\n" for n in [f"aig {' '.join(map(str, sizes))}", *self.latches, *self.outputs])
        body = bytearray()
        for lhs, (a, b) in enumerate(self.gates, first):
            for delta in (2 * lhs - a, a - b):
                while delta > 127:
                    body.append(delta & 127 | 128)
                    delta >>= 7
                body.append(delta)
        return text.encode() + bytes(body)


def _numbers(body: bytes) -> Iterator[int]:
    value = shift = 0
    for byte in body:
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            yield value
            value = shift = 0


class _Graph:
    """Gates that grow, equal ones once."""

    def __init__(self, first: int):
        self.gates: list[tuple[int, int]] = []
        self._first = first
        self._known: dict[tuple[int, int], int] = {}

    def land(self, a: int, b: int) -> int:
        a, b = max(a, b), min(a, b)
        if b < 2 or a ^ b < 2:
            return a if b == 1 or a == b else 0
        if (a, b) not in self._known:
            self._known[a, b] = 2 * (self._first + len(self.gates))
            self.gates.append((a, b))
        return self._known[a, b]

    def differ(self, pairs: Sequence[tuple[int, int]]) -> int:
        equal = 1
        for a, b in pairs:
            if a != b:
                equal = self.land(equal, self.land(self.land(a, b ^ 1) ^ 1, self.land(a ^ 1, b) ^ 1))
        return equal ^ 1

    def copy(self, aig: Aig, inputs: Sequence[int], state: Sequence[int]) -> tuple[list[int], list[int]]:
        """Next states and outputs."""
        made = [0, *inputs, *state]
        for a, b in aig.gates:
            made.append(self.land(made[a >> 1] ^ (a & 1), made[b >> 1] ^ (b & 1)))
        steps, outputs = ([made[x >> 1] ^ (x & 1) for x in of] for of in (aig.latches, aig.outputs))
        return steps, outputs


def miter(aig: Aig, width: int, value: int, question: str) -> Aig:
    """One output: high when the unit, whose last ``width`` inputs are 0, differs from the one where they are
    ``value``. The first output of ``aig`` says that inputs keep the rules."""
    free, states = aig.inputs - width, len(aig.latches)
    registers = states if question == "steps" else 2 * states
    graph = _Graph(free + registers + 1)
    inputs = [2 * v for v in range(1, free + 1)]
    state = [2 * v for v in range(free + 1, free + 1 + registers)]
    steps, (kept, *seen) = graph.copy(aig, inputs + [0] * width, state[:states])
    held = [value >> bit & 1 for bit in range(width)]
    others, (_, *others_seen) = graph.copy(aig, inputs + held, state[-states:])
    pairs = list(zip(seen, others_seen, strict=True))
    if question == "steps":
        pairs += zip(steps, others, strict=True)
    else:
        steps = steps + others
    return Aig(free, steps, [graph.land(kept, graph.differ(pairs))], graph.gates)


def gates(product: Product) -> Aig:
    """What can be seen of a product, and first whether its inputs keep the rules."""
    with tempfile.TemporaryDirectory() as folder:
        written = Path(folder, "seen.aig")
        script = _GATES.replace("seen.aig", str(written)).splitlines()
        yosys(script, {"unit.v": product.verilog, "seen.v": _seen(product.manifest)}, [])
        return Aig.read(written.read_bytes())


def verdicts(product: Product, held: str, values: Sequence[int]) -> Iterator[Verdict]:
    """Of the product with its last input ``held`` at each of the values, in place of 0."""
    (width,) = (p["width"] for p in product.manifest["ports"] if p["name"] == held)
    aig = gates(product)
    for value in values:
        yield _verdict(aig, width, value)


def _verdict(aig: Aig, width: int, value: int) -> Verdict:
    for question in ("steps", "outputs"):
        asked = miter(aig, width, value, question).write()
        for prover in _PROVERS:
            said = _abc(asked, f"strash; scorr; print_stats; {prover} -T {TIMEOUT}")
            if _PROVED.search(said):
                return Verdict(True, f"by {question}")
            if found := re.search(r"asserted in frame (\d+)", said):
                if question == "outputs":
                    return Verdict(False, f"can be told in cycle {found[1]}")
                break
    bounds = re.findall(r"asserted in (\d+) frames", _abc(asked, f"bmc3 -T {TIMEOUT}"))
    return Verdict(False, f"undecided; bounded, {bounds[-1] if bounds else 0} cycles")


def _abc(aiger: bytes, commands: str) -> str:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "miter.aig")
        file.write_bytes(aiger)
        command = [str(yosys_abc()), "-q", f"read_aiger {file}; {commands}"]
        return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False).stdout


def _seen(manifest: Mapping[str, Any]) -> str:
    """Verilog around the unit: what can be seen of it, and whether the inputs keep the rules."""
    ports = [(p["name"], p["width"], p["direction"]) for p in manifest["ports"]]
    inputs = [name for name, _, direction in ports if direction == "input"]
    lines = [f"  {'input' if d == 'input' else 'wire'} [{width - 1}:0] {name};" for name, width, d in ports]
    lines.append(f"  {manifest['top']} unit ({', '.join(f'.{name}({name})' for name, _, _ in ports)});")
    kept, seen = ["running || rst"], [s["name"] for s in manifest["status"]]
    bits = sum(s["width"] for s in manifest["status"])
    for s in manifest["streams"]:
        found = {p[0]: re.fullmatch(rf"{s['prefix']}(?:_t)?([a-z]+)", p[0]) for p in ports}
        signals = {m[1]: name for name, m in found.items() if m}
        valid, ready = signals.pop("valid"), signals.pop("ready")
        beat, width = f"{{{', '.join(signals.values())}}}", sum(w for name, w, _ in ports if name in signals.values())
        if s["direction"] == "out":
            seen += [valid, f"{{{width}{{{valid}}}}} & {beat}"]
            bits += 1 + width
            continue
        seen.append(ready)
        bits += 1
        lines += [
            f"  reg [{width - 1}:0] {valid}_beat;",
            f"  reg {valid}_waits = 0;",
            f"  always @(posedge clk) {valid}_beat <= {beat};",
            f"  always @(posedge clk) {valid}_waits <= {valid} && !{ready} && !rst;",
        ]
        kept.append(f"!{valid}_waits || ({valid} && {beat} == {valid}_beat)")
    lines += [
        "  reg running = 0, broken = 0;",
        f"  wire kept = !broken && {' && '.join(f'({k})' for k in kept)};",
        "  always @(posedge clk) {running, broken} <= {1'b1, !kept};",
        "  output ok;",
        "  assign ok = kept && running;",
        f"  output [{bits - 1}:0] all;",
        f"  assign all = {{{', '.join(seen)}}};",
        "endmodule\n",
    ]
    return "\n".join([f"module seen ({', '.join(inputs)}, ok, all);", *lines])
