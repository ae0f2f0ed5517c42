// LoRA: what each row of a product adds to it through its own adapter.

#pragma once

#include <algorithm>

#include "weights.h"

// One adapter of one matrix: y += up (scale * (down x)). `down` has few outputs: they are packed by
// vectors, [matrices][blocks][inputs][WIDTH] floats, or bfloat16 words with one input in the lower half and
// the next in the upper.
struct Lora {
    Matrix down;  // rank * parts outputs
    Matrix up;    // rank inputs
    float scale;
};

// The adapter of one row of a product; `low` is scale * (down x).
struct LoraRow {
    const float* low;  // [parts * rank], or null: no adapter
    const Matrix* up;
};

// Adds up * low of R rows that share an adapter to one block of their outputs.
template <class Read, int R>
static inline void lora_up(const LoraRow* lora, const int32_t* part, int64_t block,
                           vec (&sum)[R][2]) {
    const int64_t rank = lora->up->inputs;
    const Read up(*lora->up, block, {lora->up->block(block), 0});
    const float *one[R], *two[R];
    vec odd[R][2] = {};  // separate sums, so that additions do not wait for each other
    for (int r = 0; r < R; ++r)
        one[r] = lora[r].low + part[0] * rank, two[r] = lora[r].low + part[1] * rank;
    for (int64_t i = 0; i < rank; i += 2) {
        vec a, b, c = {}, d = {};
        up.numbers(i, a, b);
        if (i + 1 < rank) up.numbers(i + 1, c, d);
#pragma GCC unroll 8
        for (int r = 0; r < R; ++r) {
            sum[r][0] = add_product(sum[r][0], in_lanes(one[r][i]), a);
            sum[r][1] = add_product(sum[r][1], in_lanes(two[r][i]), b);
            if (i + 1 == rank) continue;
            odd[r][0] = add_product(odd[r][0], in_lanes(one[r][i + 1]), c);
            odd[r][1] = add_product(odd[r][1], in_lanes(two[r][i + 1]), d);
        }
    }
    for (int r = 0; r < R; ++r) sum[r][0] += odd[r][0], sum[r][1] += odd[r][1];
}

// The same for N of R rows, from `row` on, if they share an adapter; returns whether they do.
template <int N, int R>
static inline bool lora_up_if_shared(const LoraRow* lora, const int32_t* part, int64_t block,
                                     int row, vec (&sum)[R][2]) {
    if constexpr (N > R) {
        return false;
    } else {
        const LoraRow* first = lora + row;
        const auto differs = [&](const LoraRow& other) { return other.up != first->up; };
        if (row + N > R || std::any_of(first, first + N, differs)) return false;
        auto& sums = reinterpret_cast<vec(&)[N][2]>(sum[row]);
        if (first->low && first->up->format == BFLOAT16)
            lora_up<ReadBfloat16, N>(first, part, block, sums);
        else if (first->low)
            lora_up<ReadFloat32, N>(first, part, block, sums);
        return true;
    }
}

// Computes low = scale * (down x) of R rows, block `block` of their outputs. `inputs` is a multiple of 4.
template <int R>
static void lora_down(const Lora& a, int64_t which, int64_t block, const Row* rows,
                      const LoraRow* lora) {
    vec sum[R][4] = {};  // of every fourth input, so that additions do not wait for each other
    const int64_t at = (which * a.down.blocks + block) * a.down.inputs * WIDTH;
    const float* x[R];
    for (int r = 0; r < R; ++r) x[r] = rows[r].x;
    for (int64_t i = 0; i < a.down.inputs; i += 4) {
        vec line[4];
        for (int j = 0; j < 4; j += 2)
            if (a.down.format == BFLOAT16) {
                const int32_t* words = static_cast<const int32_t*>(a.down.weight) + at / 2;
                const ints both = load_ints(words + (i + j) * (WIDTH / 2));
                line[j] = reinterpret_cast<vec>(both << 16);
                line[j + 1] = reinterpret_cast<vec>(both & int32_t(0xFFFF0000));
            } else {
                const float* from = static_cast<const float*>(a.down.weight) + at;
                line[j] = load(from + (i + j) * WIDTH), line[j + 1] = load(from + (i + j + 1) * WIDTH);
            }
#pragma GCC unroll 4
        for (int r = 0; r < R; ++r)
            for (int j = 0; j < 4; ++j)
                sum[r][j] = add_product(sum[r][j], in_lanes(x[r][i + j]), line[j]);
    }
    for (int r = 0; r < R; ++r)
        store(const_cast<float*>(lora[r].low) + block * WIDTH,
              ((sum[r][0] + sum[r][2]) + (sum[r][1] + sum[r][3])) * a.scale);
}

// Prefetches what `lora_up` reads first.
static void prefetch_lora_up(const Matrix& up, int64_t block) {
    for (int64_t i = 0; i < PREFETCH_L1 + PREFETCH_L2; i += 64)
        __builtin_prefetch(up.block(block) + i);
}

static void lora_down(const Lora& a, int64_t which, const Row* rows, const LoraRow* lora,
                      int64_t count) {
    for (int64_t block = 0; block < a.down.blocks; ++block) {
        constexpr int MOST = REGISTERS / 8;
        int64_t r = 0;
        for (; r + MOST <= count; r += MOST) lora_down<MOST>(a, which, block, rows + r, lora + r);
        for (; r + 2 <= count; r += 2) lora_down<2>(a, which, block, rows + r, lora + r);
        if (r < count) lora_down<1>(a, which, block, rows + r, lora + r);
    }
}
