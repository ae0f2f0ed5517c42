// Multi-head latent attention backwards: what latent.h does, in the opposite order.
//
// Included in train.cpp, to whose Gradients these members belong.

#pragma once

// The forward pass once more, over the cache that it has filled, which is float32.
void Gradients::recompute_latents(const Layer& layer, int64_t index, int thread, int threads) {
    const Share mine(tokens, thread, threads);
    std::copy(&entering[mine.begin * m.hidden], &entering[mine.end * m.hidden],
              &normed[mine.begin * m.hidden]);
    barrier.wait();
    latent_attention<float>(layer, index, x[QUERY], x[KEY], x[VALUE], thread, threads);
    barrier.wait();
    if (thread == 0 && !layer.q_norm)  // the MLP will need `normed`
        for (int64_t t = 0; t < tokens; ++t) x[QUERY].x[t].x = &entering[t * m.hidden];
}

// From `to_mixed` to `to_qkv`, and where queries have no latent to `to_normed`.
void Gradients::latents_back(int64_t index, int thread, int threads) {
    const Layer &layer = m.layers[index], &turned = b.turned[index];
    const int64_t size = layer.qkv.blocks * BLOCK, wide = layer.query.blocks * BLOCK;
    const int64_t nope = layer.key.inputs, each = nope + m.rotary;
    const int64_t before = layer.q_norm ? layer.query.inputs : 0;
    const int64_t gives = turned.query.blocks * BLOCK, asking = m.heads * m.width;
    const Share mine(tokens, thread, threads);
    if (thread == 0) {
        // Turned products read whole blocks: past the end of the last row there is room for one.
        to_mixed.resize(tokens * turned.out.blocks * BLOCK + BLOCK);
        to_found.resize(tokens * m.heads * m.latent);
        to_asked.assign(tokens * asking + BLOCK, 0.0f);
        to_queries.assign(tokens * wide, 0.0f);
        to_latents.resize(tokens * gives);
        everyone();
        slot.assign(tokens, TURNED);
        line_up_heads(y[VALUE], to_mixed.data(), m.heads, turned.out.blocks * BLOCK,
                      layer.out.inputs / m.heads, turned.value, index, VALUE);
    }
    barrier.wait();
    product_by_head(y[VALUE], turned.value, index, VALUE, thread, threads, to_found.data(),
                    m.heads * m.latent, m.latent, m.latent);
    barrier.wait();
    each_head(thread, threads, [&](int64_t begin, int64_t end, int64_t) {
        const float* line = &qkv[begin * size + before];
        float* back = &to_qkv[begin * size + before];
        Attention sequence(end - begin, m.width, m.latent, size, m.scale, layer, line, line);
        for (int64_t h = 0; h < m.heads; ++h)
            for (int64_t t = begin; t < end; ++t)
                sequence.backward(&asked[t * asking + h * m.width], t - begin, h,
                                  &to_found[(t * m.heads + h) * m.latent],
                                  &to_asked[t * asking + h * m.width], back, back);
    });
    if (thread == 0)
        line_up_heads(y[KEY], to_asked.data(), m.heads, asking, m.width, turned.key, index, KEY);
    barrier.wait();
    product_by_head(y[KEY], turned.key, index, KEY, thread, threads, to_queries.data(), wide, each,
                    nope);
    for (int64_t t = mine.begin; t < mine.end; ++t) {
        const float* cosine = m.cosines + position[t] * m.rotary;
        const float* sine = m.sines + position[t] * m.rotary;
        for (int64_t h = 0; h < m.heads; ++h) {
            const float* from = &to_asked[t * asking + h * m.width + m.latent];
            float* to = &to_queries[t * wide + h * each + nope];
            std::copy(from, from + m.rotary, to);
            rotate_back(to, cosine, sine, m.rotary);
        }
        float* line = &to_qkv[t * size + before];
        rotate_back(line + m.latent, cosine, sine, m.rotary);
        rms_norm_back(&raw[t * size + before], layer.k_norm, line, m.latent, m.latent_eps, line,
                      false);
    }
    if (thread == 0)
        line_up_heads(y[QUERY], to_queries.data(), 1, wide, 0, turned.query, index, QUERY);
    barrier.wait();
    product(y[QUERY], turned.query, index, QUERY, thread, threads,
            [&](int64_t r, int64_t block, vec one, vec two) {
                float* to = layer.q_norm ? &to_latents[r * gives] : &to_normed[r * m.hidden];
                put_block(to + block * BLOCK, one, two);
            });
    barrier.wait();
    for (int64_t t = mine.begin; layer.q_norm && t < mine.end; ++t)
        rms_norm_back(&raw[t * size], layer.q_norm, &to_latents[t * gives], before, m.latent_eps,
                      &to_qkv[t * size], false);
    for (int which : {QUERY, KEY, VALUE}) collect(index, which, thread, threads);
    barrier.wait();
    if (thread == 0) slot.assign(tokens, STRAIGHT);
}
