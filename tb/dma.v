// A unit that breaks the rules of AXI when told to, for the tests of the bench kit: it copies `length` bytes of memory from
// `source` to `target`, both multiples of 8, a burst of at most 8 words after the other. Registers: 0 source, 4 target,
// 8 length, c control and status (write 1 to begin; bit 0 busy, 1 done, 2 answered with an error), 10 fault; 0 is none.
module dma (
  input  wire        clk,
  input  wire        rst,
  input  wire [11:0] s_axil_awaddr,
  input  wire  [2:0] s_axil_awprot,
  input  wire        s_axil_awvalid,
  output wire        s_axil_awready,
  input  wire [31:0] s_axil_wdata,
  input  wire  [3:0] s_axil_wstrb,
  input  wire        s_axil_wvalid,
  output wire        s_axil_wready,
  output wire  [1:0] s_axil_bresp,
  output wire        s_axil_bvalid,
  input  wire        s_axil_bready,
  input  wire [11:0] s_axil_araddr,
  input  wire  [2:0] s_axil_arprot,
  input  wire        s_axil_arvalid,
  output wire        s_axil_arready,
  output wire [31:0] s_axil_rdata,
  output wire  [1:0] s_axil_rresp,
  output wire        s_axil_rvalid,
  input  wire        s_axil_rready,
  output wire [39:0] m_axi_araddr,
  output wire  [7:0] m_axi_arlen,
  output wire  [2:0] m_axi_arsize,
  output wire  [1:0] m_axi_arburst,
  output wire  [3:0] m_axi_arcache,
  output wire  [2:0] m_axi_arprot,
  output wire  [1:0] m_axi_arid,
  output wire        m_axi_arvalid,
  input  wire        m_axi_arready,
  input  wire [63:0] m_axi_rdata,
  input  wire  [1:0] m_axi_rresp,
  input  wire        m_axi_rlast,
  input  wire  [1:0] m_axi_rid,
  input  wire        m_axi_rvalid,
  output wire        m_axi_rready,
  output wire [39:0] m_axi_awaddr,
  output wire  [7:0] m_axi_awlen,
  output wire  [2:0] m_axi_awsize,
  output wire  [1:0] m_axi_awburst,
  output wire  [3:0] m_axi_awcache,
  output wire  [2:0] m_axi_awprot,
  output wire  [1:0] m_axi_awid,
  output wire        m_axi_awvalid,
  input  wire        m_axi_awready,
  output wire [63:0] m_axi_wdata,
  output wire  [7:0] m_axi_wstrb,
  output wire        m_axi_wlast,
  output wire        m_axi_wvalid,
  input  wire        m_axi_wready,
  input  wire  [1:0] m_axi_bresp,
  input  wire  [1:0] m_axi_bid,
  input  wire        m_axi_bvalid,
  output wire        m_axi_bready,
  output wire        irq
);
  localparam CROSSES = 1, LAST_EARLY = 2, ALL_STROBES = 3, WITHDRAWN = 4, ADDRESS_CHANGES = 5, TOO_MANY = 6, OUTSIDE = 7,
             WORD_MORE = 8, WORD_LESS = 9, WRAPS = 10, NARROW = 11, LONG = 12, UNALIGNED = 13, DATA_CHANGES = 14,
             NO_STROBES = 15, DONE_EARLY = 16, NEVER_DONE = 17, ANSWERS_TWICE = 18, ANSWERS_EARLY = 19, ERROR_LOST = 20,
             READS_EARLY = 21, BAD_ANSWER = 22, WRONG_REGISTER = 23, VALUE_CHANGES = 24, NO_RESET = 25,
             NO_ANSWER = 26;
  localparam IDLE = 0, READ = 1, DATA = 2, WRITE = 3, WORDS = 4, ANSWER = 5;

  reg [31:0] source, target, length;
  reg [4:0] fault;
  reg [2:0] state;
  reg done, error, held_ar, held_w, again;
  reg [63:0] words [0:15];
  reg [4:0] at;
  reg [1:0] id;

  // burst: to the end, to the next 4 KiB of either side, at most 8 words
  wire [4:0] most = fault == LONG ? 16 : 8;
  wire [31:0] left = (length + 7) >> 3;
  wire [9:0] to_source = fault == CROSSES ? 512 : 512 - source[11:3];
  wire [9:0] to_target = fault == CROSSES ? 512 : 512 - target[11:3];
  wire [9:0] page = to_source < to_target ? to_source : to_target;
  wire [9:0] room = page < most ? page : most;
  wire [4:0] count = left < room ? left : room;
  wire [4:0] given = fault == WORD_MORE ? count + 1 : fault == WORD_LESS & count > 1 ? count - 1 : count;
  wire ending = left == count;
  wire [7:0] partial = length[2:0] == 0 ? 8'hff : 8'hff >> 8 - length[2:0];

  assign m_axi_araddr = (fault == OUTSIDE ? source + 32'h100000 : source) + (fault == UNALIGNED ? 4 : 0)
                        + (held_ar & fault == ADDRESS_CHANGES ? 8 : 0);
  assign m_axi_awaddr = target;
  assign m_axi_arlen = count - 1, m_axi_awlen = count - 1;
  assign m_axi_arsize = fault == NARROW ? 2 : 3, m_axi_awsize = 3;
  assign m_axi_arburst = fault == WRAPS ? 2 : 1, m_axi_awburst = 1;
  assign m_axi_arcache = 0, m_axi_awcache = 0, m_axi_arprot = 0, m_axi_awprot = 0;
  assign m_axi_arid = id, m_axi_awid = ~id;
  assign m_axi_arvalid = (state == READ & ~(held_ar & fault == WITHDRAWN)) | (again & state == WORDS & fault == READS_EARLY)
                         | (state == DATA & fault == TOO_MANY);
  assign m_axi_rready = state == DATA & fault != TOO_MANY;
  assign m_axi_awvalid = state == WRITE;
  assign m_axi_wvalid = state == WORDS & ~(again & fault == READS_EARLY);
  assign m_axi_wdata = words[at[3:0]] + (held_w & fault == DATA_CHANGES);
  assign m_axi_wlast = at == (fault == LAST_EARLY & count > 1 ? count - 2 : count - 1);
  assign m_axi_wstrb = fault == ALL_STROBES | ~(ending & at == count - 1) ? 8'hff : fault == NO_STROBES ? 0 : partial;
  assign m_axi_bready = state == ANSWER;
  assign irq = done;

  wire good_r = m_axi_rresp == 0 & m_axi_rid == id;
  wire good_b = m_axi_bresp == 0 & m_axi_bid == ~id;
  wire go = write & s_axil_awaddr == 12'hc & s_axil_wdata[0] & state == IDLE;

  always @(posedge clk) begin
    held_ar <= m_axi_arvalid & ~m_axi_arready;
    held_w <= m_axi_wvalid & ~m_axi_wready;
    case (state)
      IDLE: if (go) begin
        state <= READ;
        done <= 0;
        error <= 0;
      end
      READ: if (m_axi_arready & m_axi_arvalid) begin
        state <= DATA;
        at <= 0;
      end
      DATA: if (m_axi_rvalid & m_axi_rready) begin
        words[at[3:0]] <= m_axi_rdata;
        at <= at + 1;
        if (~good_r & fault != ERROR_LOST) error <= 1;
        if (m_axi_rlast) state <= WRITE;
      end
      WRITE: if (m_axi_awready) begin
        state <= WORDS;
        again <= 1;
        at <= 0;
      end
      WORDS: begin
        if (m_axi_arready) again <= 0;
        if (m_axi_wready & m_axi_wvalid) begin
          at <= at + 1;
          if (at == given - 1) begin
            state <= ANSWER;
            if (fault == DONE_EARLY & ending) begin
              state <= IDLE;
              done <= 1;
            end
          end
        end
      end
      ANSWER: if (m_axi_bvalid) begin
        if (~good_b & fault != ERROR_LOST) error <= 1;
        state <= ~ending ? READ : fault == NEVER_DONE ? ANSWER : IDLE;
        done <= ending & fault != NEVER_DONE;
        id <= id + 1;
        source <= source + 8 * count;
        target <= target + 8 * count;
        length <= ending ? 0 : length - 8 * count;
      end
      default: state <= IDLE;
    endcase
    if (write & state == IDLE) begin
      case (s_axil_awaddr)
        12'h000: source <= merged(source);
        12'h004: target <= merged(target);
        12'h008: length <= merged(length);
        12'h010: fault <= s_axil_wdata[4:0];
        default: ;
      endcase
    end
    if (rst) begin
      state <= fault == NO_RESET ? state : IDLE;  // in the first cycle only
      done <= 0;
      error <= 0;
      fault <= 0;
      id <= 0;
      held_ar <= 0;
      held_w <= 0;
      again <= 0;
    end
  end

  function [31:0] merged(input [31:0] old);
    merged = {s_axil_wstrb[3] ? s_axil_wdata[31:24] : old[31:24], s_axil_wstrb[2] ? s_axil_wdata[23:16] : old[23:16],
              s_axil_wstrb[1] ? s_axil_wdata[15:8] : old[15:8], s_axil_wstrb[0] ? s_axil_wdata[7:0] : old[7:0]};
  endfunction

  // registers: one access at a time, address and value of a write together
  reg b_valid, r_valid, twice, held_r;
  reg [1:0] b_resp, r_resp;
  reg [31:0] r_data;
  wire early = fault == ANSWERS_EARLY;
  wire write = s_axil_awvalid & s_axil_wvalid & ~b_valid;
  wire read = s_axil_arvalid & ~r_valid & fault != NO_ANSWER;
  wire known_w = s_axil_awaddr <= 12'h010 & s_axil_awaddr[1:0] == 0;
  assign s_axil_awready = write, s_axil_wready = write, s_axil_arready = read & ~early;
  assign s_axil_bvalid = b_valid, s_axil_bresp = b_resp;
  assign s_axil_rvalid = r_valid | (early & s_axil_arvalid), s_axil_rresp = r_resp;
  assign s_axil_rdata = r_data + (held_r & fault == VALUE_CHANGES);

  always @(posedge clk) begin
    held_r <= s_axil_rvalid & ~s_axil_rready;
    if (s_axil_bready) b_valid <= 0;
    if (write) begin
      b_valid <= 1;
      b_resp <= known_w | fault == BAD_ANSWER ? 0 : 2;
    end
    if (s_axil_rready & r_valid) begin
      r_valid <= fault == ANSWERS_TWICE & ~twice;
      twice <= 1;
    end
    if (read) begin
      r_valid <= 1;
      twice <= 0;
      r_resp <= 0;
      case (s_axil_araddr)
        12'h000: r_data <= source;
        12'h004: r_data <= fault == WRONG_REGISTER ? source : target;
        12'h008: r_data <= length;
        12'h00c: r_data <= {error, done, state != IDLE};
        12'h010: r_data <= fault;
        default: begin
          r_data <= 0;
          r_resp <= 2;
        end
      endcase
    end
    if (rst) begin
      b_valid <= 0;
      r_valid <= 0;
    end
  end
endmodule
