// Gradients of attention over one whole sequence of float32 keys and values, in blocks as in
// FlashAttention (Dao et al. 2022, appendix B.4): weights are computed again, from the log-sums of the
// forward pass, so memory does not grow with the square of the length.

#pragma once

#include <vector>

#include "model.h"
#include "paged_attention.h"

static inline float dot(const float* a, const float* b, int64_t size) {
    vec sum = {};
    for (int64_t i = 0; i < size; i += WIDTH) sum += load(a + i) * load(b + i);
    return total(sum);
}

static inline int64_t whole_vectors(int64_t size) { return (size + WIDTH - 1) / WIDTH * WIDTH; }

// Query heads of one key head over a sequence: token strides, and the first head of the first token.
struct SequenceQueries {
    int64_t heads, stride, out_stride, d_out_stride;
    const float *query, *out, *d_out;  // [length][stride], of which [heads][width, value width]
    const float* log_sums;             // [length][heads of all]
    float* d_query;                    // as `query`; added to
};

// One sequence and key head. `stride` is that of a token in k, v and their gradients.
class SequenceAttention {
    const AttentionShape& s;
    const int64_t length, padded, width, wide;  // width and wide: of keys and values, whole vectors
    std::vector<float> keys, lines, values;     // [width][padded], [length][width], [wide][padded]
    std::vector<float> d_keys, d_values;        // [length][width], [length][wide]
    // Of a tile, [MAX_QUERIES][width], [wide] and [KEY_BLOCK]:
    std::vector<float> query, d_query, d_out, weights, d_scores;
    float log_sum[MAX_QUERIES], mean[MAX_QUERIES];

  public:
    SequenceAttention(const AttentionShape& shape, int64_t length, int64_t stride, const float* k,
                      const float* v)
        : s(shape), length(length), padded(whole_vectors(length)), width(whole_vectors(s.width)),
          wide(s.value_width()), keys(width * padded), lines(length * width),
          values(wide * padded), d_keys(length * width), d_values(length * wide),
          query(MAX_QUERIES * width), d_query(MAX_QUERIES * width), d_out(MAX_QUERIES * wide),
          weights(MAX_QUERIES * KEY_BLOCK), d_scores(MAX_QUERIES * KEY_BLOCK) {
        for (int64_t j = 0; j < length; ++j) {
            for (int64_t d = 0; d < s.width; ++d)
                keys[d * padded + j] = lines[j * width + d] = k[j * stride + d];
            for (int64_t d = 0; d < wide; ++d) values[d * padded + j] = v[j * stride + d];
        }
    }

    // Collects the gradients of keys and values, and adds to those of the queries.
    void backward(const SequenceQueries& queries) {
        const int64_t each = std::min<int64_t>(queries.heads, MAX_QUERIES), step = MAX_QUERIES / each;
        for (int64_t head = 0; head < queries.heads; head += each)
            for (int64_t t = 0; t < length; t += step)
                tile(queries, head, std::min(each, queries.heads - head), t,
                     std::min(step, length - t));
    }

    // Adds them to what may be the same memory (MLA).
    void add_to(float* dk, float* dv, int64_t stride) const {
        for (int64_t j = 0; j < length; ++j) {
            for (int64_t d = 0; d < s.width; ++d) dk[j * stride + d] += d_keys[j * width + d];
            for (int64_t d = 0; d < wide; ++d) dv[j * stride + d] += d_values[j * wide + d];
        }
    }

  private:
    void tile(const SequenceQueries& queries, int64_t head, int64_t heads, int64_t position,
              int64_t tokens) {
        const int64_t rows = tokens * heads;
        for (int64_t row = 0; row < rows; ++row) {
            const int64_t t = position + row / heads, h = head + row % heads;
            const float* q = queries.query + t * queries.stride + h * s.width;
            for (int64_t d = 0; d < s.width; ++d) query[row * width + d] = q[d] * s.scale;
            const float* from = queries.d_out + t * queries.d_out_stride + h * wide;
            std::copy(from, from + wide, &d_out[row * wide]);
            mean[row] = dot(from, queries.out + t * queries.out_stride + h * wide, wide);
            log_sum[row] = queries.log_sums[t * s.heads + h];
        }
        std::fill(d_query.begin(), d_query.end(), 0.0f);
        for_seen_blocks(s, position, tokens, [&](const SeenBlock& block) {
            const int64_t begin = block.first * heads, end = block.last * heads;
            dot_products(query, keys, width, block, begin, end, weights);
            dot_products(d_out, values, wide, block, begin, end, d_scores);
            for (int64_t row = begin; row < end; ++row)
                differentiate_softmax(block, position + row / heads, row);
            add_products(begin, end, &d_scores[block.begin], KEY_BLOCK, 1,
                         &lines[(block.start + block.begin) * width], width,
                         block.end - block.begin, d_query.data());
            add_products(block.begin, block.end, &d_scores[begin * KEY_BLOCK], 1, KEY_BLOCK,
                         &query[begin * width], width, end - begin, &d_keys[block.start * width]);
            add_products(block.begin, block.end, &weights[begin * KEY_BLOCK], 1, KEY_BLOCK,
                         &d_out[begin * wide], wide, end - begin, &d_values[block.start * wide]);
        });
        for (int64_t row = 0; row < rows; ++row) {
            const int64_t t = position + row / heads, h = head + row % heads;
            float* to = queries.d_query + t * queries.stride + h * s.width;
            for (int64_t d = 0; d < s.width; ++d) to[d] += d_query[row * width + d] * s.scale;
        }
    }

    // out [rows][KEY_BLOCK] = x [rows][size] times the block's part of `across` [size][padded].
    void dot_products(const std::vector<float>& x, const std::vector<float>& across, int64_t size,
                      const SeenBlock& block, int64_t begin, int64_t end, std::vector<float>& out) {
        for_row_tiles(begin, end, [&](auto rows, int64_t row) {
            constexpr int R = rows;
            for_vectors<R>(block.first_page(), block.last_page() + 1, [&](auto vectors, int64_t at) {
                constexpr int N = vectors;
                const float* from[N];
                for (int n = 0; n < N; ++n) from[n] = &across[block.start + (at + n) * WIDTH];
                vec sum[R][N] = {};
                multiply_add(sum, &x[row * size], size, 1, from, padded, size);
                for (int r = 0; r < R; ++r)
                    for (int n = 0; n < N; ++n)
                        store(&out[(row + r) * KEY_BLOCK + (at + n) * WIDTH], sum[r][n]);
            });
        });
    }

    // to [rows][size] += factors [rows][count] (of those strides) times from [count][size].
    static void add_products(int64_t begin, int64_t end, const float* factors, int64_t row_stride,
                             int64_t column, const float* from, int64_t size, int64_t count,
                             float* to) {
        for_row_tiles(begin, end, [&](auto rows, int64_t row) {
            constexpr int R = rows;
            for_vectors<R>(0, size / WIDTH, [&](auto vectors, int64_t first) {
                constexpr int N = vectors;
                float* out = to + row * size + first * WIDTH;
                const float* x[N];
                for (int n = 0; n < N; ++n) x[n] = from + (first + n) * WIDTH;
                vec sum[R][N];
                for (int r = 0; r < R; ++r)
                    for (int n = 0; n < N; ++n) sum[r][n] = load(out + r * size + n * WIDTH);
                multiply_add(sum, factors + row * row_stride, row_stride, column, x, size, count);
                for (int r = 0; r < R; ++r)
                    for (int n = 0; n < N; ++n) store(out + r * size + n * WIDTH, sum[r][n]);
            });
        });
    }

    // From the scores and the gradients of the weights of one row to its weights and the gradients of the
    // scores.
    void differentiate_softmax(const SeenBlock& block, int64_t position, int64_t row) {
        float *w = &weights[row * KEY_BLOCK], *d = &d_scores[row * KEY_BLOCK];
        const int64_t begin = block.first_page() * WIDTH, end = (block.last_page() + 1) * WIDTH;
        mask_scores(s.first_seen(position) - block.start, position + 1 - block.start, begin, end, w);
        for (int64_t j = begin; j < end; j += WIDTH) {
            const vec weight = exp_vec(load(w + j) - log_sum[row]);
            store(w + j, weight);
            store(d + j, weight * (load(d + j) - mean[row]));
        }
    }
};
