// Products of int8 and int4 weights with activations rounded to 16 bits: exact sums of integers, scaled.
//
// Weights are stored with an offset, so that a mask or a shift widens them. The sums wrap around; with the
// offset taken off they fit again. Included by gemm.h.

#pragma once

constexpr int64_t EXACT = 512;  // inputs whose sum fits: 512 * 127 * 32767 < 2^31

static inline ints of_two(const int16_t* from) {
    int32_t both;
    std::memcpy(&both, from, 4);
    return ints{} + both;
}
static inline ints shifted(ints bytes, int bits) { return (ints)((words)bytes >> bits); }
// Sums that begin with what the weights' offset adds too much, of inputs begin .. end of R rows. Few rows
// have two sums each, so that additions do not wait for each other.
template <int R, int CHAINS>
static inline void begin_sums(const Gemm& p, int64_t row, int64_t begin, int64_t end,
                              int32_t offset, ints (&sum)[CHAINS][R][2]) {
    for (int r = 0; r < R; ++r) {
        uint32_t excess = 0;
        for (int64_t g = begin / GROUP; g < groups_of(end); ++g)
            excess += uint32_t(p.rows[row + r].sums[g]) * offset;
        for (int chain = 0; chain < CHAINS; ++chain)
            sum[chain][r][0] = sum[chain][r][1] = ints{} - (chain ? 0 : int32_t(excess));
    }
}
constexpr int chains(int rows) { return rows <= 3 ? 2 : 1; }

struct Int8 {
    template <int R>
    static void tile(const Gemm& p, int64_t block, int64_t row, NextBlock next) {
        constexpr int CHAINS = chains(R);
        const Matrix& m = p.m;
        const int64_t at = p.which * m.blocks + block;
        const Prefetch fetch(m.block(at), next);
        const int32_t* weights = reinterpret_cast<const int32_t*>(fetch.at);
        vec total[R][2] = {};
        const int16_t* x[R];
        for (int r = 0; r < R; ++r) x[r] = p.rows[row + r].whole;
        for (int64_t begin = 0; begin < m.inputs; begin += EXACT) {
            const int64_t end = std::min(begin + EXACT, m.inputs);
            ints sum[CHAINS][R][2];
            begin_sums(p, row, begin, end, 128, sum);
            for (int64_t i = begin; i < end; i += 4) {
                fetch.line(i * BLOCK);
                if (4 * BLOCK > 64) fetch.line(i * BLOCK + 64);
                for (int two = 0; two < 2; ++two) {
                    ints a = load_ints(weights + i / 4 * BLOCK);
                    ints b = load_ints(weights + i / 4 * BLOCK + WIDTH);
                    a = shifted(a, 8 * two) & 0x00FF00FF, b = shifted(b, 8 * two) & 0x00FF00FF;
#pragma GCC unroll 8
                    for (int r = 0; r < R; ++r) {
                        auto& to = sum[two % CHAINS][r];
                        const ints given = of_two(x[r] + i + 2 * two);
                        to[0] = add_products(to[0], a, given);
                        to[1] = add_products(to[1], b, given);
                    }
                }
            }
            for (int r = 0; r < R; ++r)
                for (int half = 0; half < 2; ++half) {
                    if (CHAINS == 2) sum[0][r][half] += sum[CHAINS - 1][r][half];
                    total[r][half] += __builtin_convertvector(sum[0][r][half], vec);
                }
        }
        const float* scale = m.scale + at * BLOCK;
        for (int r = 0; r < R; ++r)
            for (int half = 0; half < 2; ++half)
                total[r][half] *= p.rows[row + r].scale * load(scale + half * WIDTH);
        p.finish(row, block, total);
    }
};
struct Int4 {
    template <int R>
    static void tile(const Gemm& p, int64_t block, int64_t row, NextBlock next) {
        constexpr int CHAINS = chains(R);
        const Matrix& m = p.m;
        const int64_t at = p.which * m.blocks + block;
        const Prefetch fetch(m.block(at), next);
        const int32_t* weights = reinterpret_cast<const int32_t*>(fetch.at);
        const float* scale = m.scale + at * (m.inputs / GROUP) * BLOCK;
        vec total[R][2] = {};
        const int16_t* x[R];
        for (int r = 0; r < R; ++r) x[r] = p.rows[row + r].whole;
        for (int64_t begin = 0; begin < m.inputs; begin += GROUP, scale += BLOCK) {
            ints sum[CHAINS][R][2];
            begin_sums(p, row, begin, begin + GROUP, 8, sum);
            for (int64_t i = begin; i < begin + GROUP; i += 4) {
                if (i * BLOCK / 2 % 64 == 0) fetch.line(i * BLOCK / 2);
                for (int two = 0; two < 2; ++two) {
                    const ints both = shifted(load_ints(weights + i / 4 * WIDTH), 8 * two);
                    const ints a = both & 0x000F000F, b = shifted(both, 4) & 0x000F000F;
#pragma GCC unroll 8
                    for (int r = 0; r < R; ++r) {
                        auto& to = sum[two % CHAINS][r];
                        const ints given = of_two(x[r] + i + 2 * two);
                        to[0] = add_products(to[0], a, given);
                        to[1] = add_products(to[1], b, given);
                    }
                }
            }
            for (int r = 0; r < R; ++r)
                for (int half = 0; half < 2; ++half) {
                    if (CHAINS == 2) sum[0][r][half] += sum[CHAINS - 1][r][half];
                    total[r][half] += __builtin_convertvector(sum[0][r][half], vec) *
                                      load(scale + half * WIDTH);
                }
        }
        for (int r = 0; r < R; ++r)
            for (int half = 0; half < 2; ++half) total[r][half] *= p.rows[row + r].scale;
        p.finish(row, block, total);
    }
};
