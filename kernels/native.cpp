// Native CPU ways of two ops, float32: paged attention and grouped experts with LoRA slots.
//
// Plain C ABI, called with data pointers; native.py compiles this file for the machine at hand.
// The PyTorch functions in attention.py and experts.py are the reference these are tested against.
// Every output is a sum over its inputs in one fixed order, whatever else is in the batch, so a
// token's result does not depend on its neighbours.
//
// Left out: bf16 and quantised weights, and whole layers in one call.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#if defined(__AVX512F__)
constexpr int WIDTH = 16, ROWS = 8;  // floats per vector; tokens that share one pass over weights
#else
constexpr int WIDTH = 8, ROWS = 4;
#endif
typedef float vec __attribute__((vector_size(WIDTH * sizeof(float)), aligned(4)));

static inline vec load(const float* p) { return *reinterpret_cast<const vec*>(p); }
static inline void store(float* p, vec v) { *reinterpret_cast<vec*>(p) = v; }

// e^x within 2 ulp, free of branches so that loops over it vectorise.
static inline float fast_exp(float x) {
    x = std::min(88.0f, std::max(-87.0f, x));
    const float n = __builtin_rintf(x * 1.44269504f);
    const float r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    const int32_t bits = (static_cast<int32_t>(n) + 127) << 23;
    float power;
    std::memcpy(&power, &bits, sizeof power);
    return p * power;
}

// out[t][o] (+)= factor * sum_i x[t][i] * w[i][o] for N tokens; w is [inputs, outputs].
template <int N>
static void tile(const float* const* x, const float* w, float* const* out, int inputs, int outputs,
                 float factor, bool add) {
    int o = 0;
    for (; o + 2 * WIDTH <= outputs; o += 2 * WIDTH) {
        vec sum[N][2] = {};
        const float* column = w + o;
        for (int i = 0; i < inputs; ++i, column += outputs) {
            const vec w0 = load(column), w1 = load(column + WIDTH);
            for (int t = 0; t < N; ++t) {
                sum[t][0] += x[t][i] * w0;
                sum[t][1] += x[t][i] * w1;
            }
        }
        for (int t = 0; t < N; ++t)
            for (int half = 0; half < 2; ++half) {
                float* to = out[t] + o + half * WIDTH;
                const vec value = sum[t][half] * factor;
                store(to, add ? load(to) + value : value);
            }
    }
    for (; o < outputs; ++o)
        for (int t = 0; t < N; ++t) {
            float sum = 0;
            for (int i = 0; i < inputs; ++i) sum += x[t][i] * w[int64_t(i) * outputs + o];
            out[t][o] = (add ? out[t][o] : 0) + sum * factor;
        }
}

static void product(const float* const* x, const float* w, float* const* out, int tokens,
                    int inputs, int outputs, float factor = 1, bool add = false) {
    for (; tokens >= ROWS; tokens -= ROWS, x += ROWS, out += ROWS)
        tile<ROWS>(x, w, out, inputs, outputs, factor, add);
    for (; tokens >= 2; tokens -= 2, x += 2, out += 2)
        tile<2>(x, w, out, inputs, outputs, factor, add);
    if (tokens) tile<1>(x, w, out, inputs, outputs, factor, add);
}

struct Lora {  // one slot's adapter of one projection; null: it leaves the projection alone
    const float* down;  // [experts, inputs, rank]
    const float* up;    // [experts, rank, outputs]
    int64_t rank;
    float scale;
};

extern "C" {

// SwiGLU experts: out[t] = sum over its k experts of weight * down(silu(gate x) * up x).
//   x [tokens, hidden], chosen and weights [tokens, k], slot [tokens] (index into lora, -1: base; null: all use the first)
//   gate_up [experts, hidden, 2*inner], down [experts, inner, hidden]
//   lora [slots][2]: gate_up's and down's; out [tokens, hidden]
void burnish_experts(const float* x, const int64_t* chosen, const float* weights,
                     const int64_t* slot, int64_t tokens, int64_t k, int64_t experts,
                     int64_t hidden, int64_t inner, const float* gate_up, const float* down,
                     const Lora* lora, int64_t slots, float* out, int64_t threads) {
    // Sort (token, choice) pairs by expert, then slot, so each group shares its weights.
    const int64_t pairs = tokens * k, kinds = slots + 1;
    std::vector<int64_t> first(experts * kinds + 1), order(pairs);
    auto group = [&](int64_t pair) {
        return chosen[pair] * kinds + (slots == 0 ? 0 : slot ? slot[pair / k] + 1 : 1);
    };
    for (int64_t p = 0; p < pairs; ++p) ++first[group(p) + 1];
    for (size_t g = 1; g < first.size(); ++g) first[g] += first[g - 1];
    std::vector<int64_t> next(first.begin(), first.end() - 1);
    for (int64_t p = 0; p < pairs; ++p) order[next[group(p)]++] = p;

    std::vector<float> answers(pairs * hidden);  // in the order of pairs
#pragma omp parallel for schedule(dynamic) num_threads(threads) if (threads > 1)
    for (int64_t e = 0; e < experts; ++e) {
        const int64_t begin = first[e * kinds], end = first[(e + 1) * kinds];
        const int64_t count = end - begin;
        if (count == 0) continue;
        std::vector<float> both(count * 2 * inner), gated(count * inner), low;
        std::vector<const float*> in(count), mid(count), thin(count);
        std::vector<float*> wide(count), result(count), narrow(count);
        for (int64_t n = 0; n < count; ++n) {
            const int64_t pair = order[begin + n];
            in[n] = x + pair / k * hidden;
            wide[n] = &both[n * 2 * inner];
            mid[n] = &gated[n * inner];
            result[n] = &answers[pair * hidden];
        }
        auto adapt = [&](int which, const std::vector<const float*>& from,
                         const std::vector<float*>& to, int64_t inputs, int64_t outputs) {
            for (int64_t s = 0; s < slots; ++s) {
                const int64_t b = first[e * kinds + s + 1] - begin;
                const int64_t n = first[e * kinds + s + 2] - begin - b;
                const Lora& a = lora[s * 2 + which];
                if (n == 0 || a.down == nullptr) continue;
                low.resize(n * a.rank);
                for (int64_t t = 0; t < n; ++t) thin[t] = narrow[t] = &low[t * a.rank];
                product(&from[b], a.down + e * inputs * a.rank, narrow.data(), n, inputs, a.rank);
                product(thin.data(), a.up + e * a.rank * outputs, &to[b], n, a.rank, outputs,
                        a.scale, true);
            }
        };
        product(in.data(), gate_up + e * hidden * 2 * inner, wide.data(), count, hidden, 2 * inner);
        adapt(0, in, wide, hidden, 2 * inner);
        for (int64_t n = 0; n < count; ++n) {
            const float* gate = wide[n];
            float* to = &gated[n * inner];
#pragma omp simd
            for (int64_t i = 0; i < inner; ++i)
                to[i] = gate[i] / (1.0f + fast_exp(-gate[i])) * gate[inner + i];
        }
        product(mid.data(), down + e * inner * hidden, result.data(), count, inner, hidden);
        adapt(1, mid, result, inner, hidden);
    }
    for (int64_t t = 0; t < tokens; ++t) {
        float* to = out + t * hidden;
        std::memset(to, 0, hidden * sizeof(float));
        for (int64_t choice = 0; choice < k; ++choice) {
            const float weight = weights[t * k + choice];
            const float* from = &answers[(t * k + choice) * hidden];
#pragma omp simd
            for (int64_t h = 0; h < hidden; ++h) to[h] += weight * from[h];
        }
    }
}

// Write key and value [tokens, kv_heads, width] to their pages, then attend query
// [tokens, heads, width] over each token's own row up to its own position.
//   table [rows, reach]: cache slot of each position; row and position [tokens]; window 0: none
void burnish_attention(const float* query, const float* key, const float* value, float* key_pages,
                       float* value_pages, const int64_t* table, int64_t reach, const int64_t* row,
                       const int64_t* position, int64_t tokens, int64_t heads, int64_t kv_heads,
                       int64_t width, float scale, int64_t window, float* out, int64_t threads) {
    const int64_t line = kv_heads * width, share = heads / kv_heads;
    for (int64_t t = 0; t < tokens; ++t) {
        const int64_t slot = table[row[t] * reach + position[t]];
        std::memcpy(key_pages + slot * line, key + t * line, line * sizeof(float));
        std::memcpy(value_pages + slot * line, value + t * line, line * sizeof(float));
    }
#pragma omp parallel for schedule(dynamic) num_threads(threads) if (threads > 1)
    for (int64_t t = 0; t < tokens; ++t) {
        const int64_t last = position[t];
        const int64_t from = window > 0 ? std::max<int64_t>(0, last - window + 1) : 0;
        const int64_t count = last - from + 1;
        const int64_t* slots = table + row[t] * reach + from;
        std::vector<float> scores(count * share);
        for (int64_t h = 0; h < kv_heads; ++h) {
            const float* q = query + (t * heads + h * share) * width;
            float* o = out + (t * heads + h * share) * width;
            for (int64_t j = 0; j < count; ++j) {
                const float* k = key_pages + slots[j] * line + h * width;
                for (int64_t g = 0; g < share; ++g) {
                    float dot = 0;
#pragma omp simd reduction(+ : dot)
                    for (int64_t d = 0; d < width; ++d) dot += q[g * width + d] * k[d];
                    scores[g * count + j] = dot * scale;
                }
            }
            for (int64_t g = 0; g < share; ++g) {
                float* s = &scores[g * count];
                float best = s[0], total = 0;
                for (int64_t j = 1; j < count; ++j) best = std::max(best, s[j]);
#pragma omp simd reduction(+ : total)
                for (int64_t j = 0; j < count; ++j) {
                    s[j] = fast_exp(s[j] - best);
                    total += s[j];
                }
                const float norm = 1.0f / total;
#pragma omp simd
                for (int64_t j = 0; j < count; ++j) s[j] *= norm;
            }
            std::memset(o, 0, share * width * sizeof(float));
            for (int64_t j = 0; j < count; ++j) {
                const float* v = value_pages + slots[j] * line + h * width;
                for (int64_t g = 0; g < share; ++g) {
                    const float p = scores[g * count + j];
                    float* to = o + g * width;
#pragma omp simd
                    for (int64_t d = 0; d < width; ++d) to[d] += p * v[d];
                }
            }
        }
    }
}

}  // extern "C"
