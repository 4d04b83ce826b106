// Forward and backward of one block of sequences through all layers.
#pragma once

#include "attention.h"
#include "encoder.h"
#include "tiles.h"

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
        for (int c = 0; c < hidden; c += W) {
            vf away = without(load_some(xi + c, hidden - c) - mean, hidden - c, 0.0f);
            square += away * away;
        }
        float one = 1.0f / std::sqrt(sum(square) / hidden + epsilon);
        if (rate) rate[i] = one;
        for (int c = 0; c < width; c += W) {
            vf n = c < hidden ? without((load_some(xi + c, hidden - c) - mean) * one, hidden - c, 0.0f) : zero();
            if (kept) store(kept + (size_t)i * width + c, n);
            store(y + (size_t)i * width + c,
                  c < hidden ? n * load_some(scale + c, hidden - c) + load_some(shift + c, hidden - c) : zero());
        }
    }
}

// Gradient of the input of a LayerNorm from that of its output, in place; a copy in storage goes to `copy` (which may
// be `kept`), those of scale and shift are added where they are wanted.
template <class S>
void normalise_backward(float* d, int rows, int hidden, int width, const float* scale, const S* kept, const float* rate,
                        S* copy, float* d_scale, float* d_shift) {
    for (int i = 0; i < rows; i++) {
        float* di = d + (size_t)i * width;
        const S* ni = kept + (size_t)i * width;
        for (int c = 0; d_scale && c < width; c += W) {
            store(d_scale + c, load(d_scale + c) + load(di + c) * load(ni + c));
            store(d_shift + c, load(d_shift + c) + load(di + c));
        }
        vf total = zero(), along = zero();
        for (int c = 0; c < hidden; c += W) {
            vf g = load_some(di + c, hidden - c) * load_some(scale + c, hidden - c);
            total += g;
            along += g * load(ni + c);
        }
        float mean = sum(total) / hidden, slope = sum(along) / hidden;
        for (int c = 0; c < width; c += W) {
            vf g = zero();
            if (c < hidden)
                g = (load_some(di + c, hidden - c) * load_some(scale + c, hidden - c) - mean - load(ni + c) * slope) *
                    rate[i];
            g = hidden - c < W ? without(g, hidden - c, 0.0f) : g;
            store(di + c, g);
            store(copy + (size_t)i * width + c, g);
        }
    }
}

// Floats that the attention of one head takes.
template <class S>
size_t head_floats(const Sizes& z, const Plan& plan) {
    const int queries = plan.longest, keys = plan.longest + plan.longest_prompt;
#if defined(__AMX_BF16__)
    if (is_tiled<S>(z)) return TiledRoom::floats(queries, keys, z.depth());
#endif
    return HeadRoom::floats(queries, keys, z.depth());
}

// One head on tiles where they serve, else on vectors.
template <class S, class... Rest>
void attend_by(const Sizes& z, Rest&&... rest) {
#if defined(__AMX_BF16__)
    if constexpr (std::is_same<S, bf16>::value)
        if (is_tiled<S>(z)) return attend_tiled(rest...);
#endif
    attend(rest...);
}

template <class S, class... Rest>
void attend_backward_by(const Sizes& z, Rest&&... rest) {
#if defined(__AMX_BF16__)
    if constexpr (std::is_same<S, bf16>::value)
        if (is_tiled<S>(z)) return attend_backward_tiled(rest...);
#endif
    attend_backward(rest...);
}

template <class S>
struct Pass {
    const Encoder<S>& encoder;
    const Sizes& z;
    const Call& call;
    const Plan& plan;
    const std::vector<Kept<S>>& kept;  // empty where nothing is kept
    const TurnedPrompts& turned;
    float* partial;  // the prompts' gradients, a slab a piece
    const std::vector<size_t>& slabs;
    float* norm_slabs;  // the gradients of scales and shifts, a slab a block; null where weights do not learn
    Dropout dropout = {call.drop_below};

    int width() const { return z.width(); }
    bool keeps() const { return !kept.empty(); }
    bool few(int turn) const { return call.read_first && turn == z.layers - 1; }

    PromptView prompt(int turn, int which) const {
        PromptView view;
        view.width = z.hidden;
        if (which < 0) return view;
        int64_t start = call.prompt_starts[which], side = call.prompt_rows * z.hidden;
        const size_t at = turn * 2 * side + start * z.hidden;
        view.length = (int)(call.prompt_starts[which + 1] - start);
        if (turned.halved) {
            view.half_keys = turned.halved + at, view.half_values = view.half_keys + side;
            return view;
        }
        const float* plain = (turned.plain ? turned.plain : call.table) + at;
        const float* columns = turned.turned + at;
        view.keys = plain, view.values = plain + side;
        view.keys_turned = columns, view.values_turned = columns + side;
        return view;
    }

    size_t head_room() const { return head_floats<S>(z, plan); }

    // Sum of the three embeddings, or the caller's input, as rows `width` apart; padding rows are 0.
    void embed(const Block& b, float* sum_, S* x) const {
        int64_t from = call.starts[b.first];
        int rows = call.tokens(b.first, b.last);
        for (int i = 0; i < rows; i++) {
            S* xi = x + (size_t)i * width();
            if (call.input) {
                const float* row = call.input + (from + i) * z.hidden;
                for (int c = 0; c < width(); c += W)
                    store(xi + c, c < z.hidden ? load_some(row + c, z.hidden - c) : zero());
                continue;
            }
            const S* word = encoder.words + call.ids[from + i] * z.hidden;
            const S* type = encoder.types + call.types[from + i] * z.hidden;
            const S* position = encoder.positions + call.positions[from + i] * z.hidden;
            for (int c = 0; c < z.hidden; c += W) {
                int n = z.hidden - c;
                store(sum_ + c, load_some(word + c, n) + load_some(type + c, n) + load_some(position + c, n));
            }
            normalise<S>(sum_, 1, z.hidden, width(), encoder.embedded_scale.data(), encoder.embedded_shift.data(),
                         z.epsilon, nullptr, nullptr, xi);
        }
        std::memset((void*)(x + (size_t)rows * width()), 0, (size_t)(b.rows - rows) * width() * sizeof(S));
        if (!call.input) drop(b, false, site(EMBEDDED), x);
    }

    AttentionDropout attention_dropout(int s, int turn) const {
        return {dropout, dropout ? call.drop_keys[s] : 0, site(ATTENTION, turn), z.heads};
    }

    // What dropout draws its row numbers from, of the rows of a block that go on; null without dropout.
    const uint32_t* draws(const Block& b, bool first_only, uint32_t where, uint32_t* to) const {
        if (!dropout) return nullptr;
        for (int s = b.first, row = 0; s < b.last; s++)
            for (int i = 0; i < (first_only ? 1 : call.tokens(s, s + 1)); i++)
                to[row++] = Dropout::row(call.drop_keys[s], where, i);
        return to;
    }

    // Drop among rows `width` apart, in place.
    void drop(const Block& b, bool first_only, uint32_t where, S* x) const {
        if (!dropout) return;
        for (int s = b.first; s < b.last; s++)
            for (int i = 0; i < (first_only ? 1 : call.tokens(s, s + 1)); i++, x += width()) {
                const uint32_t drawn = Dropout::row(call.drop_keys[s], where, i);
                for (int c = 0; c < width(); c += W) store(x + c, dropout(load(x + c), drawn, c));
            }
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

    // One layer's turn of a block.
    struct Turn {
        int number;
        const Layer<S>& layer;
        const Kept<S>* kept;  // null where nothing is kept
        bool few;             // only the first row of each sequence goes on
        int64_t at;           // where its rows begin among those that are kept
        int rows;             // how many go on
        S *qkv, *query;
    };

    // A forward's working memory.
    struct Room {
        S *x, *mixed, *y, *wide, *qkv, *query;
        float *sums, *heads;
        uint32_t* draws;
        Int8Rows int8 = {};

        Room(Carver from, const Block& b, const Sizes& z, size_t head_room) {
            const size_t rows = b.rows;
            const int w = z.width(), broad = z.broad();
            x = from.take<S>(rows * w), mixed = from.take<S>(rows * w), y = from.take<S>(rows * w);
            wide = from.take<S>(rows * std::max(w, broad));
            qkv = from.take<S>(rows * 3 * w), query = from.take<S>((size_t)b.reads * w);
            sums = from.take<float>(rows * w), heads = from.take<float>(head_room);
            draws = from.take<uint32_t>(rows);
            if (!z.int8) return;
            int8.data = from.take<uint8_t>(rows * Int8Rows::width(std::max(w, broad)));
            int8.step = from.take<float>(rows), int8.least = from.take<float>(rows);
        }
    };

    void forward(const Block& b, Carver from) const {
        Room room(from, b, z, head_room());
        embed(b, room.sums, room.x);
        for (int number = 0; number < z.layers; number++) {
            Turn turn = turn_of(b, number, room);
            if (call.learn) std::memcpy((void*)(turn.kept->x + b.row * width()), room.x, block_bytes(b.rows, width()));
            project(b, turn, room);
            attend_all(b, turn, room);
            close(b, turn, room);
        }
        give_out(b, room.x);
    }

    static size_t block_bytes(int rows, int width) { return (size_t)rows * width * sizeof(S); }

    Turn turn_of(const Block& b, int number, const Room& room) const {
        const Kept<S>* k = keeps() ? &kept[number] : nullptr;
        const bool last = few(number);
        S* qkv = k ? k->qkv + b.row * 3 * width() : room.qkv;
        S* query = !last ? qkv : k ? k->query + b.read * width() : room.query;
        return {number, encoder.layer(number), k, last, last ? b.read : b.row, last ? b.reads : b.rows, qkv, query};
    }

    // A linear's product with all of its inputs, which lie side by side, without its bias.
    template <class Put>
    void product(const Linear<S>& linear, const S* x, int depth, int rows, const Room& room, int first, int last,
                 Put put) const {
        if constexpr (HAS_INT8)
            if (z.int8) {
                quantise(x, depth, rows, depth, room.int8);
                return gemm(room.int8, rows, linear.int8, first, last, put);
            }
        gemm(x, depth, rows, linear.forward, depth, first, last, put);
    }

    // Queries, keys and values; where few rows go on, queries of those alone, which then are all of `x`.
    void project(const Block& b, const Turn& t, const Room& room) const {
        const int w = width();
        const float* bias = t.layer.qkv.bias.data();
        product(t.layer.qkv, room.x, w, b.rows, room, t.few ? w : 0, 3 * w,
                [&](int r, int c, vf v) { store(t.qkv + (size_t)r * 3 * w + c, v + load(bias + c)); });
        if (!t.few) return;
        const int firsts = b.last - b.first;
        S* rows = room.wide;  // free until the activation
        for (int s = b.first; s < b.last; s++)
            std::memcpy((void*)(rows + (size_t)(s - b.first) * w), room.x + (call.starts[s] - call.starts[b.first]) * w,
                        w * sizeof(S));
        std::memset((void*)(rows + (size_t)firsts * w), 0, (size_t)(b.reads - firsts) * w * sizeof(S));
        std::memcpy((void*)room.x, rows, (size_t)t.rows * w * sizeof(S));
        product(t.layer.qkv, room.x, w, t.rows, room, 0, w,
                [&](int r, int c, vf v) { store(t.query + (size_t)r * w + c, v + load(bias + c)); });
    }

    // Attention of every sequence and head.
    void attend_all(const Block& b, const Turn& t, const Room& room) const {
        const int w = width();
        std::memset((void*)room.mixed, 0, (size_t)t.rows * w * sizeof(S));
        for (int s = b.first; s < b.last; s++) {
            const int64_t row = out_row(b, s, t.number);
            const PromptView p = prompt(t.number, call.prompt(s));
            const SequenceView<S> view = sequence(b, s, t.number, t.qkv, t.query);
            float* norms = t.kept ? t.kept->norms + (t.at + row) * z.heads : nullptr;
            for (int h = 0; h < z.heads; h++)
                attend_by<S>(z, view, p, attention_dropout(s, t.number), h, z.depth(), room.heads, room.mixed + row * w,
                             w, norms, z.heads);
        }
        if (call.learn) std::memcpy((void*)(t.kept->mixed + t.at * w), room.mixed, block_bytes(t.rows, w));
    }

    // What follows attention: two sums with what came before, each normalised, the activation between them.
    void close(const Block& b, const Turn& t, const Room& room) const {
        const int w = width(), broad = z.broad(), rows = t.few ? b.last - b.first : call.tokens(b.first, b.last);
        const uint32_t* drawn = draws(b, t.few, site(ATTENDED, t.number), room.draws);
        auto dropped = [&](vf v, int r, int c) { return drawn && r < rows ? dropout(v, drawn[r], c) : v; };
        const Kept<S>* k = t.kept;
        const float *attended = t.layer.attended.bias.data(), *narrow = t.layer.narrow.bias.data();
        product(t.layer.attended, room.mixed, w, t.rows, room, 0, w, [&](int r, int c, vf v) {
            store(room.sums + (size_t)r * w + c,
                  dropped(v + load(attended + c), r, c) + load(room.x + (size_t)r * w + c));
        });
        normalise(room.sums, t.rows, z.hidden, w, t.layer.attended_scale.data(), t.layer.attended_shift.data(),
                  z.epsilon, k ? k->attended + t.at * w : nullptr, k ? k->attended_rate + t.at : nullptr, room.y);
        activated(t.layer, room, t.rows, k ? k->slope + t.at * broad : nullptr);
        if (call.learn) {
            std::memcpy((void*)(k->y + t.at * w), room.y, block_bytes(t.rows, w));
            std::memcpy((void*)(k->wide + t.at * broad), room.wide, block_bytes(t.rows, broad));
        }
        drawn = call.drop_narrow ? draws(b, t.few, site(NARROW, t.number), room.draws) : nullptr;
        product(t.layer.narrow, room.wide, broad, t.rows, room, 0, w, [&](int r, int c, vf v) {
            store(room.sums + (size_t)r * w + c,
                  dropped(v + load(narrow + c), r, c) + load(room.y + (size_t)r * w + c));
        });
        normalise(room.sums, t.rows, z.hidden, w, t.layer.narrow_scale.data(), t.layer.narrow_shift.data(), z.epsilon,
                  k ? k->narrow + t.at * w : nullptr, k ? k->narrow_rate + t.at : nullptr, room.x);
    }

    void give_out(const Block& b, const S* x) const {
        const int64_t to = call.read_first ? b.first : call.starts[b.first];
        const int rows = call.read_first ? b.last - b.first : call.tokens(b.first, b.last);
        for (int i = 0; i < rows; i++)
            for (int c = 0; c < z.hidden; c += W)
                store_some(call.output + (to + i) * z.hidden + c, load(x + (size_t)i * width() + c), z.hidden - c);
    }

    void activated(const Layer<S>& layer, const Room& room, int rows, S* slopes) const {
        switch (z.activation) {
            case GELU:
                return activated_by<GELU>(layer, room, rows, slopes);
            case GELU_TANH:
                return activated_by<GELU_TANH>(layer, room, rows, slopes);
            case RELU:
                return activated_by<RELU>(layer, room, rows, slopes);
            default:
                return activated_by<SILU>(layer, room, rows, slopes);
        }
    }

    template <int A>
    void activated_by(const Layer<S>& layer, const Room& room, int rows, S* slopes) const {
        const float* bias = layer.wide.bias.data();
        const int broad = z.broad();
        S* wide = room.wide;
        auto widen = [&](auto put) { product(layer.wide, room.y, width(), rows, room, 0, broad, put); };
        if (slopes)
            widen([&](int r, int c, vf v) {
                vf value, slope;
                activate<A, S>(v + load(bias + c), value, slope);
                store(wide + (size_t)r * broad + c, value);
                store(slopes + (size_t)r * broad + c, slope);
            });
        else
            widen([&](int r, int c, vf v) {
                vf value, slope;  // not stored, so not computed
                activate<A, S>(v + load(bias + c), value, slope);
                store(wide + (size_t)r * broad + c, value);
            });
    }

    void backward(const Block& b, Carver room) const {
        const int w = width(), broad = z.broad();
        float *d = room.take<float>((size_t)b.rows * w), *heads = room.take<float>(head_room());
        S *copy = room.take<S>((size_t)b.rows * w), *room_wide = room.take<S>((size_t)b.rows * broad);
        S *d_mixed = room.take<S>((size_t)b.rows * w), *d_qkv = room.take<S>((size_t)b.rows * 3 * w);
        S* d_query = room.take<S>((size_t)b.reads * w);
        float* d_first = room.take<float>((size_t)b.reads * w);
        take_output_gradient(b, d);
        for (int turn = z.layers - 1; turn >= 0; turn--) {
            const Layer<S>& layer = encoder.layer(turn);
            const Kept<S>& k = kept[turn];
            const bool last = few(turn), below = turn > 0 || call.want_input || call.learn;
            const int64_t at = last ? b.read : b.row;
            const int rows = last ? b.reads : b.rows;
            float* norms = norm_slab(b, turn);
            S* d_narrow = norms ? k.narrow + at * w : copy;
            normalise_backward(d, rows, z.hidden, w, layer.narrow_scale.data(), k.narrow + at * w, k.narrow_rate + at,
                               d_narrow, norms ? norms + 2 * w : nullptr, norms ? norms + 3 * w : nullptr);
            if (call.drop_narrow) drop(b, last, site(NARROW, turn), d_narrow);
            const S* slopes = k.slope + at * broad;
            S* d_wide = norms ? k.slope + at * broad : room_wide;
            gemm(d_narrow, w, rows, layer.narrow.backward, w, 0, broad, [&](int r, int c, vf v) {
                store(d_wide + (size_t)r * broad + c, v * load(slopes + (size_t)r * broad + c));
            });
            gemm(d_wide, broad, rows, layer.wide.backward, broad, 0, w, [&](int r, int c, vf v) {
                float* to = d + (size_t)r * w + c;
                store(to, load(to) + v);
            });
            S* d_attended = norms ? k.attended + at * w : copy;
            normalise_backward(d, rows, z.hidden, w, layer.attended_scale.data(), k.attended + at * w,
                               k.attended_rate + at, d_attended, norms, norms ? norms + w : nullptr);
            drop(b, last, site(ATTENDED, turn), d_attended);
            gemm(d_attended, w, rows, layer.attended.backward, w, 0, w,
                 [&](int r, int c, vf v) { store(d_mixed + (size_t)r * w + c, v); });
            attention_backward(b, turn, k, d_mixed, below ? d_qkv : nullptr, d_query, heads);
            if (norms) keep_slopes(b, last, k, d_qkv, d_query);
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
                store_some(call.d_input + (call.starts[b.first] + i) * z.hidden + c, load(d + (size_t)i * w + c),
                           z.hidden - c);
    }

    // The block's sums for the scales and shifts of a layer: attended scale and shift, narrow scale and shift.
    float* norm_slab(const Block& b, int turn) const {
        if (!norm_slabs) return nullptr;
        return norm_slabs + ((size_t)(&b - plan.blocks.data()) * z.layers + turn) * 4 * width();
    }

    // The gradient of queries, keys and values takes their place, few queries at the rows they came from.
    void keep_slopes(const Block& b, bool last, const Kept<S>& k, const S* d_qkv, const S* d_query) const {
        const int w = width();
        S* to = k.qkv + b.row * 3 * w;
        std::memcpy((void*)to, d_qkv, block_bytes(b.rows, 3 * w));
        for (int s = b.first; last && s < b.last; s++)
            std::memcpy((void*)(to + (call.starts[s] - call.starts[b.first]) * 3 * w),
                        d_query + (int64_t)(s - b.first) * w, block_bytes(1, w));
    }

    void take_output_gradient(const Block& b, float* d) const {
        const int w = width(), rows = call.read_first ? b.last - b.first : call.tokens(b.first, b.last);
        const float* from = call.d_output + (call.read_first ? b.first : call.starts[b.first]) * z.hidden;
        std::memset(d, 0, (size_t)b.reads * w * sizeof(float));
        for (int i = 0; i < rows; i++)
            std::memcpy(d + (size_t)i * w, from + (size_t)i * z.hidden, z.hidden * sizeof(float));
    }

    void attention_backward(const Block& b, int turn, const Kept<S>& k, const S* d_mixed, S* d_qkv, S* d_query,
                            float* heads) const {
        const int w = width();
        const bool last = few(turn);
        const S *qkv = k.qkv + b.row * 3 * w, *query = last ? k.query + b.read * w : qkv;
        const float* norms = k.norms + (last ? b.read : b.row) * z.heads;
        if (d_qkv) std::memset((void*)d_qkv, 0, (size_t)b.rows * 3 * w * sizeof(S));
        if (last) std::memset((void*)d_query, 0, (size_t)b.reads * w * sizeof(S));
        for (int i = b.first_piece; i < b.last_piece; i++) {
            const Piece& piece = plan.pieces[i];
            PromptView p = prompt(turn, piece.prompt);
            float* slab =
                partial && piece.prompt >= 0 ? partial + slabs[i] + (size_t)turn * 2 * p.length * z.hidden : nullptr;
            for (int s = piece.first; s < piece.last; s++) {
                int64_t row = out_row(b, s, turn), token = call.starts[s] - call.starts[b.first];
                SequenceView<S> view = sequence(b, s, turn, qkv, query);
                SequenceSlope<S> to = {};
                if (d_qkv) {
                    to.q = last ? d_query + row * w : d_qkv + token * 3 * w, to.q_stride = last ? w : 3 * w;
                    to.k = d_qkv + token * 3 * w + w, to.v = to.k + w, to.stride = 3 * w;
                }
                to.prompt_keys = slab, to.prompt_values = slab ? slab + (size_t)p.length * z.hidden : nullptr;
                for (int h = 0; h < z.heads; h++)
                    attend_backward_by<S>(z, view, p, attention_dropout(s, turn), h, z.depth(), heads,
                                          d_mixed + row * w, w, norms + row * z.heads, z.heads, to);
            }
        }
    }

    // From the few rows that are read back to all rows: through keys and values, and to those rows' own inputs.
    void spread(const Block& b, const Layer<S>& layer, float* d, float* d_first, S* d_query, const S* d_qkv) const {
        const int w = width();
        std::memcpy(d_first, d, (size_t)b.reads * w * sizeof(float));
        gemm(d_qkv + w, 3 * w, b.rows, layer.qkv.backward.from(w), 2 * w, 0, w,
             [&](int r, int c, vf v) { store(d + (size_t)r * w + c, v); });
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
