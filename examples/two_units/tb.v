// Offers all beats, takes results three cycles of four, and compares each with what beats.py wrote.
module tb;
  `include "sizes.vh"
  reg [75:0] act [0:ACT-1];
  reg [75:0] cfg [0:CFG-1];
  reg [11:0] table_ [0:TABLE-1];
  reg [43:0] out [0:OUT-1];
  reg [11:0] exp [0:EXP-1];
  integer act_at = 0, cfg_at = 0, table_at = 0, out_at = 0, exp_at = 0, wrong = 0, cycle = 0;

  reg clk = 0, rst = 1;
  always #5 clk = ~clk;

  wire act_tready, cfg_tready, table_tready;
  wire act_tvalid = act_at < ACT, cfg_tvalid = cfg_at < CFG, table_tvalid = table_at < TABLE;
  wire [75:0] act_beat = act[act_tvalid ? act_at : 0], cfg_beat = cfg[cfg_tvalid ? cfg_at : 0];
  wire [11:0] table_beat = table_[table_tvalid ? table_at : 0];
  wire [39:0] out_tdata;
  wire [7:0] exp_tdata;
  wire out_tvalid, out_tlast, exp_tvalid;
  wire [1:0] sts_error;
  wire tready = cycle % 4 != 0;

  relu dut (
    .clk(clk),
    .rst(rst),
    .s_axis_cfg_tdata(cfg_beat[71:0]),
    .s_axis_cfg_tvalid(cfg_tvalid),
    .s_axis_cfg_tready(cfg_tready),
    .s_axis_tdata(act_beat[71:0]),
    .s_axis_tvalid(act_tvalid),
    .s_axis_tready(act_tready),
    .s_axis_tlast(act_beat[72]),
    .s_axis_table_tdata(table_beat[7:0]),
    .s_axis_table_tvalid(table_tvalid),
    .s_axis_table_tready(table_tready),
    .m_axis_tdata(out_tdata),
    .m_axis_tvalid(out_tvalid),
    .m_axis_tready(tready),
    .m_axis_tlast(out_tlast),
    .m_axis_exp_tdata(exp_tdata),
    .m_axis_exp_tvalid(exp_tvalid),
    .m_axis_exp_tready(tready),
    .sts_error(sts_error)
  );

  initial begin
    $readmemh("act.hex", act);
    $readmemh("cfg.hex", cfg);
    $readmemh("table.hex", table_);
    $readmemh("out.hex", out);
    $readmemh("exp.hex", exp);
  end

  always @(posedge clk) begin
    cycle <= cycle + 1;
    rst <= cycle < 4;
    if (!rst) begin
      if (act_tvalid && act_tready) act_at <= act_at + 1;
      if (cfg_tvalid && cfg_tready) cfg_at <= cfg_at + 1;
      if (table_tvalid && table_tready) table_at <= table_at + 1;
      if (out_tvalid && tready) begin
        if (out_at == OUT || {3'b0, out_tlast, out_tdata} != out[out_at]) wrong <= wrong + 1;
        out_at <= out_at + 1;
      end
      if (exp_tvalid && tready) begin
        if (exp_at == EXP || {4'b0, exp_tdata} != exp[exp_at]) wrong <= wrong + 1;
        exp_at <= exp_at + 1;
      end
    end
    if (cycle == 1000) begin
      $display("%0d of %0d beats of results, %0d of %0d exponents, %0d wrong", out_at, OUT, exp_at, EXP, wrong);
      if (out_at != OUT || exp_at != EXP || wrong != 0 || sts_error != 0) $fatal;
      $finish;
    end
  end
endmodule
