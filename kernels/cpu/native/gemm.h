// GEMM of a few rows with a packed weight matrix: each weight that is read serves several rows from
// registers. Sums are float32, or integers where bytes are multiplied.

#pragma once

#include <array>
#include <utility>

#include "lora.h"

// Rows whose sums fit in registers, for one block and for two.
constexpr int MAX_ROWS = REGISTERS == 32 ? 8 : 6, MAX_ROWS_OF_TWO = REGISTERS == 32 ? 6 : 2;

// A reference to the function that takes a product's results: row, block, and the block's two vectors.
// Not a template parameter, or every product would be compiled once per epilogue.
class Epilogue {
    const void* self;
    void (*call)(const void*, int64_t, int64_t, vec, vec);

  public:
    template <class F>
    Epilogue(const F& f)
        : self(&f), call([](const void* self, int64_t row, int64_t block, vec a, vec b) {
              (*static_cast<const F*>(self))(row, block, a, b);
          }) {}
    void operator()(int64_t row, int64_t block, vec a, vec b) const {
        call(self, row, block, a, b);
    }
};

// One product: matrix `which` of `m` times `rows`, plus each row's adapter where `lora` is not null.
struct Gemm {
    const Matrix& m;
    int64_t which;
    const Row* rows;
    const LoraRow* lora;
    Epilogue epilogue;
    int64_t end;        // of the blocks
    const char* after;  // what is read behind them

    const char* at(int64_t block) const {
        return block < end ? m.block(which * m.blocks + block) : after;
    }

    // What is read after block `b` of several that are multiplied at once, given what is read after the first.
    NextBlock following(NextBlock next, int b) const {
        return {next.at + b * (m.block(1) - m.block(0)), next.halvings};
    }

    // Adds adapters and bias and hands the sums out. The rows of a tile mostly share an adapter.
    template <int R>
    void finish(int64_t row, int64_t block, vec (&sum)[R][2]) const {
        const int64_t at = which * m.blocks + block;
        for (int r = 0; lora && r < R;) {
            const auto add = [&](auto n) {
                const int32_t* part = m.part + block * 2;
                return lora_up_if_shared<n>(lora + row, part, at, r, sum) ? r += n : 0;
            };
            using std::integral_constant;
            add(integral_constant<int, REGISTERS / 8>()) || add(integral_constant<int, 2>()) ||
                add(integral_constant<int, 1>());
        }
        for (int r = 0; r < R; ++r) {
            if (m.bias)
                sum[r][0] += load(m.bias + at * BLOCK),
                    sum[r][1] += load(m.bias + at * BLOCK + WIDTH);
            epilogue(row + r, block, sum[r][0], sum[r][1]);
        }
    }
};

// A product of weights that are read as floats; integer_tiles.h has those of integers.
template <class Read>
struct Floats {
    // R rows from `row` on, times B blocks from `block` on.
    template <int R, int B>
    static void tile(const Gemm& p, int64_t block, int64_t row, NextBlock next) {
        vec sum[B][R][2] = {};
        Read read[B];
        const float* x[R];
        for (int b = 0; b < B; ++b)
            read[b] = Read(p.m, p.which * p.m.blocks + block + b, p.following(next, b));
        for (int r = 0; r < R; ++r) x[r] = p.rows[row + r].x;
        for (int64_t i = 0; i < p.m.inputs; ++i)
#pragma GCC unroll 8
            for (int b = 0; b < B; ++b) {
                vec left, right;
                read[b].column(i, left, right);
#pragma GCC unroll 8
                for (int r = 0; r < R; ++r) {
                    const vec given = in_lanes(x[r][i]);
                    sum[b][r][0] = add_product(sum[b][r][0], given, left);
                    sum[b][r][1] = add_product(sum[b][r][1], given, right);
                }
            }
        for (int b = 0; b < B; ++b) {
            for (int r = 0; r < R; ++r) read[b].finish(sum[b][r][0], sum[b][r][1]);
            p.finish(row, block + b, sum[b]);
        }
    }
};

#include "integer_tiles.h"
#if BURNISH_TILES
#include "tiles.h"
#endif

// A product's tiles of B blocks, by the number of their rows less one.
template <class Product, int B, int... R>
static constexpr auto tiles_of(std::integer_sequence<int, R...>) {
    return std::array{&Product::template tile<R + 1, B>...};
}

// All rows times blocks begin..end, in as few passes as the registers allow, of equal size.
template <class Tiles>
static void in_passes(const Tiles& tiles, const Gemm& p, int64_t begin, int64_t end, int64_t step,
                      int64_t rows) {
    const int64_t most = tiles.size(), passes = (rows + most - 1) / most;
    const int64_t size = p.m.block(1) - p.m.block(0);
    const int halvings = 63 - __builtin_clzll(passes);
    for (int64_t block = begin; block < end; block += step)
        for (int64_t n = 0; n < passes; ++n) {
            const int64_t row = rows * n / passes, count = rows * (n + 1) / passes - row;
            const NextBlock next{p.at(block + step) + size * n / passes, halvings};
            tiles[count - 1](p, block, row, next);
        }
}

// Few rows take several blocks at once, so that enough independent sums are in progress and memory streams
// from several places; the order within each sum stays.
template <class Product>
static void multiply(const Gemm& p, int64_t begin, int64_t end, int64_t rows) {
    static constexpr auto one = tiles_of<Product, 1>(std::make_integer_sequence<int, MAX_ROWS>{});
    static constexpr auto two =
        tiles_of<Product, 2>(std::make_integer_sequence<int, MAX_ROWS_OF_TWO>{});
    static constexpr auto four = tiles_of<Product, 4>(std::make_integer_sequence<int, 1>{});
    if (rows == 1) {
        const int64_t whole = begin + (end - begin) / 4 * 4;
        in_passes(four, p, begin, whole, 4, rows);
        begin = whole;
    }
    if (rows <= MAX_ROWS_OF_TWO) {
        const int64_t whole = begin + (end - begin) / 2 * 2;
        in_passes(two, p, begin, whole, 2, rows);
        begin = whole;
    }
    in_passes(one, p, begin, end, 1, rows);
}

// Blocks begin..end of matrix `which` times all rows; the weights at `after` are read next,
// if that is known.
static void gemm(const Matrix& m, int64_t which, int64_t begin, int64_t end, const Row* x,
                 const LoraRow* lora, int64_t rows, Epilogue epilogue,
                 const char* after = nullptr) {
    if (rows == 0 || begin >= end) return;
    const Gemm p{m, which, x, lora, epilogue, end, after ? after : m.block(end)};
    switch (m.format) {
        case FLOAT32: return multiply<Floats<ReadFloat32>>(p, begin, end, rows);
#if BURNISH_TILES
        case BFLOAT16: return tiled(p, begin, end, rows);
#else
        case BFLOAT16: return multiply<Floats<ReadBfloat16>>(p, begin, end, rows);
#endif
        case INT8: return multiply<Int8>(p, begin, end, rows);
        case INT4: return multiply<Int4>(p, begin, end, rows);
    }
}
