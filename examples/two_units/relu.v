// Activations to indices of K-Means centroids (kmeans_quantizer), and those to ReLU of the centroids (kmeans_function):
//
//   s_axis, s_axis_cfg --> kmeans_quantizer --indices--> kmeans_function --> m_axis
//                                 |                            ^
//                            m_axis_exp                   s_axis_table
//
// What the beats hold is said by kmeans_quantizer.json and kmeans_function.json: with bits=3 and lanes=4 the output of
// the one is, field by field, the input of the other. ReLU does not depend on the scale, so one table does for all tokens.
module relu (
  input  wire        clk,
  input  wire        rst,
  input  wire [71:0] s_axis_cfg_tdata,
  input  wire        s_axis_cfg_tvalid,
  output wire        s_axis_cfg_tready,
  input  wire [71:0] s_axis_tdata,
  input  wire        s_axis_tvalid,
  output wire        s_axis_tready,
  input  wire        s_axis_tlast,
  input  wire  [7:0] s_axis_table_tdata,
  input  wire        s_axis_table_tvalid,
  output wire        s_axis_table_tready,
  output wire [39:0] m_axis_tdata,
  output wire        m_axis_tvalid,
  input  wire        m_axis_tready,
  output wire        m_axis_tlast,
  output wire  [7:0] m_axis_exp_tdata,
  output wire        m_axis_exp_tvalid,
  input  wire        m_axis_exp_tready,
  output wire  [1:0] sts_error
);
  wire [15:0] index_tdata;
  wire index_tvalid, index_tready, index_tlast;

  kmeans_quantizer quantizer (
    .clk(clk),
    .rst(rst),
    .s_axis_tdata(s_axis_tdata),
    .s_axis_tvalid(s_axis_tvalid),
    .s_axis_tready(s_axis_tready),
    .s_axis_tlast(s_axis_tlast),
    .s_axis_cfg_tdata(s_axis_cfg_tdata),
    .s_axis_cfg_tvalid(s_axis_cfg_tvalid),
    .s_axis_cfg_tready(s_axis_cfg_tready),
    .m_axis_tdata(index_tdata),
    .m_axis_tvalid(index_tvalid),
    .m_axis_tready(index_tready),
    .m_axis_tlast(index_tlast),
    .m_axis_exp_tdata(m_axis_exp_tdata),
    .m_axis_exp_tvalid(m_axis_exp_tvalid),
    .m_axis_exp_tready(m_axis_exp_tready),
    .sts_error(sts_error)
  );

  // One beat of cfg per token: the first takes the table, the others keep it.
  wire cfg_tready;
  reg first = 1'b1;
  always @(posedge clk) first <= rst | (first & ~cfg_tready);

  kmeans_function relu (
    .clk(clk),
    .rst(rst),
    .s_axis_tdata(index_tdata),
    .s_axis_tvalid(index_tvalid),
    .s_axis_tready(index_tready),
    .s_axis_tlast(index_tlast),
    .s_axis_cfg_tdata({7'b0, first}),
    .s_axis_cfg_tvalid(1'b1),
    .s_axis_cfg_tready(cfg_tready),
    .s_axis_table_tdata(s_axis_table_tdata),
    .s_axis_table_tvalid(s_axis_table_tvalid),
    .s_axis_table_tready(s_axis_table_tready),
    .m_axis_tdata(m_axis_tdata),
    .m_axis_tvalid(m_axis_tvalid),
    .m_axis_tready(m_axis_tready),
    .m_axis_tlast(m_axis_tlast)
  );
endmodule
