// Gradients of an adapter: each layer's forward pass again, from the last layer to the first, and then
// its backward pass, in float32 and over the same packed products that serve.
//
// The base is frozen, so only the adapter's two small matrices per projection collect gradients: with
// y = W x + up (scale * down x), each is an outer product of an input and an output gradient. Output
// gradients pass through the transposed weights, whose adapter is the same one transposed.
//
// Of a layer only its input is kept from the forward pass (Chen et al. 2016, Training Deep Nets with
// Sublinear Memory Cost), or where memory allows the results of its products. Left out: clipped queries, int8 and
// int4 weights.

#pragma once

#include "forward.h"
#include "sequence_attention.h"

enum { FORWARD, TRANSPOSED };  // adapter slots of the step: the one in training, and its transpose

struct Gradients : Forward {
    const Backward& b;
    // Of the current layer: normed input, raw projections, output, input of the gate.
    std::vector<float> normed_input, raw, output, pre;
    // d_x is the gradient of the loss with respect to x.
    std::vector<float> d_state, d_normed, d_attended, d_qkv, d_gated, d_pre, d_weight;
    std::vector<float> d_attended_latents, d_absorbed_queries, d_queries, d_latents;  // of MLA
    GroupedRows x[VALUE + 1], y[VALUE + 1];  // inputs and output gradients, by projection

    Gradients(const Model& model, const Step& step, const Backward& backward)
        : Forward(model, step), b(backward) {
        adapted = true;
        slot.assign(tokens, FORWARD);
        normed_input.resize(tokens * m.hidden), output.resize(tokens * m.hidden);
        raw.resize(qkv.size()), d_qkv.resize(qkv.size());
        d_state.assign(tokens * m.hidden, 0.0f), d_normed.resize(tokens * m.hidden);
        d_attended.resize(attended.size()), log_sums.resize(tokens * m.heads);
    }

    // Rows of one matrix, read from `from` [count][stride].
    void token_rows(GroupedRows& rows, const float* from, int64_t stride, int64_t count,
                    int adapter, const Matrix& matrix, int64_t layer, int which) {
        rows.resize(count);
        rows.first = {0, count};
        for (int64_t r = 0; r < count; ++r) rows.x[r].x = from + r * stride;
        rows.slot.assign(count, adapter);
        size_buffers(rows, matrix, layer, which);
    }

    // Rows of the (token, expert) pairs; `from` gives the address of each one's input.
    template <class From>
    void pair_rows(GroupedRows& rows, int adapter, const Matrix& matrix, int64_t layer, int which,
                   From from) {
        rows.resize(pair.size());
        rows.first = pairs.first;
        for (size_t r = 0; r < pair.size(); ++r) rows.x[r].x = from(r);
        rows.slot.assign(pair.size(), adapter);
        size_buffers(rows, matrix, layer, which);
    }

    // f(first token, end, key head) for this thread's sequences and key heads.
    template <class F>
    void for_each_kv_head(int thread, int threads, F f) {
        const ThreadRange mine(b.sequences * m.kv_heads, thread, threads);
        for (int64_t i = mine.begin; i < mine.end; ++i)
            f(b.starts[i / m.kv_heads], b.starts[i / m.kv_heads + 1], i % m.kv_heads);
    }

    void reset_order() {
        order.resize(tokens);
        for (int64_t t = 0; t < tokens; ++t) order[t] = t;
    }

    void recompute(int64_t index, int thread, int threads);
    void restore(int64_t index, int thread, int threads);
    void head_backward(int thread, int threads);

    // attention_backward.h
    void attention_backward(int64_t index, int thread, int threads);
    void norm_rope_backward(const Layer& layer, int64_t t);

    // latent_attention_backward.h
    void recompute_latents(const Layer& layer, int64_t index, int thread, int threads);
    void latent_attention_backward(int64_t index, int thread, int threads);

    // moe_backward.h
    void mlp_backward(int64_t index, int thread, int threads);
    void activate_backward(vec gate, vec up, vec d_gated, float* to) const;
    static void scale_lora(const LoraRow& row, const Lora& a, float factor);
    void route_backward(const Layer& layer, const Layer& transposed, int thread, int threads);

    // lora_backward.h
    void accumulate(int64_t index, int which, int thread, int threads);
};

// The forward pass of one layer again, keeping all that its backward pass needs.
inline void Gradients::recompute(int64_t index, int thread, int threads) {
    const Layer& layer = m.layers[index];
    const int64_t size = layer.qkv.blocks * BLOCK;
    const bool last = index + 1 == m.depth;
    const ThreadRange mine(tokens, thread, threads);
    const float* input = s.states + index * tokens * m.hidden;
    std::copy(input + mine.begin * m.hidden, input + mine.end * m.hidden,
              &state[mine.begin * m.hidden]);
    for (int64_t t = mine.begin; t < mine.end; ++t)
        rms_norm(&state[t * m.hidden], layer.norm1, m.hidden, m.eps, &normed_input[t * m.hidden]);
    if (thread == 0) {
        token_rows(x[QKV], normed_input.data(), m.hidden, tokens, FORWARD, layer.qkv, index, QKV);
        reset_order();
    }
    barrier.wait();
    project(x[QKV], layer.qkv, index, QKV, thread, threads,
            [&](int64_t r, int64_t block, vec one, vec two) {
                float* to = &raw[r * size + block * BLOCK];
                store_block(to, one, two);
            });
    barrier.wait();
    std::copy(&raw[mine.begin * size], &raw[mine.end * size], &qkv[mine.begin * size]);
    if (m.latent) {
        recompute_latents(layer, index, thread, threads);
    } else {
        attention<float>(layer, index, thread, threads);  // over the cache that the forward pass filled
    }
    barrier.wait();
    if (thread == 0) {
        if (last) order.assign(s.keep, s.keep + kept);
        token_rows(x[OUT], attended.data(), layer.out.inputs, tokens, FORWARD, layer.out,
                   index, OUT);
        size_mlp_buffers(layer);
        pre.resize(gated.size() * 2);
    }
    barrier.wait();
    project(x[OUT], layer.out, index, OUT, thread, threads,
            [&](int64_t r, int64_t block, vec one, vec two) {
                float* to = &state[r * m.hidden + block * BLOCK];
                add_block(to, one, two);
            });
    barrier.wait();
    norm(layer.norm2, thread, threads);
    if (layer.experts) route(layer, thread, threads);
    if (last)
        std::copy(&state[mine.begin * m.hidden], &state[mine.end * m.hidden],
                  &output[mine.begin * m.hidden]);
    barrier.wait();
    const int64_t inner = layer.gate_up.blocks * WIDTH, each = experts_per_token(layer);
    if (thread == 0) {
        group(layer, index);
        pair_rows(x[GATE_UP], FORWARD, layer.gate_up, index, GATE_UP,
                  [&](size_t r) { return &normed[pair[r] / each * m.hidden]; });
    }
    barrier.wait();
    project(x[GATE_UP], layer.gate_up, index, GATE_UP, thread, threads,
            [&](int64_t r, int64_t block, vec gate, vec up) {
                float* to = &pre[r * 2 * inner + block * BLOCK];
                store_block(to, gate, up);
                store(&gated[r * inner + block * WIDTH], activate(gate, up));
            });
    barrier.wait();
    if (thread == 0)
        pair_rows(x[DOWN], FORWARD, layer.down, index, DOWN,
                  [&](size_t r) { return &gated[r * inner]; });
    barrier.wait();
    if (!last) return prepare_rows(x[DOWN], layer.down, index, DOWN, thread, threads);
    project(x[DOWN], layer.down, index, DOWN, thread, threads,
            [&](int64_t r, int64_t block, vec one, vec two) {
                const float share = weight[pair[r]];
                float* to = &output[pair[r] / each * m.hidden + block * BLOCK];
                add_block(to, one * share, two * share);
            });
    barrier.wait();
}

// The same from what the forward pass kept: only norms, RoPE, gates and the adapter's first halves are computed
// again.
inline void Gradients::restore(int64_t index, int thread, int threads) {
    const Layer& layer = m.layers[index];
    const Activations keep = kept_of(index);
    const int64_t size = layer.qkv.blocks * BLOCK, each = experts_per_token(layer);
    const int64_t inner = layer.gate_up.blocks * WIDTH;
    const float* input = s.states + index * tokens * m.hidden;
    const ThreadRange mine(tokens, thread, threads);
    if (thread == 0) {
        reset_order();
        size_mlp_buffers(layer);
        pre.resize(gated.size() * 2);
        token_rows(x[QKV], normed_input.data(), m.hidden, tokens, FORWARD, layer.qkv, index, QKV);
        token_rows(x[OUT], attended.data(), layer.out.inputs, tokens, FORWARD, layer.out, index, OUT);
    }
    barrier.wait();
    copy_rows(keep.raw, raw.data(), mine, size);
    copy_rows(keep.raw, qkv.data(), mine, size);
    copy_rows(keep.attended, attended.data(), mine, layer.out.inputs);
    copy_rows(keep.log_sums, log_sums.data(), mine, m.heads);
    copy_rows(keep.middle, state.data(), mine, m.hidden);
    copy_rows(keep.routing, routing.data(), mine, layer.router.blocks * BLOCK);
    copy_rows(keep.share, weight.data(), mine, each);
    std::copy(keep.chosen + mine.begin * each, keep.chosen + mine.end * each,
              &expert[mine.begin * each]);
    for (int64_t t = mine.begin; t < mine.end; ++t) {
        rms_norm(input + t * m.hidden, layer.norm1, m.hidden, m.eps, &normed_input[t * m.hidden]);
        norm_rope_heads(layer, &qkv[t * size], position[t]);
    }
    norm(layer.norm2, thread, threads);
    barrier.wait();
    prepare_rows(x[QKV], layer.qkv, index, QKV, thread, threads);
    prepare_rows(x[OUT], layer.out, index, OUT, thread, threads);
    if (thread == 0) {
        group(layer, index);
        pair_rows(x[GATE_UP], FORWARD, layer.gate_up, index, GATE_UP,
                  [&](size_t r) { return &normed[pair[r] / each * m.hidden]; });
        pair_rows(x[DOWN], FORWARD, layer.down, index, DOWN,
                  [&](size_t r) { return &gated[r * inner]; });
    }
    barrier.wait();
    const ThreadRange of_pairs(pair.size(), thread, threads);
    copy_rows(keep.pre, pre.data(), of_pairs, 2 * inner);
    for (int64_t r = of_pairs.begin; r < of_pairs.end; ++r)
        for (int64_t i = 0; i < inner; i += WIDTH) {
            const float* from = &pre[(r * inner + i) * 2];
            store(&gated[r * inner + i], activate(load(from), load(from + WIDTH)));
        }
    barrier.wait();
    prepare_rows(x[GATE_UP], layer.gate_up, index, GATE_UP, thread, threads);
    prepare_rows(x[DOWN], layer.down, index, DOWN, thread, threads);
}

// From the gradient of the logits to that of the last layer's output.
inline void Gradients::head_backward(int thread, int threads) {
    if (thread == 0) {
        adapted = false;
        token_rows(plain, b.logits, m.head.blocks * BLOCK, kept, -1, b.head, 0, 0);
    }
    barrier.wait();
    project(plain, b.head, 0, 0, thread, threads, [&](int64_t r, int64_t block, vec one, vec two) {
        float* to = &d_normed[r * m.hidden + block * BLOCK];
        store_block(to, one, two);
    });
    barrier.wait();
    const ThreadRange mine(kept, thread, threads);
    for (int64_t i = mine.begin; i < mine.end; ++i)
        rms_norm_backward(&output[s.keep[i] * m.hidden], m.final_norm, &d_normed[i * m.hidden],
                          m.hidden, m.eps, &d_state[s.keep[i] * m.hidden], false);
    if (thread == 0) adapted = true;
    barrier.wait();
}

#include "attention_backward.h"
#include "latent_attention_backward.h"
#include "lora_backward.h"
#include "moe_backward.h"
