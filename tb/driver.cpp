// The bulk player: plays streams against a Verilated model, by the rules of play in tb/transactions.py.
// "binding.h" is generated from the manifest of the design and defines bind(), which lists its ports.

#include <cstdint>
#include <cstring>
#include <vector>

#include "Vtop.h"
#include "verilated.h"

namespace {

// One stream of one play, shared with Python (tb/cosim.py, class _Stream).
struct Stream {
    const uint8_t* data;      // in: beats, width bytes each
    const uint8_t* last;      // in: tlast of each beat
    uint64_t beats;           // in: how many there are; out: how many are expected
    uint32_t generator;       // state of the stall generator
    uint32_t level;           // a pause when its top byte is below
    uint64_t moved;           // result: beats transferred
    int64_t violation;        // result: kind of the first breach of the rules, or -1
    int64_t violation_cycle;  // result
};

// One play, shared with Python (tb/cosim.py, class _Run).
struct Run {
    uint64_t reset_cycles, tail, surplus, patience;
    int64_t least;                 // do not end sooner than this many cycles after the first accepted beat
    int64_t reset_at;              // or -1
    int64_t first_in, last_in, first_out, last_out;  // result: cycles, or -1
    uint64_t ran;                  // result
};

enum Violation { WITHDRAWN, DATA_CHANGED, LAST_CHANGED, VALID_AFTER_RESET };

template <typename T>
uint8_t* bytes(T& port) {  // Verilator keeps ports little-endian, wide ones as arrays of words
    return reinterpret_cast<uint8_t*>(&port);
}

struct Pins {
    uint8_t* data;
    size_t width;  // bytes of tdata
    uint8_t* valid;
    uint8_t* ready;
    uint8_t* last;  // or null
};

bool pause(Stream& s) {  // xorshift32, twin of tb.transactions.pauses
    s.generator ^= s.generator << 13;
    s.generator ^= s.generator >> 17;
    s.generator ^= s.generator << 5;
    return s.generator >> 24 < s.level;
}

class Source {
    Pins pins;
    bool presents = false;

public:
    explicit Source(const Pins& p) : pins(p) {}

    void idle() {
        presents = false;
        *pins.valid = 0;
        memset(pins.data, 0xff, pins.width);
        if (pins.last) *pins.last = 1;
    }

    void drive(Stream& s) {
        const bool paused = pause(s);
        if (presents) return;
        if (paused || s.moved == s.beats) return idle();
        presents = true;
        *pins.valid = 1;
        memcpy(pins.data, s.data + s.moved * pins.width, pins.width);
        if (pins.last) *pins.last = s.last[s.moved];
    }

    bool sample(Stream& s) {
        if (!presents || !*pins.ready) return false;
        presents = false;  // the pins keep the beat until the clock edge
        s.moved++;
        return true;
    }
};

class Sink {
    Pins pins;
    bool held = false;  // last cycle's beat was not taken: it must still be there
    std::vector<uint8_t> held_data;
    uint8_t held_last = 0;

public:
    std::vector<uint8_t> data, last;

    explicit Sink(const Pins& p) : pins(p), held_data(p.width) {}

    void idle() {
        *pins.ready = 0;
        held = false;
    }

    void drive(Stream& s, bool ready) { *pins.ready = !pause(s) || ready; }

    bool sample(Stream& s, uint64_t cycle) {
        const uint8_t flag = pins.last ? *pins.last : 0;
        if (held) {
            if (!*pins.valid) violate(s, WITHDRAWN, cycle);
            else if (memcmp(pins.data, held_data.data(), pins.width)) violate(s, DATA_CHANGED, cycle);
            else if (flag != held_last) violate(s, LAST_CHANGED, cycle);
        }
        held = *pins.valid && !*pins.ready;
        if (held) {
            memcpy(held_data.data(), pins.data, pins.width);
            held_last = flag;
        }
        if (!*pins.valid || held) return false;
        data.insert(data.end(), pins.data, pins.data + pins.width);
        last.push_back(flag);
        s.moved++;
        return true;
    }

    void after_reset(Stream& s, uint64_t cycle) {
        if (*pins.valid) violate(s, VALID_AFTER_RESET, cycle);
    }

    static void violate(Stream& s, Violation kind, uint64_t cycle) {
        if (s.violation >= 0) return;
        s.violation = kind;
        s.violation_cycle = cycle;
    }
};

struct OneThread : VerilatedContext {
    OneThread() { threads(1); }  // or each player starts a pool of threads
};

class Player {
    OneThread context;
    Vtop top{&context};
    uint8_t* clk = nullptr;
    uint8_t* rst = nullptr;

    // Each kind of port is a list of agents with idle(), drive() and sample(); memory and register ports add theirs here.
    std::vector<Source> sources;
    std::vector<Sink> sinks;
    std::vector<Pins> status;

    void bind();  // binding.h

    // Verilator's runtime finds the context in a variable of the thread, which other players change.
    void enter() { Verilated::threadContextp(&context); }

    void settle() {
        *clk = 0;
        top.eval();
    }

    void edge() {
        *clk = 1;
        top.eval();
    }

    void idle() {
        for (auto& s : sources) s.idle();
        for (auto& s : sinks) s.idle();
    }

    void read_status(uint64_t* out) const {
        for (size_t i = 0; i < status.size(); i++) {
            out[i] = 0;
            memcpy(out + i, status[i].data, status[i].width);
        }
    }

public:
    Player() { bind(); }

    ~Player() {
        enter();
        top.final();
    }

    Sink& sink(size_t i) { return sinks[i]; }

    void tie(const uint64_t* values);  // binding.h

    void play(Run& run, Stream* in, Stream* out, uint64_t* status_out) {
        enter();
        for (auto& s : sinks) s.data.clear(), s.last.clear();
        idle();
        *rst = 1;
        for (uint64_t i = 0; i < run.reset_cycles; i++) settle(), edge();
        *rst = 0;

        uint64_t quiet = 0, ending = 0;
        for (uint64_t cycle = 0;; cycle++) {
            for (size_t i = 0; i < sources.size(); i++) sources[i].drive(in[i]);
            for (size_t i = 0; i < sinks.size(); i++) sinks[i].drive(out[i], ending > 0);
            if (int64_t(cycle) == run.reset_at) return reset(run, out, cycle, status_out);
            settle();

            bool over = run.reset_at < 0, surplus = false;
            quiet++;
            for (size_t i = 0; i < sources.size(); i++) {
                if (sources[i].sample(in[i])) {
                    if (run.first_in < 0) run.first_in = cycle;
                    run.last_in = cycle;
                    quiet = 0;
                }
                over &= in[i].moved == in[i].beats;
            }
            for (size_t i = 0; i < sinks.size(); i++) {
                if (sinks[i].sample(out[i], cycle)) {
                    if (run.first_out < 0) run.first_out = cycle;
                    run.last_out = cycle;
                    quiet = 0;
                }
                over &= out[i].moved >= out[i].beats;
                surplus |= out[i].moved >= out[i].beats + run.surplus;
            }
            ending += over && int64_t(cycle) + 1 >= run.first_in + run.least;
            run.ran = cycle + 1;
            if (ending > run.tail || quiet >= run.patience || surplus) return read_status(status_out);
            edge();
        }
    }

private:
    void reset(Run& run, Stream* out, uint64_t cycle, uint64_t* status_out) {
        *rst = 1;
        settle();
        edge();
        *rst = 0;
        idle();
        settle();
        for (size_t i = 0; i < sinks.size(); i++) sinks[i].after_reset(out[i], cycle + 1);
        run.ran = cycle + 2;
        read_status(status_out);
    }
};

#include "binding.h"

}  // namespace

extern "C" {
Player* player_new() { return new Player; }
void player_delete(Player* p) { delete p; }
void player_tie(Player* p, const uint64_t* values) { p->tie(values); }
void player_play(Player* p, Run* run, Stream* in, Stream* out, uint64_t* status) { p->play(*run, in, out, status); }
void player_fetch(Player* p, uint64_t sink, uint8_t* data, uint8_t* last) {
    const Sink& s = p->sink(sink);
    memcpy(data, s.data.data(), s.data.size());
    memcpy(last, s.last.data(), s.last.size());
}
}
