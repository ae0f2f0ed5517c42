// Products of small matrices whose sums stay in registers: the steps of blocked attention.

#pragma once

#include <type_traits>

#include "vectors.h"

// Most rows of a tile, and vectors per row: enough independent sums that additions do not wait for each
// other, and few enough that all fit beside what they are made of.
constexpr int TILE_ROWS = REGISTERS == 32 ? 8 : 6;
template <int R>
constexpr int TILE_VECTORS = R <= 3 ? 4 : 2;

// sum[r][n] += weights[r][k] * lines[n][k] for k < count, in this order. `row` and `column` are the
// strides of the weights, `stride` that of the lines.
template <int R, int N, class X>
static inline __attribute__((always_inline)) void multiply_add(vec (&sum)[R][N],
                                                               const float* weights, int64_t row,
                                                               int64_t column, const X* const* lines,
                                                               int64_t stride, int64_t count) {
    for (int64_t k = 0; k < count; ++k) {
        vec line[N];
        for (int n = 0; n < N; ++n) line[n] = load(lines[n] + k * stride);
#pragma GCC unroll 8
        for (int r = 0; r < R; ++r) {
            const vec weight = in_lanes(weights[r * row + k * column]);
#pragma GCC unroll 8
            for (int n = 0; n < N; ++n) sum[r][n] = add_product(sum[r][n], weight, line[n]);
        }
    }
}

// f with a number of rows, at most R, that is known when it is compiled.
template <int R, class F>
static inline void with_rows(int64_t rows, const F& f) {
    if constexpr (R > 1)
        if (rows < R) return with_rows<R - 1>(rows, f);
    f(std::integral_constant<int, R>());
}

// f(number of rows, first row) over rows begin..end in as few tiles as possible, of equal size.
template <class F>
static inline void for_row_tiles(int64_t begin, int64_t end, const F& f) {
    const int64_t rows = end - begin, tiles = (rows + TILE_ROWS - 1) / TILE_ROWS;
    for (int64_t n = 0; n < tiles; ++n) {
        const int64_t row = begin + rows * n / tiles, next = begin + rows * (n + 1) / tiles;
        with_rows<TILE_ROWS>(next - row, [&](auto count) { f(count, row); });
    }
}

// f(number of vectors, first vector) over vectors begin..end: as many at once as a tile of R rows has, and
// the rest one by one.
template <int R, class F>
static inline void for_vectors(int64_t begin, int64_t end, const F& f) {
    constexpr int N = TILE_VECTORS<R>;
    for (; begin + N <= end; begin += N) f(std::integral_constant<int, N>(), begin);
    for (; begin < end; ++begin) f(std::integral_constant<int, 1>(), begin);
}
