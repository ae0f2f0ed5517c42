// Products of bfloat16 weights in tiles: Intel AMX, or the same arithmetic in plain C++ (BURNISH_TILES 2),
// which proves this code where no processor has it.
//
// A float is the sum of three bfloat16 numbers, so three products in float32 lose nothing of a row. Every
// row goes through tiles, from the first one on, and its sum runs over the same terms in the same order
// whatever rows stand beside it. Included by gemm.h. Left out: int8 and int4, training's products.

#pragma once

#include <vector>

#include "weights.h"

constexpr int TILE_ROWS_MOST = 16;  // rows of a tile
constexpr int CHUNK = 32;           // inputs whose products one instruction adds up
constexpr int PARTS = 3;            // bfloat16 numbers that make up a float

// Sums are in tiles 0 to 3 (16 rows times the left half of a block, times the right; the next 16 rows
// likewise), rows in 4 and 5, weights in 6 and 7.
constexpr int TILES = 8;

struct TileShapes {
    int rows[TILES], bytes[TILES];  // of a row

    TileShapes(int first, int second)
        : rows{first, first, second, second, first, second, CHUNK / 2, CHUNK / 2} {
        for (int t = 0; t < TILES; ++t) bytes[t] = t == 4 || t == 5 ? 2 * CHUNK : 4 * WIDTH;
    }
};

#if BURNISH_TILES == 1

static inline void begin_tiles(const TileShapes& shapes) {
    struct alignas(64) {
        uint8_t palette = 1, start = 0, reserved[14] = {};
        uint16_t bytes[16] = {};
        uint8_t rows[16] = {};
    } config;
    for (int t = 0; t < TILES; ++t)
        config.rows[t] = shapes.rows[t], config.bytes[t] = shapes.rows[t] ? shapes.bytes[t] : 0;
    _tile_loadconfig(&config);
}
static inline void end_tiles() { _tile_release(); }
#define zero_tile(t) _tile_zero(t)
#define load_tile(t, from, stride) _tile_loadd(t, from, stride)
#define store_tile(t, to, stride) _tile_stored(t, to, stride)
#define add_tile_products(sum, a, b) _tile_dpbf16ps(sum, a, b)

#else

struct EmulatedTiles {
    TileShapes shapes{0, 0};
    uint32_t words[TILES][TILE_ROWS_MOST][16];
};
static thread_local EmulatedTiles emulated;

static inline void begin_tiles(const TileShapes& shapes) { emulated.shapes = shapes; }
static inline void end_tiles() {}
static inline void zero_tile(int t) { std::memset(emulated.words[t], 0, sizeof emulated.words[t]); }
static inline void load_tile(int t, const void* from, int64_t stride) {
    zero_tile(t);
    for (int r = 0; r < emulated.shapes.rows[t]; ++r)
        std::memcpy(emulated.words[t][r], static_cast<const char*>(from) + r * stride,
                    emulated.shapes.bytes[t]);
}
static inline void store_tile(int t, void* to, int64_t stride) {
    for (int r = 0; r < emulated.shapes.rows[t]; ++r)
        std::memcpy(static_cast<char*>(to) + r * stride, emulated.words[t][r],
                    emulated.shapes.bytes[t]);
}
static inline float as_float(uint32_t bits) {
    float value;
    std::memcpy(&value, &bits, 4);
    return value;
}
// TDPBF16PS of Intel's manual: the products of even and of odd inputs are summed apart, then added.
static inline void add_tile_products(int sum, int a, int b) {
    for (int r = 0; r < emulated.shapes.rows[sum]; ++r)
        for (int n = 0; n < emulated.shapes.bytes[sum] / 4; ++n) {
            float even = 0, odd = 0;
            for (int k = 0; k < CHUNK / 2; ++k) {
                const uint32_t x = emulated.words[a][r][k], w = emulated.words[b][k][n];
                even = std::fma(as_float(x << 16), as_float(w << 16), even);
                odd = std::fma(as_float(x & 0xFFFF0000), as_float(w & 0xFFFF0000), odd);
            }
            const float total = as_float(emulated.words[sum][r][n]) + (even + odd);
            std::memcpy(&emulated.words[sum][r][n], &total, 4);
        }
}

#endif

// The bfloat16 numbers nearest to x.
static inline ints nearest_bfloat16(vec x) {
    const ints bits = reinterpret_cast<ints&>(x);
    return (bits + 0x7FFF + ((bits >> 16) & 1)) & int32_t(0xFFFF0000);
}

// What rows and weights of one product look like in tiles; kept by a thread for the next product.
struct TileOperands {
    std::vector<uint16_t> parts[PARTS];  // [rows][chunks * CHUNK]
    std::vector<int32_t> left, right;    // [chunks][CHUNK / 2][WIDTH] pairs of inputs, of half a block

    void split(const Row* rows, int64_t count, int64_t inputs, int64_t padded) {
        typedef uint16_t narrow __attribute__((vector_size(2 * WIDTH), aligned(2), may_alias));
        for (auto& part : parts) part.assign(count * padded, 0);
        for (int64_t r = 0; r < count; ++r)
            for (int64_t i = 0; i < inputs; i += WIDTH) {
                vec rest = load(rows[r].x + i);
                for (auto& part : parts) {
                    const ints nearest = nearest_bfloat16(rest);
                    *reinterpret_cast<narrow*>(&part[r * padded + i]) =
                        __builtin_convertvector((nearest >> 16) & 0xFFFF, narrow);
                    rest -= reinterpret_cast<const vec&>(nearest);
                }
            }
    }

    // A block holds one input after the other; a tile's row holds two inputs side by side.
    void pair_up(const int32_t* block, int64_t inputs, int64_t padded) {
        left.assign(padded / 2 * WIDTH, 0), right.assign(padded / 2 * WIDTH, 0);
        for (int64_t i = 0; i < inputs; i += 2) {
            const ints one = load_ints(block + i * WIDTH), two = load_ints(block + (i + 1) * WIDTH);
            const int64_t at = i / 2 * WIDTH;
            *reinterpret_cast<ints*>(&left[at]) = (one & 0xFFFF) | (two << 16);
            *reinterpret_cast<ints*>(&right[at]) = ((one >> 16) & 0xFFFF) | (two & int32_t(0xFFFF0000));
        }
    }
};

// Rows `row` to `row + first + second` times one block, whose operands are ready.
template <bool TWO>
static void tiles_of_rows(const Gemm& p, int64_t block, int64_t row, const TileOperands& operands,
                          int64_t padded, int first, int second) {
    const int64_t stride = padded * sizeof(uint16_t), half = CHUNK / 2 * WIDTH;
    zero_tile(0);
    zero_tile(1);
    if (TWO) {
        zero_tile(2);
        zero_tile(3);
    }
    for (int64_t chunk = 0; chunk < padded / CHUNK; ++chunk) {
        load_tile(6, &operands.left[chunk * half], 4 * WIDTH);
        load_tile(7, &operands.right[chunk * half], 4 * WIDTH);
        for (const auto& part : operands.parts) {
            const uint16_t* x = &part[row * padded + chunk * CHUNK];
            load_tile(4, x, stride);
            add_tile_products(0, 4, 6);
            add_tile_products(1, 4, 7);
            if (TWO) {
                load_tile(5, x + first * padded, stride);
                add_tile_products(2, 5, 6);
                add_tile_products(3, 5, 7);
            }
        }
    }
    alignas(64) float sums[2 * TILE_ROWS_MOST][BLOCK];
    store_tile(0, &sums[0][0], sizeof sums[0]);
    store_tile(1, &sums[0][WIDTH], sizeof sums[0]);
    if (TWO) {
        store_tile(2, &sums[first][0], sizeof sums[0]);
        store_tile(3, &sums[first][WIDTH], sizeof sums[0]);
    }
    for (int r = 0; r < first + second; ++r) {
        vec sum[1][2] = {{load(&sums[r][0]), load(&sums[r][WIDTH])}};
        p.finish(row + r, block, sum);
    }
}

// All rows times blocks begin..end of bfloat16 weights.
static void tiled(const Gemm& p, int64_t begin, int64_t end, int64_t rows) {
    static thread_local TileOperands operands;
    const int64_t padded = (p.m.inputs + CHUNK - 1) / CHUNK * CHUNK;
    operands.split(p.rows, rows, p.m.inputs, padded);
    constexpr int64_t most = 2 * TILE_ROWS_MOST;
    int shaped_for = 0;
    for (int64_t block = begin; block < end; ++block) {
        operands.pair_up(reinterpret_cast<const int32_t*>(p.at(block)), p.m.inputs, padded);
        for (int64_t row = 0; row < rows; row += most) {
            const int count = std::min(rows - row, most);
            const int first = std::min(count, TILE_ROWS_MOST), second = count - first;
            if (count != shaped_for) begin_tiles(TileShapes(first, second)), shaped_for = count;
            if (second) tiles_of_rows<true>(p, block, row, operands, padded, first, second);
            else tiles_of_rows<false>(p, block, row, operands, padded, first, 0);
        }
    }
    end_tiles();
}
