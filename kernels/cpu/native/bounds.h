// Whether a step stays within what it indexes. The caller's mistakes end here: further on they would
// read and write memory of others.

#pragma once

#include <algorithm>

#include "model.h"

enum Misfit : int64_t { FITS, TOKEN, ROW, POSITION, SLOT, KEPT, CACHE_SLOT };

static inline bool within(int64_t index, int64_t size) { return index >= 0 && index < size; }

// The first input of a step that does not fit, in time proportional to its tokens.
static inline Misfit misfit_of(const Model& m, const Step& s, const SamplingMetadata* sampling) {
    const int64_t reach = std::min(s.reach, m.positions);
    for (int64_t t = 0; t < s.tokens; ++t) {
        if (!within(s.token[t], m.vocab)) return TOKEN;
        if (!within(s.row[t], s.rows)) return ROW;
        if (!within(s.position[t], reach)) return POSITION;
        const int64_t slot = s.slot[t];
        if (slot != -1 && (!within(slot, s.resident) || !s.adapters[slot])) return SLOT;
        if (!within(s.table[s.row[t] * s.reach + s.position[t]], s.pages)) return CACHE_SLOT;
    }
    for (int64_t i = 0; i < s.kept; ++i) {
        if (!within(s.keep[i], s.tokens)) return KEPT;
        if (!sampling) continue;
        const int64_t row = s.row[s.keep[i]], first = s.position[s.keep[i]];
        const int64_t steps = std::min(sampling->steps, sampling->max_new_tokens[i]);
        for (int64_t at = first + 1; at < first + steps; ++at) {
            if (at >= reach) return POSITION;
            if (!within(s.table[row * s.reach + at], s.pages)) return CACHE_SLOT;
        }
    }
    return FITS;
}
