// A decoder step, layer by layer: tokens in, logits out. The PyTorch model is the reference.
//
// All threads run the stages of a layer together, each on its range of the outputs (or tokens), and
// meet at barriers. The stages of `Forward` are in the headers included at the end.
//
// Left out: linear attention, encoder-decoders.

#pragma once

#include <vector>

#include "activations.h"
#include "model.h"
#include "norm_rope.h"
#include "paged_attention.h"
#include "threads.h"

// The inputs of one grouped product, sorted by matrix and then by adapter.
struct GroupedRows {
    std::vector<Row> x;
    std::vector<int64_t> slot;   // adapter slot of each row
    std::vector<int64_t> first;  // [matrices + 1]
    std::vector<int16_t> whole;  // x rounded to integers, where the matrix multiplies those
    std::vector<int32_t> sums;
    std::vector<float> low;      // scale * (down x), where there are adapters
    std::vector<LoraRow> lora;

    int64_t size() const { return x.size(); }
    void resize(int64_t count) { x.resize(count), slot.resize(count); }
};

// Consecutive tokens of one row, and query heads head..end of one key head.
struct HeadTile {
    int64_t token, tokens, kv_head, head, end;
};

struct Forward {
    const Model& m;
    const Step& s;
    int64_t tokens, kept;
    std::vector<int64_t> token, row, position, slot, keep;
    std::vector<int64_t> hidden_row;  // of `Step::hidden`, where each token's belongs
    std::vector<float> state, normed, qkv, attended, routing, weight, gated;
    std::vector<float> latents, queries, absorbed_queries, attended_latents;  // of MLA
    std::vector<int64_t> expert, order, pair;  // `order`: tokens sorted by adapter
    GroupedRows plain, pairs;  // one row per token; one per (token, expert) pair
    GroupedRows by_head;       // one row per (head, token)
    std::vector<float> log_sums;  // of attention's softmax [tokens][heads], where the backward pass needs it
    std::vector<HeadTile> tiles;  // of queries
    std::atomic<int64_t> tiles_left{0};
    bool adapted = false;
    Barrier barrier;
    float* logits_out = nullptr;

    Forward(const Model& model, const Step& step) : m(model), s(step) {
        tokens = s.tokens, kept = s.kept;
        token.assign(s.token, s.token + tokens);
        row.assign(s.row, s.row + tokens);
        position.assign(s.position, s.position + tokens);
        slot.assign(s.slot, s.slot + tokens);
        keep.assign(s.keep, s.keep + kept);
        hidden_row.resize(tokens);
        for (int64_t t = 0; t < tokens; ++t) hidden_row[t] = t;
        state.resize(tokens * m.hidden);
        normed.resize(tokens * m.hidden);
        qkv.resize(tokens * m.layers->qkv.blocks * BLOCK);
        attended.resize(tokens * m.layers->out.inputs);
        if (m.latent) size_latent_buffers();
        if (s.activations) log_sums.resize(tokens * m.heads);
    }

    // Whether a layer's results are kept for the backward pass.
    bool keeps(int64_t index) const { return s.activations && index + 1 < m.depth; }
    Activations kept_of(int64_t index) const {
        return {m, index, tokens, s.activations};
    }

    void run(int thread, int threads);
    void embed(int thread, int threads);
    void embed_token(int64_t token, float* to);
    void tell_hidden(int thread, int threads);
    void norm(const float* weight, int thread, int threads);
    void sort_by_adapter();
    void drop_unkept();

    // projections.h
    const Lora& lora_of(int64_t slot, int64_t layer, int which);
    void gather_tokens(const std::vector<float>& from, const Matrix& matrix, int64_t layer,
                       int which);
    void size_buffers(GroupedRows& rows, const Matrix& matrix, int64_t layer, int which);
    void prepare_rows(GroupedRows& rows, const Matrix& matrix, int64_t layer, int which, int thread,
                      int threads);
    void project(GroupedRows& rows, const Matrix& matrix, int64_t layer, int which, int thread,
                 int threads, Epilogue done, const Matrix* following = nullptr);
    static int64_t next_used(const GroupedRows& rows, int64_t matrix);

    // self_attention.h
    void norm_rope_heads(const Layer& layer, float* q, int64_t at);
    AttentionShape shape_of(const Layer& layer) const;
    void tile_queries(const AttentionShape& shape, int threads);
    template <class K>
    void attend_tiles(const AttentionShape& shape, const float* queries, int64_t stride,
                      const K* keys, const K* values, float* out);
    template <class K>
    void attention(const Layer& layer, int64_t index, int thread, int threads);

    // latent_attention.h
    void size_latent_buffers();
    AttentionShape latent_shape() const;
    template <class K>
    void latent_attention(const Layer& layer, int64_t index, GroupedRows& by_query,
                          GroupedRows& by_key, GroupedRows& by_value, int thread, int threads);
    void gather_heads(GroupedRows& rows, const float* from, int64_t heads, int64_t token,
                      int64_t head, const Matrix& matrix, int64_t layer, int which);
    void project_by_head(GroupedRows& rows, const Matrix& matrix, int64_t layer, int which,
                         int thread, int threads, float* to, int64_t token, int64_t head,
                         int64_t outputs);

    // moe.h
    int64_t experts_per_token(const Layer& layer) const;
    vec activate(vec gate, vec up) const;
    void route(const Layer& layer, int thread, int threads);
    void select_experts(const Layer& layer, const float* score, int64_t* chosen);
    void group(const Layer& layer, int64_t index);
    void mlp(const Layer& layer, int64_t index, int thread, int threads);
    void size_mlp_buffers(const Layer& layer);
};

inline void Forward::embed(int thread, int threads) {
    const ThreadRange mine(tokens, thread, threads);
    if (s.inputs) {
        std::copy(s.inputs + mine.begin * m.hidden, s.inputs + mine.end * m.hidden,
                  &state[mine.begin * m.hidden]);
        return;
    }
    for (int64_t t = mine.begin; t < mine.end; ++t) embed_token(token[t], &state[t * m.hidden]);
}

inline void Forward::embed_token(int64_t token, float* to) {
    if (!m.embedding && !m.embedding_bf16) return read_output(m.head, token, to);
    for (int64_t i = 0; i < m.hidden; i += WIDTH) {
        const int64_t at = token * m.hidden + i;
        store(to + i, m.embedding ? load(m.embedding + at) : load(m.embedding_bf16 + at));
    }
}

inline void Forward::tell_hidden(int thread, int threads) {
    const ThreadRange mine(tokens, thread, threads);
    for (int64_t t = mine.begin; t < mine.end; ++t)
        std::copy(&normed[t * m.hidden], &normed[(t + 1) * m.hidden],
                  s.hidden + hidden_row[t] * m.hidden);
}

inline void Forward::norm(const float* weight, int thread, int threads) {
    const ThreadRange mine(tokens, thread, threads);
    for (int64_t t = mine.begin; t < mine.end; ++t)
        rms_norm(&state[t * m.hidden], weight, m.hidden, m.eps, &normed[t * m.hidden]);
}

inline void Forward::sort_by_adapter() {
    adapted = false;
    for (int64_t t = 0; t < tokens; ++t) adapted |= slot[t] >= 0;
    order.resize(tokens);
    for (int64_t t = 0; t < tokens; ++t) order[t] = t;
    if (adapted)
        std::stable_sort(order.begin(), order.end(),
                         [&](int64_t a, int64_t b) { return slot[a] < slot[b]; });
}

// Drops tokens that are not kept: after the last attention no other token needs them.
inline void Forward::drop_unkept() {
    const int64_t wide = m.layers->out.inputs;
    for (int64_t i = 0; i < kept; ++i) {
        const int64_t t = keep[i];
        std::memmove(&state[i * m.hidden], &state[t * m.hidden], m.hidden * sizeof(float));
        std::memmove(&attended[i * wide], &attended[t * wide], wide * sizeof(float));
        slot[i] = slot[t];
    }
    tokens = kept;
    sort_by_adapter();
}

inline void Forward::run(int thread, int threads) {
    if (thread == 0) sort_by_adapter();
    embed(thread, threads);
    for (int64_t index = 0; index < m.depth; ++index) {
        const Layer& layer = m.layers[index];
        const int64_t size = layer.qkv.blocks * BLOCK;
        if (s.states)
            copy_rows(state.data(), s.states + index * tokens * m.hidden,
                      ThreadRange(tokens, thread, threads), m.hidden);
        norm(layer.norm1, thread, threads);
        if (thread == 0) gather_tokens(normed, layer.qkv, index, QKV);
        barrier.wait();
        project(plain, layer.qkv, index, QKV, thread, threads,
                [&](int64_t r, int64_t block, vec a, vec b) {
                    float* to = &qkv[order[r] * size + block * BLOCK];
                    store_block(to, a, b);
                },
                &layer.out);
        barrier.wait();
        const ThreadRange mine(tokens, thread, threads);
        if (keeps(index)) copy_rows(qkv.data(), kept_of(index).raw, mine, size);
        switch (s.cache_format) {
            case FLOAT32: attention<float>(layer, index, thread, threads); break;
            case BFLOAT16: attention<uint16_t>(layer, index, thread, threads); break;
            case INT8: attention<int8_t>(layer, index, thread, threads); break;
        }
        barrier.wait();
        if (keeps(index)) {
            copy_rows(attended.data(), kept_of(index).attended, mine, layer.out.inputs);
            copy_rows(log_sums.data(), kept_of(index).log_sums, mine, m.heads);
        }
        if (thread == 0) {
            if (index + 1 == m.depth && !s.state && !s.hidden) drop_unkept();
            gather_tokens(attended, layer.out, index, OUT);
            size_mlp_buffers(layer);
        }
        barrier.wait();
        if (tokens == 0) return;
        project(plain, layer.out, index, OUT, thread, threads,
                [&](int64_t r, int64_t block, vec a, vec b) {
                    float* to = &state[order[r] * m.hidden + block * BLOCK];
                    add_block(to, a, b);
                },
                &layer.gate_up);
        barrier.wait();
        mlp(layer, index, thread, threads);
        if (s.state && index + 1 == s.layers) {
            if (thread == 0)
                std::memcpy(s.state, state.data(), tokens * m.hidden * sizeof(float));
            return;
        }
    }
    norm(m.final_norm, thread, threads);
    if (s.hidden) tell_hidden(thread, threads);
    if (kept == 0) return;
    if (thread == 0) {
        adapted = false;  // the LM head has no adapter
        plain.resize(kept), plain.first = {0, kept};
        for (int64_t i = 0; i < kept; ++i)
            plain.x[i].x = &normed[(s.hidden ? keep[i] : i) * m.hidden];
        size_buffers(plain, m.head, 0, 0);
    }
    barrier.wait();
    const int64_t wide = m.head.blocks * BLOCK;
    project(plain, m.head, 0, 0, thread, threads, [&](int64_t r, int64_t block, vec a, vec b) {
        float* to = &logits_out[r * wide + block * BLOCK];
        store_block(to, a, b);
        for (int64_t i = m.vocab - block * BLOCK; i < BLOCK; ++i)
            if (i >= 0) to[i] = -INFINITY;
    }, &m.layers->qkv);
    barrier.wait();
}

#include "latent_attention.h"
#include "moe.h"
#include "projections.h"
#include "self_attention.h"
