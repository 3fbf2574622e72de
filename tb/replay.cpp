// Replays a recording (tb/trace.py) in a library of the bulk player, for who counts instructions:
//     replay libplayer.so rows bytes-per-row cycles

#include <dlfcn.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <vector>

int main(int count, char** words) {
    if (count != 5) return 2;
    void* library = dlopen(words[1], RTLD_NOW);
    if (!library) return fprintf(stderr, "%s\n", dlerror()), 1;
    const auto begin = (void* (*)())dlsym(library, "player_new");
    const auto replay = (void (*)(void*, const uint8_t*, uint64_t))dlsym(library, "player_replay");
    const size_t width = strtoull(words[3], nullptr, 10), cycles = strtoull(words[4], nullptr, 10);
    std::vector<uint8_t> rows(width * cycles + 1);
    FILE* file = fopen(words[2], "rb");
    if (!file || fread(rows.data(), 1, width * cycles, file) != width * cycles) return 1;
    replay(begin(), rows.data(), cycles);
    return 0;
}
