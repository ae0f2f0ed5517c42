// Multi-head latent attention (DeepSeek-AI 2024, DeepSeek-V2, section 2.1) over its compressed cache.
//
// The cache keeps one key per position for all heads: the latent that their keys and values are made
// of, and behind it the rotated key that they share. Nothing is expanded: what would make a head's
// key of the latent is applied to its query instead, and what would make its value to the weighted
// sum of the latents. A layer has
//
//   qkv     gives the query's latent, where there is one (then q_norm is), and the cached line
//   query   makes queries of that or of what qkv reads: a part without positions, and one rotated
//   key     [heads] from a query's part without positions to the latent
//   value   [heads] from the latent to a head's value
//
// Included at the end of forward.h, whose members these are.

#pragma once

inline void Forward::make_room_for_latents() {
    const Layer& layer = *m.layers;
    if (layer.q_norm) latents.resize(tokens * layer.query.inputs);
    queries.resize(tokens * layer.query.blocks * BLOCK);
    asked.resize(tokens * m.heads * m.width);
    found.resize(tokens * m.heads * m.latent);
}

// Rows of a product in which each of `heads` has a matrix of its own: sorted by head, then by adapter.
// `from` holds what they read, `token` and `head` are its strides.
inline void Forward::line_up_heads(Rows& rows, const float* from, int64_t heads, int64_t token,
                                   int64_t head, const Matrix& matrix, int64_t layer, int which) {
    rows.resize(heads * tokens);
    rows.first.resize(heads + 1);
    for (int64_t h = 0; h <= heads; ++h) rows.first[h] = h * tokens;
    for (int64_t h = 0; h < heads; ++h)
        for (int64_t r = 0; r < tokens; ++r) {
            rows.x[h * tokens + r].x = from + order[r] * token + h * head;
            rows.slot[h * tokens + r] = slot[order[r]];
        }
    make_room(rows, matrix, layer, which);
}

// That product, threads sharing heads and blocks alike. Of each head `outputs` are put to `to`, of
// which again `token` and `head` are the strides.
inline void Forward::product_by_head(Rows& rows, const Matrix& matrix, int64_t layer, int which,
                                     int thread, int threads, float* to, int64_t token,
                                     int64_t head, int64_t outputs) {
    prepare(rows, matrix, layer, which, thread, threads);
    const Share mine(m.heads * matrix.blocks, thread, threads);
    for (int64_t begin = mine.begin, end; begin < mine.end; begin = end) {
        const int64_t h = begin / matrix.blocks, first = h * matrix.blocks, from = h * tokens;
        end = std::min(mine.end, first + matrix.blocks);
        multiply(matrix, h, begin - first, end - first, &rows.x[from],
                 adapted ? &rows.tails[from] : nullptr, tokens,
                 [&](int64_t r, int64_t block, vec a, vec b) {
                     float both[BLOCK];
                     put_block(both, a, b);
                     const int64_t at = block * BLOCK, room = std::min<int64_t>(BLOCK, outputs - at);
                     std::copy(both, both + room, to + order[r] * token + h * head + at);
                 });
    }
}

template <class K>
void Forward::latent_attention(const Layer& layer, int64_t index, Rows& by_query, Rows& by_key,
                               Rows& by_value, int thread, int threads) {
    const int64_t nope = layer.key.inputs, each = nope + m.rotary;
    const int64_t size = layer.qkv.blocks * BLOCK, wide = layer.query.blocks * BLOCK;
    const int64_t before = layer.q_norm ? layer.query.inputs : 0;  // the cached line
    const Shape shape{m.heads, 1, m.width, m.scale, 0, 0, nullptr, m.latent};
    K* cache = static_cast<K*>(s.keys[index]);
    const Share written(tokens, thread, threads);
    for (int64_t t = written.begin; t < written.end; ++t) {
        float *q = &qkv[t * size], *line = q + before;
        if (layer.q_norm) rms_norm(q, layer.q_norm, before, m.latent_eps, &latents[t * before]);
        rms_norm(line, layer.k_norm, m.latent, m.latent_eps, line);
        rotate(line + m.latent, m.cosines + position[t] * m.rotary,
               m.sines + position[t] * m.rotary, m.rotary);
        write_page<K>(shape, line, nullptr, cache, nullptr,
                      s.table[row[t] * s.reach + position[t]]);
    }
    barrier.wait();
    const std::vector<float>& asking = layer.q_norm ? latents : normed;
    if (thread == 0)
        line_up_heads(by_query, asking.data(), 1, layer.query.inputs, 0, layer.query, index, QUERY);
    barrier.wait();
    product(by_query, layer.query, index, QUERY, thread, threads,
            [&](int64_t r, int64_t block, vec a, vec b) {
                put_block(&queries[order[r] * wide + block * BLOCK], a, b);
            });
    barrier.wait();
    const Share rotated(tokens * m.heads, thread, threads);
    for (int64_t i = rotated.begin; i < rotated.end; ++i) {
        const int64_t t = i / m.heads;
        const float* from = &queries[t * wide] + i % m.heads * each + nope;
        float* to = &asked[i * m.width + m.latent];
        std::copy(from, from + m.rotary, to);
        rotate(to, m.cosines + position[t] * m.rotary, m.sines + position[t] * m.rotary, m.rotary);
    }
    if (thread == 0) line_up_heads(by_key, queries.data(), m.heads, wide, each, layer.key, index, KEY);
    barrier.wait();
    product_by_head(by_key, layer.key, index, KEY, thread, threads, asked.data(), m.heads * m.width,
                    m.width, m.latent);
    barrier.wait();
    std::vector<float> scratch;
    const Share mine(tokens * shape.groups(), thread, threads);
    for (int64_t i = mine.begin; i < mine.end; ++i) {
        const int64_t t = i / shape.groups();
        attend(shape, &asked[t * m.heads * m.width], cache, cache, s.table + row[t] * s.reach,
               position[t], i % shape.groups(), &found[t * m.heads * m.latent], scratch);
    }
    barrier.wait();
    if (thread == 0)
        line_up_heads(by_value, found.data(), m.heads, m.heads * m.latent, m.latent, layer.value,
                      index, VALUE);
    barrier.wait();
    const int64_t width = layer.out.inputs / m.heads;
    product_by_head(by_value, layer.value, index, VALUE, thread, threads, mixed.data(),
                    layer.out.inputs, width, width);
}
