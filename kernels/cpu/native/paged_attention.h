// Paged attention of single queries, in float32.
//
// A page holds a vector of positions of one layer: keys as [kv_heads][width][PAGE], so that one vector is
// one dimension of as many keys, and values as [kv_heads][PAGE][width], unless they are a part of the keys.
// Covers grouped queries, causal masks, sliding windows, sinks and soft caps; the cache is float32 or
// bfloat16.

#pragma once

#include <vector>

#include "vectors.h"

constexpr int PAGE = WIDTH;  // positions

struct AttentionShape {
    int64_t heads, kv_heads, width;  // width: of a head
    float scale, softcap;            // softcap 0: none
    int64_t window;                  // 0: none
    const float* sinks;              // [heads], or null
    int64_t latent;                  // > 0 (MLA): values are the first so many dimensions of the keys

    int64_t value_width() const { return latent ? latent : width; }
    int64_t heads_per_kv() const { return heads / kv_heads; }
    // Query heads that read the same key head are processed in tiles of four, two and one.
    int64_t head_tiles() const {
        return heads_per_kv() / 4 + heads_per_kv() % 4 / 2 + heads_per_kv() % 2;
    }
};

// Writes one token's key and value; slot s of the cache is position s % PAGE of page s / PAGE.
template <class K>
static void write_page(const AttentionShape& s, const float* key, const float* value, K* keys,
                       K* values, int64_t slot) {
    const int64_t page = s.kv_heads * s.width * PAGE, lane = slot % PAGE;
    K* k = keys + slot / PAGE * page + lane;
    K* v = values + slot / PAGE * page + lane * s.width;
    for (int64_t h = 0; h < s.kv_heads; ++h)
        for (int64_t d = 0; d < s.width; ++d) {
            put(k + (h * s.width + d) * PAGE, key[h * s.width + d]);
            if (!s.latent) put(v + h * s.width * PAGE + d, value[h * s.width + d]);
        }
}

// The pages of one key head that a query sees, from the first to the last.
template <class K>
struct Pages {
    const K *keys, *values;
    const int64_t* slots;
    int64_t page, head, first, count;

    int64_t at(int64_t p) const { return slots[(first + p) * PAGE] / PAGE * page + head; }
    const K* key(int64_t p) const { return keys + at(p); }
    const K* value(int64_t p) const { return values + at(p); }
};

// Scaled scores of pages p .. p + N of `HEADS` query heads: several at once, so that additions do not
// wait for each other, while the values and the next keys are prefetched.
template <int HEADS, int N, class K>
static inline void scores_of(const AttentionShape& s, const float* query, const Pages<K>& pages,
                             int64_t p, float* scores) {
    vec sum[N][HEADS] = {};
    const K *key[N], *next[N], *value[N];
    for (int n = 0; n < N; ++n) {
        key[n] = pages.key(p + n);
        next[n] = p + N + n < pages.count ? pages.key(p + N + n) : key[n];
        value[n] = pages.value(p + n);
    }
    for (int64_t d = 0; d < s.width; ++d)
#pragma GCC unroll 8
        for (int n = 0; n < N; ++n) {
            __builtin_prefetch(next[n] + d * PAGE);
            __builtin_prefetch(value[n] + d * PAGE);
            const vec line = load(key[n] + d * PAGE);
#pragma GCC unroll 8
            for (int g = 0; g < HEADS; ++g) sum[n][g] += query[g * s.width + d] * line;
        }
    for (int n = 0; n < N; ++n)
        for (int g = 0; g < HEADS; ++g)
            store(scores + ((p + n) * HEADS + g) * PAGE, sum[n][g] * s.scale);
}

// N vectors of dimensions of `HEADS` heads' outputs: the weighted sum of the values.
template <int HEADS, int N, class K>
static inline void weighted_values(const AttentionShape& s, const Pages<K>& pages,
                                   const float* scores, int64_t last, int64_t line,
                                   const float* norm, float* out) {
    vec sum[N][HEADS] = {};
    for (int64_t p = 0; p < pages.count; ++p) {
        const K* value = pages.value(p) + line * WIDTH;
        const float* weights = scores + p * HEADS * PAGE;
        // What a page holds beyond the last position must not enter, not even times zero: it may be NaN.
        const int64_t filled = std::min<int64_t>(PAGE, last + 1 - (pages.first + p) * PAGE);
        for (int64_t j = 0; j < filled; ++j)
#pragma GCC unroll 8
            for (int n = 0; n < N; ++n) {
                const vec v = load(value + j * s.width + n * WIDTH);
#pragma GCC unroll 8
                for (int g = 0; g < HEADS; ++g) sum[n][g] += weights[g * PAGE + j] * v;
            }
    }
    for (int n = 0; n < N; ++n)
        for (int g = 0; g < HEADS; ++g)
            store(out + g * s.width + (line + n) * WIDTH, sum[n][g] * norm[g]);
}

constexpr int LATENTS = REGISTERS / 8;

// That many dimensions of `HEADS` heads' outputs where values are dimensions of the keys (MLA).
template <int HEADS, class K>
static inline void weighted_latents(const AttentionShape& s, const Pages<K>& pages,
                                    const float* scores, int64_t last, int64_t dimension,
                                    const float* norm, float* out) {
    ints lane;
    for (int j = 0; j < WIDTH; ++j) lane[j] = j;
    vec sum[LATENTS][HEADS] = {};
    for (int64_t p = 0; p < pages.count; ++p) {
        const K* key = pages.key(p) + dimension * PAGE;
        const ints filled =
            lane < int32_t(std::min<int64_t>(PAGE, last + 1 - (pages.first + p) * PAGE));
#pragma GCC unroll 8
        for (int n = 0; n < LATENTS; ++n) {
            const vec line = load(key + n * PAGE), v = filled ? line : vec{};
#pragma GCC unroll 8
            for (int g = 0; g < HEADS; ++g) sum[n][g] += load(scores + (p * HEADS + g) * PAGE) * v;
        }
    }
    for (int g = 0; g < HEADS; ++g)
        for (int n = 0; n < LATENTS; ++n)
            out[g * s.latent + dimension + n] = total(sum[n][g]) * norm[g];
}

// `HEADS` query heads that read the same key head: query [HEADS][width], out [HEADS][value width].
template <int HEADS, class K>
static void attend_tile(const AttentionShape& s, const float* query, const K* keys, const K* values,
                        const int64_t* slots, int64_t last, int64_t kv_head, const float* sinks,
                        float* out, std::vector<float>& scratch) {
    const int64_t from = s.window > 0 ? std::max<int64_t>(0, last - s.window + 1) : 0;
    const int64_t first = from / PAGE, count = last / PAGE + 1 - first;
    const Pages<K> pages{keys, values, slots, s.kv_heads * s.width * PAGE,
                         kv_head * s.width * PAGE, first, count};
    scratch.resize(count * PAGE * HEADS);
    float* scores = scratch.data();  // [pages][HEADS][PAGE]
    int64_t p = 0;
    for (; p + 2 <= count; p += 2) scores_of<HEADS, 2>(s, query, pages, p, scores);
    if (p < count) scores_of<HEADS, 1>(s, query, pages, p, scores);
    vec best[HEADS];
    for (int g = 0; g < HEADS; ++g) best[g] = vec{} - INFINITY;
    for (p = 0; p < count; ++p) {
        const int64_t position = (first + p) * PAGE;
        for (int g = 0; g < HEADS; ++g) {
            float* at = scores + (p * HEADS + g) * PAGE;
            if (s.softcap > 0)
                for (int j = 0; j < PAGE; ++j) at[j] = std::tanh(at[j] / s.softcap) * s.softcap;
            if (position < from || position + PAGE - 1 > last)
                for (int j = 0; j < PAGE; ++j)
                    if (position + j < from || position + j > last) at[j] = -INFINITY;
            best[g] = most(best[g], load(at));
        }
    }
    float norm[HEADS];
    for (int g = 0; g < HEADS; ++g) {
        float peak = largest(best[g]);
        if (sinks) peak = std::max(peak, sinks[g]);
        vec sum = {};
        for (p = 0; p < count; ++p) {
            float* at = scores + (p * HEADS + g) * PAGE;
            const vec weight = exp_vec(load(at) - peak);
            store(at, weight);
            sum += weight;
        }
        norm[g] = total(sum);
        if (sinks) norm[g] += exp_vec(vec{} + (sinks[g] - peak))[0];
        norm[g] = 1.0f / norm[g];
    }
    for (int64_t d = 0; d < s.latent; d += LATENTS)
        weighted_latents<HEADS>(s, pages, scores, last, d, norm, out);
    if (s.latent) return;
    const int64_t lines = s.width / WIDTH;
    int64_t line = 0;
    for (; line + 2 <= lines; line += 2)
        weighted_values<HEADS, 2>(s, pages, scores, last, line, norm, out);
    if (line < lines) weighted_values<HEADS, 1>(s, pages, scores, last, line, norm, out);
}

// Attends one token and one of the tiles of query heads of all key heads.
template <class K>
static void attend(const AttentionShape& s, const float* query, const K* keys, const K* values,
                   const int64_t* slots, int64_t last, int64_t tile, float* out,
                   std::vector<float>& scratch) {
    const int64_t kv_head = tile / s.head_tiles(), nth = tile % s.head_tiles();
    const int64_t fours = s.heads_per_kv() / 4;
    const int64_t first = nth <= fours ? nth * 4 : s.heads_per_kv() - 1;  // a tile of one comes last
    const int64_t head = kv_head * s.heads_per_kv() + first, left = s.heads_per_kv() - first;
    const auto run = left >= 4   ? attend_tile<4, K>
                     : left >= 2 ? attend_tile<2, K>
                                 : attend_tile<1, K>;
    run(s, query + head * s.width, keys, values, slots, last, kv_head,
        s.sinks ? s.sinks + head : nullptr, out + head * s.value_width(), scratch);
}
