"""Mutants: how many a bench kills, and that what is called equivalent is."""

import json
import os
from pathlib import Path

import pytest

from gen.export import Product
from gen.registry import UNITS
from tb import equivalence
from tb.command import Capture, run
from tb.cosim import compile
from tb.equivalence import Aig
from tb.mutation import COUNT, CYCLES, ENOUGH, Mutant, affordable, killers, measure, mutated
from tb.units import BENCHES

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


RECORDS = json.loads(Path(__file__).parents[1].joinpath("docs", "mutation.json").read_text())
QUICK = [unit for unit in RECORDS if unit != "uart_bridge"]
"""Units of which ``make test`` plays some mutants, about five seconds of CPU each."""


@pytest.mark.parametrize("unit", [pytest.param(u, marks=() if u in QUICK else pytest.mark.slow) for u in RECORDS])
def test_a_bench_sees_what_it_saw_of_a_hundred_mutants(unit: str) -> None:
    """Of another netlist than the recorded one, nearly all."""
    score = measure(UNITS[unit].configure("tiny"), 100, known=RECORDS[unit])
    recorded = {hole["mutant"] for hole in RECORDS[unit]["holes"]}
    new = [str(m) for m, _ in score.holes if m.name not in recorded]
    assert len(new) <= (0 if score.netlist == RECORDS[unit]["netlist"] else 2), score.table()


@pytest.mark.slow
@pytest.mark.parametrize("unit", RECORDS)
def test_a_bench_sees_nearly_all_mutants(unit: str) -> None:
    score = measure(UNITS[unit].configure("tiny"), known=RECORDS[unit])
    assert score.mutants == COUNT
    assert score.share >= min(ENOUGH, RECORDS[unit]["score"]), score.table()


def test_the_unmutated_netlist_passes_and_a_mutant_need_not_come_back() -> None:
    """The netlist of all mutants with none selected is the unit; one that ends the simulator is killed by that."""
    spec = UNITS["mixpe_pe"].configure("tiny")
    made = mutated(spec, 100)
    rtl, cases = compile(spec, product=made.product), BENCHES["mixpe_pe"](spec, 1)
    played, cycles = affordable(rtl, cases)
    assert played and cycles <= CYCLES
    none = Mutant(0, "")
    assert list(killers(rtl, played[:1], [none, none])) == [None, None]
    assert list(killers(Ends(), played[:1], [none, none])) == ["the simulator ended"] * 2  # type: ignore[arg-type]


class Ends:
    """A player whose process is gone when it is to play."""

    def tie(self, **values: int) -> None:
        os._exit(1)


def test_the_command_refuses_what_it_cannot_count(capsys: Capture) -> None:
    assert run(capsys, "mutate", "mixpe_pe", "--count", "0") == (2, "", "count must be at least 1, not 0\n")
    code, _, said = run(capsys, "mutate", "zzz")
    assert code == 2
    assert said.startswith("'zzz' is not a unit; it must be one of ")


def test_the_command_prints_the_score_and_it_is_enough(capsys: Capture, tmp_path: Path) -> None:
    code, printed, said = run(capsys, "mutate", "mixpe_pe", "--count", "100", "--json", str(tmp_path / "score.json"))
    assert code == 0, printed + said
    record = json.loads((tmp_path / "score.json").read_text())
    assert printed.startswith("mixpe_pe: 100 mutants, seed 1; ")
    assert record["killed"] + record["equivalent"] + len(record["holes"]) == record["mutants"] == 100
    assert record["score"] >= ENOUGH
