// The bulk player: plays streams against a Verilated model, by the rules of play in tb/transactions.py.
// "binding.h" is generated from the manifest of the design and defines bind(), which lists its ports.

#include <cstdint>
#include <cstring>
#include <utility>
#include <vector>

#include "Vtop.h"
#include "verilated.h"
#if VM_COVERAGE
#include "verilated_cov.h"
#endif

namespace {

// Whether the world of the case is told of the beats of a stream: never, at some time, before the next cycle.
enum Told : uint32_t { NEVER, NOTED, ANSWERED };

// One stream of one play, shared with Python (tb/cosim.py, class _Stream).
struct Stream {
    const uint8_t* data;      // in: beats that are there from the start, packed
    const uint8_t* last;      // in: tlast of each beat
    uint64_t beats;           // in: how many there are, given ones included; out: how many are expected
    uint64_t most;            // out: the play ends when there are so many
    uint32_t generator;       // state of the stall generator
    uint32_t level;           // a pause when its top byte is below
    uint32_t told;            // Told
    uint32_t number;          // name of the stream where the world is told
    uint64_t moved;           // result: beats transferred
    int64_t violation;        // result: kind of the first breach of the rules, or -1
    int64_t violation_cycle;  // result
};

// One play, shared with Python (tb/cosim.py, class _Run).
struct Run {
    uint64_t reset_cycles, tail, patience;
    int64_t least;                 // do not end sooner than this many cycles after the first accepted beat
    int64_t reset_at;              // or -1
    uint64_t until;                // pause before this cycle
    uint64_t waits;                // the world is not over: do not end
    int64_t first_in, last_in, first_out, last_out;  // result: cycles, or -1
    uint64_t ran;                  // result
};

// Why a player returns: the play is over, the world must answer the beats of this cycle, cycle `until` is next.
enum Why { OVER, ASKS, PAUSED };

// How the world is told of a beat; its bytes follow.
struct Note {
    uint64_t cycle;
    uint32_t stream, width;
};

enum Violation { WITHDRAWN, DATA_CHANGED, LAST_CHANGED, VALID_AFTER_RESET };

template <typename T>
uint8_t* bytes(T& port) {  // Verilator keeps ports little-endian, wide ones as arrays of words
    return reinterpret_cast<uint8_t*>(&port);
}

// One port that carries bits lsb +: width of the packed beat.
struct Pin {
    uint8_t* at;
    size_t lsb, width;
};

struct Pins {
    size_t width;  // bytes of a packed beat
    uint8_t* valid;
    uint8_t* ready;
    uint8_t* last;   // or null
    uint8_t* whole;  // the port that carries the whole beat, where there is one
    std::vector<Pin> pins;

    Pins(size_t w, uint8_t* v, uint8_t* r, uint8_t* l, std::vector<Pin> p)
        : width(w), valid(v), ready(r), last(l), whole(p.size() == 1 && p[0].width == 8 * w ? p[0].at : nullptr),
          pins(std::move(p)) {}

    void put(const uint8_t* beat) const {
        if (whole) {
            memcpy(whole, beat, width);
            return;
        }
        for (const Pin& p : pins) {
            const size_t first = p.lsb / 8, shift = p.lsb % 8, whole = p.width / 8, rest = p.width % 8;
            if (!shift && !rest) {
                memcpy(p.at, beat + first, whole);
                continue;
            }
            for (size_t i = 0; 8 * i < p.width; i++) {
                const uint32_t above = first + i + 1 < width ? beat[first + i + 1] : 0;
                p.at[i] = (beat[first + i] | above << 8) >> shift & (i < whole ? 0xff : 0xff >> (8 - rest));
            }
        }
    }

    // The packed beat: in place where one port carries it, else in `beat`. Verilator keeps the bits above a port 0.
    const uint8_t* get(uint8_t* beat) const {
        if (whole) return whole;
        memset(beat, 0, width);
        for (const Pin& p : pins) {
            const size_t first = p.lsb / 8, shift = p.lsb % 8;
            if (!shift && p.width % 8 == 0) {
                memcpy(beat + first, p.at, p.width / 8);
                continue;
            }
            for (size_t i = 0; 8 * i < p.width; i++) {
                beat[first + i] |= p.at[i] << shift;
                if (first + i + 1 < width) beat[first + i + 1] |= p.at[i] >> (8 - shift);
            }
        }
        return beat;
    }
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
    std::vector<uint8_t> ones, data, last;
    std::vector<uint64_t> from;  // cycle from which a beat can be presented, of the beats after those from the start
    size_t start = 0;

public:
    explicit Source(const Pins& p) : pins(p), ones(p.width, 0xff) {}

    void begin(const Stream& s) {
        data.assign(s.data, s.data + s.beats * pins.width);
        last.assign(s.last, s.last + s.beats);
        from.clear();
        start = s.beats;
    }

    void give(Stream& s, const uint8_t* beats, size_t bytes, uint64_t at, uint64_t pace, uint8_t flag) {
        data.insert(data.end(), beats, beats + bytes);
        for (size_t i = 0; i < bytes / pins.width; i++) {
            last.push_back(flag);
            from.push_back(at + i * pace);
            s.beats++;
        }
    }

    void idle() {
        presents = false;
        *pins.valid = 0;
        pins.put(ones.data());
        if (pins.last) *pins.last = 1;
    }

    void drive(Stream& s, uint64_t cycle) {
        const bool paused = pause(s);
        if (presents) return;
        if (paused || s.moved == s.beats || (s.moved >= start && from[s.moved - start] > cycle)) return idle();
        presents = true;
        *pins.valid = 1;
        pins.put(data.data() + s.moved * pins.width);
        if (pins.last) *pins.last = last[s.moved];
    }

    bool sample(Stream& s) {
        if (!presents || !*pins.ready) return false;
        presents = false;  // the pins keep the beat until the clock edge
        s.moved++;
        return true;
    }

    size_t width() const { return pins.width; }
    const uint8_t* latest(const Stream& s) const { return data.data() + (s.moved - 1) * pins.width; }
};

class Sink {
    Pins pins;
    bool held = false;  // last cycle's beat was not taken: it must still be there
    std::vector<uint8_t> gathered, held_data;
    uint8_t held_last = 0;

public:
    std::vector<uint8_t> data, last;

    explicit Sink(const Pins& p) : pins(p), gathered(p.width), held_data(p.width) {}

    void idle() {
        *pins.ready = 0;
        held = false;
    }

    void drive(Stream& s, bool ready) {
        const bool free = s.level > 255 ? held : !pause(s);  // tb.transactions.SHY
        *pins.ready = free || ready;
    }

    bool sample(Stream& s, uint64_t cycle) {
        if (!*pins.valid) {
            if (held) violate(s, WITHDRAWN, cycle);
            return held = false;
        }
        const uint8_t flag = pins.last ? *pins.last : 0;
        const uint8_t* beat = pins.get(gathered.data());
        if (held && memcmp(beat, held_data.data(), pins.width)) violate(s, DATA_CHANGED, cycle);
        else if (held && flag != held_last) violate(s, LAST_CHANGED, cycle);
        held = !*pins.ready;
        if (held) {
            memcpy(held_data.data(), beat, pins.width);
            held_last = flag;
            return false;
        }
        data.insert(data.end(), beat, beat + pins.width);
        last.push_back(flag);
        s.moved++;
        return true;
    }

    size_t width() const { return pins.width; }
    const uint8_t* latest(const Stream&) const { return data.data() + data.size() - pins.width; }

    void after_reset(Stream& s, uint64_t cycle) {
        if (*pins.valid) violate(s, VALID_AFTER_RESET, cycle);
    }

    static void violate(Stream& s, Violation kind, uint64_t cycle) {
        if (s.violation >= 0) return;
        s.violation = kind;
        s.violation_cycle = cycle;
    }
};

// One port as a trace has it.
struct Port {
    uint8_t* at;
    size_t bytes;
    bool input;
};

struct OneThread : VerilatedContext {
    OneThread() { threads(1); }  // or each player starts a pool of threads
};

class Player {
    OneThread context;
    Vtop top{&context};
    uint8_t* clk = nullptr;
    uint8_t* rst = nullptr;

    std::vector<Source> sources;
    std::vector<Sink> sinks;
    std::vector<Pin> status;
    std::vector<Port> ports;  // all but the clock, in the order of the manifest

    uint64_t cycle = 0, quiet = 0, ending = 0;
    bool open = false;     // the world was asked, the clock edge is yet to come
    bool surplus = false;  // an output has too many beats
    bool cut = false;      // the last play ended with its one cycle of reset, which must do for the next one

    void bind();  // binding.h

    // Verilator's runtime finds the context in a variable of the thread, which other players change.
    void enter() { Verilated::threadContextp(&context); }

    void settle() {
        *clk = 0;
        top.eval();
    }

    void edge() {
        if (records) {
            for (const Port& p : ports) trace.insert(trace.end(), p.at, p.at + p.bytes);
        }
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
            memcpy(out + i, status[i].at, (status[i].width + 7) / 8);
        }
    }

public:
    Player() { bind(); }

    ~Player() {
        enter();
        top.final();
    }

    Source& source(size_t i) { return sources[i]; }
    Sink& sink(size_t i) { return sinks[i]; }

    void tie(const uint64_t* values);  // binding.h
    void untouched() { cut = false; }

#if VM_COVERAGE
    void coverage(const char* file) { context.coveragep()->write(file); }
#endif

    std::vector<uint8_t> notes;  // what the world is to be told: a Note, the beat, and so on

    bool records = false;
    std::vector<uint8_t> trace;  // before each clock edge, while it records: all ports, each in whole bytes

    // The bare loop: inputs as they were recorded, and nothing else.
    void replay(const uint8_t* row, uint64_t cycles) {
        enter();
        for (uint64_t i = 0; i < cycles; i++) {
            for (const Port& p : ports) {
                if (p.input) memcpy(p.at, row, p.bytes);
                row += p.bytes;
            }
            settle();
            *clk = 1;
            top.eval();
        }
    }

    void begin(const Run& run, const Stream* in) {
        enter();
        for (size_t i = 0; i < sources.size(); i++) sources[i].begin(in[i]);
        for (auto& s : sinks) s.data.clear(), s.last.clear();
        notes.clear();
        cycle = quiet = ending = 0;
        open = surplus = false;
        idle();
        *rst = 1;
        for (uint64_t i = 0; i < run.reset_cycles && !cut; i++) settle(), edge();
        *rst = 0;
        cut = false;
    }

    Why play(Run& run, Stream* in, Stream* out, uint64_t* status_out) {
        enter();
        notes.clear();
        const Why why = advance(run, in, out);
        read_status(status_out);
        return why;
    }

private:
    Why advance(Run& run, Stream* in, Stream* out) {
        if (open && ends(run, in, out)) return OVER;
        for (;;) {
            if (cycle == run.until) return PAUSED;
            for (size_t i = 0; i < sources.size(); i++) sources[i].drive(in[i], cycle);
            for (size_t i = 0; i < sinks.size(); i++) sinks[i].drive(out[i], ending > 0);
            if (int64_t(cycle) == run.reset_at) return reset(run, out);
            settle();
            if ((open = sample(run, in, out))) return ASKS;
            if (ends(run, in, out)) return OVER;
        }
    }

    // The beats of this cycle; whether the world must answer one.
    bool sample(Run& run, Stream* in, Stream* out) {
        bool asks = false;
        quiet++;
        for (size_t i = 0; i < sources.size(); i++) {
            if (sources[i].sample(in[i])) {
                if (run.first_in < 0) run.first_in = cycle;
                run.last_in = cycle;
                quiet = 0;
                asks |= note(sources[i], in[i]);
            }
        }
        for (size_t i = 0; i < sinks.size(); i++) {
            if (sinks[i].sample(out[i], cycle)) {
                if (run.first_out < 0) run.first_out = cycle;
                run.last_out = cycle;
                quiet = 0;
                asks |= note(sinks[i], out[i]);
                surplus |= out[i].moved >= out[i].most;
            }
        }
        run.ran = cycle + 1;
        return asks;
    }

    // After the beats of a cycle and the world's answers: whether the play is over; if not, the next cycle begins.
    bool ends(const Run& run, const Stream* in, const Stream* out) {
        bool over = run.reset_at < 0 && !run.waits;
        for (size_t i = 0; over && i < sources.size(); i++) over = in[i].moved == in[i].beats;
        for (size_t i = 0; over && i < sinks.size(); i++) over = out[i].moved >= out[i].beats;
        ending += over && int64_t(cycle) + 1 >= run.first_in + run.least;
        if (ending > run.tail || quiet >= run.patience || surplus) return true;
        edge();
        cycle++;
        return false;
    }

    template <typename Agent>
    bool note(const Agent& agent, const Stream& s) {
        if (s.told == NEVER) return false;
        const Note head{cycle, s.number, uint32_t(agent.width())};
        const auto* bytes = reinterpret_cast<const uint8_t*>(&head);
        notes.insert(notes.end(), bytes, bytes + sizeof head);
        notes.insert(notes.end(), agent.latest(s), agent.latest(s) + agent.width());
        return s.told == ANSWERED;
    }

    Why reset(Run& run, Stream* out) {
        *rst = 1;
        settle();
        edge();
        *rst = 0;
        idle();
        settle();
        for (size_t i = 0; i < sinks.size(); i++) sinks[i].after_reset(out[i], cycle + 1);
        edge();
        run.ran = cycle + 2;
        cut = true;
        return OVER;
    }
};

#include "binding.h"

}  // namespace

extern "C" {
Player* player_new() { return new Player; }
void player_delete(Player* p) { delete p; }
void player_tie(Player* p, const uint64_t* values) { p->tie(values), p->untouched(); }
void player_begin(Player* p, const Run* run, const Stream* in) { p->begin(*run, in); }
int player_play(Player* p, Run* run, Stream* in, Stream* out, uint64_t* status) { return p->play(*run, in, out, status); }
void player_give(Player* p, uint64_t source, Stream* s, const uint8_t* beats, uint64_t bytes, uint64_t at, uint64_t pace,
                 uint8_t last) {
    p->source(source).give(*s, beats, bytes, at, pace, last);
}
#if VM_COVERAGE
void player_coverage(Player* p, const char* file) { p->coverage(file); }
#endif
void player_record(Player* p, int on) {
    p->records = on;
    p->trace.clear();
}
const uint8_t* player_trace(Player* p, uint64_t* bytes) {
    *bytes = p->trace.size();
    return p->trace.data();
}
void player_replay(Player* p, const uint8_t* rows, uint64_t cycles) { p->replay(rows, cycles); }
const uint8_t* player_notes(Player* p, uint64_t* bytes) {
    *bytes = p->notes.size();
    return p->notes.data();
}
void player_fetch(Player* p, uint64_t sink, uint8_t* data, uint8_t* last) {
    const Sink& s = p->sink(sink);
    memcpy(data, s.data.data(), s.data.size());
    memcpy(last, s.last.data(), s.last.size());
}
}
