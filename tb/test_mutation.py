"""Mutants: how many a bench kills, and that what is called equivalent is."""

from gen.export import Product
from tb import equivalence
from tb.equivalence import Aig

VERILOG = """\
module held (
  input clk, rst, s_axis_tvalid, m_axis_tready, input [7:0] s_axis_tdata, input [2:0] other,
  output s_axis_tready, m_axis_tvalid, output [7:0] m_axis_tdata
);
  reg full, waits;
  reg [1:0] count;
  reg [7:0] x;
  assign s_axis_tready = ~full | m_axis_tready;
  assign m_axis_tvalid = full;
  assign m_axis_tdata = other == 1 && !full ? 8'h55
                      : other == 2 && count == 3 ? ~x
                      : other == 3 ? ~x
                      : other == 4 && waits && !s_axis_tvalid ? ~x
                      : other == 5 && count == 2 ? ~x : x;
  always @(posedge clk) begin
    waits <= s_axis_tvalid & ~s_axis_tready & ~rst;
    if (s_axis_tready) full <= s_axis_tvalid;
    if (s_axis_tready & s_axis_tvalid) begin
      x <= other == 3 ? ~s_axis_tdata : s_axis_tdata;
      count <= count == 2 ? 0 : count + 1;
    end
    if (rst) begin full <= 0; count <= 0; end
  end
endmodule
"""

STREAMS = [{"prefix": "s_axis", "direction": "in"}, {"prefix": "m_axis", "direction": "out"}]

PORTS = [
    *({"name": name, "direction": "input", "width": 1} for name in ("clk", "rst", "s_axis_tvalid", "m_axis_tready")),
    *({"name": name, "direction": "output", "width": 1} for name in ("s_axis_tready", "m_axis_tvalid")),
    {"name": "s_axis_tdata", "direction": "input", "width": 8},
    {"name": "m_axis_tdata", "direction": "output", "width": 8},
    {"name": "other", "direction": "input", "width": 3},
]

HELD = Product("held", VERILOG, {"top": "held", "ports": PORTS, "streams": STREAMS, "status": []}, "", "")


def test_what_nobody_can_see_is_the_same_and_what_somebody_can_is_not() -> None:
    """Data beside ``tvalid``, a state that is never reached, a register that holds the complement, a source that would
    have to withdraw ``tvalid``; data after the second beat."""
    found = [v.text for v in equivalence.verdicts(HELD, "other", [1, 2, 3, 4, 5])]
    assert found == ["by steps", "by steps", "by outputs", "by steps", "can be told in cycle 3"]


def test_a_graph_is_written_as_it_was_read() -> None:
    aig = Aig(2, [8], [9, 7], [(4, 2), (7, 3)])
    assert Aig.read(aig.write()) == aig
    long = Aig(1, [], [2 * 300], [(2 * v, 1 if v < 2 else 2) for v in range(1, 300)])
    assert Aig.read(long.write()) == long
