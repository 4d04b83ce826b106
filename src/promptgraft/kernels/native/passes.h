// Forward and backward of one block of sequences through all layers.
#pragma once

#include "attention.h"
#include "encoder.h"

namespace pg {

// LayerNorm of `rows` rows of `x` (width apart): normalised values, 1 / deviation, and scaled ones to `y`.
template <class S>
void normalise(const float* x, int rows, int hidden, int width, const float* scale, const float* shift, float epsilon,
               S* kept, float* rate, S* y) {
    for (int i = 0; i < rows; i++) {
        const float* xi = x + (size_t)i * width;
        vf total = zero(), square = zero();
        for (int c = 0; c < hidden; c += W) total += load_some(xi + c, hidden - c);
        float mean = sum(total) / hidden;
        for (int c = 0; c + W <= hidden; c += W) {
            vf away = load(xi + c) - mean;
            square += away * away;
        }
        if (hidden % W) square += without(load_some(xi + hidden / W * W, hidden % W) - mean, hidden % W, 0.0f) *
                                  without(load_some(xi + hidden / W * W, hidden % W) - mean, hidden % W, 0.0f);
        float one = 1.0f / std::sqrt(sum(square) / hidden + epsilon);
        if (rate) rate[i] = one;
        for (int c = 0; c < width; c += W) {
            vf n = c < hidden ? without((load_some(xi + c, hidden - c) - mean) * one, hidden - c, 0.0f) : zero();
            if (kept) store(kept + (size_t)i * width + c, n);
            store(y + (size_t)i * width + c, c < hidden ? n * load_some(scale + c, hidden - c) + load_some(shift + c, hidden - c) : zero());
        }
    }
}

// Gradient of the input of a LayerNorm from that of its output, in place; a copy in storage goes to `copy`.
template <class S>
void normalise_backward(float* d, int rows, int hidden, int width, const float* scale, const S* kept, const float* rate, S* copy) {
    for (int i = 0; i < rows; i++) {
        float* di = d + (size_t)i * width;
        const S* ni = kept + (size_t)i * width;
        vf total = zero(), along = zero();
        for (int c = 0; c < hidden; c += W) {
            vf g = load_some(di + c, hidden - c) * load_some(scale + c, hidden - c);
            total += g;
            along += g * load(ni + c);
        }
        float mean = sum(total) / hidden, slope = sum(along) / hidden;
        for (int c = 0; c < width; c += W) {
            vf g = zero();
            if (c < hidden) g = (load_some(di + c, hidden - c) * load_some(scale + c, hidden - c) - mean - load(ni + c) * slope) * rate[i];
            g = hidden - c < W ? without(g, hidden - c, 0.0f) : g;
            store(di + c, g);
            store(copy + (size_t)i * width + c, g);
        }
    }
}

template <class S>
struct Pass {
    const Encoder<S>& encoder;
    const Sizes& z;
    const Call& call;
    const Plan& plan;
    const std::vector<Kept<S>>& kept;  // empty where nothing is kept
    const TurnedPrompts& turned;
    float* partial;                    // the prompts' gradients, a slab a piece
    const std::vector<size_t>& slabs;

    int width() const { return z.width(); }
    bool keeps() const { return !kept.empty(); }
    bool few(int turn) const { return call.read_first && turn == z.layers - 1; }

    PromptView prompt(int turn, int which) const {
        PromptView view;
        view.width = z.hidden;
        if (which < 0) return view;
        int64_t start = call.prompt_starts[which], side = call.prompt_rows * z.hidden;
        const float* plain = (turned.plain ? turned.plain : call.table) + turn * 2 * side + start * z.hidden;
        const float* columns = turned.turned + turn * 2 * side + start * z.hidden;
        view.length = (int)(call.prompt_starts[which + 1] - start);
        view.keys = plain, view.values = plain + side;
        view.keys_turned = columns, view.values_turned = columns + side;
        return view;
    }

    size_t head_room() const {
        return HeadRoom::floats(plan.longest, plan.longest + plan.longest_prompt, z.depth());
    }

    // Sum of the three embeddings, or the caller's input, as rows `width` apart; padding rows are 0.
    void embed(const Block& b, float* sum_, S* x) const {
        int64_t from = call.starts[b.first];
        int rows = call.tokens(b.first, b.last);
        for (int i = 0; i < rows; i++) {
            S* xi = x + (size_t)i * width();
            if (call.input) {
                const float* row = call.input + (from + i) * z.hidden;
                for (int c = 0; c < width(); c += W) store(xi + c, c < z.hidden ? load_some(row + c, z.hidden - c) : zero());
                continue;
            }
            const S* word = encoder.words + call.ids[from + i] * z.hidden;
            const S* type = encoder.types + call.types[from + i] * z.hidden;
            const S* position = encoder.positions + call.positions[from + i] * z.hidden;
            for (int c = 0; c < z.hidden; c += W) {
                int n = z.hidden - c;
                store(sum_ + c, load_some(word + c, n) + load_some(type + c, n) + load_some(position + c, n));
            }
            normalise<S>(sum_, 1, z.hidden, width(), encoder.embedded_scale.data(), encoder.embedded_shift.data(), z.epsilon, nullptr, nullptr, xi);
        }
        std::memset((void*)(x + (size_t)rows * width()), 0, (size_t)(b.rows - rows) * width() * sizeof(S));
    }

    SequenceView<S> sequence(const Block& b, int s, int turn, const S* qkv, const S* query) const {
        int64_t row = call.starts[s] - call.starts[b.first];
        int tokens = call.tokens(s, s + 1), w = width();
        const S* first = qkv + row * 3 * w;
        if (few(turn)) return {1, tokens, query + (int64_t)(s - b.first) * w, first + w, first + 2 * w, w, 3 * w};
        return {tokens, tokens, first, first + w, first + 2 * w, 3 * w, 3 * w};
    }

    // The query row of a sequence among the rows that come out of a layer.
    int64_t out_row(const Block& b, int s, int turn) const {
        return few(turn) ? s - b.first : call.starts[s] - call.starts[b.first];
    }

    void forward(const Block& b, Carver room) const {
        const int w = width(), broad = z.broad();
        S *x = room.take<S>((size_t)b.rows * w), *mixed = room.take<S>((size_t)b.rows * w);
        S *y = room.take<S>((size_t)b.rows * w), *wide = room.take<S>((size_t)b.rows * std::max(w, broad));
        S *own_qkv = room.take<S>((size_t)b.rows * 3 * w), *own_query = room.take<S>((size_t)b.reads * w);
        float *sums = room.take<float>((size_t)b.rows * w), *heads = room.take<float>(head_room());
        embed(b, sums, x);
        for (int turn = 0; turn < z.layers; turn++) {
            const Layer<S>& layer = encoder.layer(turn);
            const Kept<S>* k = keeps() ? &kept[turn] : nullptr;
            const bool last = few(turn);
            const int64_t at = last ? b.read : b.row;
            const int rows = last ? b.reads : b.rows;
            S* qkv = k ? k->qkv + b.row * 3 * w : own_qkv;
            S* query = last ? (k ? k->query + b.read * w : own_query) : qkv;
            const float* bias = layer.qkv.bias.data();
            if (last) {
                S* few_rows = wide;  // free until the activation
                for (int s = b.first; s < b.last; s++)
                    std::memcpy((void*)(few_rows + (size_t)(s - b.first) * w), x + (call.starts[s] - call.starts[b.first]) * w, w * sizeof(S));
                std::memset((void*)(few_rows + (size_t)(b.last - b.first) * w), 0, (size_t)(b.reads - (b.last - b.first)) * w * sizeof(S));
                gemm(x, w, b.rows, layer.qkv.forward, w, w, 3 * w, [&](int r, int c, vf v) { store(qkv + (size_t)r * 3 * w + c, v + load(bias + c)); });
                std::memcpy((void*)x, few_rows, (size_t)rows * w * sizeof(S));
                gemm(x, w, rows, layer.qkv.forward, w, 0, w, [&](int r, int c, vf v) { store(query + (size_t)r * w + c, v + load(bias + c)); });
            } else {
                gemm(x, w, b.rows, layer.qkv.forward, w, 0, 3 * w, [&](int r, int c, vf v) { store(qkv + (size_t)r * 3 * w + c, v + load(bias + c)); });
            }
            std::memset((void*)mixed, 0, (size_t)rows * w * sizeof(S));
            for (int s = b.first; s < b.last; s++) {
                int64_t row = out_row(b, s, turn);
                PromptView p = prompt(turn, call.prompt(s));
                SequenceView<S> view = sequence(b, s, turn, qkv, query);
                for (int h = 0; h < z.heads && view.tokens; h++)
                    attend(view, p, h, z.depth(), heads, mixed + row * w, w, k ? k->norms + (at + row) * z.heads : nullptr, z.heads);
            }
            const float* out_bias = layer.attended.bias.data();
            gemm(mixed, w, rows, layer.attended.forward, w, 0, w, [&](int r, int c, vf v) {
                store(sums + (size_t)r * w + c, v + load(out_bias + c) + load(x + (size_t)r * w + c));
            });
            normalise(sums, rows, z.hidden, w, layer.attended_scale.data(), layer.attended_shift.data(), z.epsilon, k ? k->attended + at * w : nullptr, k ? k->attended_rate + at : nullptr, y);
            activated(layer, y, rows, k ? k->slope + at * broad : nullptr, wide);
            const float* narrow_bias = layer.narrow.bias.data();
            gemm(wide, broad, rows, layer.narrow.forward, broad, 0, w, [&](int r, int c, vf v) {
                store(sums + (size_t)r * w + c, v + load(narrow_bias + c) + load(y + (size_t)r * w + c));
            });
            normalise(sums, rows, z.hidden, w, layer.narrow_scale.data(), layer.narrow_shift.data(), z.epsilon, k ? k->narrow + at * w : nullptr, k ? k->narrow_rate + at : nullptr, x);
        }
        bool firsts = call.read_first;
        int64_t to = firsts ? b.first : call.starts[b.first];
        int rows = firsts ? b.last - b.first : call.tokens(b.first, b.last);
        for (int i = 0; i < rows; i++)
            for (int c = 0; c < z.hidden; c += W)
                store_some(call.output + (to + i) * z.hidden + c, load(x + (size_t)i * w + c), z.hidden - c);
    }

    void activated(const Layer<S>& layer, const S* y, int rows, S* slopes, S* wide) const {
        switch (z.activation) {
            case GELU: return activated_by<GELU>(layer, y, rows, slopes, wide);
            case GELU_TANH: return activated_by<GELU_TANH>(layer, y, rows, slopes, wide);
            case RELU: return activated_by<RELU>(layer, y, rows, slopes, wide);
            default: return activated_by<SILU>(layer, y, rows, slopes, wide);
        }
    }

    template <int A>
    void activated_by(const Layer<S>& layer, const S* y, int rows, S* slopes, S* wide) const {
        const float* bias = layer.wide.bias.data();
        const int broad = z.broad();
        gemm(y, width(), rows, layer.wide.forward, width(), 0, broad, [&](int r, int c, vf v) {
            vf value, slope;
            activate<A>(v + load(bias + c), value, slope);
            store(wide + (size_t)r * broad + c, value);
            if (slopes) store(slopes + (size_t)r * broad + c, slope);
        });
    }

    void backward(const Block& b, Carver room) const {
        const int w = width(), broad = z.broad();
        float *d = room.take<float>((size_t)b.rows * w), *heads = room.take<float>(head_room());
        S *copy = room.take<S>((size_t)b.rows * w), *d_wide = room.take<S>((size_t)b.rows * broad);
        S *d_mixed = room.take<S>((size_t)b.rows * w), *d_qkv = room.take<S>((size_t)b.rows * 3 * w);
        S *d_query = room.take<S>((size_t)b.reads * w);
        float* d_first = room.take<float>((size_t)b.reads * w);
        take_output_gradient(b, d);
        for (int turn = z.layers - 1; turn >= 0; turn--) {
            const Layer<S>& layer = encoder.layer(turn);
            const Kept<S>& k = kept[turn];
            const bool last = few(turn), below = turn > 0 || call.want_input;
            const int64_t at = last ? b.read : b.row;
            const int rows = last ? b.reads : b.rows;
            normalise_backward(d, rows, z.hidden, w, layer.narrow_scale.data(), k.narrow + at * w, k.narrow_rate + at, copy);
            const S* slopes = k.slope + at * broad;
            gemm(copy, w, rows, layer.narrow.backward, w, 0, broad, [&](int r, int c, vf v) {
                store(d_wide + (size_t)r * broad + c, v * load(slopes + (size_t)r * broad + c));
            });
            gemm(d_wide, broad, rows, layer.wide.backward, broad, 0, w, [&](int r, int c, vf v) {
                float* to = d + (size_t)r * w + c;
                store(to, load(to) + v);
            });
            normalise_backward(d, rows, z.hidden, w, layer.attended_scale.data(), k.attended + at * w, k.attended_rate + at, copy);
            gemm(copy, w, rows, layer.attended.backward, w, 0, w, [&](int r, int c, vf v) { store(d_mixed + (size_t)r * w + c, v); });
            attention_backward(b, turn, k, d_mixed, below ? d_qkv : nullptr, d_query, heads);
            if (!below) continue;
            if (last)
                spread(b, layer, d, d_first, d_query, d_qkv);
            else
                gemm(d_qkv, 3 * w, b.rows, layer.qkv.backward, 3 * w, 0, w, [&](int r, int c, vf v) {
                    float* to = d + (size_t)r * w + c;
                    store(to, load(to) + v);
                });
        }
        if (!call.want_input) return;
        for (int i = 0; i < call.tokens(b.first, b.last); i++)
            for (int c = 0; c < z.hidden; c += W)
                store_some(call.d_input + (call.starts[b.first] + i) * z.hidden + c, load(d + (size_t)i * w + c), z.hidden - c);
    }

    void take_output_gradient(const Block& b, float* d) const {
        const int w = width(), rows = call.read_first ? b.last - b.first : call.tokens(b.first, b.last);
        const float* from = call.d_output + (call.read_first ? b.first : call.starts[b.first]) * z.hidden;
        std::memset(d, 0, (size_t)b.reads * w * sizeof(float));
        for (int i = 0; i < rows; i++) std::memcpy(d + (size_t)i * w, from + (size_t)i * z.hidden, z.hidden * sizeof(float));
    }

    void attention_backward(const Block& b, int turn, const Kept<S>& k, const S* d_mixed, S* d_qkv, S* d_query, float* heads) const {
        const int w = width();
        const bool last = few(turn);
        const S *qkv = k.qkv + b.row * 3 * w, *query = last ? k.query + b.read * w : qkv;
        const float* norms = k.norms + (last ? b.read : b.row) * z.heads;
        if (d_qkv) std::memset((void*)d_qkv, 0, (size_t)b.rows * 3 * w * sizeof(S));
        if (last) std::memset((void*)d_query, 0, (size_t)b.reads * w * sizeof(S));
        for (int i = b.first_piece; i < b.last_piece; i++) {
            const Piece& piece = plan.pieces[i];
            PromptView p = prompt(turn, piece.prompt);
            float* slab = partial && piece.prompt >= 0 ? partial + slabs[i] + (size_t)turn * 2 * p.length * z.hidden : nullptr;
            for (int s = piece.first; s < piece.last; s++) {
                int64_t row = out_row(b, s, turn), token = call.starts[s] - call.starts[b.first];
                SequenceView<S> view = sequence(b, s, turn, qkv, query);
                SequenceSlope<S> to = {};
                if (d_qkv) {
                    to.q = last ? d_query + row * w : d_qkv + token * 3 * w, to.q_stride = last ? w : 3 * w;
                    to.k = d_qkv + token * 3 * w + w, to.v = to.k + w, to.stride = 3 * w;
                }
                to.prompt_keys = slab, to.prompt_values = slab ? slab + (size_t)p.length * z.hidden : nullptr;
                for (int h = 0; h < z.heads && view.tokens; h++)
                    attend_backward(view, p, h, z.depth(), heads, d_mixed + row * w, w, norms + row * z.heads, z.heads, to);
            }
        }
    }

    // From the few rows that are read back to all rows: through keys and values, and to those rows' own inputs.
    void spread(const Block& b, const Layer<S>& layer, float* d, float* d_first, S* d_query, const S* d_qkv) const {
        const int w = width();
        std::memcpy(d_first, d, (size_t)b.reads * w * sizeof(float));
        gemm(d_qkv + w, 3 * w, b.rows, layer.qkv.backward.from(w), 2 * w, 0, w, [&](int r, int c, vf v) { store(d + (size_t)r * w + c, v); });
        gemm(d_query, w, b.reads, layer.qkv.backward, w, 0, w, [&](int r, int c, vf v) {
            float* to = d_first + (size_t)r * w + c;
            store(to, load(to) + v);
        });
        for (int s = b.first; s < b.last; s++)
            for (int c = 0; c < w; c += W) {
                float* to = d + (call.starts[s] - call.starts[b.first]) * w + c;
                store(to, load(to) + load(d_first + (size_t)(s - b.first) * w + c));
            }
    }
};

}  // namespace pg
