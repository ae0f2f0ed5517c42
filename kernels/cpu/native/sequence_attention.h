// Attention over one whole sequence of float32 keys and values, forward and backward.

#pragma once

#include <vector>

#include "model.h"

static inline float dot(const float* a, const float* b, int64_t size) {
    vec sum = {};
    for (int64_t i = 0; i < size; i += WIDTH) sum += load(a + i) * load(b + i);
    return total(sum);
}
// to += from * factor
static inline void add(float* to, const float* from, float factor, int64_t size) {
    int64_t i = 0;
    for (; i + WIDTH <= size; i += WIDTH) store(to + i, load(to + i) + load(from + i) * factor);
    for (; i < size; ++i) to[i] += from[i] * factor;
}

// One sequence and key head: keys and values are transposed, so that one vector is one dimension of several.
struct SequenceAttention {
    int64_t length, width, value_width, stride, padded;  // stride: of a token in k, v and their gradients
    float scale;
    int64_t window;
    const float *sinks, *k, *v;
    std::vector<float> keys, values, weights, d_weights;  // [width][padded], then [padded]

    SequenceAttention(int64_t length, int64_t width, int64_t value_width, int64_t stride,
                      float scale, const Layer& layer, const float* k, const float* v)
        : length(length), width(width), value_width(value_width), stride(stride),
          padded((length + WIDTH - 1) / WIDTH * WIDTH), scale(scale), window(layer.window),
          sinks(layer.sinks), k(k), v(v), keys(width * padded), values(value_width * padded),
          weights(padded), d_weights(padded) {
        for (int64_t j = 0; j < length; ++j) {
            for (int64_t d = 0; d < width; ++d) keys[d * padded + j] = k[j * stride + d];
            for (int64_t d = 0; d < value_width; ++d) values[d * padded + j] = v[j * stride + d];
        }
    }

    // First position that query i sees.
    int64_t first(int64_t i) const {
        return window > 0 ? std::max<int64_t>(0, i - window + 1) : 0;
    }

    // x times each of `lines` [width][padded] at the positions that query i sees.
    void dot_products(const float* x, const std::vector<float>& lines, int64_t i, float* out) const {
        const int64_t width = lines.size() / padded;
        for (int64_t j = first(i) / WIDTH * WIDTH; j <= i; j += WIDTH) {
            vec sum = {};
            for (int64_t d = 0; d < width; ++d) sum += x[d] * load(&lines[d * padded + j]);
            store(out + j, sum);
        }
    }

    // Softmax of the scores of query i of a head.
    void compute_weights(const float* q, int64_t i, int64_t head) {
        dot_products(q, keys, i, weights.data());
        const int64_t from = first(i);
        float peak = sinks ? sinks[head] : -INFINITY;
        for (int64_t j = from; j <= i; ++j) peak = std::max(peak, weights[j] *= scale);
        for (int64_t j = from / WIDTH * WIDTH; j <= i; j += WIDTH)
            store(&weights[j], exp_vec(load(&weights[j]) - peak));
        float sum = sinks ? exp_vec(vec{} + (sinks[head] - peak))[0] : 0;
        for (int64_t j = from; j <= i; ++j) sum += weights[j];
        for (int64_t j = from; j <= i; ++j) weights[j] /= sum;
    }

    void forward(const float* q, int64_t i, int64_t head, float* out) {
        compute_weights(q, i, head);
        std::fill(out, out + value_width, 0.0f);
        for (int64_t j = first(i); j <= i; ++j) add(out, v + j * stride, weights[j], value_width);
    }

    // `d_out` is the gradient of query i's output; adds to those of q_i, and of all k and v.
    void backward(const float* q, int64_t i, int64_t head, const float* d_out, float* dq,
                  float* dk, float* dv) {
        compute_weights(q, i, head);
        dot_products(d_out, values, i, d_weights.data());
        float mean = 0;
        for (int64_t j = first(i); j <= i; ++j) mean += weights[j] * d_weights[j];
        for (int64_t j = first(i); j <= i; ++j) {
            const float d_score = weights[j] * (d_weights[j] - mean) * scale;
            add(dv + j * stride, d_out, weights[j], value_width);
            add(dk + j * stride, q, d_score, width);
            add(dq, k + j * stride, d_score, width);
        }
    }
};
