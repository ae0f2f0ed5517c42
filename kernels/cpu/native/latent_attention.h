// Multi-head latent attention (DeepSeek-AI 2024, DeepSeek-V2, section 2.1) over its compressed cache.
//
// The cache keeps one key per position for all heads: the latent that their keys and values are
// projected from, and behind it the rotated key that they share. The projections are absorbed: that of
// a head's key is applied to its query instead, and that of its value to the weighted sum of the
// latents. A layer has
//
//   qkv     down-projection to the query's latent, if there is one (then there is a q_norm), and to the
//           cached line: latent and shared key
//   query   up-projection of the query's latent, or of qkv's input: per head a part without positions
//           and a rotated one
//   key     [heads] from a query's part without positions to the latent
//   value   [heads] from the latent to a head's value
//
// Included at the end of forward.h, whose members these are.

#pragma once

inline void Forward::size_latent_buffers() {
    const Layer& layer = *m.layers;
    if (layer.q_norm) latents.resize(tokens * layer.query.inputs);
    queries.resize(tokens * layer.query.blocks * BLOCK);
    absorbed_queries.resize(tokens * m.heads * m.width);
    attended_latents.resize(tokens * m.heads * m.latent);
}

inline AttentionShape Forward::latent_shape() const {
    return {m.heads, 1, m.width, m.scale, 0, 0, nullptr, m.latent};
}

// Rows of a projection in which each of `heads` has a matrix of its own: sorted by head, then by
// adapter. They are read from `from`, of which `token` and `head` are the strides.
inline void Forward::gather_heads(GroupedRows& rows, const float* from, int64_t heads,
                                  int64_t token, int64_t head, const Matrix& matrix, int64_t layer,
                                  int which) {
    rows.resize(heads * tokens);
    rows.first.resize(heads + 1);
    for (int64_t h = 0; h <= heads; ++h) rows.first[h] = h * tokens;
    for (int64_t h = 0; h < heads; ++h)
        for (int64_t r = 0; r < tokens; ++r) {
            rows.x[h * tokens + r].x = from + order[r] * token + h * head;
            rows.slot[h * tokens + r] = slot[order[r]];
        }
    size_buffers(rows, matrix, layer, which);
}

// That projection, threads sharing heads and blocks alike. The first `outputs` of each head are written
// to `to`, of which again `token` and `head` are the strides.
inline void Forward::project_by_head(GroupedRows& rows, const Matrix& matrix, int64_t layer,
                                     int which, int thread, int threads, float* to, int64_t token,
                                     int64_t head, int64_t outputs) {
    prepare_rows(rows, matrix, layer, which, thread, threads);
    const ThreadRange mine(m.heads * matrix.blocks, thread, threads);
    for (int64_t begin = mine.begin, end; begin < mine.end; begin = end) {
        const int64_t h = begin / matrix.blocks, first = h * matrix.blocks, from = h * tokens;
        end = std::min(mine.end, first + matrix.blocks);
        gemm(matrix, h, begin - first, end - first, &rows.x[from],
             adapted ? &rows.lora[from] : nullptr, tokens,
             [&](int64_t r, int64_t block, vec a, vec b) {
                 float both[BLOCK];
                 store_block(both, a, b);
                 const int64_t at = block * BLOCK, size = std::min<int64_t>(BLOCK, outputs - at);
                 std::copy(both, both + size, to + order[r] * token + h * head + at);
             });
    }
}

// The attention stage of a layer; the rows are those of its three projections.
template <class K>
void Forward::latent_attention(const Layer& layer, int64_t index, GroupedRows& by_query,
                               GroupedRows& by_key, GroupedRows& by_value, int thread,
                               int threads) {
    const int64_t nope = layer.key.inputs, each = nope + m.rotary;
    const int64_t size = layer.qkv.blocks * BLOCK, wide = layer.query.blocks * BLOCK;
    const int64_t before = layer.q_norm ? layer.query.inputs : 0;  // floats before the cached line
    const AttentionShape shape = latent_shape();
    K* cache = static_cast<K*>(s.keys[index]);
    const ThreadRange written(tokens, thread, threads);
    for (int64_t t = written.begin; t < written.end; ++t) {
        float *q = &qkv[t * size], *line = q + before;
        if (layer.q_norm) rms_norm(q, layer.q_norm, before, m.latent_eps, &latents[t * before]);
        rms_norm(line, layer.k_norm, m.latent, m.latent_eps, line);
        apply_rope(line + m.latent, m.cosines + position[t] * m.rotary,
                   m.sines + position[t] * m.rotary, m.rotary);
        write_page<K>(shape, line, nullptr, cache, nullptr,
                      s.table[row[t] * s.reach + position[t]]);
    }
    barrier.wait();
    const std::vector<float>& query_input = layer.q_norm ? latents : normed;
    if (thread == 0)
        gather_heads(by_query, query_input.data(), 1, layer.query.inputs, 0, layer.query, index,
                     QUERY);
    barrier.wait();
    project(by_query, layer.query, index, QUERY, thread, threads,
            [&](int64_t r, int64_t block, vec a, vec b) {
                store_block(&queries[order[r] * wide + block * BLOCK], a, b);
            });
    barrier.wait();
    const ThreadRange rotated(tokens * m.heads, thread, threads);
    for (int64_t i = rotated.begin; i < rotated.end; ++i) {
        const int64_t t = i / m.heads;
        const float* from = &queries[t * wide] + i % m.heads * each + nope;
        float* to = &absorbed_queries[i * m.width + m.latent];
        std::copy(from, from + m.rotary, to);
        apply_rope(to, m.cosines + position[t] * m.rotary, m.sines + position[t] * m.rotary,
                   m.rotary);
    }
    if (thread == 0) {
        gather_heads(by_key, queries.data(), m.heads, wide, each, layer.key, index, KEY);
        tile_queries(shape, threads);
    }
    barrier.wait();
    project_by_head(by_key, layer.key, index, KEY, thread, threads, absorbed_queries.data(),
                    m.heads * m.width, m.width, m.latent);
    barrier.wait();
    attend_tiles(shape, &absorbed_queries[0], m.heads * m.width, cache, cache, &attended_latents[0]);
    barrier.wait();
    if (thread == 0)
        gather_heads(by_value, attended_latents.data(), m.heads, m.heads * m.latent, m.latent,
                     layer.value, index, VALUE);
    barrier.wait();
    const int64_t width = layer.out.inputs / m.heads;
    project_by_head(by_value, layer.value, index, VALUE, thread, threads, attended.data(),
                    layer.out.inputs, width, width);
}
