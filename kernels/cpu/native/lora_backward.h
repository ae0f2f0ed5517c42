// The gradients of an adapter's two matrices.
//
// Included at the end of gradients.h, whose members these are.

#pragma once

// Outer products of two small vectors per row, added up over the rows: to[j][i] += low[j] * x[i].
struct OuterProducts {
    float* to;           // [][lines][WIDTH]
    int64_t lines;
    const LoraRow* low;  // [rows], of which `from` is the first number in use
    int64_t from;
    const Row* x;        // [rows]
    int64_t rows;

    // J numbers from `j` on, times the I vectors of x at `line`.
    template <int J, int I>
    void tile(int64_t j, const int64_t* line) const {
        vec sum[J][I];
        float* at[I];
        for (int i = 0; i < I; ++i) {
            at[i] = to + (j * lines + line[i]) * WIDTH;
            for (int n = 0; n < J; ++n) sum[n][i] = load(at[i] + n * lines * WIDTH);
        }
        for (int64_t r = 0; r < rows; ++r) {
            vec given[I];
            for (int i = 0; i < I; ++i) given[i] = load(x[r].x + line[i] * WIDTH);
#pragma GCC unroll 8
            for (int n = 0; n < J; ++n)
#pragma GCC unroll 8
                for (int i = 0; i < I; ++i) sum[n][i] += low[r].low[from + j + n] * given[i];
        }
        for (int i = 0; i < I; ++i)
            for (int n = 0; n < J; ++n) store(at[i] + n * lines * WIDTH, sum[n][i]);
    }

    // `ranks` numbers times `count` vectors at `line`, as many at once as the registers hold.
    void add(int64_t ranks, const int64_t* line, int64_t count) const {
        int64_t i = 0;
        for (; i + 3 <= count; i += 3) add_lines<3>(ranks, line + i);
        for (; i < count; ++i) add_lines<1>(ranks, line + i);
    }
    template <int I>
    void add_lines(int64_t ranks, const int64_t* line) const {
        int64_t j = 0;
        for (; j + 4 <= ranks; j += 4) tile<4, I>(j, line);
        for (; j < ranks; ++j) tile<1, I>(j, line);
    }
};

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
    const int64_t rank = a.up.inputs, ranks = t.up.inputs, parts = ranks / rank;
    const ThreadRange my_inputs(inputs, thread, threads), my_outputs(outputs, thread, threads);
    std::vector<int64_t> input_lines;
    std::vector<std::vector<int64_t>> output_lines(parts);  // by the joined adapter they belong to
    for (int64_t i = my_inputs.begin; i < my_inputs.end; ++i) input_lines.push_back(i);
    for (int64_t o = my_outputs.begin; o < my_outputs.end; ++o)
        output_lines[matrix.part[o]].push_back(o);
    for (int64_t e = next_used(in, 0); e < int64_t(in.first.size()) - 1;
         e = next_used(in, e + 1)) {
        const int64_t from = in.first[e], rows = in.first[e + 1] - from;
        const OuterProducts down{to.down + e * ranks * inputs * WIDTH, inputs,
                                 &out.lora[from], 0, &in.x[from], rows};
        down.add(ranks, input_lines.data(), input_lines.size());
        for (int64_t p = 0; p < parts; ++p) {
            const OuterProducts up{to.up + e * rank * outputs * WIDTH, outputs,
                                   &in.lora[from], p * rank, &out.x[from], rows};
            up.add(rank, output_lines[p].data(), output_lines[p].size());
        }
    }
}
