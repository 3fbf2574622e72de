"""Two more simulators: what Verilator computed, computed again by Icarus Verilog and by Amaranth's own simulator.

The bulk player records every port in every cycle (:mod:`tb.trace`); a second simulator is given the inputs and must
give the outputs, bit for bit, from power-up on: the same beats in the same cycles. What stands beside a low ``valid``
is not compared: it may be what a memory's read port holds before it has read, or an address that a memory has not.
Icarus reads the same Verilog, and takes no ``x`` for a value. What a read port holds at first is unknown in hardware;
in Verilog it would make all that it is added to unknown, times zero or not, so Icarus plays twice: with zeros and with
ones in there. Amaranth's simulator runs the design before any Verilog was written, so it checks the exporter and Yosys
too.
"""

import random
import re
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from amaranth.hdl import ClockDomain, Module
from amaranth.sim import Simulator

from gen import toolchain
from gen.export import Product, shell
from golden.spec import UnitSpec
from tb.cosim import Rtl
from tb.trace import Trace
from tb.transactions import Case, CheckFailed, check

_BENCH = """\
module replay;
  reg clk;
  reg [{bits}-1:0] row;
  integer file, cycle;
{wires}
  {top} dut (
    .clk(clk),
{connections}
  );
  initial begin
    clk = 0;
    cycle = 0;
    file = $fopen("rows", "r");
    while ($fscanf(file, "%h\\n", row) == 1) begin
      #1;
{comparisons}
      clk = 1;
      #1;
      clk = 0;
      cycle = cycle + 1;
    end
    $display("%0d cycles", cycle);
  end
endmodule
"""

_COMPARISON = """\
      if ({meant}{name} !== {place}) begin
        $display("cycle %0d: {name}: Verilator %h, Icarus %h", cycle, {place}, {name});
        $finish;
      end"""


_READ = re.compile(r"^(  reg (?:\[(\d+):0\] )?_\d+_);$", re.MULTILINE)
"""The register of a memory's read port."""


def recording(rtl: Rtl, cases: Sequence[Case], cycles: int, seed: int = 1) -> Trace:
    """A player that has not played yet plays cases in random order, judged, until there are so many cycles."""
    rtl.record()
    for case in random.Random(seed).sample(cases, len(cases)):
        check(case, rtl.play(case))
        if len(trace := rtl.trace()) >= cycles:
            break
    rtl.record(False)
    return trace.first(cycles)


def icarus(product: Product, trace: Trace) -> None:
    """Replay in Icarus Verilog. :class:`~tb.transactions.CheckFailed` names the first port that differs."""
    compiler, simulator = toolchain.icarus()
    for first in "01":
        with tempfile.TemporaryDirectory(prefix="senbazuru-icarus-") as folder:
            for name, text in {
                f"{product.top}.v": _filled(product.verilog, first),
                "replay.v": _bench(product, trace),
                "rows": "".join(f"{row[::-1].tobytes().hex()}\n" for row in trace.rows),
            }.items():
                (Path(folder) / name).write_text(text)
            _said([compiler, "-g2005", "-s", "replay", "-o", "replay.vvp", "replay.v", f"{product.top}.v"], folder)
            said = _said([simulator, "-n", "replay.vvp"], folder)
        if said != f"{len(trace)} cycles\n":
            raise CheckFailed(f"{product.top}: {said.strip()}")


def amaranth(spec: UnitSpec, trace: Trace) -> None:
    """Replay the design itself in Amaranth's simulator. :class:`~tb.transactions.CheckFailed` as above."""
    component, sync, m = shell(spec), ClockDomain("sync"), Module()
    m.domains.sync = sync
    m.submodules.unit = component
    signals = {"rst": sync.rst} | {p.name: getattr(component, p.name) for p in trace.ports if p.name != "rst"}
    inputs, outputs = trace.directed("input"), trace.directed("output")

    async def replay(ctx: Any) -> None:
        for cycle, row in enumerate(trace.rows):
            for port in inputs:
                ctx.set(signals[port.name], int.from_bytes(row[port.bytes].tobytes(), "little"))
            await ctx.delay(0.5)
            for port in outputs:
                wanted, got = int.from_bytes(row[port.bytes].tobytes(), "little"), ctx.get(signals[port.name])
                if wanted != got and (not port.valid or ctx.get(signals[port.valid])):
                    where = f"{spec.unit}: cycle {cycle}: {port.name}"
                    raise CheckFailed(f"{where}: Verilator {wanted:x}, Amaranth {got:x}")
            ctx.set(sync.clk, 1)
            await ctx.delay(0.5)
            ctx.set(sync.clk, 0)

    simulator = Simulator(m)
    simulator.add_testbench(replay)
    simulator.run()


def _filled(verilog: str, bit: str) -> str:
    """With that bit in all read ports of memories at first."""
    return _READ.sub(lambda m: f"{m[1]} = {{{int(m[2] or 0) + 1}{{1'b{bit}}}}};", verilog)


def _bench(product: Product, trace: Trace) -> str:
    wires, compared = [], []
    links = [f"    .{p.name}(row[{8 * p.first} +: {p.width}])" for p in trace.directed("input")]
    for p in trace.directed("output"):
        wires.append(f"  wire [{p.width}-1:0] {p.name};")
        links.append(f"    .{p.name}({p.name})")
        place = f"row[{8 * p.first} +: {p.width}]"
        meant = f"{p.valid} && " if p.valid else ""
        compared.append(_COMPARISON.format(meant=meant, place=place, name=p.name))
    return _BENCH.format(
        bits=8 * trace.rows.shape[1],
        top=product.top,
        wires="\n".join(wires),
        connections=",\n".join(links),
        comparisons="\n".join(compared),
    )


def _said(command: list[str], folder: str) -> str:
    run = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if run.returncode:
        raise RuntimeError(f"{' '.join(command[:2])} ... failed:\n{run.stdout}{run.stderr}")
    return run.stdout
