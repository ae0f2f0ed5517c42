// A whole decoder step in one call: tokens in, logits or sampled tokens out. Plain C ABI, called by
// step.py.

#include <omp.h>

#include "bounds.h"
#include "forward.h"
#include "sampling.h"

extern "C" {

// Computes the step and, given `sampling`, samples a token for each kept row that is not skipped. With
// `sampling->steps` above one it goes on with those tokens, each row until its answer ends. The cache
// must have room for them. Returns what does not fit (bounds.h); nothing is computed then.
int64_t burnish_step(const Model* model, const Step* step, const SamplingMetadata* sampling) {
    if (const Misfit misfit = misfit_of(*model, *step, sampling)) return misfit;
    Forward forward(*model, *step);
    const int64_t wide = model->head.blocks * BLOCK, rows = step->kept;
    std::vector<float> own_logits;
    if (!step->logits || (sampling && sampling->steps > 1)) own_logits.resize(rows * wide);
    forward.logits_out = step->logits ? step->logits : own_logits.data();
    std::vector<int64_t> unfinished(rows);  // the kept row that each running token belongs to
    for (int64_t i = 0; i < rows; ++i) unfinished[i] = i;
    if (sampling) std::fill(sampling->counts, sampling->counts + rows, 0);
#pragma omp parallel num_threads(step->threads) if (step->threads > 1)
    {
        const int thread = omp_get_thread_num(), threads = omp_get_num_threads();
#pragma omp single
        forward.barrier.expect(threads);
        std::vector<float> scratch;
        std::vector<int32_t> candidates;
        for (int64_t n = 0; n == 0 || (sampling && n < sampling->steps && !unfinished.empty()); ++n) {
            forward.run(thread, threads);
            if (!sampling || unfinished.empty()) break;
            const ThreadRange mine(unfinished.size(), thread, threads);
            for (int64_t i = mine.begin; i < mine.end; ++i) {
                const int64_t at = unfinished[i];
                if (sampling->skip[at]) continue;
                const Sample sampled =
                    sample(forward.logits_out + i * wide, wide, sampling->params[at],
                           sampling->num_generated[at] + n, scratch, candidates);
                sampling->tokens[n * rows + at] = sampled.token;
                sampling->raw_logprobs[n * rows + at] = sampled.raw_logprob;
                sampling->processed_logprobs[n * rows + at] = sampled.processed_logprob;
                sampling->counts[at] = n + 1;
            }
            forward.barrier.wait();
            if (thread == 0 && n + 1 < sampling->steps) {
                forward.logits_out = own_logits.data();
                int64_t left = 0;
                for (size_t i = 0; i < unfinished.size(); ++i) {
                    const int64_t at = unfinished[i], next = sampling->tokens[n * rows + at];
                    if (n + 1 >= sampling->max_new_tokens[at]) continue;
                    if (sampling->is_eos[next] && !sampling->ignore_eos[at]) continue;
                    unfinished[left] = at;
                    forward.token[left] = next;
                    forward.row[left] = forward.row[i];
                    forward.position[left] = forward.position[i] + 1;
                    forward.slot[left] = forward.slot[i];
                    forward.keep[left] = left;
                    forward.hidden_row[left] = (n + 1) * rows + at;
                    ++left;
                }
                unfinished.resize(left);
                forward.tokens = forward.kept = left;
            }
            forward.barrier.wait();
        }
    }
    return FITS;
}

}  // extern "C"
