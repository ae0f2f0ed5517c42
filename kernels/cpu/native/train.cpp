// The backward pass of a step in one call: see gradients.h. Plain C ABI, called by training.py.

#include <omp.h>

#include "bounds.h"
#include "gradients.h"

extern "C" {

// Floats that a forward pass of so many tokens keeps for its backward pass, if it is to (Step::activations).
int64_t burnish_activations(const Model* model, int64_t tokens) {
    return Activations::size(*model, tokens);
}

// Adds to `backward->gradients` the gradients of the loss whose gradient with respect to the logits is
// `backward->logits`, for the forward pass of `step`, whose `states` hold the input of each layer.
// Returns as burnish_step does.
int64_t burnish_backward(const Model* model, const Step* step, const Backward* backward) {
    if (const Misfit misfit = misfit_of(*model, *step, nullptr)) return misfit;
    Gradients gradients(*model, *step, *backward);
#pragma omp parallel num_threads(step->threads) if (step->threads > 1)
    {
        const int thread = omp_get_thread_num(), threads = omp_get_num_threads();
#pragma omp single
        gradients.barrier.expect(threads);
        for (int64_t index = model->depth - 1; index >= 0; --index) {
            if (gradients.keeps(index)) gradients.restore(index, thread, threads);
            else gradients.recompute(index, thread, threads);
            if (index + 1 == model->depth) gradients.head_backward(thread, threads);
            gradients.mlp_backward(index, thread, threads);
            gradients.attention_backward(index, thread, threads);
        }
    }
    return FITS;
}

}  // extern "C"
