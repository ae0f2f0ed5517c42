// Attention of single queries over a paged cache, in float32.
//
// A page holds 16 positions of one layer: keys as [kv_heads][width][16], so that one vector is one
// dimension of 16 keys, and values as [kv_heads][16][width]. Covers grouped queries, causal masks,
// sliding windows, sinks and soft caps; the cache is float32 or bfloat16.

#pragma once

#include <vector>

#include "vectors.h"

constexpr int PAGE = WIDTH;  // positions

struct Shape {
    int64_t heads, kv_heads, width;  // width: of a head
    float scale, softcap;            // softcap 0: none
    int64_t window;                  // 0: none
    const float* sinks;              // [heads], or null
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
            put(v + h * s.width * PAGE + d, value[h * s.width + d]);
        }
}

// `SHARE` query heads that read the same key head: query and out [SHARE][width].
template <int SHARE, class K>
static void attend_group(const Shape& s, const float* query, const K* keys, const K* values,
                         const int64_t* slots, int64_t last, int64_t kv_head, const float* sinks,
                         float* out, std::vector<float>& scratch) {
    const int64_t from = s.window > 0 ? std::max<int64_t>(0, last - s.window + 1) : 0;
    const int64_t first = from / PAGE, pages = last / PAGE + 1 - first;
    const int64_t page = s.kv_heads * s.width * PAGE, head = kv_head * s.width * PAGE;
    scratch.resize(pages * PAGE * SHARE);
    float* scores = scratch.data();  // [pages][SHARE][16]
    vec best[SHARE];
    for (int g = 0; g < SHARE; ++g) best[g] = vec{} - INFINITY;
    for (int64_t p = 0; p < pages; ++p) {
        const K* k = keys + slots[(first + p) * PAGE] / PAGE * page + head;
        vec sum[SHARE] = {};
        for (int64_t d = 0; d < s.width; ++d) {
            const vec line = load(k + d * PAGE);
#pragma GCC unroll 8
            for (int g = 0; g < SHARE; ++g) sum[g] += query[g * s.width + d] * line;
        }
        const int64_t position = (first + p) * PAGE;
        for (int g = 0; g < SHARE; ++g) {
            sum[g] *= s.scale;
            if (s.softcap > 0)
                for (int j = 0; j < PAGE; ++j)
                    sum[g][j] = std::tanh(sum[g][j] / s.softcap) * s.softcap;
            if (position < from || position + PAGE - 1 > last)
                for (int j = 0; j < PAGE; ++j)
                    if (position + j < from || position + j > last) sum[g][j] = -INFINITY;
            best[g] = most(best[g], sum[g]);
            store(scores + (p * SHARE + g) * PAGE, sum[g]);
        }
    }
    float norm[SHARE];
    for (int g = 0; g < SHARE; ++g) {
        float peak = largest(best[g]);
        if (sinks) peak = std::max(peak, sinks[g]);
        vec sum = {};
        for (int64_t p = 0; p < pages; ++p) {
            float* at = scores + (p * SHARE + g) * PAGE;
            const vec weight = exponential(load(at) - peak);
            store(at, weight);
            sum += weight;
        }
        norm[g] = total(sum);
        if (sinks) norm[g] += exponential(vec{} + (sinks[g] - peak))[0];
        norm[g] = 1.0f / norm[g];
    }
    const int64_t lines = s.width / WIDTH;
    for (int64_t line = 0; line < lines; ++line) {
        vec sum[SHARE] = {};
        for (int64_t p = 0; p < pages; ++p) {
            const K* v = values + slots[(first + p) * PAGE] / PAGE * page + head + line * WIDTH;
            const float* weights = scores + p * SHARE * PAGE;
            // Whatever a page holds beyond the last position must not get in, not even times zero.
            const int64_t filled = std::min<int64_t>(PAGE, last + 1 - (first + p) * PAGE);
            for (int64_t j = 0; j < filled; ++j) {
                const vec value = load(v + j * s.width);
#pragma GCC unroll 8
                for (int g = 0; g < SHARE; ++g) sum[g] += weights[g * PAGE + j] * value;
            }
        }
        for (int g = 0; g < SHARE; ++g) store(out + g * s.width + line * WIDTH, sum[g] * norm[g]);
    }
}

// One token, one key head: its heads / kv_heads queries, by fours, twos and ones.
template <class K>
static void attend(const Shape& s, const float* query, const K* keys, const K* values,
                   const int64_t* slots, int64_t last, int64_t kv_head, float* out,
                   std::vector<float>& scratch) {
    const int64_t share = s.heads / s.kv_heads;
    int64_t head = kv_head * share, left = share;
    auto take = [&](auto attend_some, int64_t count) {
        const float* sinks = s.sinks ? s.sinks + head : nullptr;
        attend_some(s, query + head * s.width, keys, values, slots, last, kv_head, sinks,
                    out + head * s.width, scratch);
        head += count, left -= count;
    };
    while (left >= 4) take(attend_group<4, K>, 4);
    if (left >= 2) take(attend_group<2, K>, 2);
    if (left) take(attend_group<1, K>, 1);
}
