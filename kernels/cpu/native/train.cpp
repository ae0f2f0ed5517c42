// Gradients of an adapter: the decoder's forward pass again, layer by layer from the last, and then
// the layer's backward pass, in float32 and over the same packed products that serve.
//
// The base is frozen, so only the adapter's two small matrices per product collect gradients: with
// y = W x + up (scale * down x), each is an outer product of what flows in and what flows back. What
// flows back goes through the transposed weights, whose adapter is the same one turned around.
//
// Only what goes into each layer is kept from the forward pass (Chen et al. 2016, Training Deep Nets
// with Sublinear Memory Cost). Left out: clipped queries, int8 and int4 weights.

#include <omp.h>

#include "forward.h"

namespace {

float dot(const float* a, const float* b, int64_t size) {
    vec sum = {};
    for (int64_t i = 0; i < size; i += WIDTH) sum += load(a + i) * load(b + i);
    return total(sum);
}
void add(float* to, const float* from, float factor, int64_t size) {
    int64_t i = 0;
    for (; i + WIDTH <= size; i += WIDTH) store(to + i, load(to + i) + load(from + i) * factor);
    for (; i < size; ++i) to[i] += from[i] * factor;
}

// back: what flows back to y = rms_norm(x); adds to `to` what flows on to x. May be in place.
void rms_norm_back(const float* x, const float* weight, const float* back, int64_t size, float eps,
                   float* to, bool adding) {
    vec squares = {}, along = {};
    for (int64_t i = 0; i < size; i += WIDTH) {
        squares += load(x + i) * load(x + i);
        along += load(x + i) * load(weight + i) * load(back + i);
    }
    const float factor = 1.0f / std::sqrt(total(squares) / size + eps);
    const float pull = factor * factor * factor * total(along) / size;
    for (int64_t i = 0; i < size; i += WIDTH) {
        const vec flow = load(weight + i) * load(back + i) * factor - load(x + i) * pull;
        store(to + i, adding ? load(to + i) + flow : flow);
    }
}

void rotate_back(float* x, const float* cosine, const float* sine, int64_t rotary) {
    const int64_t half = rotary / 2;
    for (int64_t i = 0; i < half; ++i) {
        const float a = x[i], b = x[i + half];
        x[i] = a * cosine[i] + b * sine[i + half];
        x[i + half] = b * cosine[i + half] - a * sine[i];
    }
}

// One sequence and key head: keys and values turned around, so that 16 positions are one vector.
struct Attention {
    int64_t length, width, value_width, stride, padded;  // stride: of a token in k, v and their flows
    float scale;
    int64_t window;
    const float *sinks, *k, *v;
    std::vector<float> keys, values, weights, flows;  // [width][padded], then [padded]

    Attention(int64_t length, int64_t width, int64_t value_width, int64_t stride, float scale,
              const Layer& layer, const float* k, const float* v)
        : length(length), width(width), value_width(value_width), stride(stride),
          padded((length + WIDTH - 1) / WIDTH * WIDTH), scale(scale), window(layer.window),
          sinks(layer.sinks), k(k), v(v), keys(width * padded), values(value_width * padded),
          weights(padded), flows(padded) {
        for (int64_t j = 0; j < length; ++j) {
            for (int64_t d = 0; d < width; ++d) keys[d * padded + j] = k[j * stride + d];
            for (int64_t d = 0; d < value_width; ++d) values[d * padded + j] = v[j * stride + d];
        }
    }

    int64_t first(int64_t i) const {
        return window > 0 ? std::max<int64_t>(0, i - window + 1) : 0;
    }

    void products(const float* x, const std::vector<float>& lines, int64_t i, float* out) const {
        const int64_t width = lines.size() / padded;
        for (int64_t j = first(i) / WIDTH * WIDTH; j <= i; j += WIDTH) {
            vec sum = {};
            for (int64_t d = 0; d < width; ++d) sum += x[d] * load(&lines[d * padded + j]);
            store(out + j, sum);
        }
    }

    // How query i of a head weighs the positions it sees.
    void weigh(const float* q, int64_t i, int64_t head) {
        products(q, keys, i, weights.data());
        const int64_t from = first(i);
        float peak = sinks ? sinks[head] : -INFINITY;
        for (int64_t j = from; j <= i; ++j) peak = std::max(peak, weights[j] *= scale);
        for (int64_t j = from / WIDTH * WIDTH; j <= i; j += WIDTH)
            store(&weights[j], exponential(load(&weights[j]) - peak));
        float sum = sinks ? exponential(vec{} + (sinks[head] - peak))[0] : 0;
        for (int64_t j = from; j <= i; ++j) sum += weights[j];
        for (int64_t j = from; j <= i; ++j) weights[j] /= sum;
    }

    void forward(const float* q, int64_t i, int64_t head, float* out) {
        weigh(q, i, head);
        std::fill(out, out + value_width, 0.0f);
        for (int64_t j = first(i); j <= i; ++j) add(out, v + j * stride, weights[j], value_width);
    }

    // `back` flows back to query i's result; adds what flows on to q_i, and to all of k and v.
    void backward(const float* q, int64_t i, int64_t head, const float* back, float* dq, float* dk,
                  float* dv) {
        weigh(q, i, head);
        products(back, values, i, flows.data());
        float mean = 0;
        for (int64_t j = first(i); j <= i; ++j) mean += weights[j] * flows[j];
        for (int64_t j = first(i); j <= i; ++j) {
            const float flow = weights[j] * (flows[j] - mean) * scale;
            add(dv + j * stride, back, weights[j], value_width);
            add(dk + j * stride, q, flow, width);
            add(dq, k + j * stride, flow, width);
        }
    }
};

enum { STRAIGHT, TURNED };  // the two adapters of the step

struct Gradients : Forward {
    const Backward& b;
    std::vector<float> entering, raw, leaving, pre;  // of the layer at hand
    std::vector<float> flow, to_normed, to_mixed, to_qkv, to_gated, to_pre, to_weight;
    std::vector<float> to_found, to_asked, to_queries, to_latents;  // of MLA
    Rows x[VALUE + 1], y[VALUE + 1];  // what flows in and what flows back, of each product

    Gradients(const Model& model, const Step& step, const Backward& back)
        : Forward(model, step), b(back) {
        adapted = true;
        slot.assign(tokens, STRAIGHT);
        entering.resize(tokens * m.hidden), leaving.resize(tokens * m.hidden);
        raw.resize(qkv.size()), to_qkv.resize(qkv.size());
        flow.assign(tokens * m.hidden, 0.0f), to_normed.resize(tokens * m.hidden);
        to_mixed.resize(mixed.size());
    }

    // Rows `from` [count][stride], or those of the pairs at hand where there are `pairs_of`.
    void rows_of(Rows& rows, const float* from, int64_t stride, int64_t count, int adapter,
                 const Matrix& matrix, int64_t layer, int which) {
        rows.resize(count);
        rows.first = {0, count};
        for (int64_t r = 0; r < count; ++r) rows.x[r].x = from + r * stride;
        rows.slot.assign(count, adapter);
        make_room(rows, matrix, layer, which);
    }

    // The pairs' rows, each with what it reads.
    template <class From>
    void pairs_of(Rows& rows, int adapter, const Matrix& matrix, int64_t layer, int which,
                  From from) {
        rows.resize(pair.size());
        rows.first = pairs.first;
        for (size_t r = 0; r < pair.size(); ++r) rows.x[r].x = from(r);
        rows.slot.assign(pair.size(), adapter);
        make_room(rows, matrix, layer, which);
    }

    template <class F>
    void each_head(int thread, int threads, F f) {
        const Share mine(b.sequences * m.kv_heads, thread, threads);
        for (int64_t i = mine.begin; i < mine.end; ++i) f(b.starts[i / m.kv_heads],
            b.starts[i / m.kv_heads + 1], i % m.kv_heads);
    }

    Attention attention_of(const Layer& layer, int64_t begin, int64_t end, int64_t head) {
        const int64_t size = layer.qkv.blocks * BLOCK;
        const float* k = &qkv[begin * size + (m.heads + head) * m.width];
        return {end - begin, m.width, m.width, size, m.scale, layer, k, k + m.kv_heads * m.width};
    }

    void everyone() {
        order.resize(tokens);
        for (int64_t t = 0; t < tokens; ++t) order[t] = t;
    }

    // -- MLA, in latent_back.h -----------------------------------------------------------------------

    void recompute_latents(const Layer& layer, int64_t index, int thread, int threads);
    void latents_back(int64_t index, int thread, int threads);

    // -- the forward pass of one layer, with all that its backward pass needs -----------------------

    void recompute(int64_t index, int thread, int threads) {
        const Layer& layer = m.layers[index];
        const int64_t size = layer.qkv.blocks * BLOCK, share = m.heads / m.kv_heads;
        const bool last = index + 1 == m.depth;
        const Share mine(tokens, thread, threads);
        const float* kept_state = s.states + index * tokens * m.hidden;
        std::copy(kept_state + mine.begin * m.hidden, kept_state + mine.end * m.hidden,
                  &state[mine.begin * m.hidden]);
        for (int64_t t = mine.begin; t < mine.end; ++t)
            rms_norm(&state[t * m.hidden], layer.norm1, m.hidden, m.eps, &entering[t * m.hidden]);
        if (thread == 0) {
            rows_of(x[QKV], entering.data(), m.hidden, tokens, STRAIGHT, layer.qkv, index, QKV);
            everyone();
        }
        barrier.wait();
        product(x[QKV], layer.qkv, index, QKV, thread, threads,
                [&](int64_t r, int64_t block, vec one, vec two) {
                    float* to = &raw[r * size + block * BLOCK];
                    put_block(to, one, two);
                });
        barrier.wait();
        std::copy(&raw[mine.begin * size], &raw[mine.end * size], &qkv[mine.begin * size]);
        if (m.latent) {
            recompute_latents(layer, index, thread, threads);
        } else {
            for (int64_t t = mine.begin; t < mine.end; ++t)
                shape_heads(layer, &qkv[t * size], position[t]);
            barrier.wait();
            each_head(thread, threads, [&](int64_t begin, int64_t end, int64_t head) {
                Attention sequence = attention_of(layer, begin, end, head);
                for (int64_t g = head * share; g < (head + 1) * share; ++g)
                    for (int64_t t = begin; t < end; ++t)
                        sequence.forward(&qkv[t * size + g * m.width], t - begin, g,
                                         &mixed[(t * m.heads + g) * m.width]);
            });
        }
        barrier.wait();
        if (thread == 0) {
            if (last) order.assign(s.keep, s.keep + kept);
            rows_of(x[OUT], mixed.data(), layer.out.inputs, tokens, STRAIGHT, layer.out, index,
                    OUT);
            make_room_for_mlp(layer);
            pre.resize(gated.size() * 2);
        }
        barrier.wait();
        product(x[OUT], layer.out, index, OUT, thread, threads,
                [&](int64_t r, int64_t block, vec one, vec two) {
                    float* to = &state[r * m.hidden + block * BLOCK];
                    add_block(to, one, two);
                });
        barrier.wait();
        norm(layer.norm2, thread, threads);
        if (layer.experts) route(layer, thread, threads);
        if (last) std::copy(&state[mine.begin * m.hidden], &state[mine.end * m.hidden],
                            &leaving[mine.begin * m.hidden]);
        barrier.wait();
        const int64_t inner = layer.gate_up.blocks * WIDTH, each = each_of(layer);
        if (thread == 0) {
            group(layer, index);
            pairs_of(x[GATE_UP], STRAIGHT, layer.gate_up, index, GATE_UP,
                     [&](size_t r) { return &normed[pair[r] / each * m.hidden]; });
        }
        barrier.wait();
        product(x[GATE_UP], layer.gate_up, index, GATE_UP, thread, threads,
                [&](int64_t r, int64_t block, vec gate, vec up) {
                    float* to = &pre[r * 2 * inner + block * BLOCK];
                    put_block(to, gate, up);
                    store(&gated[r * inner + block * WIDTH], activate(gate, up));
                });
        barrier.wait();
        if (thread == 0)
            pairs_of(x[DOWN], STRAIGHT, layer.down, index, DOWN,
                     [&](size_t r) { return &gated[r * inner]; });
        barrier.wait();
        if (!last) return prepare(x[DOWN], layer.down, index, DOWN, thread, threads);
        product(x[DOWN], layer.down, index, DOWN, thread, threads,
                [&](int64_t r, int64_t block, vec one, vec two) {
                    const float part = weight[pair[r]];
                    float* to = &leaving[pair[r] / each * m.hidden + block * BLOCK];
                    add_block(to, one * part, two * part);
                });
        barrier.wait();
    }

    // -- backward ----------------------------------------------------------------------------------

    // From the logits to what the last layer gives.
    void head_back(int thread, int threads) {
        if (thread == 0) {
            adapted = false;
            rows_of(plain, b.logits, m.head.blocks * BLOCK, kept, -1, b.head, 0, 0);
        }
        barrier.wait();
        product(plain, b.head, 0, 0, thread, threads, [&](int64_t r, int64_t block, vec one, vec two) {
            float* to = &to_normed[r * m.hidden + block * BLOCK];
            put_block(to, one, two);
        });
        barrier.wait();
        const Share mine(kept, thread, threads);
        for (int64_t i = mine.begin; i < mine.end; ++i)
            rms_norm_back(&leaving[s.keep[i] * m.hidden], m.final_norm, &to_normed[i * m.hidden],
                          m.hidden, m.eps, &flow[s.keep[i] * m.hidden], false);
        if (thread == 0) adapted = true;
        barrier.wait();
    }

    // `flow` comes back to what the layer gives, and leaves as what flows back to what it takes.
    void differentiate(int64_t index, int thread, int threads) {
        mlp_back(index, thread, threads);
        attention_back(index, thread, threads);
    }

    void mlp_back(int64_t index, int thread, int threads) {
        const Layer &layer = m.layers[index], &turned = b.turned[index];
        const int64_t inner = layer.gate_up.blocks * WIDTH, each = each_of(layer);
        const int64_t wide = turned.down.blocks * BLOCK;  // inner, filled up to whole blocks
        if (thread == 0) {
            to_gated.resize(pair.size() * wide), to_pre.resize(pair.size() * 2 * inner);
            to_weight.resize(tokens * each);
            pairs_of(y[DOWN], TURNED, turned.down, index, DOWN,
                     [&](size_t r) { return &flow[pair[r] / each * m.hidden]; });
        }
        const Share mine(tokens, thread, threads);
        std::fill(&to_normed[mine.begin * m.hidden], &to_normed[mine.end * m.hidden], 0.0f);
        barrier.wait();
        product(y[DOWN], turned.down, index, DOWN, thread, threads,
                [&](int64_t r, int64_t block, vec one, vec two) {
                    float* to = &to_gated[r * wide + block * BLOCK];
                    put_block(to, one, two);
                });
        barrier.wait();
        const Share some(pair.size(), thread, threads);
        for (int64_t r = some.begin; r < some.end; ++r) {
            const float part = weight[pair[r]];
            const float* back = &to_gated[r * wide];
            to_weight[pair[r]] = dot(back, &gated[r * inner], inner);
            if (layer.experts && layer.down.bias)
                to_weight[pair[r]] += dot(&flow[pair[r] / each * m.hidden],
                                          layer.down.bias + expert[pair[r]] * m.hidden, m.hidden);
            for (int64_t i = 0; i < inner; i += WIDTH) {
                const float* from = &pre[r * 2 * inner + 2 * i];
                float* to = &to_pre[r * 2 * inner + 2 * i];
                activate_back(load(from), load(from + WIDTH), load(back + i) * part, to);
            }
            // Both of the adapter's matrices see this pair only as far as the router does.
            weaken(x[DOWN].tails[r], low_rank(STRAIGHT, index, DOWN), part);
            weaken(y[DOWN].tails[r], low_rank(TURNED, index, DOWN), part);
        }
        if (thread == 0)
            pairs_of(y[GATE_UP], TURNED, turned.gate_up, index, GATE_UP,
                     [&](size_t r) { return &to_pre[r * 2 * inner]; });
        barrier.wait();
        collect(index, DOWN, thread, threads);  // before the flow it reads goes on
        product(y[GATE_UP], turned.gate_up, index, GATE_UP, thread, threads,
                [&](int64_t r, int64_t block, vec one, vec two) {
                    float* to = &to_normed[pair[r] / each * m.hidden + block * BLOCK];
                    add_block(to, one, two);
                });
        barrier.wait();
        if (layer.experts) route_back(layer, turned, thread, threads);
        for (int64_t t = mine.begin; t < mine.end; ++t)
            rms_norm_back(&state[t * m.hidden], layer.norm2, &to_normed[t * m.hidden], m.hidden,
                          m.eps, &flow[t * m.hidden], true);
        collect(index, GATE_UP, thread, threads);
        barrier.wait();
    }

    // Back through `activate`: what flows on to 16 gates and to their ups.
    void activate_back(vec gate, vec up, vec flows, float* to) const {
        const bool clipped = m.limit > 0;  // as gpt-oss has them
        const float alpha = clipped ? m.alpha : 1.0f;
        const vec given_gate = gate, given_up = up;
        if (clipped) {
            gate = gate > m.limit ? vec{} + m.limit : gate;
            up = up > m.limit ? vec{} + m.limit : up < -m.limit ? vec{} - m.limit : up;
        }
        const vec open = 1.0f / (exponential(gate * -alpha) + 1.0f), ups = clipped ? up + 1.0f : up;
        const vec to_gate = flows * ups * open * (1.0f + alpha * gate * (1.0f - open));
        const vec to_up = flows * gate * open;
        store(to, gate == given_gate ? to_gate : vec{});  // nothing flows where they were clipped
        store(to + WIDTH, up == given_up ? to_up : vec{});
    }

    static void weaken(const Tail& tail, const LowRank& a, float part) {
        float* low = const_cast<float*>(tail.low);
        for (int64_t i = 0; i < a.down.blocks * WIDTH; ++i) low[i] *= part;
    }

    // The router itself is frozen, but its choice depends on what it reads.
    void route_back(const Layer& layer, const Layer& turned, int thread, int threads) {
        const int64_t size = layer.router.blocks * BLOCK, experts = layer.experts;
        const int64_t each = each_of(layer);
        const Share mine(order.size(), thread, threads);
        std::vector<float> back(turned.router.inputs);
        for (int64_t i = mine.begin; i < mine.end; ++i) {
            const int64_t t = order[i];
            const float* score = &routing[t * size];
            const int64_t* chosen = &expert[t * each];
            const float *flows = &to_weight[t * each], *shares = &weight[t * each];
            float sum = 0, mean = 0;
            for (int64_t e = 0; e < experts; ++e) sum += score[e];
            for (int64_t c = 0; c < m.chosen; ++c) mean += flows[c] * shares[c];
            // Softmax over all experts, or over the chosen ones, which is the same as dividing by
            // what they have in all; or sigmoids, divided or as they are.
            std::fill(back.begin(), back.end(), 0.0f);
            if (!m.normalise && !m.sigmoid)
                for (int64_t e = 0; e < experts; ++e) back[e] = -score[e] / sum * mean;
            for (int64_t c = 0; c < m.chosen; ++c)
                back[chosen[c]] += shares[c] * (m.sigmoid ? 1.0f - score[chosen[c]] : 1.0f) *
                                   (m.normalise ? flows[c] - mean / m.routed : flows[c]);
            Row row{};
            row.x = back.data();
            multiply(turned.router, 0, 0, turned.router.blocks, &row, nullptr, 1,
                     [&](int64_t, int64_t block, vec one, vec two) {
                         float* to = &to_normed[t * m.hidden + block * BLOCK];
                         add_block(to, one, two);
                     });
        }
        barrier.wait();
    }

    void attention_back(int64_t index, int thread, int threads) {
        const Layer &layer = m.layers[index], &turned = b.turned[index];
        const int64_t size = layer.qkv.blocks * BLOCK, wide = turned.out.blocks * BLOCK;
        const int64_t share = m.heads / m.kv_heads;
        const Share mine(tokens, thread, threads);
        if (thread == 0)
            to_mixed.resize(tokens * wide),
                rows_of(y[OUT], flow.data(), m.hidden, tokens, TURNED, turned.out, index, OUT);
        std::fill(&to_qkv[mine.begin * size], &to_qkv[mine.end * size], 0.0f);
        std::fill(&to_normed[mine.begin * m.hidden], &to_normed[mine.end * m.hidden], 0.0f);
        barrier.wait();
        product(y[OUT], turned.out, index, OUT, thread, threads,
                [&](int64_t r, int64_t block, vec one, vec two) {
                    float* to = &to_mixed[r * wide + block * BLOCK];
                    put_block(to, one, two);
                });
        barrier.wait();
        if (m.latent) {
            latents_back(index, thread, threads);
        } else {
            each_head(thread, threads, [&](int64_t begin, int64_t end, int64_t head) {
                Attention sequence = attention_of(layer, begin, end, head);
                float* dk = &to_qkv[begin * size + (m.heads + head) * m.width];
                float* dv = dk + m.kv_heads * m.width;
                for (int64_t g = head * share; g < (head + 1) * share; ++g)
                    for (int64_t t = begin; t < end; ++t)
                        sequence.backward(&qkv[t * size + g * m.width], t - begin, g,
                                          &to_mixed[t * wide + g * m.width],
                                          &to_qkv[t * size + g * m.width], dk, dv);
            });
            barrier.wait();
            for (int64_t t = mine.begin; t < mine.end; ++t) shape_back(layer, t);
        }
        if (thread == 0)
            rows_of(y[QKV], to_qkv.data(), size, tokens, TURNED, turned.qkv, index, QKV);
        collect(index, OUT, thread, threads);  // before the flow it reads goes on
        barrier.wait();
        product(y[QKV], turned.qkv, index, QKV, thread, threads,
                [&](int64_t r, int64_t block, vec one, vec two) {
                    float* to = &to_normed[r * m.hidden + block * BLOCK];
                    add_block(to, one, two);
                });
        barrier.wait();
        const float* entered = s.states + index * tokens * m.hidden;
        for (int64_t t = mine.begin; t < mine.end; ++t)
            rms_norm_back(entered + t * m.hidden, layer.norm1, &to_normed[t * m.hidden], m.hidden,
                          m.eps, &flow[t * m.hidden], true);
        collect(index, QKV, thread, threads);
        barrier.wait();
    }

    // Back through `shape_heads`.
    void shape_back(const Layer& layer, int64_t t) {
        const int64_t size = layer.qkv.blocks * BLOCK;
        float* q = &to_qkv[t * size];
        float* k = q + m.heads * m.width;
        const float *before = &raw[t * size], *before_k = before + m.heads * m.width;
        const float *cosine = m.cosines + position[t] * m.rotary;
        const float *sine = m.sines + position[t] * m.rotary;
        for (int64_t h = 0; h < m.heads + m.kv_heads; ++h)
            rotate_back(q + h * m.width, cosine, sine, m.rotary);
        if (!layer.q_norm) return;
        const int64_t many = m.norm_heads ? m.heads : 1, few = m.norm_heads ? m.kv_heads : 1;
        const int64_t wide = m.heads * m.width / many, thin = m.kv_heads * m.width / few;
        for (int64_t h = 0; h < many; ++h)
            rms_norm_back(before + h * wide, layer.q_norm, q + h * wide, wide, m.eps, q + h * wide,
                          false);
        for (int64_t h = 0; h < few; ++h)
            rms_norm_back(before_k + h * thin, layer.k_norm, k + h * thin, thin, m.eps,
                          k + h * thin, false);
    }

    // -- what the adapter collects -----------------------------------------------------------------

    // Of one product: down += scale * (up^T y) x^T, up += y (scale * down x)^T, in shares of inputs
    // and outputs.
    void collect(int64_t index, int which, int thread, int threads) {
        const Layer& layer = m.layers[index];
        const Matrix* const straight[] = {&layer.qkv,   &layer.out, &layer.gate_up, &layer.down,
                                          &layer.query, &layer.key, &layer.value};
        const Matrix& matrix = *straight[which];
        const LowRank &a = low_rank(STRAIGHT, index, which), &t = low_rank(TURNED, index, which);
        const Gradient& to = b.gradients[index * m.products() + which];
        const Rows &in = x[which], &back = y[which];
        const int64_t inputs = a.down.inputs / WIDTH, outputs = matrix.blocks * 2;
        const int64_t rank = a.up.inputs, ranks = t.up.inputs;
        const Share some_inputs(inputs, thread, threads), some_outputs(outputs, thread, threads);
        for (int64_t e = next_used(in, 0); e < int64_t(in.first.size()) - 1;
             e = next_used(in, e + 1)) {
            const int64_t from = in.first[e], end = in.first[e + 1];
            for (int64_t j = 0; j < ranks; ++j)
                for (int64_t i = some_inputs.begin; i < some_inputs.end; ++i) {
                    float* at = to.down + ((e * ranks + j) * inputs + i) * WIDTH;
                    vec sum = load(at);
                    for (int64_t r = from; r < end; ++r)
                        sum += back.tails[r].low[j] * load(in.x[r].x + i * WIDTH);
                    store(at, sum);
                }
            for (int64_t j = 0; j < rank; ++j)
                for (int64_t o = some_outputs.begin; o < some_outputs.end; ++o) {
                    float* at = to.up + ((e * rank + j) * outputs + o) * WIDTH;
                    const int64_t part = matrix.part[o] * rank;
                    vec sum = load(at);
                    for (int64_t r = from; r < end; ++r)
                        sum += in.tails[r].low[part + j] * load(back.x[r].x + o * WIDTH);
                    store(at, sum);
                }
        }
    }
};

#include "latent_back.h"

}  // namespace

extern "C" {

// Adds to `back->gradients` what flows back from `back->logits` through the pass that `step` says,
// whose `states` hold what went into each layer.
void burnish_backward(const Model* model, const Step* step, const Backward* back) {
    Gradients all(*model, *step, *back);
#pragma omp parallel num_threads(step->threads) if (step->threads > 1)
    {
        const int thread = omp_get_thread_num(), threads = omp_get_num_threads();
#pragma omp single
        all.barrier.expect(threads);
        for (int64_t index = model->depth - 1; index >= 0; --index) {
            all.recompute(index, thread, threads);
            if (index + 1 == model->depth) all.head_back(thread, threads);
            all.differentiate(index, thread, threads);
        }
    }
}

}  // extern "C"
