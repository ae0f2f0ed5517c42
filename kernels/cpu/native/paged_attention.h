// Paged attention in float32, in blocks of keys with a running softmax (Dao et al. 2022, FlashAttention):
// memory does not grow with the number of positions, and the keys and values of a block are read from
// the nearest caches by all the queries of a tile.
//
// A page holds a vector of positions of one layer: keys as [kv_heads][width][PAGE], so that one vector is
// one dimension of as many keys, and values as [kv_heads][PAGE][width], unless they are a part of the keys.
// Covers grouped queries, causal masks, sliding windows, sinks and soft caps. The cache is float32,
// bfloat16, or int8, where a head's key or value of a position shares a scale: behind each head's numbers
// of a page lie the [PAGE] scales of its positions, as floats.
//
// Blocks begin at multiples of their size, and a query passes over those that it sees any position of,
// one after the other. So its result depends on its position alone: not on the other queries of its
// tile, nor on how its prompt is cut into steps.

#pragma once

#include <type_traits>
#include <vector>

#include "register_tiles.h"

constexpr int PAGE = WIDTH;    // positions
constexpr int KEY_BLOCK = 128;  // positions, whole pages
constexpr int BLOCK_PAGES = KEY_BLOCK / PAGE;
constexpr int MAX_QUERIES = 48;  // of a tile: the product of its tokens and heads

struct AttentionShape {
    int64_t heads, kv_heads, width;  // width: of a head
    float scale, softcap;            // softcap 0: none
    int64_t window;                  // 0: none
    const float* sinks;              // [heads], or null
    int64_t latent;                  // > 0 (MLA): values are the first so many dimensions of the keys

    int64_t value_width() const { return latent ? latent : width; }
    int64_t heads_per_kv() const { return heads / kv_heads; }
    // First position that a token sees.
    int64_t first_seen(int64_t position) const {
        return window > 0 ? std::max<int64_t>(0, position - window + 1) : 0;
    }
};

// A block of positions from `start` on, and what consecutive tokens from `position` on see of it.
struct SeenBlock {
    int64_t start;
    int64_t first, last;  // tokens first..last of them see any of it: at the most its positions begin..end,
    int64_t begin, end;   // counted from its start

    SeenBlock(const AttentionShape& s, int64_t start, int64_t position, int64_t tokens)
        : start(start), first(std::max<int64_t>(0, start - position)), last(tokens) {
        if (s.window > 0) last = std::min(last, start + KEY_BLOCK + s.window - 1 - position);
        begin = std::max<int64_t>(0, s.first_seen(position + first) - start);
        end = std::min<int64_t>(KEY_BLOCK, position + last - start);
    }
    int64_t first_page() const { return begin / PAGE; }
    int64_t last_page() const { return (end - 1) / PAGE; }
};

// f(block) for each that any of the tokens sees.
template <class F>
static inline void for_seen_blocks(const AttentionShape& s, int64_t position, int64_t tokens,
                                   const F& f) {
    int64_t start = s.first_seen(position) / KEY_BLOCK * KEY_BLOCK;
    for (; start < position + tokens; start += KEY_BLOCK)
        f(SeenBlock(s, start, position, tokens));
}

// What a page takes of a head's keys, or of its values, counted in K.
template <class K>
static constexpr int64_t page_size(int64_t width) {
    return width * PAGE + (std::is_same_v<K, int8_t> ? PAGE * sizeof(float) : 0);
}
static inline const float* scales_of(const int8_t* page, int64_t width) {
    return reinterpret_cast<const float*>(page + width * PAGE);
}

// Writes one head's line [width] of a position: each number `stride` behind the last. In int8 the scale
// is not a number if any of them is not.
template <class K>
static void write_line(const float* line, int64_t width, K* page, int64_t lane, K* to,
                       int64_t stride) {
    if constexpr (std::is_same_v<K, int8_t>) {
        float peak = 0, none = 0;
        for (int64_t d = 0; d < width; ++d)
            peak = std::max(peak, std::abs(line[d])), none += line[d] * 0;
        const float scale = (peak > 0 ? peak / 127 : 1) + none;
        const_cast<float*>(scales_of(page, width))[lane] = scale;
        for (int64_t d = 0; d < width; ++d) to[d * stride] = int8_t(std::lrint(line[d] / scale));
    } else {
        for (int64_t d = 0; d < width; ++d) put(to + d * stride, line[d]);
    }
}

// Writes one token's key and value; slot s of the cache is position s % PAGE of page s / PAGE.
template <class K>
static void write_page(const AttentionShape& s, const float* key, const float* value, K* keys,
                       K* values, int64_t slot) {
    const int64_t size = page_size<K>(s.width), lane = slot % PAGE;
    for (int64_t h = 0; h < s.kv_heads; ++h) {
        const int64_t at = (slot / PAGE * s.kv_heads + h) * size;
        write_line(key + h * s.width, s.width, keys + at, lane, keys + at + lane, PAGE);
        if (s.latent) continue;
        K* to = values + at + lane * s.width;
        write_line(value + h * s.width, s.width, values + at, lane, to, 1);
    }
}

// Queries of consecutive tokens of one row, and of heads that read the same key head.
struct QueryTile {
    int64_t tokens, heads, position;  // position: of the first token
    const float* query;               // [tokens][query_stride], of which [heads][width]
    float* out;                       // [tokens][out_stride], of which [heads][value width]
    int64_t query_stride, out_stride;
    const float* sinks;  // [heads], or null
    float* log_sums;     // [tokens][heads of all], of the exponentials of the scores; or null
};

// What a thread needs for a tile; kept, since what is as large comes from the system page by page.
struct AttentionScratch {
    std::vector<float> query, out;    // [MAX_QUERIES][width, value width]
    std::vector<float> keys, values;  // of a block that are not read where they lie
    float scores[MAX_QUERIES * KEY_BLOCK];  // then the weights
    float peak[MAX_QUERIES];                // largest score so far
    vec sum[MAX_QUERIES];                   // of the weights so far, lane by lane

    void fit(const AttentionShape& s) {
        query.resize(MAX_QUERIES * s.width), out.resize(MAX_QUERIES * s.value_width());
        keys.resize(KEY_BLOCK * s.width), values.resize(KEY_BLOCK * s.value_width());
    }
};

// The pages of a block, for one head.
template <class K>
struct BlockPages {
    const K *key[BLOCK_PAGES], *value[BLOCK_PAGES];
};

// Pages are read where they lie,
template <class K>
static const BlockPages<K>& read_pages(const AttentionShape&, const SeenBlock&,
                                       const BlockPages<K>& pages, AttentionScratch&) {
    return pages;
}
// or, in int8, multiplied by their scales first.
static BlockPages<float> read_pages(const AttentionShape& s, const SeenBlock& block,
                                    const BlockPages<int8_t>& pages, AttentionScratch& scratch) {
    BlockPages<float> read;
    for (int64_t n = block.first_page(); n <= block.last_page(); ++n) {
        float* key = &scratch.keys[n * PAGE * s.width];
        const vec scales = load(scales_of(pages.key[n], s.width));
        for (int64_t i = 0; i < s.width * PAGE; i += PAGE)
            store(key + i, load(pages.key[n] + i) * scales);
        read.key[n] = key;
        if (s.latent) continue;
        float* value = &scratch.values[n * PAGE * s.width];
        const float* scale = scales_of(pages.value[n], s.width);
        for (int64_t i = 0; i < s.width * PAGE; i += WIDTH)
            store(value + i, load(pages.value[n] + i) * in_lanes(scale[i / s.width]));
        read.value[n] = value;
    }
    return read;
}

// Scores of rows begin..end.
template <class K>
static void compute_scores(const AttentionShape& s, const SeenBlock& block,
                           const BlockPages<K>& pages, int64_t begin, int64_t end,
                           AttentionScratch& scratch) {
    for_row_tiles(begin, end, [&](auto rows, int64_t row) {
        constexpr int R = rows;
        for_vectors<R>(block.first_page(), block.last_page() + 1, [&](auto vectors, int64_t page) {
            constexpr int N = vectors;
            vec sum[R][N] = {};
            multiply_add(sum, &scratch.query[row * s.width], s.width, 1, pages.key + page, PAGE,
                         s.width);
            for (int r = 0; r < R; ++r)
                for (int n = 0; n < N; ++n)
                    store(scratch.scores + (row + r) * KEY_BLOCK + (page + n) * PAGE, sum[r][n]);
        });
    });
}

// Positions that a query does not see, which are all but from..to, score -infinity.
static inline void mask_scores(int64_t from, int64_t to, int64_t begin, int64_t end, float* scores) {
    ints lane;
    for (int j = 0; j < WIDTH; ++j) lane[j] = j;
    for (int64_t j = begin; j < end; j += PAGE)
        if (j < from || j + PAGE > to) {
            const ints at = lane + int32_t(j);
            const ints seen = (at >= int32_t(from)) & (at < int32_t(to));
            store(scores + j, seen ? load(scores + j) : vec{} - INFINITY);
        }
}

// The scores of rows begin..end become weights, relative to the largest score of each so far; where that
// has grown, what was summed before shrinks. Not inlined, so that every tile rounds alike.
static __attribute__((noinline)) void compute_weights(const AttentionShape& s,
                                                      const QueryTile& tile,
                                                      const SeenBlock& block, int64_t begin,
                                                      int64_t end, AttentionScratch& scratch) {
    const int64_t first = block.first_page() * PAGE, last = (block.last_page() + 1) * PAGE;
    for (int64_t row = begin; row < end; ++row) {
        float* scores = scratch.scores + row * KEY_BLOCK;
        for (int64_t j = first; s.softcap > 0 && j < last; ++j)
            scores[j] = std::tanh(scores[j] / s.softcap) * s.softcap;
        const int64_t position = tile.position + row / tile.heads;
        mask_scores(s.first_seen(position) - block.start, position + 1 - block.start, first, last,
                    scores);
        vec best = vec{} - INFINITY;
        for (int64_t j = first; j < last; j += PAGE) best = most(best, load(scores + j));
        const float before = scratch.peak[row], peak = std::max(before, largest(best));
        if (peak == before) continue;
        const float shrink = exp_vec(vec{} + (before - peak))[0];
        float* out = &scratch.out[row * s.value_width()];
        for (int64_t d = 0; d < s.value_width(); d += WIDTH) store(out + d, load(out + d) * shrink);
        scratch.sum[row] *= shrink;
        scratch.peak[row] = peak;
    }
    for (int64_t row = begin; row < end; ++row) {
        float* scores = scratch.scores + row * KEY_BLOCK;
        const float peak = scratch.peak[row];
        vec sum = scratch.sum[row];
        for (int64_t j = first; j < last; j += PAGE) {
            const vec weight = exp_vec(load(scores + j) - peak);
            store(scores + j, weight);
            sum += weight;
        }
        scratch.sum[row] = sum;
    }
}

// Adds the weighted values of a block to the outputs of rows begin..end.
template <class V>
static void add_values(const AttentionShape& s, const SeenBlock& block, const V* const* value,
                       int64_t begin, int64_t end, AttentionScratch& scratch) {
    const int64_t wide = s.value_width();
    for_row_tiles(begin, end, [&](auto rows, int64_t row) {
        constexpr int R = rows;
        for_vectors<R>(0, wide / WIDTH, [&](auto vectors, int64_t first) {
            constexpr int N = vectors;
            float* out = &scratch.out[row * wide + first * WIDTH];
            vec sum[R][N];
            for (int r = 0; r < R; ++r)
                for (int n = 0; n < N; ++n) sum[r][n] = load(out + r * wide + n * WIDTH);
            for (int64_t page = block.first_page(); page <= block.last_page(); ++page) {
                // What a page holds beyond what is seen must not enter, not even times zero: it may be NaN.
                const int64_t j = std::max<int64_t>(0, block.begin - page * PAGE);
                const int64_t count = std::min<int64_t>(PAGE, block.end - page * PAGE) - j;
                const V* lines[N];
                for (int n = 0; n < N; ++n) lines[n] = value[page] + j * wide + (first + n) * WIDTH;
                const float* weights = scratch.scores + row * KEY_BLOCK + page * PAGE + j;
                if (count == PAGE)  // known when it is compiled
                    multiply_add(sum, weights, KEY_BLOCK, 1, lines, wide, PAGE);
                else
                    multiply_add(sum, weights, KEY_BLOCK, 1, lines, wide, count);
            }
            for (int r = 0; r < R; ++r)
                for (int n = 0; n < N; ++n) store(out + r * wide + n * WIDTH, sum[r][n]);
        });
    });
}

// The same where values are dimensions of the keys, which are transposed first.
template <class K>
static void add_latents(const AttentionShape& s, const SeenBlock& block, const K* const* key,
                        int64_t begin, int64_t end, AttentionScratch& scratch) {
    const float* value[BLOCK_PAGES];
    for (int64_t page = block.first_page(); page <= block.last_page(); ++page) {
        float* to = &scratch.values[page * PAGE * s.latent];
        for (int64_t d = 0; d < s.latent; d += WIDTH) {
            vec lines[WIDTH];
            for (int j = 0; j < WIDTH; ++j) lines[j] = load(key[page] + (d + j) * PAGE);
            transpose(lines);
            for (int j = 0; j < PAGE; ++j) store(to + j * s.latent + d, lines[j]);
        }
        value[page] = to;
    }
    add_values(s, block, value, begin, end, scratch);
}

// Attends a tile. `slots` has the cache slot of every position of its row.
template <class K>
static void attend(const AttentionShape& s, const QueryTile& tile, const K* keys, const K* values,
                   const int64_t* slots, int64_t kv_head, AttentionScratch& scratch) {
    const int64_t rows = tile.tokens * tile.heads, wide = s.value_width();
    for (int64_t row = 0; row < rows; ++row) {
        const int64_t head = row % tile.heads;
        const float* query = tile.query + row / tile.heads * tile.query_stride + head * s.width;
        for (int64_t d = 0; d < s.width; ++d) scratch.query[row * s.width + d] = query[d] * s.scale;
        scratch.peak[row] = tile.sinks ? tile.sinks[head] : -INFINITY;
        scratch.sum[row] = vec{};
    }
    std::fill_n(scratch.out.begin(), rows * wide, 0.0f);
    for_seen_blocks(s, tile.position, tile.tokens, [&](const SeenBlock& block) {
        BlockPages<K> stored;
        for (int64_t n = block.first_page(); n <= block.last_page(); ++n) {
            const int64_t page = slots[block.start + n * PAGE] / PAGE;
            const int64_t at = (page * s.kv_heads + kv_head) * page_size<K>(s.width);
            stored.key[n] = keys + at, stored.value[n] = values + at;
        }
        const auto& pages = read_pages(s, block, stored, scratch);
        const int64_t begin = block.first * tile.heads, end = block.last * tile.heads;
        compute_scores(s, block, pages, begin, end, scratch);
        compute_weights(s, tile, block, begin, end, scratch);
        if (s.latent)
            add_latents(s, block, pages.key, begin, end, scratch);
        else
            add_values(s, block, pages.value, begin, end, scratch);
    });
    for (int64_t row = 0; row < rows; ++row) {
        const int64_t token = row / tile.heads, head = row % tile.heads;
        float sum = total(scratch.sum[row]);
        if (tile.sinks) sum += exp_vec(vec{} + (tile.sinks[head] - scratch.peak[row]))[0];
        if (tile.log_sums) tile.log_sums[token * s.heads + head] = scratch.peak[row] + std::log(sum);
        float* out = tile.out + token * tile.out_stride + head * wide;
        for (int64_t d = 0; d < wide; d += WIDTH)
            store(out + d, load(&scratch.out[row * wide + d]) / sum);
    }
}
