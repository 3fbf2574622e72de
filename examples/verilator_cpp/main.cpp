// Plays beats from a file through the engine, as fast as it takes them, and compares every beat that comes out.
#include "Vmixpe.h"

#include <cstdint>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <map>
#include <string>
#include <vector>

struct Beat {
    std::string data;  // bytes of tdata, byte 0 first
    bool last;
};

// An AXI4-Stream of the module; `last` is null where it has no tlast. Verilator keeps a port in the host's byte order,
// 32 bits a word, so that on a little-endian machine its bytes are those of tdata.
struct Stream {
    const char* name;
    void* data;
    size_t bytes;
    CData *valid, *ready, *last;
    std::vector<Beat> beats;
    size_t at = 0;

    bool moves() const { return *valid && *ready; }

    void offer() {
        *valid = at < beats.size();
        if (!*valid) return;
        std::memcpy(data, beats[at].data.data(), bytes);
        if (last) *last = beats[at].last;
    }

    // Whether the beat that moves now is the expected one.
    bool expected() const {
        return at < beats.size() && !std::memcmp(data, beats[at].data.data(), bytes) && (!last || *last == beats[at].last);
    }
};

#define STREAM(prefix, last) \
    Stream { #prefix, &top.prefix##_tdata, sizeof top.prefix##_tdata, &top.prefix##_tvalid, &top.prefix##_tready, last, {} }

static std::map<std::string, std::vector<Beat>> read(const char* file) {
    std::map<std::string, std::vector<Beat>> streams;
    std::ifstream in(file);
    std::string name, hex;
    for (bool last; in >> name >> hex >> last;) {
        std::string data;
        for (size_t i = 0; i < hex.size(); i += 2) data += char(std::stoi(hex.substr(i, 2), nullptr, 16));
        streams[name].push_back({data, last});
    }
    return streams;
}

int main(int, char** arguments) {
    Vmixpe top;
    Stream ins[] = {
        STREAM(s_axis_act, &top.s_axis_act_tlast),
        STREAM(s_axis_wgt, &top.s_axis_wgt_tlast),
        STREAM(s_axis_par, nullptr),
        STREAM(s_axis_scl, nullptr),
    };
    Stream out = STREAM(m_axis, &top.m_axis_tlast);
    auto beats = read(arguments[1]);
    for (Stream& in : ins) in.beats = beats[in.name];
    out.beats = beats[out.name];

    top.rst = 1;
    for (int i = 0; i < 4; i++) top.clk = i & 1, top.eval();
    top.rst = 0;

    int wrong = 0, cycles = 0;
    for (; out.at < out.beats.size() && cycles < 100000; cycles++) {
        for (Stream& in : ins) in.offer();
        *out.ready = 1;
        top.clk = 0, top.eval();  // valid and ready settle
        if (out.moves()) wrong += !out.expected(), out.at++;
        bool taken[4];
        for (int i = 0; i < 4; i++) taken[i] = ins[i].moves();
        top.clk = 1, top.eval();
        for (int i = 0; i < 4; i++) ins[i].at += taken[i];
    }
    for (Stream& in : ins) wrong += in.at != in.beats.size();  // nothing may be left over
    wrong += out.beats.empty() || out.at != out.beats.size() || top.sts_error;
    std::printf("%zu beats of results in %d cycles, %d wrong\n", out.at, cycles, wrong);
    return wrong != 0;
}
