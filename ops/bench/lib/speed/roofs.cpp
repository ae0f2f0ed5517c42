// What a machine reads and multiplies at most, in the vectors of the native library: the roofs of the roofline.

#include <omp.h>

#include "vectors.h"

constexpr int STREAMS = 4;          // that a thread reads from at once
constexpr int AHEAD = 2048 / 4;     // floats that are prefetched
constexpr int SUMS = 12;            // in progress, so that no addition waits for the one before

extern "C" {

// The sum of `count` floats, read once by all threads.
float burnish_read(const float* from, int64_t count, int threads) {
    float sum = 0;
#pragma omp parallel num_threads(threads) reduction(+ : sum)
    {
        const int64_t each = count / (omp_get_num_threads() * STREAMS) / 64 * 64;
        const float* at = from + omp_get_thread_num() * STREAMS * each;
        vec sums[STREAMS][64 / WIDTH] = {};
        for (int64_t i = 0; i < each; i += 64)
            for (int s = 0; s < STREAMS; ++s)
                for (int j = 0; j < 64 / WIDTH; ++j) {
                    if (j * WIDTH % 16 == 0) __builtin_prefetch(at + s * each + i + j * WIDTH + AHEAD);
                    sums[s][j] += load(at + s * each + i + j * WIDTH);
                }
        for (auto& stream : sums)
            for (const vec& part : stream) sum += total(part);
    }
    return sum;
}

// `rounds` multiply-adds of each of SUMS vectors on every thread; returns how many floating-point operations.
double burnish_multiply(int64_t rounds, int threads, float* out) {
    double done = 0;
#pragma omp parallel num_threads(threads) reduction(+ : done)
    {
        vec sums[SUMS] = {};
        const vec a = in_lanes(0.999f), b = in_lanes(0.001f);
        for (int64_t n = 0; n < rounds; ++n)
#pragma GCC unroll 12
            for (auto& sum : sums) sum = add_product(b, sum, a);
        vec all = {};
        for (const vec& sum : sums) all += sum;
        out[omp_get_thread_num()] = total(all);
        done += 2.0 * rounds * SUMS * WIDTH;
    }
    return done;
}

}  // extern "C"
