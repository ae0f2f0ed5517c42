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

inline AttentionShape Forward::shape_of(const Layer& layer) const {
    return {m.heads, m.kv_heads, m.width, m.scale, 0, layer.window, layer.sinks, 0};
}

// Divides the queries of a step into tiles: as large as they may be, unless threads would go idle.
inline void Forward::tile_queries(const AttentionShape& shape, int threads) {
    const int64_t heads = shape.heads_per_kv(), pairs = tokens * shape.kv_heads;
    const int64_t least = (heads + MAX_QUERIES - 1) / MAX_QUERIES;
    const int64_t parts = std::min(heads, std::max(least, threads / std::max<int64_t>(1, pairs)));
    const int64_t fit = MAX_QUERIES / ((heads + parts - 1) / parts);
    const int64_t most = std::min(fit, std::max<int64_t>(1, pairs * parts / (threads * 4)));
    tiles.clear();
    for (int64_t t = 0, end; t < tokens; t = end) {
        for (end = t + 1; end < std::min(tokens, t + most); ++end)
            if (row[end] != row[t] || position[end] != position[t] + end - t) break;
        for (int64_t h = 0; h < shape.kv_heads * parts; ++h)
            tiles.push_back({t, end - t, h / parts, heads * (h % parts) / parts,
                             heads * (h % parts + 1) / parts});
    }
    tiles_left = tiles.size();
}

// Attends all tiles. Threads take one after the other, since the later ones of a prompt take longer;
// those come first, so that no thread begins a long one at the end.
template <class K>
void Forward::attend_tiles(const AttentionShape& shape, const float* queries, int64_t stride,
                           const K* keys, const K* values, float* out) {
    static thread_local AttentionScratch scratch;
    scratch.fit(shape);
    const int64_t wide = shape.value_width(), out_stride = m.heads * wide;
    for (int64_t i; (i = tiles_left.fetch_sub(1) - 1) >= 0;) {
        const HeadTile& tile = tiles[i];
        const int64_t t = tile.token, head = tile.kv_head * shape.heads_per_kv() + tile.head;
        attend(shape,
               {tile.tokens, tile.end - tile.head, position[t],
                queries + t * stride + head * shape.width, out + t * out_stride + head * wide,
                stride, out_stride, shape.sinks ? shape.sinks + head : nullptr,
                log_sums.empty() ? nullptr : &log_sums[t * m.heads + head]},
               keys, values, s.table + row[t] * s.reach, tile.kv_head, scratch);
    }
}

template <class K>
void Forward::attention(const Layer& layer, int64_t index, int thread, int threads) {
    if (m.latent)
        return latent_attention<K>(layer, index, plain, by_head, by_head, thread, threads);
    const int64_t size = layer.qkv.blocks * BLOCK;
    K* keys = static_cast<K*>(s.keys[index]);
    K* values = static_cast<K*>(s.values[index]);
    const AttentionShape shape = shape_of(layer);
    const ThreadRange written(tokens, thread, threads);
    for (int64_t t = written.begin; t < written.end; ++t) {
        float* q = &qkv[t * size];
        const float* k = q + m.heads * m.width;
        const float* v = k + m.kv_heads * m.width;
        norm_rope_heads(layer, q, position[t]);
        write_page(shape, k, v, keys, values, s.table[row[t] * s.reach + position[t]]);
    }
    if (thread == 0) tile_queries(shape, threads);
    barrier.wait();
    attend_tiles(shape, &qkv[0], size, keys, values, &attended[0]);
}
