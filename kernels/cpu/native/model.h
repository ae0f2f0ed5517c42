// What crosses the border: a packed model, one step, and how to draw; kernels/cpu/step.py mirrors these.

#pragma once

#include "draw.h"
#include "linear.h"

extern "C" {

// The products of a layer that adapters tell apart, in their order; the last three are MLA's.
enum { QKV, OUT, GATE_UP, DOWN, QUERY, KEY, VALUE };

struct Layer {
    const float *norm1, *norm2, *q_norm, *k_norm;  // q_norm and k_norm may be null
    Matrix qkv, out, router, gate_up, down;        // gate_up: a block is 16 gates and their 16 ups
    Matrix query, key, value;                      // of MLA, see latent.h
    int64_t experts;                               // that the router knows; 0: a dense MLP
    int64_t window;                                // 0: none
    const float* sinks;                            // [heads], or null
    const float* choice;                           // [experts] added to scores when choosing, or null
};

struct Model {
    const Layer* layers;
    int64_t depth, hidden, heads, kv_heads, width, rotary, chosen, vocab;
    int64_t norm_heads;  // q_norm and k_norm are one per head's width, not over all heads
    int64_t normalise;   // whether the chosen experts' weights are made to sum to one
    int64_t sigmoid;     // whether scores are sigmoids instead of a softmax
    int64_t groups, groups_kept;  // of experts, the best of which take part in the choice
    int64_t shared;      // experts behind those the router knows, which every token takes
    int64_t kv_bf16;
    int64_t latent;          // width of what MLA keeps of keys and values; 0: no MLA
    float latent_eps;        // of MLA's norms
    float eps, scale, clip;  // clip 0: none
    float routed;            // factor on the chosen experts' weights
    float alpha, limit;      // limit > 0: gates and ups as gpt-oss has them
    const uint16_t* embedding_bf16;
    const float* embedding;  // one of the two is null
    const float* final_norm;
    Matrix head;
    const float *cosines, *sines;  // [positions][rotary]

    int64_t products() const { return latent ? VALUE + 1 : DOWN + 1; }
};

struct Step {
    int64_t tokens;
    const int64_t *token, *row, *position, *slot;  // [tokens]; slot: index into adapters, -1: base
    const LowRank* const* adapters;  // of each, [depth][products]
    const int64_t* table;  // [rows][reach] cache slot of every position
    int64_t reach;
    void *const *keys, *const *values;  // [depth]
    int64_t kept;
    const int64_t* keep;  // [kept], rising: tokens whose logits are wanted
    float* logits;        // [kept][blocks of the head * 32], or null
    float* state;         // [tokens][hidden] after `layers` layers, where the step then ends; or null
    int64_t layers;
    float* states;        // [depth][tokens][hidden] what goes into each layer, or null
    int64_t threads;
};

struct Draws {
    const Draw* how;        // [kept]
    const uint8_t* skip;    // [kept]: rows somebody else draws for
    const uint64_t* count;  // [kept]: tokens drawn before
    const int64_t* room;    // [kept]: tokens still wanted, at least one
    const uint8_t* ends;    // [vocab]: tokens that end an answer
    const uint8_t* endless; // [kept]: rows that do not end there
    int64_t steps;          // more than one only if every token is kept
    int64_t* token;         // [steps][kept]
    float *raw, *processed; // [steps][kept]
    int64_t* made;          // [kept]: how many of them count
};

// Of one adapted matrix: [matrices][parts * rank][inputs] and [matrices][rank][blocks * 32].
struct Gradient {
    float *down, *up;
};

// What the backward pass takes besides the forward's `Step`, whose `states` it reads and whose
// adapters are two: the one under training, and the same turned around.
struct Backward {
    const Layer* turned;  // [depth], of which only the matrices count: transposed
    Matrix head;          // transposed
    int64_t sequences;
    const int64_t* starts;        // [sequences + 1]: first token of each
    const float* logits;          // gradient [kept][blocks of the head * 32]
    const Gradient* gradients;    // [depth][products], added to
};

}  // extern "C"
