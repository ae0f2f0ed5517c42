// Products of a few rows with a packed weight matrix, in float32, whatever the weights' format.
//
// A matrix is packed into blocks of 32 outputs, and within a block input by input:
// [matrices][blocks][inputs][32]. Weights are thus read once, in order, as far ahead as the memory
// can follow, and each one read serves up to eight rows from registers. `matrices` is the number of
// experts, or 1.

#pragma once

#include "vectors.h"

constexpr int BLOCK = 2 * WIDTH;  // outputs packed side by side
constexpr int AHEAD = 4096;       // bytes that the weights are fetched in advance

struct Matrix {
    const void* weight;
    const float* scale;    // int8: [matrices][blocks][32]; int4: [matrices][blocks][groups][32]
    const float* bias;     // [matrices][blocks * 32], or null
    const int32_t* part;   // [blocks][2]: which adapter part each half of a block belongs to
    int64_t format;        // one of Format
    int64_t inputs, blocks;
};
enum Format { FLOAT32, BFLOAT16, INT8, INT4 };

// One adapter of one matrix: y += up (scale * (down x)).
struct LowRank {
    Matrix down;        // rank * parts outputs
    const float* up;    // [matrices][blocks][rank][32]
    int64_t rank;
    float scale;
};

// How each format reads the two vectors of weights of one input.
template <class T>
struct ReadPlain {  // float, or uint16_t for bfloat16
    const T* at;
    ReadPlain() = default;
    ReadPlain(const Matrix& m, int64_t block)
        : at(static_cast<const T*>(m.weight) + block * m.inputs * BLOCK) {}
    void column(int64_t i, vec& a, vec& b) const {
        const T* from = at + i * BLOCK;
        const char* ahead = reinterpret_cast<const char*>(from) + AHEAD;
        __builtin_prefetch(ahead);
        if (sizeof(T) == 4) __builtin_prefetch(ahead + 64);
        a = load(from), b = load(from + WIDTH);
    }
    void finish(vec&, vec&) const {}
};
struct ReadInt8 {  // one scale per output
    const int8_t* at;
    const float* scale;
    ReadInt8() = default;
    ReadInt8(const Matrix& m, int64_t block)
        : at(static_cast<const int8_t*>(m.weight) + block * m.inputs * BLOCK),
          scale(m.scale + block * BLOCK) {}
    void column(int64_t i, vec& a, vec& b) const {
        const int8_t* from = at + i * BLOCK;
        __builtin_prefetch(reinterpret_cast<const char*>(from) + AHEAD);
        a = widen(*reinterpret_cast<const bytes*>(from));
        b = widen(*reinterpret_cast<const bytes*>(from + WIDTH));
    }
    void finish(vec& a, vec& b) const { a *= load(scale), b *= load(scale + WIDTH); }
};
struct ReadInt4 {  // one scale per output and GROUP inputs; the low nibble is the block's first half
    static constexpr int GROUP = 32;
    const uint8_t* at;
    const float* scale;
    ReadInt4() = default;
    ReadInt4(const Matrix& m, int64_t block)
        : at(static_cast<const uint8_t*>(m.weight) + block * m.inputs * WIDTH),
          scale(m.scale + block * (m.inputs / GROUP) * BLOCK) {}
    void column(int64_t i, vec& a, vec& b) const {
        typedef uint8_t raw __attribute__((vector_size(16), aligned(1), may_alias));
        const raw both = *reinterpret_cast<const raw*>(at + i * WIDTH);
        __builtin_prefetch(at + i * WIDTH + AHEAD);
        const float* factor = scale + i / GROUP * BLOCK;
        a = (widen(both & 15) - 8.0f) * load(factor);
        b = (widen(both >> 4) - 8.0f) * load(factor + WIDTH);
    }
    void finish(vec&, vec&) const {}
};

// What a row adds to a product through its adapter; `low` is scale * (down x).
struct Tail {
    const float* low;  // [parts * rank], or null: no adapter
    const float* up;   // [blocks][rank][32] of the row's adapter
    int64_t rank;
};

// Whoever takes what a product yields, by reference: row, block, and the block's two vectors. Not a
// template parameter, or every product would be compiled once for each taker.
class Taker {
    const void* self;
    void (*call)(const void*, int64_t, int64_t, vec, vec);

  public:
    template <class F>
    Taker(const F& f)
        : self(&f), call([](const void* self, int64_t row, int64_t block, vec a, vec b) {
              (*static_cast<const F*>(self))(row, block, a, b);
          }) {}
    void operator()(int64_t row, int64_t block, vec a, vec b) const {
        call(self, row, block, a, b);
    }
};

// R rows times B blocks from `block` on; `done(row, block, a, b)` takes what comes out.
template <class Read, int R, int B>
static void tile(const Matrix& m, int64_t which, int64_t block, const float* const* x,
                        const Tail* tails, int64_t row, Taker done) {
    vec sum[R][B][2] = {};
    Read read[B];
    for (int b = 0; b < B; ++b) read[b] = Read(m, which * m.blocks + block + b);
    for (int64_t i = 0; i < m.inputs; ++i)
#pragma GCC unroll 8
        for (int b = 0; b < B; ++b) {
            vec left, right;
            read[b].column(i, left, right);
#pragma GCC unroll 8
            for (int r = 0; r < R; ++r) {
                sum[r][b][0] += x[row + r][i] * left;
                sum[r][b][1] += x[row + r][i] * right;
            }
        }
    for (int b = 0; b < B; ++b)
        for (int r = 0; r < R; ++r) {
            vec left = sum[r][b][0], right = sum[r][b][1];
            read[b].finish(left, right);
            if (tails && tails[row + r].low) {
                const Tail& tail = tails[row + r];
                const float* up = tail.up + (which * m.blocks + block + b) * tail.rank * BLOCK;
                const int32_t* part = m.part + (block + b) * 2;
                const float *one = tail.low + part[0] * tail.rank,
                            *two = tail.low + part[1] * tail.rank;
                for (int64_t i = 0; i < tail.rank; ++i, up += BLOCK) {
                    left += one[i] * load(up);
                    right += two[i] * load(up + WIDTH);
                }
            }
            if (m.bias) {
                const float* bias = m.bias + (which * m.blocks + block + b) * BLOCK;
                left += load(bias), right += load(bias + WIDTH);
            }
            done(row + r, block + b, left, right);
        }
}

// Blocks begin..end of matrix `which` times all rows. Few rows take more blocks at once, so that
// there are always enough sums under way; the order within each sum stays.
template <class Read>
static void multiply(const Matrix& m, int64_t which, int64_t begin, int64_t end,
                     const float* const* x, const Tail* tails, int64_t rows, Taker done) {
    for (int64_t block = begin; block < end;) {
        const bool pair = rows < 4 && end - block >= 2;
        int64_t row = 0;
        if (pair) {
            for (; rows - row >= 2; row += 2)
                tile<Read, 2, 2>(m, which, block, x, tails, row, done);
            if (row < rows) tile<Read, 1, 2>(m, which, block, x, tails, row, done);
        } else {
            for (; rows - row >= 8; row += 8)
                tile<Read, 8, 1>(m, which, block, x, tails, row, done);
            for (; rows - row >= 4; row += 4)
                tile<Read, 4, 1>(m, which, block, x, tails, row, done);
            for (; rows - row >= 2; row += 2)
                tile<Read, 2, 1>(m, which, block, x, tails, row, done);
            if (row < rows) tile<Read, 1, 1>(m, which, block, x, tails, row, done);
        }
        block += pair ? 2 : 1;
    }
}

static void multiply(const Matrix& m, int64_t which, int64_t begin, int64_t end,
                     const float* const* x, const Tail* tails, int64_t rows, Taker done) {
    if (rows == 0 || begin >= end) return;
    switch (m.format) {
        case FLOAT32: return multiply<ReadPlain<float>>(m, which, begin, end, x, tails, rows, done);
        case BFLOAT16: return multiply<ReadPlain<uint16_t>>(m, which, begin, end, x, tails, rows, done);
        case INT8: return multiply<ReadInt8>(m, which, begin, end, x, tails, rows, done);
        case INT4: return multiply<ReadInt4>(m, which, begin, end, x, tails, rows, done);
    }
}
