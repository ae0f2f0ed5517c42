// What a forward pass keeps for its backward pass of every layer but the last, where memory allows: the results
// of all its products. Without it the backward pass computes them again (gradients.h).
//
// Left out: multi-head latent attention, whose layers are computed again always.

#pragma once

#include <algorithm>

#include "model.h"
#include "threads.h"

// Of one layer, [tokens] of each and [pairs] of (token, expert), in floats one behind the other.
struct Activations {
    float* raw;       // projections, before norms and RoPE
    float* attended;
    float* log_sums;  // of attention's softmax
    float* middle;    // the state between attention and MLP
    float* routing;
    float* share;     // of the chosen experts
    float* chosen;    // their numbers
    float* pre;       // gates and ups, pair by pair

    // Those of layer `index`, where `at` is where the first layer's begin.
    Activations(const Model& m, int64_t index, int64_t tokens, float* at) {
        for (int64_t i = 0; i < index; ++i) at += tokens * wide(m, m.layers[i]);
        const Layer& layer = m.layers[index];
        raw = at;
        attended = raw + tokens * layer.qkv.blocks * BLOCK;
        log_sums = attended + tokens * layer.out.inputs;
        middle = log_sums + tokens * m.heads;
        routing = middle + tokens * m.hidden;
        share = routing + tokens * layer.router.blocks * BLOCK;
        chosen = share + tokens * each(m, layer);
        pre = chosen + tokens * each(m, layer);
    }

    // How many floats a model takes; 0 where nothing is kept.
    static int64_t size(const Model& m, int64_t tokens) {
        int64_t size = 0;
        for (int64_t i = 0; i + 1 < m.depth && !m.latent; ++i) size += tokens * wide(m, m.layers[i]);
        return size;
    }

  private:
    static int64_t each(const Model& m, const Layer& layer) {
        return layer.experts ? m.top_k + m.shared_experts : 1;
    }
    // Floats of a token.
    static int64_t wide(const Model& m, const Layer& layer) {
        return (layer.qkv.blocks + layer.router.blocks) * BLOCK + layer.out.inputs + m.heads +
               m.hidden + each(m, layer) * (2 + 2 * layer.gate_up.blocks * WIDTH);
    }
};

// Copies the rows begin..end, of `wide` numbers each.
static inline void copy_rows(const float* from, float* to, const ThreadRange& rows, int64_t wide) {
    std::copy(from + rows.begin * wide, from + rows.end * wide, to + rows.begin * wide);
}
