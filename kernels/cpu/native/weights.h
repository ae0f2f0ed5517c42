// Packed weight matrices in four formats, and how they are read and prefetched.
//
// A matrix is packed into blocks of two vectors of outputs (B = 2 W), input after input, so that weights
// are read once and in order:
//
//   float32   [matrices][blocks][inputs][B]
//   bfloat16  [matrices][blocks][inputs][W] words, output j in the lower half, j + W in the upper
//   int8      [matrices][blocks][inputs / 4][B][4] bytes, weight + 128
//   int4      [matrices][blocks][inputs / 4][W][4] bytes, weight + 8, output j in the lower nibble
//
// `matrices` is the number of experts, or 1. With AVX-512 VNNI, int8 and int4
// weights are multiplied by activations rounded to 16 bits, as two bytes each; elsewhere they are
// widened to floats.

#pragma once

#include "vectors.h"

#ifdef __AVX512VNNI__
constexpr bool HAS_VNNI = true;
#else
constexpr bool HAS_VNNI = false;
#endif

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

    bool multiplies_bytes() const { return HAS_VNNI && format >= INT8; }
    const char* block(int64_t at) const {
        static constexpr int64_t bytes[] = {4 * BLOCK, 2 * BLOCK, BLOCK, BLOCK / 2};  // of an input
        return static_cast<const char*>(weight) + at * inputs * bytes[format];
    }
};

// One input row of a product. `bytes` and `sums` are set if the matrix multiplies bytes: of every four
// inputs first the upper bytes, then the lower ones, with the sums of each over every GROUP inputs.
struct Row {
    const float* x;
    const int8_t* bytes;   // [inputs / 4][2][4]
    const int32_t* sums;   // [groups][2]
    float scale;           // of upper * 256 + lower
};

constexpr int64_t groups_of(int64_t inputs) { return (inputs + GROUP - 1) / GROUP; }

// Rounds x [inputs] to 16 bits: `bytes` has room for 2 * inputs, `sums` for 2 * groups_of(inputs).
static inline float quantise_row(const float* x, int64_t inputs, int8_t* bytes, int32_t* sums) {
    vec peaks = {};
    for (int64_t i = 0; i < inputs; i += WIDTH) {
        const vec v = load(x + i);
        peaks = most(peaks, most(v, -v));
    }
    // 127 * 256 + 127: the largest number that two signed bytes hold with either sign.
    const float peak = largest(peaks), scale = peak > 0 ? peak / 32639.0f : 1.0f;
    const float inverse = 1.0f / scale;
    for (int64_t g = 0; g < groups_of(inputs); ++g) sums[2 * g] = sums[2 * g + 1] = 0;
    for (int64_t i = 0; i < inputs; i += WIDTH) {
        typedef int8_t narrow __attribute__((vector_size(WIDTH), aligned(1), may_alias));
        // Adding and subtracting 1.5 * 2^23 rounds to the nearest integer.
        const vec rounded = (load(x + i) * inverse + 12582912.0f) - 12582912.0f;
        const ints whole = __builtin_convertvector(rounded, ints);
        const ints upper = (whole + 128) >> 8, lower = whole - (upper << 8);
        const narrow up = __builtin_convertvector(upper, narrow);
        const narrow low = __builtin_convertvector(lower, narrow);
        for (int four = 0; four < WIDTH; four += 4) {
            std::memcpy(bytes + 2 * (i + four), reinterpret_cast<const int8_t*>(&up) + four, 4);
            std::memcpy(bytes + 2 * (i + four) + 4, reinterpret_cast<const int8_t*>(&low) + four, 4);
        }
        int32_t* sum = sums + 2 * (i / GROUP);
        for (int j = 0; j < WIDTH; ++j) sum[0] += upper[j], sum[1] += lower[j];
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

// One reader per format: gives the two vectors of weights of one input.
struct ReadFloat32 : Prefetch {
    ReadFloat32() = default;
    ReadFloat32(const Matrix& m, int64_t block, NextBlock next) : Prefetch(m.block(block), next) {}
    void column(int64_t i, vec& a, vec& b) const {
        const float* from = reinterpret_cast<const float*>(at) + i * BLOCK;
        line(i * 4 * BLOCK);
        if (4 * BLOCK > 64) line(i * 4 * BLOCK + 64);
        a = load(from), b = load(from + WIDTH);
    }
    void finish(vec&, vec&) const {}
};
struct ReadBfloat16 : Prefetch {
    ReadBfloat16() = default;
    ReadBfloat16(const Matrix& m, int64_t block, NextBlock next) : Prefetch(m.block(block), next) {}
    void column(int64_t i, vec& a, vec& b) const {
        line(i * 2 * BLOCK);
        const ints both = load_ints(reinterpret_cast<const int32_t*>(at) + i * WIDTH);
        a = reinterpret_cast<vec>(both << 16);
        b = reinterpret_cast<vec>(both & int32_t(0xFFFF0000));
    }
    void finish(vec&, vec&) const {}
};
struct ReadInt8 : Prefetch {
    const float* scale;
    ReadInt8() = default;
    ReadInt8(const Matrix& m, int64_t block, NextBlock next)
        : Prefetch(m.block(block), next), scale(m.scale + block * BLOCK) {}
    void column(int64_t i, vec& a, vec& b) const {
        const int32_t* from = reinterpret_cast<const int32_t*>(at) + i / 4 * BLOCK;
        line(i * BLOCK);
        const int shift = i % 4 * 8;
        a = __builtin_convertvector((load_ints(from) >> shift) & 255, vec) - 128.0f;
        b = __builtin_convertvector((load_ints(from + WIDTH) >> shift) & 255, vec) - 128.0f;
    }
    void finish(vec& a, vec& b) const { a *= load(scale), b *= load(scale + WIDTH); }
};
struct ReadInt4 : Prefetch {
    const float* scale;
    ReadInt4() = default;
    ReadInt4(const Matrix& m, int64_t block, NextBlock next)
        : Prefetch(m.block(block), next), scale(m.scale + block * (m.inputs / GROUP) * BLOCK) {}
    void column(int64_t i, vec& a, vec& b) const {
        const int32_t* from = reinterpret_cast<const int32_t*>(at) + i / 4 * WIDTH;
        line(i * BLOCK / 2);
        const ints both = load_ints(from) >> (i % 4 * 8);
        const float* factor = scale + i / GROUP * BLOCK;
        a = (__builtin_convertvector(both & 15, vec) - 8.0f) * load(factor);
        b = (__builtin_convertvector((both >> 4) & 15, vec) - 8.0f) * load(factor + WIDTH);
    }
    void finish(vec&, vec&) const {}
};
