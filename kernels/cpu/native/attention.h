// Attention of single queries over a paged cache, in float32.
//
// A page holds 16 positions of one layer: keys as [kv_heads][width][16], so that one vector is one
// dimension of 16 keys, and values as [kv_heads][16][width], unless they are a part of the keys.
// Covers grouped queries, causal masks, sliding windows, sinks and soft caps; the cache is float32 or
// bfloat16.

#pragma once

#include <vector>

#include "vectors.h"

constexpr int PAGE = WIDTH;  // positions

struct Shape {
    int64_t heads, kv_heads, width;  // width: of a head
    float scale, softcap;            // softcap 0: none
    int64_t window;                  // 0: none
    const float* sinks;              // [heads], or null
    int64_t latent;  // > 0: values are the first so many dimensions of the keys, kept only there

    int64_t value_width() const { return latent ? latent : width; }
    // Query heads that read the same key head are taken by fours, twos and ones.
    int64_t groups() const { return share() / 4 + share() % 4 / 2 + share() % 2; }
    int64_t share() const { return heads / kv_heads; }
};

// Slot s of the cache is position s % 16 of page s / 16.
template <class K>
static void write_page(const Shape& s, const float* key, const float* value, K* keys, K* values,
                       int64_t slot) {
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

// Scores of pages p .. p + N of `SHARE` query heads, raw: several at once, so that no sum waits for
// the one before, while the values and the next keys are fetched.
template <int SHARE, int N, class K>
static inline void score(const Shape& s, const float* query, const Pages<K>& pages, int64_t p,
                         float* scores) {
    vec sum[N][SHARE] = {};
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
            for (int g = 0; g < SHARE; ++g) sum[n][g] += query[g * s.width + d] * line;
        }
    for (int n = 0; n < N; ++n)
        for (int g = 0; g < SHARE; ++g)
            store(scores + ((p + n) * SHARE + g) * PAGE, sum[n][g] * s.scale);
}

// N lines (of 16 dimensions) of `SHARE` heads' results: the values, weighted.
template <int SHARE, int N, class K>
static inline void mix(const Shape& s, const Pages<K>& pages, const float* scores, int64_t last,
                       int64_t line, const float* norm, float* out) {
    vec sum[N][SHARE] = {};
    for (int64_t p = 0; p < pages.count; ++p) {
        const K* value = pages.value(p) + line * WIDTH;
        const float* weights = scores + p * SHARE * PAGE;
        // Whatever a page holds beyond the last position must not get in, not even times zero.
        const int64_t filled = std::min<int64_t>(PAGE, last + 1 - (pages.first + p) * PAGE);
        for (int64_t j = 0; j < filled; ++j)
#pragma GCC unroll 8
            for (int n = 0; n < N; ++n) {
                const vec v = load(value + j * s.width + n * WIDTH);
#pragma GCC unroll 8
                for (int g = 0; g < SHARE; ++g) sum[n][g] += weights[g * PAGE + j] * v;
            }
    }
    for (int n = 0; n < N; ++n)
        for (int g = 0; g < SHARE; ++g)
            store(out + g * s.width + (line + n) * WIDTH, sum[n][g] * norm[g]);
}

// Four dimensions of `SHARE` heads' results where values are dimensions of the keys.
template <int SHARE, class K>
static inline void mix_keys(const Shape& s, const Pages<K>& pages, const float* scores, int64_t last,
                            int64_t dimension, const float* norm, float* out) {
    constexpr int N = 4;
    constexpr ints lane = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    vec sum[N][SHARE] = {};
    for (int64_t p = 0; p < pages.count; ++p) {
        const K* key = pages.key(p) + dimension * PAGE;
        const ints filled = lane < int32_t(std::min<int64_t>(PAGE, last + 1 - (pages.first + p) * PAGE));
#pragma GCC unroll 8
        for (int n = 0; n < N; ++n) {
            const vec line = load(key + n * PAGE), v = filled ? line : vec{};
#pragma GCC unroll 8
            for (int g = 0; g < SHARE; ++g) sum[n][g] += load(scores + (p * SHARE + g) * PAGE) * v;
        }
    }
    for (int g = 0; g < SHARE; ++g)
        for (int n = 0; n < N; ++n)
            out[g * s.latent + dimension + n] = total(sum[n][g]) * norm[g];
}

// `SHARE` query heads that read the same key head: query [SHARE][width], out [SHARE][value width].
template <int SHARE, class K>
static void attend_group(const Shape& s, const float* query, const K* keys, const K* values,
                         const int64_t* slots, int64_t last, int64_t kv_head, const float* sinks,
                         float* out, std::vector<float>& scratch) {
    const int64_t from = s.window > 0 ? std::max<int64_t>(0, last - s.window + 1) : 0;
    const int64_t first = from / PAGE, count = last / PAGE + 1 - first;
    const Pages<K> pages{keys, values, slots, s.kv_heads * s.width * PAGE,
                         kv_head * s.width * PAGE, first, count};
    scratch.resize(count * PAGE * SHARE);
    float* scores = scratch.data();  // [pages][SHARE][16]
    int64_t p = 0;
    for (; p + 2 <= count; p += 2) score<SHARE, 2>(s, query, pages, p, scores);
    if (p < count) score<SHARE, 1>(s, query, pages, p, scores);
    vec best[SHARE];
    for (int g = 0; g < SHARE; ++g) best[g] = vec{} - INFINITY;
    for (p = 0; p < count; ++p) {
        const int64_t position = (first + p) * PAGE;
        for (int g = 0; g < SHARE; ++g) {
            float* at = scores + (p * SHARE + g) * PAGE;
            if (s.softcap > 0)
                for (int j = 0; j < PAGE; ++j) at[j] = std::tanh(at[j] / s.softcap) * s.softcap;
            if (position < from || position + PAGE - 1 > last)
                for (int j = 0; j < PAGE; ++j)
                    if (position + j < from || position + j > last) at[j] = -INFINITY;
            best[g] = most(best[g], load(at));
        }
    }
    float norm[SHARE];
    for (int g = 0; g < SHARE; ++g) {
        float peak = largest(best[g]);
        if (sinks) peak = std::max(peak, sinks[g]);
        vec sum = {};
        for (p = 0; p < count; ++p) {
            float* at = scores + (p * SHARE + g) * PAGE;
            const vec weight = exponential(load(at) - peak);
            store(at, weight);
            sum += weight;
        }
        norm[g] = total(sum);
        if (sinks) norm[g] += exponential(vec{} + (sinks[g] - peak))[0];
        norm[g] = 1.0f / norm[g];
    }
    for (int64_t d = 0; d < s.latent; d += 4)
        mix_keys<SHARE>(s, pages, scores, last, d, norm, out);
    if (s.latent) return;
    const int64_t lines = s.width / WIDTH;
    int64_t line = 0;
    for (; line + 2 <= lines; line += 2) mix<SHARE, 2>(s, pages, scores, last, line, norm, out);
    if (line < lines) mix<SHARE, 1>(s, pages, scores, last, line, norm, out);
}

// One token and one of all key heads' groups of query heads.
template <class K>
static void attend(const Shape& s, const float* query, const K* keys, const K* values,
                   const int64_t* slots, int64_t last, int64_t group, float* out,
                   std::vector<float>& scratch) {
    const int64_t kv_head = group / s.groups(), nth = group % s.groups(), fours = s.share() / 4;
    const int64_t first = nth <= fours ? nth * 4 : s.share() - 1;  // a one comes last
    const int64_t head = kv_head * s.share() + first, left = s.share() - first;
    const auto some = left >= 4   ? attend_group<4, K>
                      : left >= 2 ? attend_group<2, K>
                                  : attend_group<1, K>;
    some(s, query + head * s.width, keys, values, slots, last, kv_head,
         s.sinks ? s.sinks + head : nullptr, out + head * s.value_width(), scratch);
}
