// Multi-head latent attention backwards: the steps of latent_attention.h in the opposite order.
//
// Included at the end of gradients.h, whose members these are.

#pragma once

// The forward pass again, over the cache that it has filled, which is float32.
inline void Gradients::recompute_latents(const Layer& layer, int64_t index, int thread,
                                         int threads) {
    const ThreadRange mine(tokens, thread, threads);
    std::copy(&normed_input[mine.begin * m.hidden], &normed_input[mine.end * m.hidden],
              &normed[mine.begin * m.hidden]);
    barrier.wait();
    latent_attention<float>(layer, index, x[QUERY], x[KEY], x[VALUE], thread, threads);
    barrier.wait();
    if (thread == 0 && !layer.q_norm)  // the MLP overwrites `normed`
        for (int64_t t = 0; t < tokens; ++t) x[QUERY].x[t].x = &normed_input[t * m.hidden];
}

// From `d_attended` to `d_qkv`, and to `d_normed` where queries have no latent.
inline void Gradients::latent_attention_backward(int64_t index, int thread, int threads) {
    const Layer &layer = m.layers[index], &transposed = b.transposed[index];
    const int64_t size = layer.qkv.blocks * BLOCK, wide = layer.query.blocks * BLOCK;
    const int64_t nope = layer.key.inputs, each = nope + m.rotary;
    const int64_t before = layer.q_norm ? layer.query.inputs : 0;
    const int64_t latent_size = transposed.query.blocks * BLOCK, query_size = m.heads * m.width;
    const ThreadRange mine(tokens, thread, threads);
    if (thread == 0) {
        // Transposed products read whole blocks, so there is one more behind the last row.
        d_attended.resize(tokens * transposed.out.blocks * BLOCK + BLOCK);
        d_attended_latents.resize(tokens * m.heads * m.latent);
        d_absorbed_queries.assign(tokens * query_size + BLOCK, 0.0f);
        d_queries.assign(tokens * wide, 0.0f);
        d_latents.resize(tokens * latent_size);
        reset_order();
        slot.assign(tokens, TRANSPOSED);
        gather_heads(y[VALUE], d_attended.data(), m.heads, transposed.out.blocks * BLOCK,
                     layer.out.inputs / m.heads, transposed.value, index, VALUE);
    }
    barrier.wait();
    project_by_head(y[VALUE], transposed.value, index, VALUE, thread, threads,
                    d_attended_latents.data(), m.heads * m.latent, m.latent, m.latent);
    barrier.wait();
    const AttentionShape shape = latent_shape();
    for_each_kv_head(thread, threads, [&](int64_t begin, int64_t end, int64_t) {
        const int64_t line = begin * size + before, first = begin * query_size;
        const int64_t stride = m.heads * m.latent;
        SequenceAttention sequence(shape, end - begin, size, &qkv[line], &qkv[line]);
        sequence.backward({m.heads, query_size, stride, stride, &absorbed_queries[first],
                           &attended_latents[begin * stride], &d_attended_latents[begin * stride],
                           &log_sums[begin * m.heads], &d_absorbed_queries[first]});
        sequence.add_to(&d_qkv[line], &d_qkv[line], size);
    });
    if (thread == 0)
        gather_heads(y[KEY], d_absorbed_queries.data(), m.heads, query_size, m.width,
                     transposed.key, index, KEY);
    barrier.wait();
    project_by_head(y[KEY], transposed.key, index, KEY, thread, threads, d_queries.data(), wide, each,
                    nope);
    for (int64_t t = mine.begin; t < mine.end; ++t) {
        const float* cosine = m.cosines + position[t] * m.rotary;
        const float* sine = m.sines + position[t] * m.rotary;
        for (int64_t h = 0; h < m.heads; ++h) {
            const float* from = &d_absorbed_queries[t * query_size + h * m.width + m.latent];
            float* to = &d_queries[t * wide + h * each + nope];
            std::copy(from, from + m.rotary, to);
            apply_rope_backward(to, cosine, sine, m.rotary);
        }
        float* line = &d_qkv[t * size + before];
        apply_rope_backward(line + m.latent, cosine, sine, m.rotary);
        rms_norm_backward(&raw[t * size + before], layer.k_norm, line, m.latent, m.latent_eps, line,
                      false);
    }
    if (thread == 0)
        gather_heads(y[QUERY], d_queries.data(), 1, wide, 0, transposed.query, index, QUERY);
    barrier.wait();
    project(y[QUERY], transposed.query, index, QUERY, thread, threads,
            [&](int64_t r, int64_t block, vec one, vec two) {
                float* to = layer.q_norm ? &d_latents[r * latent_size] : &d_normed[r * m.hidden];
                store_block(to + block * BLOCK, one, two);
            });
    barrier.wait();
    for (int64_t t = mine.begin; layer.q_norm && t < mine.end; ++t)
        rms_norm_backward(&raw[t * size], layer.q_norm, &d_latents[t * latent_size], before,
                          m.latent_eps, &d_qkv[t * size], false);
    for (int which : {QUERY, KEY, VALUE}) accumulate(index, which, thread, threads);
    barrier.wait();
    if (thread == 0) slot.assign(tokens, FORWARD);
}
