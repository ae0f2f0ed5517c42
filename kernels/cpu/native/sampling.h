// Sampling one token from a row of logits: temperature, top-k, top-p, min-p, and a random number that
// depends on the row's seed and on how many tokens it has alone. serving/engine/sampler.py is the
// reference.

#pragma once

#include <vector>

#include "vectors.h"

struct SamplingParams {
    float temperature, top_p, min_p;  // temperature 0: greedy
    int32_t top_k;                    // 0: off
    uint64_t seed;
};
struct Sample {
    int64_t token;
    float raw_logprob, processed_logprob;  // before and after the row's parameters
};

static inline uint64_t splitmix(uint64_t x) {
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
    return x ^ (x >> 31);
}
static inline double uniform(uint64_t seed, uint64_t count) {  // splitmix64, in [0, 1)
    const uint64_t golden = 0x9E3779B97F4A7C15u;
    return (splitmix(splitmix(seed + golden) + golden * (count + 1)) >> 11) * 0x1p-53;
}

// exp((logits - peak) * slope) into `out`; returns the sum. `size` is a multiple of WIDTH.
static double exp_sum(const float* logits, int64_t size, float peak, float slope, float* out) {
    double sum = 0;
    for (int64_t i = 0; i < size; i += WIDTH) {
        const vec value = exp_vec((load(logits + i) - peak) * slope);
        store(out + i, value);
        sum += total(value);
    }
    return sum;
}

// `logits` [size], padded with -inf to a multiple of WIDTH tokens; `count` tokens were sampled before.
// `scratch` and `order` are overwritten.
static Sample sample(const float* logits, int64_t size, const SamplingParams& params, uint64_t count,
                  std::vector<float>& scratch, std::vector<int32_t>& order) {
    vec peaks = load(logits);
    for (int64_t i = WIDTH; i < size; i += WIDTH) peaks = most(peaks, load(logits + i));
    const float peak = largest(peaks);
    scratch.resize(size);
    float* weight = scratch.data();
    const float raw = peak + std::log(exp_sum(logits, size, peak, 1, weight));
    if (!std::isfinite(raw)) return {0, NAN, NAN};  // logits that are no numbers
    if (params.temperature == 0) {
        int64_t token = 0;
        while (token + 1 < size && logits[token] != peak) ++token;
        return {token, peak - raw, 0};
    }
    double sum = 0;
    const float slope = 1 / params.temperature;
    if (params.temperature == 1)
        for (int64_t i = 0; i < size; i += WIDTH) sum += total(load(weight + i));
    else
        sum = exp_sum(logits, size, peak, slope, weight);
    auto result = [&](int64_t token, double mass) {
        const float processed = (logits[token] - peak) * slope - std::log(mass);
        return Sample{token, logits[token] - raw, processed};
    };
    const double random = uniform(params.seed, count);
    const bool filtered = params.top_p < 1 || params.min_p > 0 || params.top_k > 0;
    if (!filtered) {
        double passed = 0, target = random * sum;
        int64_t i = 0;
        for (; i + WIDTH < size; i += WIDTH) {
            const double next = passed + total(load(weight + i));
            if (next > target) break;
            passed = next;
        }
        int64_t token = i, possible = i;
        for (; token < size; ++token) {
            if (weight[token] > 0) possible = token;
            passed += weight[token];
            if (passed > target) break;
        }
        return result(token < size ? token : possible, sum);
    }
    // Candidates in falling order: at most top_k of them, and no more than hold top_p of the mass.
    order.clear();
    for (int64_t i = 0; i < size; ++i)
        if (weight[i] >= 1e-8f) order.push_back(i);  // of the most likely token's, which is 1
    std::sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
        return weight[a] > weight[b] || (weight[a] == weight[b] && a < b);
    });
    if (params.top_k > 0 && size_t(params.top_k) < order.size()) order.resize(params.top_k);
    double mass = sum;
    if (params.top_k > 0) {
        mass = 0;
        for (int32_t i : order) mass += weight[i];
    }
    double kept = 0;
    size_t last = 0;
    for (; last < order.size(); ++last) {
        const float next = weight[order[last]];
        if (last > 0 && (kept >= params.top_p * mass || next < params.min_p)) break;
        kept += next;
    }
    order.resize(last);
    std::sort(order.begin(), order.end());
    double passed = 0;
    for (int32_t i : order) {
        passed += weight[i];
        if (passed > random * kept) return result(i, kept);
    }
    return result(order.back(), kept);
}
