// The gradients of an adapter's two matrices.
//
// Included at the end of gradients.h, whose members these are.

#pragma once

// Adds one projection's gradients, with inputs x and output gradients y: down += scale * (up^T y) x^T,
// up += y (scale * down x)^T. Threads share inputs and outputs.
inline void Gradients::accumulate(int64_t index, int which, int thread, int threads) {
    const Layer& layer = m.layers[index];
    const Matrix* const matrices[] = {&layer.qkv,   &layer.out, &layer.gate_up, &layer.down,
                                      &layer.query, &layer.key, &layer.value};
    const Matrix& matrix = *matrices[which];
    const Lora &a = lora_of(FORWARD, index, which), &t = lora_of(TRANSPOSED, index, which);
    const LoraGradient& to = b.gradients[index * m.projections() + which];
    const GroupedRows &in = x[which], &out = y[which];
    const int64_t inputs = a.down.inputs / WIDTH, outputs = matrix.blocks * 2;
    const int64_t rank = a.up.inputs, ranks = t.up.inputs;
    const ThreadRange my_inputs(inputs, thread, threads), my_outputs(outputs, thread, threads);
    for (int64_t e = next_used(in, 0); e < int64_t(in.first.size()) - 1;
         e = next_used(in, e + 1)) {
        const int64_t from = in.first[e], end = in.first[e + 1];
        for (int64_t j = 0; j < ranks; ++j)
            for (int64_t i = my_inputs.begin; i < my_inputs.end; ++i) {
                float* at = to.down + ((e * ranks + j) * inputs + i) * WIDTH;
                vec sum = load(at);
                for (int64_t r = from; r < end; ++r)
                    sum += out.lora[r].low[j] * load(in.x[r].x + i * WIDTH);
                store(at, sum);
            }
        for (int64_t j = 0; j < rank; ++j)
            for (int64_t o = my_outputs.begin; o < my_outputs.end; ++o) {
                float* at = to.up + ((e * rank + j) * outputs + o) * WIDTH;
                const int64_t part = matrix.part[o] * rank;
                vec sum = load(at);
                for (int64_t r = from; r < end; ++r)
                    sum += in.lora[r].low[part + j] * load(out.x[r].x + o * WIDTH);
                store(at, sum);
            }
    }
}
