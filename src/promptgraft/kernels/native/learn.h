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

// A square of W rows and columns of [rows, width]; 0 behind the last row.
template <class S>
inline void load_square(const S* from, int64_t rows, int width, int row, int column, vf square[W]) {
    for (int i = 0; i < W; i++) square[i] = row + i < rows ? load(from + (size_t)(row + i) * width + column) : zero();
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

    // The four linears of a layer, in the order of `pg_layers`.
    int inputs(int linear) const { return linear == 3 ? z.broad() : z.width(); }
    int outputs(int linear) const { return linear == 0 ? 3 * z.width() : linear == 2 ? z.broad() : z.width(); }

    // Into how many jobs a linear is cut, by its inputs, so that all threads have some.
    int parts() const {
        const int linears = (int)encoder.own.size() * 4;
        return std::min(z.width() / COLUMNS, ((int)call.threads + linears - 1) / linears);
    }

    Factors<S> factors(const Kept<S>& k, int linear) const {
        if (linear == 0) return {k.qkv, k.x, plan.rows};
        if (linear == 1) return {k.attended, k.mixed, k.out};
        if (linear == 2) return {k.slope, k.y, k.out};
        return {k.narrow, k.wide, k.out};
    }

    Gradient place(int layer, int linear) const {
        float* const* to = call.d_weights + layer * 12 + linear * 2;
        if (linear == 0) return {to[0], to[1], 3, z.hidden, z.width(), z.hidden};
        if (linear == 2) return {to[0], to[1], 1, z.wide, z.broad(), z.hidden};
        return {to[0], to[1], 1, z.hidden, z.width(), linear == 3 ? z.wide : z.hidden};
    }

    size_t room_bytes() const {
        Carver count{nullptr};
        const size_t depth = up((int)plan.rows, COLUMNS), most = std::max(3 * z.width(), z.broad());
        count.take<S>(most * depth), count.take<S>(COLUMNS * depth);
        return count.used;
    }

    // One part of a linear's gradient; a layer of several turns sums them in their order.
    void gradient(int layer, int linear, int part, Carver room) const {
        const int n = outputs(linear), k = inputs(linear), tiles = k / COLUMNS, all = parts();
        const Gradient to = place(layer, linear);
        S* slopes = room.take<S>((size_t)n * up((int)plan.rows, COLUMNS));
        Weight<S> columns;
        columns.data = room.take<S>((size_t)COLUMNS * up((int)plan.rows, COLUMNS));
        bool first = true;
        for (int turn = 0; turn < z.layers; turn++) {
            if (encoder.order[turn] != layer) continue;
            const Factors<S> f = factors(kept[turn], linear);
            const int depth = up((int)f.rows, COLUMNS);
            turn_slopes(f, n, depth, slopes, part == 0 ? &to : nullptr, first);
            columns.n = COLUMNS, columns.k = depth;
            for (int tile = tiles * part / all; tile < tiles * (part + 1) / all; tile++)
                add_columns(f, n, k, tile * COLUMNS, slopes, columns, to, first);
            first = false;
        }
    }

    // The slopes with rows as columns, [n, depth], and their sums, which are the bias's gradient.
    void turn_slopes(const Factors<S>& f, int n, int depth, S* slopes, const Gradient* to, bool first) const {
        for (int column = 0; column < n; column += W) {
            vf total = zero();
            for (int row = 0; row < depth; row += W) {
                vf square[W];
                load_square(f.slopes, f.rows, n, row, column, square);
                for (int i = 0; i < W; i++) total += square[i];
                transpose(square);
                for (int i = 0; i < W; i++) store(slopes + (size_t)(column + i) * depth + row, square[i]);
            }
            for (int i = 0; to && i < W; i++)
                if (const int at = to->place(column + i); at >= 0) to->bias[at] = total[i] + (first ? 0 : to->bias[at]);
        }
    }

    // The gradient for the inputs from `from` on, as many as a product is wide.
    void add_columns(const Factors<S>& f, int n, int k, int from, const S* slopes, Weight<S>& columns,
                     const Gradient& to, bool first) const {
        for (int column = 0; column < COLUMNS; column += W)
            for (int row = 0; row < columns.k; row += W) {
                vf square[W];
                load_square(f.inputs, f.rows, k, row, from + column, square);
                columns.put(column, row, square);
            }
        gemm(slopes, columns.k, n, columns, columns.k, 0, COLUMNS, [&](int r, int c, vf v) {
            const int at = to.place(r), left = to.in - from - c;
            if (at < 0 || left <= 0) return;
            float* out = to.weight + (size_t)at * to.in + from + c;
            store_some(out, first ? v : v + load_some(out, left), left);
        });
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
                        const float* sums = norm_slabs + ((b * z.layers + turn) * 4 + which) * w;
                        for (int c = 0; c < z.hidden; c++) to[c] += sums[c];
                    }
            }
    }
};

}  // namespace pg
