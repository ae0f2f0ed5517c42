// Matrix products of a step, with every row's adapter: the rows are gathered, prepared and multiplied.
//
// Included at the end of forward.h, whose members these are.

#pragma once

inline const Lora& Forward::lora_of(int64_t slot, int64_t layer, int which) {
    return s.adapters[slot][layer * m.projections() + which];
}

// Makes `plain` the rows of a projection of all tokens, sorted by adapter.
inline void Forward::gather_tokens(const std::vector<float>& from, const Matrix& matrix,
                                   int64_t layer, int which) {
    plain.resize(tokens);
    plain.first = {0, tokens};
    for (int64_t t = 0; t < tokens; ++t) {
        plain.x[t].x = &from[order[t] * matrix.inputs];
        plain.slot[t] = slot[order[t]];
    }
    size_buffers(plain, matrix, layer, which);
}

// Makes room for what `prepare_rows` fills in.
inline void Forward::size_buffers(GroupedRows& rows, const Matrix& matrix, int64_t layer,
                                  int which) {
    const int64_t count = rows.size();
    if (matrix.multiplies_integers()) {
        const int64_t size = matrix.inputs, sums = groups_of(matrix.inputs);
        rows.whole.resize(count * size), rows.sums.resize(count * sums);
        for (int64_t r = 0; r < count; ++r) {
            rows.x[r].whole = &rows.whole[r * size];
            rows.x[r].sums = &rows.sums[r * sums];
        }
    }
    if (!adapted) return;
    int64_t size = 0;
    for (int64_t i : rows.slot)
        if (i >= 0) size = std::max(size, lora_of(i, layer, which).down.blocks * WIDTH);
    rows.low.resize(count * size);
    rows.lora.assign(count, LoraRow{nullptr, nullptr});
    for (int64_t r = 0; r < count; ++r)
        if (rows.slot[r] >= 0)
            rows.lora[r] = {&rows.low[r * size], &lora_of(rows.slot[r], layer, which).up};
}

// Computes what a product needs of its rows: their integers, and scale * (down x) of those that have an
// adapter.
inline void Forward::prepare_rows(GroupedRows& rows, const Matrix& matrix, int64_t layer,
                                  int which, int thread, int threads) {
    if (!adapted && !matrix.multiplies_integers()) return;
    const ThreadRange mine(rows.size(), thread, threads);
    if (matrix.multiplies_integers())
        for (int64_t r = mine.begin; r < mine.end; ++r) {
            Row& row = rows.x[r];
            row.scale = quantise_row(row.x, matrix.inputs, const_cast<int16_t*>(row.whole),
                                     const_cast<int32_t*>(row.sums));
        }
    size_t expert = 0;
    for (int64_t r = mine.begin, end; adapted && r < mine.end; r = end) {
        while (rows.first[expert + 1] <= r) ++expert;
        const int64_t last = std::min(mine.end, rows.first[expert + 1]);
        end = r + 1;
        while (end < last && rows.slot[end] == rows.slot[r]) ++end;
        if (rows.slot[r] >= 0)
            lora_down(lora_of(rows.slot[r], layer, which), expert, &rows.x[r], &rows.lora[r],
                      end - r);
    }
    barrier.wait();
}

// Multiplies the rows by their matrices. `following`: the matrix that is read next, if that is known.
inline void Forward::project(GroupedRows& rows, const Matrix& matrix, int64_t layer, int which,
                             int thread, int threads, Epilogue done, const Matrix* following) {
    prepare_rows(rows, matrix, layer, which, thread, threads);
    const ThreadRange mine(matrix.blocks, thread, threads);
    const LoraRow* lora = adapted ? rows.lora.data() : nullptr;
    const int64_t matrices = rows.first.size() - 1;
    for (int64_t e = next_used(rows, 0), next; e < matrices; e = next) {
        next = next_used(rows, e + 1);
        const char* after = nullptr;
        if (next < matrices)
            after = matrix.block(next * matrix.blocks + mine.begin);
        else if (following)
            after = following->block(ThreadRange(following->blocks, thread, threads).begin);
        if (adapted && next < matrices)
            for (int64_t r = rows.first[next]; r < rows.first[next + 1]; ++r)
                if (lora[r].low && (r == rows.first[next] || lora[r].up != lora[r - 1].up))
                    prefetch_lora_up(*lora[r].up, next * matrix.blocks + mine.begin);
        const int64_t from = rows.first[e];
        gemm(
            matrix, e, mine.begin, mine.end, &rows.x[from], lora ? lora + from : nullptr,
            rows.first[e + 1] - from,
            [&](int64_t r, int64_t block, vec a, vec b) { done(from + r, block, a, b); },
            after);
    }
}

// The first matrix from `matrix` on that has rows.
inline int64_t Forward::next_used(const GroupedRows& rows, int64_t matrix) {
    const int64_t matrices = rows.first.size() - 1;
    while (matrix < matrices && rows.first[matrix] == rows.first[matrix + 1]) ++matrix;
    return matrix;
}
