// A decoder step, layer by layer: rows of tokens in, logits out.
//
// All threads walk through the stages of a layer together, each with its share of the outputs (or
// tokens), and meet at barriers. The PyTorch model is the reference.
//
// Left out: linear attention, encoder-decoders.

#pragma once

#include <atomic>
#include <thread>

#include "attention.h"
#include "linear.h"
#include "model.h"

struct Share {  // of n things, for one of several threads
    int64_t begin, end;
    Share(int64_t n, int thread, int threads)
        : begin(n * thread / threads), end(n * (thread + 1) / threads) {}
};

static void rms_norm(const float* x, const float* weight, int64_t size, float eps, float* out) {
    vec sum = {};
    for (int64_t i = 0; i < size; i += WIDTH) sum += load(x + i) * load(x + i);
    const float factor = 1.0f / std::sqrt(total(sum) / size + eps);
    for (int64_t i = 0; i < size; i += WIDTH)
        store(out + i, load(x + i) * factor * load(weight + i));
}

// Rotates pairs (i, i + rotary / 2) of one head in place (Su et al. 2021, in halves).
static void rotate(float* x, const float* cosine, const float* sine, int64_t rotary) {
    const int64_t half = rotary / 2;
    for (int64_t i = 0; i < half; ++i) {
        const float a = x[i], b = x[i + half];
        x[i] = a * cosine[i] - b * sine[i];
        x[i + half] = b * cosine[i + half] + a * sine[i + half];
    }
}

// Where threads wait for one another. A stage takes microseconds, so they look again and again before
// they give the core away.
class Barrier {
    static constexpr int PATIENCE = 4000;
    int threads = 1;
    alignas(64) std::atomic<int> missing{1};
    alignas(64) std::atomic<int64_t> round{0};

  public:
    void expect(int count) { missing = threads = count; }
    void wait() {
        const int64_t now = round.load(std::memory_order_relaxed);
        if (missing.fetch_sub(1, std::memory_order_acq_rel) == 1) {
            missing.store(threads, std::memory_order_relaxed);
            round.store(now + 1, std::memory_order_release);
            return;
        }
        for (int looks = 0; round.load(std::memory_order_acquire) == now; ++looks)
            if (looks < PATIENCE)
                pause();
            else
                std::this_thread::yield();
    }
};

// Rows of one product, sorted by matrix and then by adapter.
struct Rows {
    std::vector<Row> x;
    std::vector<int64_t> slot;   // of each row
    std::vector<int64_t> first;  // [matrices + 1]
    std::vector<int8_t> bytes;   // of x, where the matrix takes them
    std::vector<int32_t> sums;
    std::vector<float> low;      // scale * (down x), where adapters are in use
    std::vector<Tail> tails;

    int64_t size() const { return x.size(); }
    void resize(int64_t count) { x.resize(count), slot.resize(count); }
};

struct Forward {
    const Model& m;
    const Step& s;
    int64_t tokens, kept;
    std::vector<int64_t> token, row, position, slot, keep;
    std::vector<float> state, normed, qkv, mixed, routing, weight, gated;
    std::vector<float> latents, queries, asked, found;  // of MLA, see latent.h
    std::vector<int64_t> expert, order, pair;
    Rows plain, pairs;  // one row per token; one per token and chosen expert
    Rows by_head;       // one per head and token
    bool adapted = false;
    Barrier barrier;
    float* logits_out = nullptr;

    Forward(const Model& model, const Step& step) : m(model), s(step) {
        tokens = s.tokens, kept = s.kept;
        token.assign(s.token, s.token + tokens);
        row.assign(s.row, s.row + tokens);
        position.assign(s.position, s.position + tokens);
        slot.assign(s.slot, s.slot + tokens);
        keep.assign(s.keep, s.keep + kept);
        state.resize(tokens * m.hidden);
        normed.resize(tokens * m.hidden);
        qkv.resize(tokens * m.layers->qkv.blocks * BLOCK);
        mixed.resize(tokens * m.layers->out.inputs);
        if (m.latent) make_room_for_latents();
    }

    // -- stages ---------------------------------------------------------------------------------

    void embed(int thread, int threads) {
        const Share mine(tokens, thread, threads);
        for (int64_t t = mine.begin; t < mine.end; ++t)
            for (int64_t i = 0; i < m.hidden; i += WIDTH) {
                const int64_t at = token[t] * m.hidden + i;
                store(&state[t * m.hidden + i],
                      m.embedding ? load(m.embedding + at) : load(m.embedding_bf16 + at));
            }
    }

    void norm(const float* weight, int thread, int threads) {
        const Share mine(tokens, thread, threads);
        for (int64_t t = mine.begin; t < mine.end; ++t)
            rms_norm(&state[t * m.hidden], weight, m.hidden, m.eps, &normed[t * m.hidden]);
    }

    void sort_tokens() {
        adapted = false;
        for (int64_t t = 0; t < tokens; ++t) adapted |= slot[t] >= 0;
        order.resize(tokens);
        for (int64_t t = 0; t < tokens; ++t) order[t] = t;
        if (adapted)
            std::stable_sort(order.begin(), order.end(),
                             [&](int64_t a, int64_t b) { return slot[a] < slot[b]; });
    }

    const LowRank& low_rank(int64_t slot, int64_t layer, int which) {
        return s.adapters[slot][layer * m.products() + which];
    }

    // Rows of a product that every token takes part in: sorted by adapter, for the adapters' sake.
    void line_up(const std::vector<float>& from, const Matrix& matrix, int64_t layer, int which) {
        plain.resize(tokens);
        plain.first = {0, tokens};
        for (int64_t t = 0; t < tokens; ++t) {
            plain.x[t].x = &from[order[t] * matrix.inputs];
            plain.slot[t] = slot[order[t]];
        }
        make_room(plain, matrix, layer, which);
    }

    void make_room(Rows& rows, const Matrix& matrix, int64_t layer, int which) {
        const int64_t count = rows.size();
        if (matrix.takes_bytes()) {
            const int64_t size = 2 * matrix.inputs, sums = 2 * groups_of(matrix.inputs);
            rows.bytes.resize(count * size), rows.sums.resize(count * sums);
            for (int64_t r = 0; r < count; ++r) {
                rows.x[r].bytes = &rows.bytes[r * size];
                rows.x[r].sums = &rows.sums[r * sums];
            }
        }
        if (!adapted) return;
        int64_t size = 0;
        for (int64_t i : rows.slot)
            if (i >= 0) size = std::max(size, low_rank(i, layer, which).down.blocks * WIDTH);
        rows.low.resize(count * size);
        rows.tails.assign(count, Tail{nullptr, nullptr});
        for (int64_t r = 0; r < count; ++r)
            if (rows.slot[r] >= 0)
                rows.tails[r] = {&rows.low[r * size], &low_rank(rows.slot[r], layer, which).up};
    }

    // What a product needs to know of its rows beforehand: their bytes, and scale * (down x) of
    // those that have an adapter.
    void prepare(Rows& rows, const Matrix& matrix, int64_t layer, int which, int thread,
                 int threads) {
        if (!adapted && !matrix.takes_bytes()) return;
        const Share mine(rows.size(), thread, threads);
        if (matrix.takes_bytes())
            for (int64_t r = mine.begin; r < mine.end; ++r) {
                Row& row = rows.x[r];
                row.scale = to_bytes(row.x, matrix.inputs, const_cast<int8_t*>(row.bytes),
                                     const_cast<int32_t*>(row.sums));
            }
        size_t expert = 0;
        for (int64_t r = mine.begin, end; adapted && r < mine.end; r = end) {
            while (rows.first[expert + 1] <= r) ++expert;
            const int64_t last = std::min(mine.end, rows.first[expert + 1]);
            end = r + 1;
            while (end < last && rows.slot[end] == rows.slot[r]) ++end;
            if (rows.slot[r] >= 0)
                go_down(low_rank(rows.slot[r], layer, which), expert, &rows.x[r], &rows.tails[r],
                        end - r);
        }
        barrier.wait();
    }

    // `then`: the matrix that is read next, if that is known.
    void product(Rows& rows, const Matrix& matrix, int64_t layer, int which, int thread,
                 int threads, Taker done, const Matrix* then = nullptr) {
        prepare(rows, matrix, layer, which, thread, threads);
        const Share mine(matrix.blocks, thread, threads);
        const Tail* tails = adapted ? rows.tails.data() : nullptr;
        const int64_t matrices = rows.first.size() - 1;
        for (int64_t e = next_used(rows, 0), next; e < matrices; e = next) {
            next = next_used(rows, e + 1);
            const char* after = nullptr;
            if (next < matrices)
                after = matrix.block(next * matrix.blocks + mine.begin);
            else if (then)
                after = then->block(Share(then->blocks, thread, threads).begin);
            if (adapted && next < matrices)
                for (int64_t r = rows.first[next]; r < rows.first[next + 1]; ++r)
                    if (tails[r].low && (r == rows.first[next] || tails[r].up != tails[r - 1].up))
                        fetch_up(*tails[r].up, next * matrix.blocks + mine.begin);
            const int64_t from = rows.first[e];
            multiply(
                matrix, e, mine.begin, mine.end, &rows.x[from], tails ? tails + from : nullptr,
                rows.first[e + 1] - from,
                [&](int64_t r, int64_t block, vec a, vec b) { done(from + r, block, a, b); },
                after);
        }
    }

    static int64_t next_used(const Rows& rows, int64_t matrix) {
        const int64_t matrices = rows.first.size() - 1;
        while (matrix < matrices && rows.first[matrix] == rows.first[matrix + 1]) ++matrix;
        return matrix;
    }

    // Norm, clip and rotate one token's queries and keys in place.
    void shape_heads(const Layer& layer, float* q, int64_t at) {
        float* k = q + m.heads * m.width;
        if (layer.q_norm) {
            const int64_t many = m.norm_heads ? m.heads : 1, few = m.norm_heads ? m.kv_heads : 1;
            const int64_t wide = m.heads * m.width / many, thin = m.kv_heads * m.width / few;
            for (int64_t h = 0; h < many; ++h)
                rms_norm(q + h * wide, layer.q_norm, wide, m.eps, q + h * wide);
            for (int64_t h = 0; h < few; ++h)
                rms_norm(k + h * thin, layer.k_norm, thin, m.eps, k + h * thin);
        }
        if (m.clip > 0)
            for (int64_t i = 0; i < (m.heads + 2 * m.kv_heads) * m.width; ++i)
                q[i] = std::min(m.clip, std::max(-m.clip, q[i]));
        const float *cosine = m.cosines + at * m.rotary, *sine = m.sines + at * m.rotary;
        for (int64_t h = 0; h < m.heads + m.kv_heads; ++h)
            rotate(q + h * m.width, cosine, sine, m.rotary);
    }

    template <class K>
    void attention(const Layer& layer, int64_t index, int thread, int threads) {
        if (m.latent)
            return latent_attention<K>(layer, index, plain, by_head, by_head, thread, threads);
        const int64_t size = layer.qkv.blocks * BLOCK;
        K* keys = static_cast<K*>(s.keys[index]);
        K* values = static_cast<K*>(s.values[index]);
        const Shape shape{m.heads, m.kv_heads, m.width, m.scale, 0, layer.window, layer.sinks, 0};
        const Share written(tokens, thread, threads);
        for (int64_t t = written.begin; t < written.end; ++t) {
            float* q = &qkv[t * size];
            const float* k = q + m.heads * m.width;
            const float* v = k + m.kv_heads * m.width;
            shape_heads(layer, q, position[t]);
            write_page(shape, k, v, keys, values, s.table[row[t] * s.reach + position[t]]);
        }
        barrier.wait();
        std::vector<float> scratch;
        const int64_t groups = m.kv_heads * shape.groups();
        const Share mine(tokens * groups, thread, threads);
        for (int64_t i = mine.begin; i < mine.end; ++i) {
            const int64_t t = i / groups;
            attend(shape, &qkv[t * size], keys, values, s.table + row[t] * s.reach, position[t],
                   i % groups, &mixed[t * m.heads * m.width], scratch);
        }
    }

    // -- MLA, in latent.h -----------------------------------------------------------------------

    void make_room_for_latents();
    template <class K>
    void latent_attention(const Layer& layer, int64_t index, Rows& by_query, Rows& by_key,
                          Rows& by_value, int thread, int threads);
    void line_up_heads(Rows& rows, const float* from, int64_t heads, int64_t token, int64_t head,
                       const Matrix& matrix, int64_t layer, int which);
    void product_by_head(Rows& rows, const Matrix& matrix, int64_t layer, int which, int thread,
                         int threads, float* to, int64_t token, int64_t head, int64_t outputs);

    // -- and on ---------------------------------------------------------------------------------

    // After the last attention only the tokens whose logits are wanted go on.
    void forget() {
        const int64_t wide = m.layers->out.inputs;
        for (int64_t i = 0; i < kept; ++i) {
            const int64_t t = keep[i];
            std::memmove(&state[i * m.hidden], &state[t * m.hidden], m.hidden * sizeof(float));
            std::memmove(&mixed[i * wide], &mixed[t * wide], wide * sizeof(float));
            slot[i] = slot[t];
        }
        tokens = kept;
        sort_tokens();
    }

    // Experts that a token passes through.
    int64_t each_of(const Layer& layer) const { return layer.experts ? m.chosen + m.shared : 1; }

    vec activate(vec gate, vec up) const {
        if (m.limit <= 0) return silu(gate) * up;
        gate = gate > m.limit ? vec{} + m.limit : gate;
        up = up > m.limit ? vec{} + m.limit : up < -m.limit ? vec{} - m.limit : up;
        return (up + 1.0f) * gate / (exponential(gate * -m.alpha) + 1.0f);
    }

    void route(const Layer& layer, int thread, int threads) {
        const int64_t size = layer.router.blocks * BLOCK, experts = layer.experts;
        const Share mine(tokens, thread, threads);
        std::vector<Row> x(mine.end - mine.begin);
        for (int64_t t = mine.begin; t < mine.end; ++t) x[t - mine.begin].x = &normed[t * m.hidden];
        multiply(layer.router, 0, 0, layer.router.blocks, x.data(), nullptr, x.size(),
                 [&](int64_t r, int64_t block, vec a, vec b) {
                     float* to = &routing[(mine.begin + r) * size + block * BLOCK];
                     put_block(to, a, b);
                 }, layer.gate_up.block(0));
        for (int64_t t = mine.begin; t < mine.end; ++t) {
            float* score = &routing[t * size];
            int64_t* chosen = &expert[t * each_of(layer)];
            float* share = &weight[t * each_of(layer)];
            float sum = 1, taken = 0;
            if (m.sigmoid)
                for (int64_t e = 0; e < experts; ++e) score[e] = 1.0f / (1.0f + std::exp(-score[e]));
            else {
                const float peak = *std::max_element(score, score + experts);
                sum = 0;
                for (int64_t e = 0; e < experts; ++e) sum += score[e] = std::exp(score[e] - peak);
            }
            choose(layer, score, chosen);
            for (int64_t c = 0; c < m.chosen; ++c) taken += share[c] = score[chosen[c]];
            for (int64_t c = 0; c < m.chosen; ++c)
                share[c] *= m.routed / (m.normalise ? taken : sum);
            for (int64_t c = 0; c < m.shared; ++c)
                chosen[m.chosen + c] = experts + c, share[m.chosen + c] = 1.0f;
        }
    }

    // The best experts; where they come in groups, of the groups whose best two are best.
    void choose(const Layer& layer, const float* score, int64_t* chosen) {
        const int64_t experts = layer.experts, size = experts / m.groups;
        std::vector<float> worth(score, score + experts);
        for (int64_t e = 0; layer.choice && e < experts; ++e) worth[e] += layer.choice[e];
        if (m.groups_kept < m.groups) {
            std::vector<float> best(m.groups);
            for (int64_t g = 0; g < m.groups; ++g) {
                float two[2] = {-INFINITY, -INFINITY};
                for (int64_t e = g * size; e < (g + 1) * size; ++e) {
                    if (worth[e] > two[0]) std::swap(two[0], two[1]), two[0] = worth[e];
                    else two[1] = std::max(two[1], worth[e]);
                }
                best[g] = two[0] + two[1];
            }
            for (int64_t left = m.groups - m.groups_kept; left > 0; --left) {
                const int64_t g = std::min_element(best.begin(), best.end()) - best.begin();
                best[g] = INFINITY;
                std::fill(&worth[g * size], &worth[(g + 1) * size], -INFINITY);
            }
        }
        for (int64_t c = 0; c < m.chosen; ++c) {
            chosen[c] = std::max_element(worth.begin(), worth.end()) - worth.begin();
            worth[chosen[c]] = -INFINITY;
        }
    }

    // Sort the (token, choice) pairs by expert, then adapter.
    void group(const Layer& layer, int64_t index) {
        const int64_t experts = layer.experts ? layer.experts + m.shared : 1;
        const int64_t each = each_of(layer), count = order.size() * each;
        std::vector<int64_t>& first = pairs.first;
        first.assign(experts + 1, 0);
        for (int64_t t : order)
            for (int64_t c = 0; c < each; ++c)
                ++first[(layer.experts ? expert[t * each + c] : 0) + 1];
        for (int64_t e = 0; e < experts; ++e) first[e + 1] += first[e];
        std::vector<int64_t> next(first.begin(), first.end() - 1);
        pair.resize(count), pairs.resize(count);
        for (int64_t t : order)  // by adapter already
            for (int64_t c = 0; c < each; ++c) {
                const int64_t p = t * each + c, at = next[layer.experts ? expert[p] : 0]++;
                pair[at] = p;
                pairs.x[at].x = &normed[t * m.hidden];
                pairs.slot[at] = slot[t];
            }
        make_room(pairs, layer.gate_up, index, 2);
    }

    void mlp(const Layer& layer, int64_t index, int thread, int threads) {
        const int64_t each = each_of(layer), inner = layer.gate_up.blocks * WIDTH;
        norm(layer.norm2, thread, threads);
        if (layer.experts) route(layer, thread, threads);
        barrier.wait();
        if (thread == 0) group(layer, index);
        barrier.wait();
        product(pairs, layer.gate_up, index, 2, thread, threads,
                [&](int64_t r, int64_t block, vec gate, vec up) {
                    store(&gated[r * inner + block * WIDTH], activate(gate, up));
                },
                &layer.down);
        barrier.wait();
        if (thread == 0) {
            for (int64_t r = 0; r < pairs.size(); ++r) pairs.x[r].x = &gated[r * inner];
            make_room(pairs, layer.down, index, 3);
        }
        barrier.wait();
        product(pairs, layer.down, index, 3, thread, threads,
                [&](int64_t r, int64_t block, vec a, vec b) {
                    float* to = &state[pair[r] / each * m.hidden + block * BLOCK];
                    const float share = weight[pair[r]];
                    add_block(to, a * share, b * share);
                },
                index + 1 < m.depth ? &m.layers[index + 1].qkv : &m.head);
        barrier.wait();
    }

    // Room for what the MLPs pass on, which differ from layer to layer.
    void make_room_for_mlp(const Layer& layer) {
        const int64_t each = each_of(layer);
        routing.resize(tokens * layer.router.blocks * BLOCK);
        expert.resize(tokens * each), weight.assign(tokens * each, 1.0f);
        gated.resize(tokens * each * layer.gate_up.blocks * WIDTH);
    }

    void run(int thread, int threads) {
        if (thread == 0) sort_tokens();
        embed(thread, threads);
        for (int64_t index = 0; index < m.depth; ++index) {
            const Layer& layer = m.layers[index];
            const int64_t size = layer.qkv.blocks * BLOCK;
            if (s.states) {
                const Share mine(tokens, thread, threads);
                std::copy(&state[mine.begin * m.hidden], &state[mine.end * m.hidden],
                          s.states + (index * tokens + mine.begin) * m.hidden);
            }
            norm(layer.norm1, thread, threads);
            if (thread == 0) line_up(normed, layer.qkv, index, 0);
            barrier.wait();
            product(plain, layer.qkv, index, 0, thread, threads,
                    [&](int64_t r, int64_t block, vec a, vec b) {
                        float* to = &qkv[order[r] * size + block * BLOCK];
                        put_block(to, a, b);
                    },
                    &layer.out);
            barrier.wait();
            if (m.kv_bf16)
                attention<uint16_t>(layer, index, thread, threads);
            else
                attention<float>(layer, index, thread, threads);
            barrier.wait();
            if (thread == 0) {
                if (index + 1 == m.depth && !s.state) forget();
                line_up(mixed, layer.out, index, 1);
                make_room_for_mlp(layer);
            }
            barrier.wait();
            if (tokens == 0) return;
            product(plain, layer.out, index, 1, thread, threads,
                    [&](int64_t r, int64_t block, vec a, vec b) {
                        float* to = &state[order[r] * m.hidden + block * BLOCK];
                        add_block(to, a, b);
                    },
                    &layer.gate_up);
            barrier.wait();
            mlp(layer, index, thread, threads);
            if (s.state && index + 1 == s.layers) {
                if (thread == 0)
                    std::memcpy(s.state, state.data(), tokens * m.hidden * sizeof(float));
                return;
            }
        }
        norm(m.final_norm, thread, threads);
        if (thread == 0) {
            adapted = false;  // heads have none
            plain.resize(tokens), plain.first = {0, tokens};
            for (int64_t t = 0; t < tokens; ++t) plain.x[t].x = &normed[t * m.hidden];
            make_room(plain, m.head, 0, 0);
        }
        barrier.wait();
        const int64_t wide = m.head.blocks * BLOCK;
        product(plain, m.head, 0, 0, thread, threads, [&](int64_t r, int64_t block, vec a, vec b) {
            float* to = &logits_out[r * wide + block * BLOCK];
            put_block(to, a, b);
            for (int64_t i = m.vocab - block * BLOCK; i < BLOCK; ++i)
                if (i >= 0) to[i] = -INFINITY;
        }, &m.layers->qkv);
        barrier.wait();
    }
};

#include "latent.h"
