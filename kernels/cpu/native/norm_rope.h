// RMSNorm (Zhang and Sennrich 2019), rotary position embeddings (Su et al. 2021), and their gradients.

#pragma once

#include "vectors.h"

static inline void rms_norm(const float* x, const float* weight, int64_t size, float eps,
                            float* out) {
    vec sum = {};
    for (int64_t i = 0; i < size; i += WIDTH) sum += load(x + i) * load(x + i);
    const float factor = 1.0f / std::sqrt(total(sum) / size + eps);
    for (int64_t i = 0; i < size; i += WIDTH)
        store(out + i, load(x + i) * factor * load(weight + i));
}

// Rotates pairs (i, i + rotary / 2) of one head in place.
static inline void apply_rope(float* x, const float* cosine, const float* sine, int64_t rotary) {
    const int64_t half = rotary / 2;
    for (int64_t i = 0; i < half; ++i) {
        const float a = x[i], b = x[i + half];
        x[i] = a * cosine[i] - b * sine[i];
        x[i + half] = b * cosine[i + half] + a * sine[i + half];
    }
}

// From the gradient of y = rms_norm(x) to that of x, which is written to `to` or (`adding`) added. May
// be in place.
static inline void rms_norm_backward(const float* x, const float* weight, const float* d_y,
                                     int64_t size, float eps, float* to, bool adding) {
    vec squares = {}, along = {};
    for (int64_t i = 0; i < size; i += WIDTH) {
        squares += load(x + i) * load(x + i);
        along += load(x + i) * load(weight + i) * load(d_y + i);
    }
    const float factor = 1.0f / std::sqrt(total(squares) / size + eps);
    const float pull = factor * factor * factor * total(along) / size;
    for (int64_t i = 0; i < size; i += WIDTH) {
        const vec d_x = load(weight + i) * load(d_y + i) * factor - load(x + i) * pull;
        store(to + i, adding ? load(to + i) + d_x : d_x);
    }
}

// The gradient of a rotated head to that of the head itself, in place.
static inline void apply_rope_backward(float* x, const float* cosine, const float* sine,
                                       int64_t rotary) {
    const int64_t half = rotary / 2;
    for (int64_t i = 0; i < half; ++i) {
        const float a = x[i], b = x[i + half];
        x[i] = a * cosine[i] + b * sine[i + half];
        x[i + half] = b * cosine[i + half] - a * sine[i];
    }
}
