// A whole decoder step in one call: rows of tokens in, drawn tokens out.
//
// Plain C ABI; library.py compiles this file for the machine at hand and step.py packs a model into
// the structs of model.h.

#include <omp.h>

#include "draw.h"
#include "forward.h"

extern "C" {

// Computes the step and, with `draws`, draws a token for each kept row that is not skipped; then
// goes on with those tokens for up to `draws->steps` steps, row by row until it ends. The cache
// must have room for them.
void burnish_step(const Model* model, const Step* step, const Draws* draws) {
    Forward forward(*model, *step);
    const int64_t wide = model->head.blocks * BLOCK, rows = step->kept;
    std::vector<float> own;
    if (!step->logits || (draws && draws->steps > 1)) own.resize(rows * wide);
    forward.logits_out = step->logits ? step->logits : own.data();
    std::vector<int64_t> going(rows);  // which kept row each token in flight belongs to
    for (int64_t i = 0; i < rows; ++i) going[i] = i;
    if (draws) std::fill(draws->made, draws->made + rows, 0);
#pragma omp parallel num_threads(step->threads) if (step->threads > 1)
    {
        const int thread = omp_get_thread_num(), threads = omp_get_num_threads();
#pragma omp single
        forward.barrier.expect(threads);
        std::vector<float> scratch;
        std::vector<int32_t> candidates;
        for (int64_t n = 0; n == 0 || (draws && n < draws->steps && !going.empty()); ++n) {
            forward.run(thread, threads);
            if (!draws || going.empty()) break;
            const Share mine(going.size(), thread, threads);
            for (int64_t i = mine.begin; i < mine.end; ++i) {
                const int64_t at = going[i];
                if (draws->skip[at]) continue;
                const Drawn drawn = draw(forward.logits_out + i * wide, wide, draws->how[at],
                                         draws->count[at] + n, scratch, candidates);
                draws->token[n * rows + at] = drawn.token;
                draws->raw[n * rows + at] = drawn.raw;
                draws->processed[n * rows + at] = drawn.processed;
                draws->made[at] = n + 1;
            }
            forward.barrier.wait();
            if (thread == 0 && n + 1 < draws->steps) {
                forward.logits_out = own.data();
                int64_t left = 0;
                for (size_t i = 0; i < going.size(); ++i) {
                    const int64_t at = going[i], next = draws->token[n * rows + at];
                    if (n + 1 >= draws->room[at]) continue;
                    if (draws->ends[next] && !draws->endless[at]) continue;
                    going[left] = at;
                    forward.token[left] = next;
                    forward.row[left] = forward.row[i];
                    forward.position[left] = forward.position[i] + 1;
                    forward.slot[left] = forward.slot[i];
                    forward.keep[left] = left;
                    ++left;
                }
                going.resize(left);
                forward.tokens = forward.kept = left;
            }
            forward.barrier.wait();
        }
    }
}

}  // extern "C"
