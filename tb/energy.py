"""Energy per product, or whatever the unit counts: real data through a block's gates, every net's transitions counted.

The block's netlist stands in the product in place of its RTL, with a counter on every net; the unit's own streams play
a job of real data, and every result is compared with the golden model.

    switching  1/2 C V^2 per transition of a net, C being the capacitance of the pins that it drives inside the block
    internal   the library's internal energy per transition of an output at its net's load, and of inputs that have one
               of their own (data pins of flip-flops); the mean over related pins, conditions, rise and fall
    clock      both of these for the clock net, two transitions a cycle

Left out: wires and the load outside the block; glitches, since cells have no delay here and a net counts once a cycle
at most; the clock's tree; leakage; slopes other than the one at which
the tables are read (see :func:`gen.liberty.read`).
"""

import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace

from gen import netlist
from gen.export import Product
from gen.liberty import Library
from gen.netlist import Netlist
from golden.spec import SpecError, UnitSpec
from tb.cosim import compile
from tb.transactions import case_of, check
from tb.units import COUNTED, REAL

_HEADER_END = re.compile(r"\n\);\n")


@dataclass(frozen=True)
class Energy:
    """pJ per product (or what ``counted`` says), of all instances of the block together, and what was played."""

    switching: float
    internal: float
    clock: float
    products: int
    cycles: int
    instances: int
    voltage: float
    counted: str = "product"

    @property
    def total(self) -> float:
        return self.switching + self.internal + self.clock

    def table(self) -> str:
        """One figure a line, aligned, and what is left out."""
        parts = {name: getattr(self, name) for name in ("switching", "internal", "clock", "total")}
        lines = [f"{name:10} {value:.3f} pJ per {self.counted}" for name, value in parts.items()]
        played = (
            f"{self.products:,} {self.counted}(s) of real data in {self.cycles:,} cycles, {self.instances} instance(s)"
        )
        left_out = "wires, load outside the block, glitches, clock tree, leakage"
        return "\n".join([*lines, f"{'played':10} {played}, {self.voltage} V", f"{'left out':10} {left_out}"])


def measure(spec: UnitSpec, product: Product, made: Netlist, library: Library) -> Energy:
    """Play the unit's real data through ``made``, a block of ``product`` in the library's cells.

    Raises  :class:`~golden.spec.SpecError` where the unit has no real data, ``CheckFailed`` when a result is wrong.
    """
    if spec.unit not in REAL:
        raise SpecError(f"energy must be measured on a unit with real data, one of {', '.join(REAL)}, not {spec.unit}")
    job, products = REAL[spec.unit](spec)
    paths = list(netlist.instances(product, made.module))
    if not paths:
        raise SpecError(f"energy must be measured of a block inside the product, not of {made.module}")
    counted = counting(product, made, netlist.asic_models(library), paths)
    case = case_of(spec, "real", [job])
    played = compile(spec, product=counted).play(case)
    check(case, played)
    nets = _nets(made)
    toggles = {bit: sum(played.status[_port(i, n)] for i in range(len(paths))) for n, bit in enumerate(nets)}
    cycles = (played.cycles or 0) * len(paths)
    switching, internal, clock = (part / products for part in energy(made, library, toggles, cycles))
    return Energy(
        switching, internal, clock, products, played.cycles or 0, len(paths), library.voltage, COUNTED[spec.unit]
    )


def energy(made: Netlist, library: Library, toggles: Mapping[int, int], cycles: int) -> tuple[float, float, float]:
    """Switching, internal and clock energy in pJ of that many transitions per net, and clock cycles."""
    clock_net = made.design["ports"]["clk"]["bits"][0]
    load: dict[int, float] = defaultdict(float)
    ends = []
    for cell in made.design["cells"].values():
        pins = library.cells[cell["type"]].pins
        for name, (bit,) in cell["connections"].items():
            ends.append((pins[name], bit))
            load[bit] += pins[name].capacitance
    half = library.voltage**2 / 2
    switching = sum(half * load[bit] * n for bit, n in toggles.items())
    internal = sum(pin.internal(load[bit]) * toggles.get(bit, 0) for pin, bit in ends)
    clocked = sum(pin.internal() for pin, bit in ends if bit == clock_net)
    clock = 2 * cycles * (half * load[clock_net] + clocked)
    return switching, internal, clock


def counting(product: Product, made: Netlist, models: str, paths: list[str]) -> Product:
    """The product with the netlist in it, and a status output of 32 bits per net and instance: its transitions."""
    nets = _nets(made)
    counters = _COUNTERS.format(n=len(nets), nets=",\n".join(reversed(list(nets.values()))))
    counted = replace(made, verilog=made.verilog.replace("endmodule", f"{counters}endmodule"))
    ports = {_port(i, n): f"{path}.toggles_[{n}]" for i, path in enumerate(paths) for n in range(len(nets))}
    top = netlist.modules(product.verilog)[product.top]
    outputs = "".join(f",\n  output wire [31:0] {port}" for port in ports)
    wired = "".join(f"  assign {port} = {source};\n" for port, source in ports.items())
    opened = _HEADER_END.sub(f"{outputs}\n);\n{wired}", top, count=1)
    status = [*product.manifest["status"], *({"name": port, "width": 32} for port in ports)]
    return replace(
        netlist.put_back(replace(product, verilog=product.verilog.replace(top, opened)), counted, models),
        manifest=product.manifest | {"status": status},
    )


# Half a cycle after the clock edge everything has settled, with either order of flip-flops and counters.
_COUNTERS = """\
  wire [{n}-1:0] nets_ = {{ {nets} }};
  reg [{n}-1:0] was_;
  reg [31:0] toggles_ [0:{n}-1];
  integer i_;
  initial for (i_ = 0; i_ < {n}; i_ = i_ + 1) toggles_[i_] = 0;
  always @(negedge clk) begin
    for (i_ = 0; i_ < {n}; i_ = i_ + 1) toggles_[i_] = toggles_[i_] + (was_[i_] ^ nets_[i_]);
    was_ = nets_;
  end
"""


def _nets(made: Netlist) -> dict[int, str]:
    """A Verilog expression for every net but the clock's, by Yosys' number of it, in a fixed order."""
    nets: dict[int, str] = {}
    for name, net in made.design["netnames"].items():
        for i, bit in enumerate(net["bits"]):
            if isinstance(bit, int):
                nets.setdefault(bit, f"\\{name} " + (f"[{i}]" if len(net["bits"]) > 1 else ""))
    del nets[made.design["ports"]["clk"]["bits"][0]]
    return nets


def _port(instance: int, net: int) -> str:
    return f"sts_toggles_{instance}_{net}"
