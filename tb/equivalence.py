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

EACH = 4
TIMEOUT = 120
"""Seconds of wall time for one output, and for all that are asked at a time."""

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

_QUESTIONS = {"steps": 200, "outputs": 16}
"""The easy one first; how many are asked at a time."""

HOW = tuple(f"by {question}" for question in _QUESTIONS)
"""What verdicts of the same say."""


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

    def copy(self, aig: Aig, inputs: Sequence[int], state: Sequence[int]) -> list[int]:
        """Of all variables. What has the same inputs as in an earlier copy becomes the same gate."""
        made = [0, *inputs, *state]
        for a, b in aig.gates:
            made.append(self.land(made[a >> 1] ^ (a & 1), made[b >> 1] ^ (b & 1)))
        return made

    def again(self, aig: Aig, first: Sequence[int], inputs: Sequence[int], state: Sequence[int]) -> list[int]:
        """A copy that shares with the ``first`` one."""
        made = [0, *inputs, *state]
        for same, (a, b) in zip(first[len(made) :], aig.gates, strict=True):
            x, y = made[a >> 1], made[b >> 1]
            if x != first[a >> 1] or y != first[b >> 1]:
                same = self.land(x ^ (a & 1), y ^ (b & 1))
            made.append(same)
        return made


def miter(aig: Aig, width: int, values: Sequence[int], question: str) -> Aig:
    """An output per value, and one more that is low in the first cycle alone. An output is high when the unit, whose
    last ``width`` inputs are 0, differs from the one where they are its value. The first output of ``aig`` says that
    inputs keep the rules."""
    free, states = aig.inputs - width, len(aig.latches)
    others = len(values) if question == "outputs" else 0
    first = free + 1
    graph = _Graph(first + states * (1 + others) + 1)
    inputs = [2 * v for v in range(1, first)]
    state = [2 * v for v in range(first, first + states)]
    unit = graph.copy(aig, inputs + [0] * width, state)

    def of(made: Sequence[int], literals: Sequence[int]) -> list[int]:
        return [made[x >> 1] ^ (x & 1) for x in literals]

    steps, (kept, *seen) = of(unit, aig.latches), of(unit, aig.outputs)
    latches, outputs = list(steps), []
    for n, value in enumerate(values, 1):
        held = inputs + [value >> bit & 1 for bit in range(width)]
        theirs, more = list(state), True
        while more:  # registers of its own only for what depends on the value
            made = graph.again(aig, unit, held, theirs)
            moves = of(made, aig.latches)
            more = False
            if others:
                for i in range(states):
                    if theirs[i] == state[i] and moves[i] != steps[i]:
                        theirs[i], more = 2 * (first + n * states + i), True
        pairs = list(zip(seen, of(made, aig.outputs)[1:], strict=True))
        if others:
            latches += [0 if theirs[i] == state[i] else moves[i] for i in range(states)]
        else:
            pairs += zip(steps, moves, strict=True)
        outputs.append(graph.land(kept, graph.differ(pairs)))
    latches.append(1)
    return Aig(free, latches, [*outputs, 2 * (first + states * (1 + others))], graph.gates)


def gates(product: Product) -> Aig:
    """What can be seen of a product, and first whether its inputs keep the rules."""
    with tempfile.TemporaryDirectory() as folder:
        written = Path(folder, "seen.aig")
        script = _GATES.replace("seen.aig", str(written)).splitlines()
        yosys(script, {"unit.v": product.verilog, "seen.v": _seen(product.manifest)}, [])
        return Aig.read(written.read_bytes())


def verdicts(product: Product, held: str, values: Sequence[int]) -> list[Verdict]:
    """Of the product with its last input ``held`` at each of the values, in place of 0."""
    (width,) = (p["width"] for p in product.manifest["ports"] if p["name"] == held)
    aig = gates(product)
    found: dict[int, Verdict] = {}
    for question, together in _QUESTIONS.items():
        left = [value for value in values if value not in found]
        for at in range(0, len(left), together):
            batch = left[at : at + together]
            found |= dict(_answers(miter(aig, width, batch, question), batch, question))
    return [found.get(value, Verdict(False, "undecided")) for value in values]


def _answers(asked: Aig, values: Sequence[int], question: str) -> Iterator[tuple[int, Verdict]]:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "miter.aig").write_bytes(asked.write())
        sweep = "&read miter.aig; &lcorr; &scorr -C 100; &write swept.aig"
        _abc(folder, sweep)
        file = "swept.aig" if Path(folder, "swept.aig").exists() else "miter.aig"
        said = _abc(folder, f"read_aiger {file}; strash; pdr -a -s -f -H {1000 * EACH} -T {TIMEOUT}")
    proved = [int(n) for n in re.findall(r"Proved output +(\d+) ", said)]
    told = {int(n): frame for n, frame in re.findall(r"Output +(\d+) was asserted in frame +(\d+)", said)}
    if told.pop(len(values), "") != "1":
        raise RuntimeError(f"ABC did not tell what can be told:\n{said[-2000:]}")
    for n in proved:
        yield values[n], Verdict(True, f"by {question}")
    if question == "outputs":
        for n, frame in told.items():
            yield values[n], Verdict(False, f"can be told in cycle {frame}")


def _abc(folder: str, commands: str) -> str:
    """What ABC says; nothing when it does not come to an end in time."""
    command = [str(yosys_abc()), "-q", commands]
    try:
        run = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=2 * TIMEOUT)
        return run.stdout
    except subprocess.TimeoutExpired:
        return ""


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
