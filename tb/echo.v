// A unit that breaks the rules when told to, for the tests of the bench kit: each beat x comes back as x + 1 with its tlast
// one cycle later. The fault field of the beats selects a fault; 0 is none.
module echo (
  input  wire        clk,
  input  wire        rst,
  input  wire [15:0] s_axis_tdata,
  input  wire        s_axis_tvalid,
  output wire        s_axis_tready,
  input  wire        s_axis_tlast,
  output wire [15:0] m_axis_tdata,
  output wire        m_axis_tvalid,
  input  wire        m_axis_tready,
  output wire        m_axis_tlast,
  output reg  [1:0]  sts_error
);
  localparam WRONG_DATA = 1, NO_LAST = 2, DUPLICATE = 3, LOST = 4, DATA_CHANGES = 5, WITHDRAWN = 6, LAST_CHANGES = 7,
             HANG = 8, UNUSED_BITS = 9, STATUS = 10, LATE = 11, NO_RESET = 12, AFTERWARDS = 13, ENDLESS = 14,
             TAKES_IDLE = 15;
  reg full, last, held, twice;
  reg [7:0] x, taken;
  reg [3:0] fault;
  reg [5:0] quiet;

  wire third = taken == 3;
  wire valid = s_axis_tvalid | (fault == TAKES_IDLE);
  wire take = valid & s_axis_tready;
  wire give = m_axis_tvalid & m_axis_tready;
  wire bubble = (fault == LATE) & third & ~held;

  assign s_axis_tready = (~full | (give & ~((fault == DUPLICATE) & third & ~twice) & ~((fault == ENDLESS) & third)))
                         & ~((fault == HANG) & third);
  assign m_axis_tvalid = full & ~(held & (fault == WITHDRAWN)) & ~bubble;
  assign m_axis_tdata[8:0] = x + ((fault == WRONG_DATA) & third ? 2 : 1) + (held & (fault == DATA_CHANGES));
  assign m_axis_tdata[15:9] = (fault == UNUSED_BITS) & third ? 7'h40 : 7'h00;
  assign m_axis_tlast = last & (fault != NO_LAST) ^ (held & (fault == LAST_CHANGES));

  always @(posedge clk) begin
    held <= full & ~give;
    quiet <= take | full ? 0 : quiet + ~&quiet;
    if (give) begin
      full <= ((fault == DUPLICATE) & third & ~twice) | ((fault == ENDLESS) & third);
      twice <= 1;
    end
    if (take) begin
      full <= ~((fault == LOST) & (taken == 2));
      x <= s_axis_tdata[7:0];
      last <= s_axis_tlast;
      fault <= s_axis_tdata[11:8];
      taken <= taken + 1;
      twice <= 0;
      if (s_axis_tdata[11:8] == STATUS) sts_error[1] <= 1;
    end
    if ((fault == AFTERWARDS) & (quiet == 40)) full <= 1;
    if (rst) begin
      held <= 0;
      taken <= 0;
      twice <= 0;
      quiet <= 0;
      sts_error <= 0;
      fault <= 0;
      full <= full & (fault == NO_RESET);
    end
  end
endmodule
