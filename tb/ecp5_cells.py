"""Simulation models of block RAM and multiplier of ECP5, of which Yosys has none. Verilog, for what Yosys writes.

Not modelled: output registers, resets, cascades, chip selects, write-through, inverted clocks; a cell that asks for one
of these ends the simulation.
"""

from collections.abc import Iterator

SLICES = 64
"""Parameters with the first contents of a block RAM, of 16 words each, which stand 20 bits apart."""


def models() -> str:
    """``DP16KD`` and ``MULT18X18D``."""
    return f"{_block_ram()}\n{_multiplier()}"


def _bus(name: str, width: int) -> str:
    return ", ".join(f"{name}{n}" for n in reversed(range(width)))


def _port(side: str) -> Iterator[str]:
    yield f"  input {_bus(f'DI{side}', 18)}, {_bus(f'AD{side}', 14)}, {_bus(f'CS{side}', 3)},"
    yield f"  input CE{side}, OCE{side}, CLK{side}, WE{side}, RST{side},"
    yield f"  output {_bus(f'DO{side}', 18)}"


def _access(side: str) -> str:
    """A port of up to 18 bits. ``place`` is where its bits are in a word."""
    return f"""\
  wire [13:0] ad{side} = {{{_bus(f"AD{side}", 14)}}};
  wire [17:0] di{side} = {{{_bus(f"DI{side}", 18)}}};
  reg [17:0] do{side};
  assign {{{_bus(f"DO{side}", 18)}}} = {"DATA_WIDTH_B == 36 ? low : doA" if side == "A" else "doB"};
  wire [4:0] place{side} = DATA_WIDTH_{side} >= 18 ? 0 : 9 * ad{side}[3] + (DATA_WIDTH_{side} > 4 ? 0 : 4 * ad{side}[2])
                       + (DATA_WIDTH_{side} > 2 ? 0 : 2 * ad{side}[1]) + (DATA_WIDTH_{side} > 1 ? 0 : ad{side}[0]);
  wire [17:0] lanes{side} = DATA_WIDTH_{side} >= 18 ? {{{{9{{ad{side}[1]}}}}, {{9{{ad{side}[0]}}}}}}
                                               : ((18'd1 << DATA_WIDTH_{side}) - 18'd1) << place{side};
  wire [17:0] old{side} = words[ad{side}[13:4]];
  wire [17:0] new{side} = (old{side} & ~lanes{side}) | ((di{side} << place{side}) & lanes{side});
"""


def _block_ram() -> str:
    ignored = ("ASYNC_RESET_RELEASE", "CSDECODE_A", "CSDECODE_B", "GSR", "REGMODE_A", "REGMODE_B", "RESETMODE")
    ports = ",\n".join("\n".join(_port(side)) for side in "AB")
    slices = [f"INITVAL_{n:02X}" for n in range(SLICES)]
    fill = "\n".join(f"      words[{16 * n} + i] = {name}[20 * i +: 18];" for n, name in enumerate(slices))
    return f"""\
module DP16KD (
{ports}
);
  parameter DATA_WIDTH_A = 18, DATA_WIDTH_B = 18, WRITEMODE_A = "NORMAL", WRITEMODE_B = "NORMAL";
  parameter CLKAMUX = "CLKA", CLKBMUX = "CLKB";
  parameter {", ".join(f'{name} = "-"' for name in ignored)};
{"".join(f"  parameter [319:0] {name} = 0;{chr(10)}" for name in slices)}
  reg [17:0] words [0:1023];
  integer i;
  initial begin
    if (REGMODE_A != "NOREG" || REGMODE_B != "NOREG" || CLKAMUX != "CLKA" || CLKBMUX != "CLKB"
        || WRITEMODE_A == "WRITETHROUGH" || WRITEMODE_B == "WRITETHROUGH") $fatal(1, "DP16KD: not modelled");
    for (i = 0; i < 16; i = i + 1) begin
{fill}
    end
  end
  reg [17:0] low;  // the lower half of a word of 36 bits, which port B reads to the pins of port A
  wire [17:0] upper = {{{{9{{ADA3}}}}, {{9{{ADA2}}}}}};
{_access("A")}{_access("B")}
  always @(posedge CLKA) if (CEA) begin
    if (RSTA) $fatal(1, "DP16KD: not modelled");
    if (DATA_WIDTH_A == 36) begin
      if (WEA) words[{{adA[13:5], 1'b0}}] <= (words[{{adA[13:5], 1'b0}}] & ~lanesA) | (diA & lanesA);
      if (WEA) words[{{adA[13:5], 1'b1}}] <= (words[{{adA[13:5], 1'b1}}] & ~upper) | (diB & upper);
    end else begin
      if (!WEA || WRITEMODE_A == "READBEFOREWRITE") doA <= oldA >> placeA;
      if (WEA) words[adA[13:4]] <= newA;
    end
  end
  always @(posedge CLKB) if (CEB) begin
    if (RSTB) $fatal(1, "DP16KD: not modelled");
    if (DATA_WIDTH_B == 36) begin
      low <= words[{{adB[13:5], 1'b0}}];
      doB <= words[{{adB[13:5], 1'b1}}];
    end else begin
      if (!WEB || WRITEMODE_B == "READBEFOREWRITE") doB <= oldB >> placeB;
      if (WEB) words[adB[13:4]] <= newB;
    end
  end
endmodule
"""


def _multiplier() -> str:
    return f"""\
module MULT18X18D (
  input {_bus("A", 18)}, {_bus("B", 18)}, {_bus("C", 18)},
  input SIGNEDA, SIGNEDB, SOURCEA, SOURCEB,
  output {_bus("P", 36)}
);
  wire [17:0] a = {{{_bus("A", 18)}}};
  wire [17:0] b = {{{_bus("B", 18)}}};
  assign {{{_bus("P", 36)}}} = {{{{18{{SIGNEDA & a[17]}}}}, a}} * {{{{18{{SIGNEDB & b[17]}}}}, b}};
endmodule
"""
