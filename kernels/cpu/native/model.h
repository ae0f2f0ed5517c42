// The C ABI: a packed model, one step, what to sample and what a backward pass takes.
// kernels/cpu/structs.py mirrors these structs field by field.

#pragma once

#include "gemm.h"
#include "sampling.h"

extern "C" {

// The projections of a layer that have an adapter of their own, in order; the last three are MLA's.
enum { QKV, OUT, GATE_UP, DOWN, QUERY, KEY, VALUE };

struct Layer {
    const float *norm1, *norm2, *q_norm, *k_norm;  // q_norm and k_norm may be null
    Matrix qkv, out, router, gate_up, down;        // gate_up: a block is a vector of gates and one of their ups
    Matrix query, key, value;                      // of MLA, see latent_attention.h
    int64_t experts;                               // that the router scores; 0: a dense MLP
    int64_t window;                                // sliding window; 0: none
    const float* sinks;                            // [heads] attention sinks, or null
    const float* correction_bias;  // [experts] added to scores for the selection alone, or null
};

struct Model {
    const Layer* layers;
    int64_t depth, hidden, heads, kv_heads, width, rotary, top_k, vocab;
    int64_t norm_per_head;   // q_norm and k_norm work on one head's width, not over all heads
    int64_t norm_topk;       // whether the selected experts' weights are divided by their sum
    int64_t sigmoid_scores;  // whether router scores are sigmoids instead of a softmax
    int64_t expert_groups, groups_kept;  // group-limited routing; as many kept as there are: off
    int64_t shared_experts;  // stored behind the routed ones; every token passes through them
    int64_t latent;          // MLA's kv_lora_rank; 0: no MLA
    float latent_eps;        // of MLA's norms
    float eps, scale, clip_qkv;         // clip_qkv 0: none
    float routed_scaling;               // factor on the selected experts' weights
    float swiglu_alpha, swiglu_limit;   // swiglu_limit > 0: gpt-oss's clamped SwiGLU
    const uint16_t* embedding_bf16;
    const float* embedding;  // one of the two is null; both: an embedding is what the head multiplies by
    const float* final_norm;
    Matrix head;
    const float *cosines, *sines;  // [positions][rotary]
    int64_t positions;

    int64_t projections() const { return latent ? VALUE + 1 : DOWN + 1; }
};

struct Step {
    int64_t tokens;
    const int64_t *token, *row, *position, *slot;  // [tokens]; slot: index into adapters, -1: base
    const Lora* const* adapters;  // [resident] of each, [depth][projections]
    int64_t resident;
    const int64_t* table;         // [rows][reach] cache slot of every position
    int64_t rows, reach;
    void *const *keys, *const *values;  // [depth], each of `pages` cache slots
    int64_t pages;
    int64_t cache_format;  // FLOAT32, BFLOAT16 or INT8
    int64_t kept;
    const int64_t* keep;  // [kept], rising: tokens whose logits are wanted
    float* logits;        // [kept][blocks of the head * BLOCK], or null
    float* state;         // [tokens][hidden] after `layers` layers, where the step then ends; or null
    int64_t layers;
    float* states;        // [depth][tokens][hidden] input of each layer, or null
    int64_t threads;
    const float* inputs;  // [tokens][hidden] of the first layer, in place of embeddings; or null
    float* hidden;        // [steps][tokens][hidden] what the head reads, of all tokens; or null
    float* activations;   // filled for a backward pass, see activations.h; or null
};

struct SamplingMetadata {
    const SamplingParams* params;   // [kept]
    const uint8_t* skip;            // [kept]: rows that the caller samples itself
    const uint64_t* num_generated;  // [kept]: tokens sampled before
    const int64_t* max_new_tokens;  // [kept]: at least one
    const uint8_t* is_eos;          // [vocab]: tokens that end an answer
    const uint8_t* ignore_eos;      // [kept]: rows that do not end there
    int64_t steps;                  // more than one only if every token is kept
    int64_t* tokens;                // output [steps][kept]
    float *raw_logprobs, *processed_logprobs;  // output [steps][kept]
    int64_t* counts;                // output [kept]: how many of the steps count
};

// Gradient of one adapter: [matrices][parts * rank][inputs] and [matrices][rank][blocks * BLOCK].
struct LoraGradient {
    float *down, *up;
};

// What the backward pass takes besides the forward pass's `Step`, whose `states` it reads and whose
// adapters are two: the one in training, and the same transposed.
struct Backward {
    const Layer* transposed;  // [depth], of which only the matrices are read
    Matrix head;              // transposed
    int64_t sequences;
    const int64_t* starts;          // [sequences + 1]: first token of each
    const float* logits;            // gradient [kept][blocks of the head * BLOCK]
    const LoraGradient* gradients;  // [depth][projections], added to
};

}  // extern "C"
