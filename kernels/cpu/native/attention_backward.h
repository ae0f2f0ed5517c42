// The attention stage of a layer backwards, both projections and the input norm included.
//
// Included at the end of gradients.h, whose members these are.

#pragma once

inline void Gradients::attention_backward(int64_t index, int thread, int threads) {
    const Layer &layer = m.layers[index], &transposed = b.transposed[index];
    const int64_t size = layer.qkv.blocks * BLOCK, wide = transposed.out.blocks * BLOCK;
    const ThreadRange mine(tokens, thread, threads);
    if (thread == 0) {
        d_attended.resize(tokens * wide);
        token_rows(y[OUT], d_state.data(), m.hidden, tokens, TRANSPOSED, transposed.out, index,
                   OUT);
    }
    std::fill(&d_qkv[mine.begin * size], &d_qkv[mine.end * size], 0.0f);
    std::fill(&d_normed[mine.begin * m.hidden], &d_normed[mine.end * m.hidden], 0.0f);
    barrier.wait();
    project(y[OUT], transposed.out, index, OUT, thread, threads,
            [&](int64_t r, int64_t block, vec one, vec two) {
                float* to = &d_attended[r * wide + block * BLOCK];
                store_block(to, one, two);
            });
    barrier.wait();
    if (m.latent) {
        latent_attention_backward(index, thread, threads);
    } else {
        const AttentionShape shape = shape_of(layer);
        for_each_kv_head(thread, threads, [&](int64_t begin, int64_t end, int64_t head) {
            const int64_t q = head * shape.heads_per_kv(), at = q * m.width;
            const int64_t k = begin * size + (m.heads + head) * m.width, v = k + m.kv_heads * m.width;
            SequenceAttention sequence(shape, end - begin, size, &qkv[k], &qkv[v]);
            sequence.backward({shape.heads_per_kv(), size, m.heads * m.width, wide,
                               &qkv[begin * size + at], &attended[begin * m.heads * m.width + at],
                               &d_attended[begin * wide + at], &log_sums[begin * m.heads + q],
                               &d_qkv[begin * size + at]});
            sequence.add_to(&d_qkv[k], &d_qkv[v], size);
        });
        barrier.wait();
        for (int64_t t = mine.begin; t < mine.end; ++t) norm_rope_backward(layer, t);
    }
    if (thread == 0)
        token_rows(y[QKV], d_qkv.data(), size, tokens, TRANSPOSED, transposed.qkv, index, QKV);
    accumulate(index, OUT, thread, threads);  // before d_state, which it reads, changes
    barrier.wait();
    project(y[QKV], transposed.qkv, index, QKV, thread, threads,
            [&](int64_t r, int64_t block, vec one, vec two) {
                float* to = &d_normed[r * m.hidden + block * BLOCK];
                add_block(to, one, two);
            });
    barrier.wait();
    const float* input = s.states + index * tokens * m.hidden;
    for (int64_t t = mine.begin; t < mine.end; ++t)
        rms_norm_backward(input + t * m.hidden, layer.norm1, &d_normed[t * m.hidden], m.hidden,
                      m.eps, &d_state[t * m.hidden], true);
    accumulate(index, QKV, thread, threads);
    barrier.wait();
}

// `norm_rope_heads` backwards: gradients of one token's queries and keys, in place.
inline void Gradients::norm_rope_backward(const Layer& layer, int64_t t) {
    const int64_t size = layer.qkv.blocks * BLOCK;
    float* q = &d_qkv[t * size];
    float* k = q + m.heads * m.width;
    const float *before = &raw[t * size], *before_k = before + m.heads * m.width;
    const float *cosine = m.cosines + position[t] * m.rotary;
    const float *sine = m.sines + position[t] * m.rotary;
    for (int64_t h = 0; h < m.heads + m.kv_heads; ++h)
        apply_rope_backward(q + h * m.width, cosine, sine, m.rotary);
    if (!layer.q_norm) return;
    const int64_t many = m.norm_per_head ? m.heads : 1, few = m.norm_per_head ? m.kv_heads : 1;
    const int64_t wide = m.heads * m.width / many, thin = m.kv_heads * m.width / few;
    for (int64_t h = 0; h < many; ++h)
        rms_norm_backward(before + h * wide, layer.q_norm, q + h * wide, wide, m.eps, q + h * wide,
                      false);
    for (int64_t h = 0; h < few; ++h)
        rms_norm_backward(before_k + h * thin, layer.k_norm, k + h * thin, thin, m.eps,
                      k + h * thin, false);
}
