// Products of a few rows with a packed weight matrix, whatever the weights' format.
//
// A matrix is packed into blocks of 32 outputs, input after input, so that weights are read once, in
// order, as far ahead as the memory can follow, and each read serves several rows from registers:
//
//   float32   [matrices][blocks][inputs][32]
//   bfloat16  [matrices][blocks][inputs][16] words, output j in the lower half, j + 16 in the upper
//   int8      [matrices][blocks][inputs / 4][32][4] bytes, weight + 128
//   int4      [matrices][blocks][inputs / 4][16][4] bytes, weight + 8, output j in the lower nibble
//
// `matrices` is the number of experts, or 1. Sums are float32. Where the machine multiplies bytes
// (AVX-512 VNNI), int8 and int4 weights meet activations rounded to 16 bits, taken as two bytes, and
// sums are whole numbers; elsewhere they are widened to floats.

#pragma once

#include <array>
#include <utility>

#include "vectors.h"

#ifdef __AVX512VNNI__
constexpr bool MULTIPLIES_BYTES = true;
#else
constexpr bool MULTIPLIES_BYTES = false;
#endif

constexpr int BLOCK = 2 * WIDTH;  // outputs packed side by side
constexpr int GROUP = 32;         // inputs that share a scale in int4
constexpr int SOON = 2048;        // bytes ahead of the weights in use that the first cache should have
constexpr int LATER = 4096;       // and those ahead of the block after it that the second one should
#ifdef __AVX512F__
constexpr int MOST = 8, TWICE = 6;  // rows whose sums fit the registers, of one block and of two
#else
constexpr int MOST = 3, TWICE = 3;
#endif

enum Format { FLOAT32, BFLOAT16, INT8, INT4 };

struct Matrix {
    const void* weight;
    const float* scale;   // int8: [matrices][blocks][32]; int4: [matrices][blocks][groups][32]
    const float* bias;    // [matrices][blocks * 32], or null
    const int32_t* part;  // [blocks][2]: which adapter part each half of a block belongs to
    int64_t format;       // one of Format
    int64_t inputs, blocks;

    bool takes_bytes() const { return MULTIPLIES_BYTES && format >= INT8; }
    const char* block(int64_t at) const {
        static constexpr int64_t bytes[] = {4 * BLOCK, 2 * BLOCK, BLOCK, BLOCK / 2};  // of an input
        return static_cast<const char*>(weight) + at * inputs * bytes[format];
    }
};

// One adapter of one matrix: y += up (scale * (down x)). `down` has few outputs: they are packed by
// 16s, [matrices][blocks][inputs][16] floats, or words with one input in the lower half and the next
// in the upper.
struct LowRank {
    Matrix down;  // rank * parts outputs
    Matrix up;    // rank inputs
    float scale;
};

// One row of a product. The bytes are there if the matrix takes them: of every four inputs first
// the upper bytes, then the lower ones, with the sums of each over every GROUP inputs.
struct Row {
    const float* x;
    const int8_t* bytes;   // [inputs / 4][2][4]
    const int32_t* sums;   // [groups][2]
    float scale;           // of upper * 256 + lower
};

constexpr int64_t groups_of(int64_t inputs) { return (inputs + GROUP - 1) / GROUP; }

// Rounds x [inputs] to 16 bits: `bytes` has room for 2 * inputs, `sums` for 2 * groups_of(inputs).
static inline float to_bytes(const float* x, int64_t inputs, int8_t* bytes, int32_t* sums) {
    vec peaks = {};
    for (int64_t i = 0; i < inputs; i += WIDTH) {
        const vec v = load(x + i);
        peaks = most(peaks, most(v, -v));
    }
    // 127 * 256 + 127: what two signed bytes can say in both directions.
    const float peak = largest(peaks), scale = peak > 0 ? peak / 32639.0f : 1.0f;
    const float inverse = 1.0f / scale;
    for (int64_t g = 0; g < groups_of(inputs); ++g) sums[2 * g] = sums[2 * g + 1] = 0;
    for (int64_t i = 0; i < inputs; i += WIDTH) {
        typedef int8_t narrow __attribute__((vector_size(16), aligned(1), may_alias));
        // Adding and taking off 1.5 * 2^23 rounds to the nearest whole number.
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

// What is read next; it arrives in 2^halvings passes over the block in use.
struct Next {
    const char* at;
    int halvings;
};

// Weights come out of the memory: while a block is in use, the next one is fetched, line by line.
struct Fetch {
    const char* at;
    Next next;
    Fetch() = default;
    Fetch(const char* at, Next next) : at(at), next{next.at + LATER, next.halvings} {}
    void line(int64_t offset) const {
        __builtin_prefetch(at + offset + SOON);
        __builtin_prefetch(next.at + (offset >> next.halvings), 0, 2);
    }
};

// How each format gives the two vectors of weights of one input.
struct ReadFloat32 : Fetch {
    ReadFloat32() = default;
    ReadFloat32(const Matrix& m, int64_t block, Next next) : Fetch(m.block(block), next) {}
    void column(int64_t i, vec& a, vec& b) const {
        const float* from = reinterpret_cast<const float*>(at) + i * BLOCK;
        line(i * 128), line(i * 128 + 64);
        a = load(from), b = load(from + WIDTH);
    }
    void finish(vec&, vec&) const {}
};
struct ReadBfloat16 : Fetch {
    ReadBfloat16() = default;
    ReadBfloat16(const Matrix& m, int64_t block, Next next) : Fetch(m.block(block), next) {}
    void column(int64_t i, vec& a, vec& b) const {
        line(i * 64);
        const ints both = load_ints(reinterpret_cast<const int32_t*>(at) + i * WIDTH);
        a = reinterpret_cast<vec>(both << 16);
        b = reinterpret_cast<vec>(both & int32_t(0xFFFF0000));
    }
    void finish(vec&, vec&) const {}
};
struct ReadInt8 : Fetch {
    const float* scale;
    ReadInt8() = default;
    ReadInt8(const Matrix& m, int64_t block, Next next)
        : Fetch(m.block(block), next), scale(m.scale + block * BLOCK) {}
    void column(int64_t i, vec& a, vec& b) const {
        const int32_t* from = reinterpret_cast<const int32_t*>(at) + i / 4 * BLOCK;
        line(i * 32);
        const int shift = i % 4 * 8;
        a = __builtin_convertvector((load_ints(from) >> shift) & 255, vec) - 128.0f;
        b = __builtin_convertvector((load_ints(from + WIDTH) >> shift) & 255, vec) - 128.0f;
    }
    void finish(vec& a, vec& b) const { a *= load(scale), b *= load(scale + WIDTH); }
};
struct ReadInt4 : Fetch {
    const float* scale;
    ReadInt4() = default;
    ReadInt4(const Matrix& m, int64_t block, Next next)
        : Fetch(m.block(block), next), scale(m.scale + block * (m.inputs / GROUP) * BLOCK) {}
    void column(int64_t i, vec& a, vec& b) const {
        const int32_t* from = reinterpret_cast<const int32_t*>(at) + i / 4 * WIDTH;
        line(i * 16);
        const ints both = load_ints(from) >> (i % 4 * 8);
        const float* factor = scale + i / GROUP * BLOCK;
        a = (__builtin_convertvector(both & 15, vec) - 8.0f) * load(factor);
        b = (__builtin_convertvector((both >> 4) & 15, vec) - 8.0f) * load(factor + WIDTH);
    }
    void finish(vec&, vec&) const {}
};

// What a row adds to a product through its adapter; `low` is scale * (down x).
struct Tail {
    const float* low;  // [parts * rank], or null: no adapter
    const Matrix* up;
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

// Adds to R rows' block what their common adapter does.
template <class Read, int R>
static inline void add_up(const Tail* tails, const int32_t* part, int64_t block, vec (&sum)[R][2]) {
    const int64_t rank = tails->up->inputs;
    const Read up(*tails->up, block, {tails->up->block(block), 0});
    const float *one[R], *two[R];
    vec odd[R][2] = {};  // sums of their own, so that none waits for the one before
    for (int r = 0; r < R; ++r)
        one[r] = tails[r].low + part[0] * rank, two[r] = tails[r].low + part[1] * rank;
    for (int64_t i = 0; i < rank; i += 2) {
        vec a, b, c = {}, d = {};
        up.column(i, a, b);
        if (i + 1 < rank) up.column(i + 1, c, d);
#pragma GCC unroll 8
        for (int r = 0; r < R; ++r) {
            sum[r][0] += one[r][i] * a, sum[r][1] += two[r][i] * b;
            if (i + 1 < rank) odd[r][0] += one[r][i + 1] * c, odd[r][1] += two[r][i + 1] * d;
        }
    }
    for (int r = 0; r < R; ++r) sum[r][0] += odd[r][0], sum[r][1] += odd[r][1];
}
// The same for N of R rows, from `row` on, if they have a common adapter; whether they do.
template <int N, int R>
static inline bool add_tails(const Tail* tails, const int32_t* part, int64_t block, int row,
                             vec (&sum)[R][2]) {
    if constexpr (N > R) return false;
    else {
        const Tail* tail = tails + row;
        if (row + N > R || std::any_of(tail, tail + N, [&](const Tail& t) { return t.up != tail->up; }))
            return false;
        auto& some = reinterpret_cast<vec(&)[N][2]>(sum[row]);
        if (tail->low && tail->up->format == BFLOAT16)
            add_up<ReadBfloat16, N>(tail, part, block, some);
        else if (tail->low)
            add_up<ReadFloat32, N>(tail, part, block, some);
        return true;
    }
}

// scale * (down x) of R rows, block `block` of 16 outputs. Inputs come in sixteens.
template <int R>
static void go_down(const LowRank& a, int64_t which, int64_t block, const Row* rows,
                    const Tail* tails) {
    vec sum[R][4] = {};  // of every fourth input, so that none waits for the one before
    const int64_t at = (which * a.down.blocks + block) * a.down.inputs * WIDTH;
    const float* x[R];
    for (int r = 0; r < R; ++r) x[r] = rows[r].x;
    for (int64_t i = 0; i < a.down.inputs; i += 4) {
        vec line[4];
        for (int j = 0; j < 4; j += 2)
            if (a.down.format == BFLOAT16) {
                const int32_t* words = static_cast<const int32_t*>(a.down.weight) + at / 2;
                const ints both = load_ints(words + (i + j) * 8);
                line[j] = reinterpret_cast<vec>(both << 16);
                line[j + 1] = reinterpret_cast<vec>(both & int32_t(0xFFFF0000));
            } else {
                const float* from = static_cast<const float*>(a.down.weight) + at;
                line[j] = load(from + (i + j) * WIDTH), line[j + 1] = load(from + (i + j + 1) * WIDTH);
            }
#pragma GCC unroll 4
        for (int r = 0; r < R; ++r)
            for (int j = 0; j < 4; ++j) sum[r][j] += x[r][i + j] * line[j];
    }
    for (int r = 0; r < R; ++r)
        store(const_cast<float*>(tails[r].low) + block * WIDTH,
              ((sum[r][0] + sum[r][2]) + (sum[r][1] + sum[r][3])) * a.scale);
}
// Has the memory fetch what `add_up` reads first.
static void fetch_up(const Matrix& up, int64_t block) {
    for (int64_t i = 0; i < SOON + LATER; i += 64) __builtin_prefetch(up.block(block) + i);
}
static void go_down(const LowRank& a, int64_t which, const Row* rows, const Tail* tails,
                    int64_t count) {
    for (int64_t block = 0; block < a.down.blocks; ++block) {
        int64_t r = 0;
        for (; r + 4 <= count; r += 4) go_down<4>(a, which, block, rows + r, tails + r);
        for (; r + 2 <= count; r += 2) go_down<2>(a, which, block, rows + r, tails + r);
        if (r < count) go_down<1>(a, which, block, rows + r, tails + r);
    }
}

// A product under way: matrix `which` of `m` times `rows`, each with its tail where there are any.
struct Product {
    const Matrix& m;
    int64_t which;
    const Row* rows;
    const Tail* tails;
    Taker done;
    int64_t end;        // of the blocks
    const char* after;  // what is read when they are done

    const char* at(int64_t block) const {
        return block < end ? m.block(which * m.blocks + block) : after;
    }

    // Adapters, bias, and out. The rows of a tile mostly share an adapter.
    template <int R>
    void finish(int64_t row, int64_t block, vec (&sum)[R][2]) const {
        const int64_t at = which * m.blocks + block;
        for (int r = 0; tails && r < R;) {
            const auto add = [&](auto n) {
                return add_tails<n>(tails + row, m.part + block * 2, at, r, sum) ? r += n : 0;
            };
            using std::integral_constant;
            add(integral_constant<int, 4>()) || add(integral_constant<int, 2>()) ||
                add(integral_constant<int, 1>());
        }
        for (int r = 0; r < R; ++r) {
            if (m.bias)
                sum[r][0] += load(m.bias + at * BLOCK),
                    sum[r][1] += load(m.bias + at * BLOCK + WIDTH);
            done(row + r, block, sum[r][0], sum[r][1]);
        }
    }
};

// R rows from `row` on, times B blocks from `block` on.
template <class Read, int R, int B>
static void tile(const Product& p, int64_t block, int64_t row, Next next) {
    vec sum[B][R][2] = {};
    Read read[B];
    const float* x[R];
    for (int b = 0; b < B; ++b)
        read[b] = Read(p.m, p.which * p.m.blocks + block + b,
                       b + 1 < B ? Next{p.at(block + b + 1), 0} : next);
    for (int r = 0; r < R; ++r) x[r] = p.rows[row + r].x;
    for (int64_t i = 0; i < p.m.inputs; ++i)
#pragma GCC unroll 8
        for (int b = 0; b < B; ++b) {
            vec left, right;
            read[b].column(i, left, right);
#pragma GCC unroll 8
            for (int r = 0; r < R; ++r) {
                sum[b][r][0] += x[r][i] * left;
                sum[b][r][1] += x[r][i] * right;
            }
        }
    for (int b = 0; b < B; ++b) {
        for (int r = 0; r < R; ++r) read[b].finish(sum[b][r][0], sum[b][r][1]);
        p.finish(row, block + b, sum[b]);
    }
}

#ifdef __AVX512VNNI__

static inline ints dot(ints sum, ints weights, const int8_t* four) {  // of 4 inputs, in each lane
    int32_t word;
    std::memcpy(&word, four, 4);
    return (ints)_mm512_dpbusd_epi32((__m512i)sum, (__m512i)weights, _mm512_set1_epi32(word));
}
static inline vec joined(ints upper, ints lower) {
    return __builtin_convertvector(upper, vec) * 256.0f + __builtin_convertvector(lower, vec);
}

struct BytesInt8 {
    static constexpr int MOST = 6;
    template <int R>
    static void tile(const Product& p, int64_t block, int64_t row, Next next) {
        const Matrix& m = p.m;
        const int64_t at = p.which * m.blocks + block;
        const Fetch fetch(m.block(at), next);
        ints sum[R][2][2] = {};  // upper and lower, of both halves of the block
        const int8_t* x[R];
        for (int r = 0; r < R; ++r) x[r] = p.rows[row + r].bytes;
        for (int64_t i = 0; i < m.inputs; i += 4) {
            fetch.line(i * 32), fetch.line(i * 32 + 64);
            const int32_t* from = reinterpret_cast<const int32_t*>(fetch.at) + i / 4 * BLOCK;
            const ints a = load_ints(from), b = load_ints(from + WIDTH);
#pragma GCC unroll 8
            for (int r = 0; r < R; ++r)
                for (int part = 0; part < 2; ++part) {
                    sum[r][0][part] = dot(sum[r][0][part], a, x[r] + 2 * i + 4 * part);
                    sum[r][1][part] = dot(sum[r][1][part], b, x[r] + 2 * i + 4 * part);
                }
        }
        const float* scale = m.scale + at * BLOCK;
        vec total[R][2];
        for (int r = 0; r < R; ++r) {
            const Row& given = p.rows[row + r];
            int32_t upper = 0, lower = 0;  // the weights are 128 too large
            for (int64_t g = 0; g < groups_of(m.inputs); ++g)
                upper += given.sums[2 * g] * 128, lower += given.sums[2 * g + 1] * 128;
            for (int half = 0; half < 2; ++half)
                total[r][half] = joined(sum[r][half][0] - upper, sum[r][half][1] - lower) *
                                 given.scale * load(scale + half * WIDTH);
        }
        p.finish(row, block, total);
    }
};
struct BytesInt4 {
    static constexpr int MOST = 4;
    template <int R>
    static void tile(const Product& p, int64_t block, int64_t row, Next next) {
        const Matrix& m = p.m;
        const int64_t at = p.which * m.blocks + block;
        const Fetch fetch(m.block(at), next);
        const float* scale = m.scale + at * (m.inputs / GROUP) * BLOCK;
        vec total[R][2] = {};
        const int8_t* x[R];
        for (int r = 0; r < R; ++r) x[r] = p.rows[row + r].bytes;
        for (int64_t g = 0; g < m.inputs / GROUP; ++g, scale += BLOCK) {
            ints sum[R][2][2];
            for (int r = 0; r < R; ++r)
                for (int part = 0; part < 2; ++part)  // the weights are 8 too large
                    sum[r][0][part] = sum[r][1][part] =
                        ints{} - 8 * p.rows[row + r].sums[2 * g + part];
            for (int64_t i = g * GROUP; i < (g + 1) * GROUP; i += 4) {
                fetch.line(i * 16);
                const ints both = load_ints(reinterpret_cast<const int32_t*>(fetch.at) + i * 4);
                const ints a = both & 0x0F0F0F0F, b = (both >> 4) & 0x0F0F0F0F;
#pragma GCC unroll 8
                for (int r = 0; r < R; ++r)
                    for (int part = 0; part < 2; ++part) {
                        sum[r][0][part] = dot(sum[r][0][part], a, x[r] + 2 * i + 4 * part);
                        sum[r][1][part] = dot(sum[r][1][part], b, x[r] + 2 * i + 4 * part);
                    }
            }
            for (int r = 0; r < R; ++r)
                for (int half = 0; half < 2; ++half)
                    total[r][half] +=
                        joined(sum[r][half][0], sum[r][half][1]) * load(scale + half * WIDTH);
        }
        for (int r = 0; r < R; ++r)
            total[r][0] *= p.rows[row + r].scale, total[r][1] *= p.rows[row + r].scale;
        p.finish(row, block, total);
    }
};

template <class Bytes, int... R>
static constexpr auto byte_tiles(std::integer_sequence<int, R...>) {
    return std::array{&Bytes::template tile<R + 1>...};
}

#endif

template <class Read, int B, int... R>
static constexpr auto float_tiles(std::integer_sequence<int, R...>) {
    return std::array{&tile<Read, R + 1, B>...};
}

// All rows times blocks begin..end, in as few passes as the registers allow, of equal size.
template <class Tiles>
static void in_passes(const Tiles& tiles, const Product& p, int64_t begin, int64_t end, int64_t step,
                      int64_t rows) {
    const int64_t most = tiles.size(), passes = (rows + most - 1) / most;
    const int64_t size = p.m.block(1) - p.m.block(0);
    const int halvings = 63 - __builtin_clzll(passes);
    for (int64_t block = begin; block < end; block += step)
        for (int64_t n = 0; n < passes; ++n) {
            const int64_t row = rows * n / passes, count = rows * (n + 1) / passes - row;
            const Next next{p.at(block + step) + size * n / passes, halvings};
            tiles[count - 1](p, block, row, next);
        }
}

// Few rows take several blocks at once, so that there are always enough sums under way and the memory
// follows two pages; the order within each sum stays.
template <class Read>
static void multiply(const Product& p, int64_t begin, int64_t end, int64_t rows) {
    static constexpr auto one = float_tiles<Read, 1>(std::make_integer_sequence<int, MOST>{});
    static constexpr auto two = float_tiles<Read, 2>(std::make_integer_sequence<int, TWICE>{});
    static constexpr auto four = float_tiles<Read, 4>(std::make_integer_sequence<int, 1>{});
    if (rows == 1) {
        const int64_t whole = begin + (end - begin) / 4 * 4;
        in_passes(four, p, begin, whole, 4, rows);
        begin = whole;
    }
    if (rows <= TWICE) {
        const int64_t whole = begin + (end - begin) / 2 * 2;
        in_passes(two, p, begin, whole, 2, rows);
        begin = whole;
    }
    in_passes(one, p, begin, end, 1, rows);
}

// Blocks begin..end of matrix `which` times all rows; the weights at `after` are read next,
// if that is known.
static void multiply(const Matrix& m, int64_t which, int64_t begin, int64_t end, const Row* x,
                     const Tail* tails, int64_t rows, Taker done, const char* after = nullptr) {
    if (rows == 0 || begin >= end) return;
    const Product p{m, which, x, tails, done, end, after ? after : m.block(end)};
#ifdef __AVX512VNNI__
    static constexpr auto int8 =
        byte_tiles<BytesInt8>(std::make_integer_sequence<int, BytesInt8::MOST>{});
    static constexpr auto int4 =
        byte_tiles<BytesInt4>(std::make_integer_sequence<int, BytesInt4::MOST>{});
    if (m.format == INT8) return in_passes(int8, p, begin, end, 1, rows);
    if (m.format == INT4) return in_passes(int4, p, begin, end, 1, rows);
#endif
    switch (m.format) {
        case FLOAT32: return multiply<ReadFloat32>(p, begin, end, rows);
        case BFLOAT16: return multiply<ReadBfloat16>(p, begin, end, rows);
        case INT8: return multiply<ReadInt8>(p, begin, end, rows);
        case INT4: return multiply<ReadInt4>(p, begin, end, rows);
    }
}
