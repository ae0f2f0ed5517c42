// The MLP stage of a layer backwards: experts, gate, router and norm.
//
// Included at the end of gradients.h, whose members these are.

#pragma once

inline void Gradients::mlp_backward(int64_t index, int thread, int threads) {
    const Layer &layer = m.layers[index], &transposed = b.transposed[index];
    const int64_t inner = layer.gate_up.blocks * WIDTH, each = experts_per_token(layer);
    const int64_t wide = transposed.down.blocks * BLOCK;  // inner, padded to whole blocks
    if (thread == 0) {
        d_gated.resize(pair.size() * wide), d_pre.resize(pair.size() * 2 * inner);
        d_weight.resize(tokens * each);
        pair_rows(y[DOWN], TRANSPOSED, transposed.down, index, DOWN,
                  [&](size_t r) { return &d_state[pair[r] / each * m.hidden]; });
    }
    const ThreadRange mine(tokens, thread, threads);
    std::fill(&d_normed[mine.begin * m.hidden], &d_normed[mine.end * m.hidden], 0.0f);
    barrier.wait();
    project(y[DOWN], transposed.down, index, DOWN, thread, threads,
            [&](int64_t r, int64_t block, vec one, vec two) {
                float* to = &d_gated[r * wide + block * BLOCK];
                store_block(to, one, two);
            });
    barrier.wait();
    const ThreadRange mine_of_pairs(pair.size(), thread, threads);
    for (int64_t r = mine_of_pairs.begin; r < mine_of_pairs.end; ++r) {
        const float share = weight[pair[r]];
        const float* d_out = &d_gated[r * wide];
        d_weight[pair[r]] = dot(d_out, &gated[r * inner], inner);
        if (layer.experts && layer.down.bias)
            d_weight[pair[r]] += dot(&d_state[pair[r] / each * m.hidden],
                                      layer.down.bias + expert[pair[r]] * m.hidden, m.hidden);
        for (int64_t i = 0; i < inner; i += WIDTH) {
            const float* from = &pre[r * 2 * inner + 2 * i];
            float* to = &d_pre[r * 2 * inner + 2 * i];
            activate_backward(load(from), load(from + WIDTH), load(d_out + i) * share, to);
        }
        // The pair counts with its routing weight for both of the adapter's matrices.
        scale_lora(x[DOWN].lora[r], lora_of(FORWARD, index, DOWN), share);
        scale_lora(y[DOWN].lora[r], lora_of(TRANSPOSED, index, DOWN), share);
    }
    if (thread == 0)
        pair_rows(y[GATE_UP], TRANSPOSED, transposed.gate_up, index, GATE_UP,
                  [&](size_t r) { return &d_pre[r * 2 * inner]; });
    barrier.wait();
    accumulate(index, DOWN, thread, threads);  // before d_state, which it reads, changes
    project(y[GATE_UP], transposed.gate_up, index, GATE_UP, thread, threads,
            [&](int64_t r, int64_t block, vec one, vec two) {
                float* to = &d_normed[pair[r] / each * m.hidden + block * BLOCK];
                add_block(to, one, two);
            });
    barrier.wait();
    if (layer.experts) route_backward(layer, transposed, thread, threads);
    for (int64_t t = mine.begin; t < mine.end; ++t)
        rms_norm_backward(&state[t * m.hidden], layer.norm2, &d_normed[t * m.hidden], m.hidden,
                      m.eps, &d_state[t * m.hidden], true);
    accumulate(index, GATE_UP, thread, threads);
    barrier.wait();
}

// `activate` backwards: writes the gradients of a vector of gates and of their ups.
inline void Gradients::activate_backward(vec gate, vec up, vec d_gated,
                                         float* to) const {
    const bool clipped = m.swiglu_limit > 0;  // gpt-oss's SwiGLU
    const float alpha = clipped ? m.swiglu_alpha : 1.0f;
    const vec given_gate = gate, given_up = up;
    if (clipped) {
        gate = gate > m.swiglu_limit ? vec{} + m.swiglu_limit : gate;
        up = up > m.swiglu_limit    ? vec{} + m.swiglu_limit
             : up < -m.swiglu_limit ? vec{} - m.swiglu_limit
                                    : up;
    }
    const vec sigmoid = 1.0f / (exp_vec(gate * -alpha) + 1.0f), ups = clipped ? up + 1.0f : up;
    const vec d_gate = d_gated * ups * sigmoid * (1.0f + alpha * gate * (1.0f - sigmoid));
    const vec d_up = d_gated * gate * sigmoid;
    store(to, gate == given_gate ? d_gate : vec{});  // none where they were clipped
    store(to + WIDTH, up == given_up ? d_up : vec{});
}

inline void Gradients::scale_lora(const LoraRow& row, const Lora& a, float factor) {
    float* low = const_cast<float*>(row.low);
    for (int64_t i = 0; i < a.down.blocks * WIDTH; ++i) low[i] *= factor;
}

// Routing weights backwards: the router is frozen, but its scores depend on its input.
inline void Gradients::route_backward(const Layer& layer, const Layer& transposed, int thread,
                                      int threads) {
    const int64_t size = layer.router.blocks * BLOCK, experts = layer.experts;
    const int64_t each = experts_per_token(layer);
    const ThreadRange mine(order.size(), thread, threads);
    std::vector<float> d_logits(transposed.router.inputs);
    for (int64_t i = mine.begin; i < mine.end; ++i) {
        const int64_t t = order[i];
        const float* score = &routing[t * size];
        const int64_t* chosen = &expert[t * each];
        const float *d_shares = &d_weight[t * each], *shares = &weight[t * each];
        float sum = 0, mean = 0;
        for (int64_t e = 0; e < experts; ++e) sum += score[e];
        for (int64_t c = 0; c < m.top_k; ++c) mean += d_shares[c] * shares[c];
        // Softmax over all experts, or over the selected ones (the same as dividing by their sum); or
        // sigmoids, divided by their sum or not.
        std::fill(d_logits.begin(), d_logits.end(), 0.0f);
        if (!m.norm_topk && !m.sigmoid_scores)
            for (int64_t e = 0; e < experts; ++e) d_logits[e] = -score[e] / sum * mean;
        for (int64_t c = 0; c < m.top_k; ++c)
            d_logits[chosen[c]] += shares[c] * (m.sigmoid_scores ? 1.0f - score[chosen[c]] : 1.0f) *
                                   (m.norm_topk ? d_shares[c] - mean / m.routed_scaling : d_shares[c]);
        Row row{};
        row.x = d_logits.data();
        gemm(transposed.router, 0, 0, transposed.router.blocks, &row, nullptr, 1,
             [&](int64_t, int64_t block, vec one, vec two) {
                 float* to = &d_normed[t * m.hidden + block * BLOCK];
                 add_block(to, one, two);
             });
    }
    barrier.wait();
}
