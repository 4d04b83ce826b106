// Gradients of weights: products of what came out of a layer's linears, backward, with what went into them, forward.
#pragma once

#include "passes.h"

namespace pg {

// One linear's turn: gradients of its outputs [rows, n] and its inputs [rows, k], both padded.
template <class S>
struct Factors {
    const S *slopes, *inputs;
    int64_t rows;
};

// Where a gradient goes: [parts * out, in] and [parts * out], the linear padded to `parts * wide` outputs.
struct Gradient {
    float *weight, *bias;
    int parts, out, wide, in;

    // Of a padded output its place; -1 for padding.
    int place(int padded) const { return padded % wide < out ? padded / wide * out + padded % wide : -1; }
};

// Room for one linear's factors, turned so that rows are what is summed over.
template <class S>
struct TurnedFactors {
    int depth;   // rows, padded
    S* slopes;   // [n, depth]
    Weight<S> inputs;

    TurnedFactors(Carver& from, int64_t rows, int n, int k) : depth(up((int)rows, COLUMNS)) {
        slopes = from.take<S>((size_t)n * depth);
        inputs.n = k, inputs.k = depth, inputs.data = from.take<S>((size_t)k * depth);
    }
};

// Sixteen rows and columns of [rows, width]; 0 behind the last row.
template <class S>
inline void load_square(const S* from, int64_t rows, int width, int row, int column, vf square[W]) {
    for (int i = 0; i < W; i++) square[i] = row + i < rows ? load(from + (size_t)(row + i) * width + column) : zero();
}

// Add (or, in the first turn, set) one linear's gradients; called by all threads of a team.
template <class S>
void add_gradient(const Factors<S>& f, int n, int k, const TurnedFactors<S>& to, const Gradient& g, bool first) {
    TurnedFactors<S> turned = to;
#pragma omp for schedule(static)
    for (int column = 0; column < n; column += W) {
        vf total = zero();
        for (int row = 0; row < turned.depth; row += W) {
            vf square[W];
            load_square(f.slopes, f.rows, n, row, column, square);
            for (int i = 0; i < W; i++) total += square[i];
            transpose(square);
            for (int i = 0; i < W; i++) store(turned.slopes + (size_t)(column + i) * turned.depth + row, square[i]);
        }
        for (int i = 0; i < W; i++)
            if (int at = g.place(column + i); at >= 0) g.bias[at] = total[i] + (first ? 0.0f : g.bias[at]);
    }
#pragma omp for schedule(static)
    for (int column = 0; column < k; column += W)
        for (int row = 0; row < turned.depth; row += W) {
            vf square[W];
            load_square(f.inputs, f.rows, k, row, column, square);
            turned.inputs.put(column, row, square);
        }
#pragma omp for schedule(static)
    for (int column = 0; column < k; column += COLUMNS)
        gemm(turned.slopes, turned.depth, n, turned.inputs, turned.depth, column, column + COLUMNS,
             [&](int r, int c, vf v) {
                 const int at = g.place(r);
                 if (at < 0 || c >= g.in) return;
                 float* out = g.weight + (size_t)at * g.in + c;
                 store_some(out, first ? v : v + load_some(out, g.in - c), g.in - c);
             });
}

// All weights of an encoder whose backward is through.
template <class S>
struct Learning {
    const Encoder<S>& encoder;
    const Sizes& z;
    const Call& call;
    const Plan& plan;
    const std::vector<Kept<S>>& kept;
    const float* norm_slabs;

    // The four linears of a layer, in the order of `pg_layer`.
    int inputs(int linear) const { return linear == 3 ? z.broad() : z.width(); }
    int outputs(int linear) const { return linear == 0 ? 3 * z.width() : linear == 2 ? z.broad() : z.width(); }

    Factors<S> factors(const Kept<S>& k, int linear) const {
        if (linear == 0) return {k.qkv, k.x, plan.rows};
        if (linear == 1) return {k.attended, k.mixed, k.out};
        if (linear == 2) return {k.slope, k.y, k.out};
        return {k.narrow, k.wide, k.out};
    }

    Gradient gradient(int layer, int linear) const {
        float* const* to = call.d_weights + layer * 12 + linear * 2;
        if (linear == 0) return {to[0], to[1], 3, z.hidden, z.width(), z.hidden};
        if (linear == 2) return {to[0], to[1], 1, z.wide, z.broad(), z.hidden};
        return {to[0], to[1], 1, z.hidden, z.width(), linear == 3 ? z.wide : z.hidden};
    }

    size_t room_bytes() const {
        Carver count{nullptr};
        TurnedFactors<S>(count, plan.rows, 3 * z.width(), z.width());
        size_t most = count.used;
        count.used = 0;
        TurnedFactors<S>(count, plan.rows, z.broad(), z.width());
        return std::max(most, count.used);
    }

    // Every layer's linears one after the other, each shared by all threads; a layer of several turns sums them.
    void run(char* base) const {
#pragma omp parallel num_threads((int)call.threads)
        {
            [[maybe_unused]] Tiles tiles;
            for (size_t layer = 0; layer < encoder.own.size(); layer++)
                for (int linear = 0; linear < 4; linear++) {
                    bool first = true;
                    for (int turn = 0; turn < z.layers; turn++) {
                        if (encoder.order[turn] != (int)layer) continue;
                        const Factors<S> f = factors(kept[turn], linear);
                        Carver room{base};
                        TurnedFactors<S> turned(room, f.rows, outputs(linear), inputs(linear));
                        add_gradient(f, outputs(linear), inputs(linear), turned, gradient((int)layer, linear), first);
                        first = false;
                    }
                }
        }
        sum_norms();
    }

    // Scales and shifts: every block's sums, in the order of turns and blocks.
    void sum_norms() const {
        const int w = z.width();
        for (size_t layer = 0; layer < encoder.own.size(); layer++)
            for (int which = 0; which < 4; which++) {
                float* to = call.d_weights[layer * 12 + 8 + which];
                std::memset(to, 0, z.hidden * sizeof(float));
                for (int turn = 0; turn < z.layers; turn++)
                    for (size_t b = 0; encoder.order[turn] == (int)layer && b < plan.blocks.size(); b++) {
                        const float* from = norm_slabs + ((b * z.layers + turn) * 4 + which) * w;
                        for (int c = 0; c < z.hidden; c++) to[c] += from[c];
                    }
            }
    }
};

}  // namespace pg
