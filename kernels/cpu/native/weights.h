// Packed weight matrices in four formats, and how they are read and prefetched.
//
// A matrix is packed into blocks of two vectors of outputs (B = 2 W), input after input, so that weights
// are read once and in order:
//
//   float32   [matrices][blocks][inputs][B]
//   bfloat16  [matrices][blocks][inputs][W] words, output j in the lower half, j + W in the upper
//   int8      [matrices][blocks][inputs / 2][B][2] bytes
//   int4      [matrices][blocks][inputs / 2][W][2] bytes, weight + 8, output j in the lower nibble,
//             j + W in the upper
//
// `matrices` is the number of experts, or 1. int8 and int4 weights are multiplied by activations rounded
// to 16 bits.

#pragma once

#include "vectors.h"

constexpr int BLOCK = 2 * WIDTH;  // outputs packed side by side
constexpr int GROUP = 32;         // inputs that share a scale in int4
// Bytes prefetched ahead of the weights in use, into the first cache, and of the next block, into the
// second.
constexpr int PREFETCH_L1 = 2048, PREFETCH_L2 = 4096;

enum Format { FLOAT32, BFLOAT16, INT8, INT4 };

struct Matrix {
    const void* weight;
    const float* scale;   // int8: [matrices][blocks][B]; int4: [matrices][blocks][groups][B]
    const float* bias;    // [matrices][blocks * B], or null
    const int32_t* part;  // [blocks][2]: which of the joined adapters each half of a block belongs to
    int64_t format;       // one of Format
    int64_t inputs, blocks;

    bool multiplies_integers() const { return format >= INT8; }
    const char* block(int64_t at) const {
        static constexpr int64_t bytes[] = {4 * BLOCK, 2 * BLOCK, BLOCK, BLOCK / 2};  // of an input
        return static_cast<const char*>(weight) + at * inputs * bytes[format];
    }
};

// The weights [inputs] of one output of a float32 or bfloat16 matrix, one line of memory each.
static inline void read_output(const Matrix& m, int64_t output, float* to) {
    const int64_t lane = output % BLOCK;
    if (m.format == FLOAT32) {
        const float* from = reinterpret_cast<const float*>(m.block(output / BLOCK)) + lane;
        for (int64_t i = 0; i < m.inputs; ++i) to[i] = from[i * BLOCK];
        return;
    }
    const uint32_t* from =
        reinterpret_cast<const uint32_t*>(m.block(output / BLOCK)) + lane % WIDTH;
    for (int64_t i = 0; i < m.inputs; ++i) {
        const uint32_t both = from[i * WIDTH];
        const uint32_t bits = lane < WIDTH ? both << 16 : both & 0xFFFF0000;
        std::memcpy(to + i, &bits, 4);
    }
}

// One input row of a product. `whole` and `sums` are set if the matrix multiplies integers.
struct Row {
    const float* x;
    const int16_t* whole;  // x / scale, to the nearest integer
    const int32_t* sums;   // of `whole`, over every GROUP inputs
    float scale;
};

constexpr int64_t groups_of(int64_t inputs) { return (inputs + GROUP - 1) / GROUP; }

// Rounds x [inputs] to 16 bits: `whole` has room for them, `sums` for groups_of(inputs). Returns the scale.
static inline float quantise_row(const float* x, int64_t inputs, int16_t* whole, int32_t* sums) {
    typedef int16_t narrow __attribute__((vector_size(2 * WIDTH), aligned(2), may_alias));
    vec peaks = {};
    for (int64_t i = 0; i < inputs; i += WIDTH) {
        const vec v = load(x + i);
        peaks = most(peaks, most(v, -v));
    }
    const float peak = largest(peaks), scale = peak > 0 ? peak / 32767.0f : 1.0f;
    const float inverse = 1.0f / scale;
    for (int64_t begin = 0; begin < inputs; begin += GROUP) {
        ints sum = {};
        for (int64_t i = begin; i < std::min(begin + GROUP, inputs); i += WIDTH) {
            // Adding and subtracting 1.5 * 2^23 rounds to the nearest integer.
            const vec rounded = (load(x + i) * inverse + 12582912.0f) - 12582912.0f;
            const ints nearest = __builtin_convertvector(rounded, ints);
            *reinterpret_cast<narrow*>(whole + i) = __builtin_convertvector(nearest, narrow);
            sum += nearest;
        }
        int32_t& of_group = sums[begin / GROUP] = 0;
        for (int j = 0; j < WIDTH; ++j) of_group += sum[j];
    }
    return scale;
}

// What is read next; it is prefetched during 2^halvings passes over the block in use.
struct NextBlock {
    const char* at;
    int halvings;
};

// Prefetches the next block, one cache line at a time, while a block is in use.
struct Prefetch {
    const char* at;
    NextBlock next;
    Prefetch() = default;
    Prefetch(const char* at, NextBlock next) : at(at), next{next.at + PREFETCH_L2, next.halvings} {}
    void line(int64_t offset) const {
        __builtin_prefetch(at + offset + PREFETCH_L1);
        __builtin_prefetch(next.at + (offset >> next.halvings), 0, 2);
    }
};

// One reader per format: gives the two vectors of weights of one input; `column` prefetches too.
struct ReadFloat32 : Prefetch {
    ReadFloat32() = default;
    ReadFloat32(const Matrix& m, int64_t block, NextBlock next) : Prefetch(m.block(block), next) {}
    void numbers(int64_t i, vec& a, vec& b) const {
        const float* from = reinterpret_cast<const float*>(at) + i * BLOCK;
        a = load(from), b = load(from + WIDTH);
    }
    void column(int64_t i, vec& a, vec& b) const {
        line(i * 4 * BLOCK);
        if (4 * BLOCK > 64) line(i * 4 * BLOCK + 64);
        numbers(i, a, b);
    }
    void finish(vec&, vec&) const {}
};
struct ReadBfloat16 : Prefetch {
    ReadBfloat16() = default;
    ReadBfloat16(const Matrix& m, int64_t block, NextBlock next) : Prefetch(m.block(block), next) {}
    void numbers(int64_t i, vec& a, vec& b) const {
        const ints both = load_ints(reinterpret_cast<const int32_t*>(at) + i * WIDTH);
        a = reinterpret_cast<vec>(both << 16);
        b = reinterpret_cast<vec>(both & int32_t(0xFFFF0000));
    }
    void column(int64_t i, vec& a, vec& b) const {
        line(i * 2 * BLOCK);
        numbers(i, a, b);
    }
    void finish(vec&, vec&) const {}
};
