// Products of int8 and int4 weights with activations rounded to 16 bits: exact sums of integers, scaled.
//
// Included by gemm.h.

#pragma once

constexpr int64_t EXACT = 512;  // inputs whose sum fits: 512 * 127 * 32767 < 2^31

// Adds to `sum` the products of two inputs of R rows with the weights a and b of both halves of a block.
template <int R>
static inline void add_two(const int16_t* const (&x)[R], int64_t i, ints a, ints b, ints (&sum)[R][2]) {
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
        int32_t both;
        std::memcpy(&both, x[r] + i, 4);
        sum[r][0] = add_products(sum[r][0], a, ints{} + both);
        sum[r][1] = add_products(sum[r][1], b, ints{} + both);
    }
}

struct Int8 {
    template <int R, int B>
    static void tile(const Gemm& p, int64_t block, int64_t row, NextBlock next) {
        const Matrix& m = p.m;
        const int64_t first = p.which * m.blocks + block;
        Prefetch fetch[B];
        const int8_t* weights[B];
        for (int b = 0; b < B; ++b) {
            fetch[b] = Prefetch(m.block(first + b), p.following(next, b));
            weights[b] = reinterpret_cast<const int8_t*>(fetch[b].at);
        }
        vec total[B][R][2] = {};
        const int16_t* x[R];
        for (int r = 0; r < R; ++r) x[r] = p.rows[row + r].whole;
        for (int64_t begin = 0; begin < m.inputs; begin += EXACT) {
            ints sum[B][R][2] = {};
            for (int64_t i = begin; i < std::min(begin + EXACT, m.inputs); i += 2)
#pragma GCC unroll 4
                for (int b = 0; b < B; ++b) {
                    const int8_t* at = weights[b] + i * BLOCK;
                    if (i * BLOCK % 64 == 0) fetch[b].line(i * BLOCK);
                    add_two(x, i, widen(at), widen(at + BLOCK), sum[b]);
                }
            for (int b = 0; b < B; ++b)
                for (int r = 0; r < R; ++r)
                    for (int half = 0; half < 2; ++half)
                        total[b][r][half] += __builtin_convertvector(sum[b][r][half], vec);
        }
        for (int b = 0; b < B; ++b) {
            const float* scale = m.scale + (first + b) * BLOCK;
            for (int r = 0; r < R; ++r)
                for (int half = 0; half < 2; ++half)
                    total[b][r][half] *= p.rows[row + r].scale * load(scale + half * WIDTH);
            p.finish(row, block + b, total[b]);
        }
    }
};
struct Int4 {
    template <int R, int B>
    static void tile(const Gemm& p, int64_t block, int64_t row, NextBlock next) {
        const Matrix& m = p.m;
        const int64_t first = p.which * m.blocks + block, groups = m.inputs / GROUP;
        Prefetch fetch[B];
        const int8_t* weights[B];
        const float* scale[B];
        for (int b = 0; b < B; ++b) {
            fetch[b] = Prefetch(m.block(first + b), p.following(next, b));
            weights[b] = reinterpret_cast<const int8_t*>(fetch[b].at);
            scale[b] = m.scale + (first + b) * groups * BLOCK;
        }
        vec total[B][R][2] = {};
        const int16_t* x[R];
        for (int r = 0; r < R; ++r) x[r] = p.rows[row + r].whole;
        for (int64_t g = 0; g < groups; ++g) {
            ints sum[B][R][2];
            for (int b = 0; b < B; ++b)
                for (int r = 0; r < R; ++r)  // weights are stored plus 8
                    sum[b][r][0] = sum[b][r][1] = ints{} - 8 * p.rows[row + r].sums[g];
            for (int64_t i = g * GROUP; i < (g + 1) * GROUP; i += 2)
#pragma GCC unroll 4
                for (int b = 0; b < B; ++b) {
                    if (i * BLOCK / 2 % 64 == 0) fetch[b].line(i * BLOCK / 2);
                    const ints both = widen(weights[b] + i * WIDTH);
                    add_two(x, i, both & 0x000F000F, (both >> 4) & 0x000F000F, sum[b]);
                }
            for (int b = 0; b < B; ++b)
                for (int r = 0; r < R; ++r)
                    for (int half = 0; half < 2; ++half)
                        total[b][r][half] += __builtin_convertvector(sum[b][r][half], vec) *
                                             load(scale[b] + g * BLOCK + half * WIDTH);
        }
        for (int b = 0; b < B; ++b) {
            for (int r = 0; r < R; ++r)
                for (int half = 0; half < 2; ++half) total[b][r][half] *= p.rows[row + r].scale;
            p.finish(row, block + b, total[b]);
        }
    }
};
