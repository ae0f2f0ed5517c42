// The attention stage of a layer, between its two projections: QK norms, RoPE, cache and attention.
//
// Included at the end of forward.h, whose members these are.

#pragma once

// QK norm, clip and RoPE of one token's queries and keys, in place.
inline void Forward::norm_rope_heads(const Layer& layer, float* q, int64_t at) {
    float* k = q + m.heads * m.width;
    if (layer.q_norm) {
        const int64_t many = m.norm_per_head ? m.heads : 1, few = m.norm_per_head ? m.kv_heads : 1;
        const int64_t wide = m.heads * m.width / many, thin = m.kv_heads * m.width / few;
        for (int64_t h = 0; h < many; ++h)
            rms_norm(q + h * wide, layer.q_norm, wide, m.eps, q + h * wide);
        for (int64_t h = 0; h < few; ++h)
            rms_norm(k + h * thin, layer.k_norm, thin, m.eps, k + h * thin);
    }
    if (m.clip_qkv > 0)
        for (int64_t i = 0; i < (m.heads + 2 * m.kv_heads) * m.width; ++i)
            q[i] = std::min(m.clip_qkv, std::max(-m.clip_qkv, q[i]));
    const float *cosine = m.cosines + at * m.rotary, *sine = m.sines + at * m.rotary;
    for (int64_t h = 0; h < m.heads + m.kv_heads; ++h)
        apply_rope(q + h * m.width, cosine, sine, m.rotary);
}

template <class K>
void Forward::attention(const Layer& layer, int64_t index, int thread, int threads) {
    if (m.latent)
        return latent_attention<K>(layer, index, plain, by_head, by_head, thread, threads);
    const int64_t size = layer.qkv.blocks * BLOCK;
    K* keys = static_cast<K*>(s.keys[index]);
    K* values = static_cast<K*>(s.values[index]);
    const AttentionShape shape{m.heads, m.kv_heads,   m.width,     m.scale,
                               0,       layer.window, layer.sinks, 0};
    const ThreadRange written(tokens, thread, threads);
    for (int64_t t = written.begin; t < written.end; ++t) {
        float* q = &qkv[t * size];
        const float* k = q + m.heads * m.width;
        const float* v = k + m.kv_heads * m.width;
        norm_rope_heads(layer, q, position[t]);
        write_page(shape, k, v, keys, values, s.table[row[t] * s.reach + position[t]]);
    }
    barrier.wait();
    std::vector<float> scratch;
    const int64_t tiles = m.kv_heads * shape.head_tiles();
    const ThreadRange mine(tokens * tiles, thread, threads);
    for (int64_t i = mine.begin; i < mine.end; ++i) {
        const int64_t t = i / tiles;
        attend(shape, &qkv[t * size], keys, values, s.table + row[t] * s.reach, position[t],
               i % tiles, &attended[t * m.heads * m.width], scratch);
    }
}
