// How the threads of a step divide its work and wait for one another.

#pragma once

#include <atomic>
#include <cstdint>
#include <thread>

// Tells the core that a loop only waits.
static inline void pause() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
}

// The part of n items that one of several threads works on.
struct ThreadRange {
    int64_t begin, end;
    ThreadRange(int64_t n, int thread, int threads)
        : begin(n * thread / threads), end(n * (thread + 1) / threads) {}
};

// A spinning barrier: a stage takes microseconds, so threads poll before they yield the core.
class Barrier {
    static constexpr int SPINS = 4000;
    int threads = 1;
    alignas(64) std::atomic<int> missing{1};
    alignas(64) std::atomic<int64_t> round{0};

  public:
    void expect(int count) { missing = threads = count; }
    void wait() {
        const int64_t now = round.load(std::memory_order_relaxed);
        if (missing.fetch_sub(1, std::memory_order_acq_rel) == 1) {
            missing.store(threads, std::memory_order_relaxed);
            round.store(now + 1, std::memory_order_release);
            return;
        }
        for (int spins = 0; round.load(std::memory_order_acquire) == now; ++spins)
            if (spins < SPINS)
                pause();
            else
                std::this_thread::yield();
    }
};
