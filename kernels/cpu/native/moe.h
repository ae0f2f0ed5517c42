// The MLP stage of a layer: routing, (token, expert) pairs sorted by expert, gated experts and their
// weighted sum.
//
// A dense MLP is one expert that every token passes through. Included at the end of forward.h, whose
// members these are.

#pragma once

// Experts that a token passes through, the shared ones among them.
inline int64_t Forward::experts_per_token(const Layer& layer) const {
    return layer.experts ? m.top_k + m.shared_experts : 1;
}

// SwiGLU, or gpt-oss's clamped one.
inline vec Forward::activate(vec gate, vec up) const {
    if (m.swiglu_limit <= 0) return silu(gate) * up;
    gate = gate > m.swiglu_limit ? vec{} + m.swiglu_limit : gate;
    up = up > m.swiglu_limit    ? vec{} + m.swiglu_limit
         : up < -m.swiglu_limit ? vec{} - m.swiglu_limit
                                : up;
    return (up + 1.0f) * gate / (exp_vec(gate * -m.swiglu_alpha) + 1.0f);
}

// Scores, selected experts and their weights of this thread's tokens.
inline void Forward::route(const Layer& layer, int thread, int threads) {
    const int64_t size = layer.router.blocks * BLOCK, experts = layer.experts;
    const ThreadRange mine(tokens, thread, threads);
    std::vector<Row> x(mine.end - mine.begin);
    for (int64_t t = mine.begin; t < mine.end; ++t) x[t - mine.begin].x = &normed[t * m.hidden];
    gemm(layer.router, 0, 0, layer.router.blocks, x.data(), nullptr, x.size(),
         [&](int64_t r, int64_t block, vec a, vec b) {
             float* to = &routing[(mine.begin + r) * size + block * BLOCK];
             store_block(to, a, b);
         },
         layer.gate_up.block(0));
    for (int64_t t = mine.begin; t < mine.end; ++t) {
        float* score = &routing[t * size];
        int64_t* chosen = &expert[t * experts_per_token(layer)];
        float* share = &weight[t * experts_per_token(layer)];
        float sum = 1, selected = 0;
        if (m.sigmoid_scores)
            for (int64_t e = 0; e < experts; ++e) score[e] = 1.0f / (1.0f + std::exp(-score[e]));
        else {
            const float peak = *std::max_element(score, score + experts);
            sum = 0;
            for (int64_t e = 0; e < experts; ++e) sum += score[e] = std::exp(score[e] - peak);
        }
        select_experts(layer, score, chosen);
        for (int64_t c = 0; c < m.top_k; ++c) selected += share[c] = score[chosen[c]];
        for (int64_t c = 0; c < m.top_k; ++c)
            share[c] *= m.routed_scaling / (m.norm_topk ? selected : sum);
        for (int64_t c = 0; c < m.shared_experts; ++c)
            chosen[m.top_k + c] = experts + c, share[m.top_k + c] = 1.0f;
    }
}

// The top-k experts; with group-limited routing, of the groups with the best sum of two scores.
inline void Forward::select_experts(const Layer& layer, const float* score, int64_t* chosen) {
    const int64_t experts = layer.experts, size = experts / m.expert_groups;
    std::vector<float> adjusted(score, score + experts);
    for (int64_t e = 0; layer.correction_bias && e < experts; ++e)
        adjusted[e] += layer.correction_bias[e];
    if (m.groups_kept < m.expert_groups) {
        std::vector<float> best(m.expert_groups);
        for (int64_t g = 0; g < m.expert_groups; ++g) {
            float two[2] = {-INFINITY, -INFINITY};
            for (int64_t e = g * size; e < (g + 1) * size; ++e) {
                if (adjusted[e] > two[0]) std::swap(two[0], two[1]), two[0] = adjusted[e];
                else two[1] = std::max(two[1], adjusted[e]);
            }
            best[g] = two[0] + two[1];
        }
        for (int64_t left = m.expert_groups - m.groups_kept; left > 0; --left) {
            const int64_t g = std::min_element(best.begin(), best.end()) - best.begin();
            best[g] = INFINITY;
            std::fill(&adjusted[g * size], &adjusted[(g + 1) * size], -INFINITY);
        }
    }
    for (int64_t c = 0; c < m.top_k; ++c) {
        chosen[c] = std::max_element(adjusted.begin(), adjusted.end()) - adjusted.begin();
        adjusted[chosen[c]] = -INFINITY;
    }
}

// Sorts the (token, expert) pairs by expert, then adapter.
inline void Forward::group(const Layer& layer, int64_t index) {
    const int64_t experts = layer.experts ? layer.experts + m.shared_experts : 1;
    const int64_t each = experts_per_token(layer), count = order.size() * each;
    std::vector<int64_t>& first = pairs.first;
    first.assign(experts + 1, 0);
    for (int64_t t : order)
        for (int64_t c = 0; c < each; ++c)
            ++first[(layer.experts ? expert[t * each + c] : 0) + 1];
    for (int64_t e = 0; e < experts; ++e) first[e + 1] += first[e];
    std::vector<int64_t> next(first.begin(), first.end() - 1);
    pair.resize(count), pairs.resize(count);
    for (int64_t t : order)  // sorted by adapter already
        for (int64_t c = 0; c < each; ++c) {
            const int64_t p = t * each + c, at = next[layer.experts ? expert[p] : 0]++;
            pair[at] = p;
            pairs.x[at].x = &normed[t * m.hidden];
            pairs.slot[at] = slot[t];
        }
    size_buffers(pairs, layer.gate_up, index, GATE_UP);
}

inline void Forward::mlp(const Layer& layer, int64_t index, int thread, int threads) {
    const int64_t each = experts_per_token(layer), inner = layer.gate_up.blocks * WIDTH;
    norm(layer.norm2, thread, threads);
    if (layer.experts) route(layer, thread, threads);
    float* pre = nullptr;
    if (keeps(index)) {
        const Activations keep = kept_of(index);
        const ThreadRange mine(tokens, thread, threads);
        copy_rows(state.data(), keep.middle, mine, m.hidden);
        copy_rows(routing.data(), keep.routing, mine, layer.router.blocks * BLOCK);
        copy_rows(weight.data(), keep.share, mine, each);
        std::copy(&expert[mine.begin * each], &expert[mine.end * each],
                  keep.chosen + mine.begin * each);
        pre = keep.pre;
    }
    barrier.wait();
    if (thread == 0) group(layer, index);
    barrier.wait();
    project(pairs, layer.gate_up, index, GATE_UP, thread, threads,
            [&](int64_t r, int64_t block, vec gate, vec up) {
                if (pre) store_block(pre + (r * inner + block * WIDTH) * 2, gate, up);
                store(&gated[r * inner + block * WIDTH], activate(gate, up));
            },
            &layer.down);
    barrier.wait();
    if (thread == 0) {
        for (int64_t r = 0; r < pairs.size(); ++r) pairs.x[r].x = &gated[r * inner];
        size_buffers(pairs, layer.down, index, DOWN);
    }
    barrier.wait();
    project(pairs, layer.down, index, DOWN, thread, threads,
            [&](int64_t r, int64_t block, vec a, vec b) {
                float* to = &state[pair[r] / each * m.hidden + block * BLOCK];
                const float share = weight[pair[r]];
                add_block(to, a * share, b * share);
            },
            index + 1 < m.depth ? &m.layers[index + 1].qkv : &m.head);
    barrier.wait();
}

// Makes room for the activations of an MLP; layers differ in size.
inline void Forward::size_mlp_buffers(const Layer& layer) {
    const int64_t each = experts_per_token(layer);
    routing.resize(tokens * layer.router.blocks * BLOCK);
    expert.resize(tokens * each), weight.assign(tokens * each, 1.0f);
    gated.resize(tokens * each * layer.gate_up.blocks * WIDTH);
}
