// Attention of one sequence and one head over its prompt and its own tokens, forward and backward, in fp32.
// softmax(Q [Kp; K]^T / sqrt(d)) [Vp; V] (Vaswani et al. 2017, equation 1).
#pragma once

#include <algorithm>

#include "dropout.h"

namespace pg {

constexpr int CHUNK = 64;  // queries whose scores are held at once

// The keys and values of one prompt in one layer, as rows of all heads and, transposed, as columns; for products on
// tiles as rows in bf16 instead.
struct PromptView {
    int length = 0, width = 0;
    const float *keys = nullptr, *values = nullptr;                // [length, width]
    const float *keys_turned = nullptr, *values_turned = nullptr;  // [width, length]
    const bf16 *half_keys = nullptr, *half_values = nullptr;       // [length, width]
};

// Where one sequence's tokens lie among packed rows.
template <class S>
struct SequenceView {
    int queries, tokens;
    const S *q, *k, *v;
    int q_stride, stride;
};

// Dropout of one sequence's probabilities in one layer.
struct AttentionDropout {
    Dropout dropout;
    int64_t key;
    uint32_t site;
    int heads;

    uint32_t row(int query, int head) const { return Dropout::row(key, site, (uint32_t)(query * heads + head)); }
};

// Room for one head of one sequence.
struct HeadRoom {
    int depth, keys, padded, stride;  // d padded, keys, keys padded, floats of a row of turned keys
    float *q, *kt, *vt, *k, *v, *scores, *slopes, *out, *dk, *dv;

    static size_t floats(int queries, int keys, int d) {
        size_t dp = up(d, W), kp = up(keys, W), m = std::min(up(queries, 4), CHUNK);
        return 2 * up(queries, 4) * dp + 2 * dp * (kp + W) + 4 * (kp + 4) * dp + 2 * m * kp + m * dp + 16 * W;
    }

    HeadRoom(float* at, int queries, int keys_, int d) {
        depth = up(d, W), keys = keys_, padded = up(keys, W), stride = padded + W;
        int m = std::min(up(queries, 4), CHUNK);
        auto take = [&](size_t n) {
            float* p = at;
            at += n;
            return p;
        };
        q = take((size_t)up(queries, 4) * depth), out = take((size_t)up(queries, 4) * depth);
        kt = take((size_t)depth * stride), vt = take((size_t)depth * stride);
        k = take((size_t)(padded + 4) * depth), v = take((size_t)(padded + 4) * depth);
        dk = take((size_t)(padded + 4) * depth), dv = take((size_t)(padded + 4) * depth);
        scores = take((size_t)m * padded), slopes = take((size_t)m * padded);
    }
};

// Vectors of columns whose sums over four rows are held in registers.
#if defined(__AVX512F__)
constexpr int BROAD = 4;
#else
constexpr int BROAD = 3;
#endif

// Four rows of a product, `V` vectors wide. TURNED: `x` is read by columns.
template <int V, bool TURNED, bool MORE>
inline void product_four(const float* x, int ldx, const float* t, int ldt, int depth, float* out, int ldo) {
    vf acc[4][V];
    for (int i = 0; i < 4; i++)
        for (int j = 0; j < V; j++) acc[i][j] = MORE ? load(out + (size_t)i * ldo + j * W) : zero();
    for (int r = 0; r < depth; r++) {
        vf w[V];
        for (int j = 0; j < V; j++) w[j] = load(t + (size_t)r * ldt + j * W);
        for (int i = 0; i < 4; i++) {
            float one = TURNED ? x[(size_t)r * ldx + i] : x[(size_t)i * ldx + r];
            for (int j = 0; j < V; j++) acc[i][j] += one * w[j];
        }
    }
    for (int i = 0; i < 4; i++)
        for (int j = 0; j < V; j++) store(out + (size_t)i * ldo + j * W, acc[i][j]);
}

// out [rows, width] = x [rows, depth] t [depth, width]; rows are rounded up to four, width is a multiple of W.
template <bool TURNED, bool MORE = false>
inline void product(const float* x, int ldx, int rows, const float* t, int ldt, int depth, int width, float* out,
                    int ldo) {
    for (int i = 0; i < rows; i += 4) {
        const float* xi = TURNED ? x + i : x + (size_t)i * ldx;
        float* oi = out + (size_t)i * ldo;
        for (int j = 0; j < width;) {
            const int left = (width - j) / W, wide = BROAD == 3 && left == 4 ? 2 : std::min(left, BROAD);
            if (BROAD == 4 && wide == 4)
                product_four<4, TURNED, MORE>(xi, ldx, t + j, ldt, depth, oi + j, ldo);
            else if (wide == 3)
                product_four<3, TURNED, MORE>(xi, ldx, t + j, ldt, depth, oi + j, ldo);
            else if (wide == 2)
                product_four<2, TURNED, MORE>(xi, ldx, t + j, ldt, depth, oi + j, ldo);
            else
                product_four<1, TURNED, MORE>(xi, ldx, t + j, ldt, depth, oi + j, ldo);
            j += wide * W;
        }
    }
}

// Rows of one head as fp32, `depth` apart.
template <class S>
inline void gather_rows(const S* from, int stride, int rows, int depth, float scale, float* to) {
    for (int i = 0; i < rows; i++)
        for (int c = 0; c < depth; c += W)
            store(to + (size_t)i * depth + c, scale * load(from + (size_t)i * stride + c));
}

// Keys (or values) of prompt and tokens as columns: [d, keys], rows `room.stride` apart.
template <class S>
inline void turn_keys(const HeadRoom& room, const float* prompt, int prompts, const S* from, int stride, int tokens,
                      int d, float* to) {
    for (int r = 0; r < d; r++) std::memcpy(to + (size_t)r * room.stride, prompt + (size_t)r * prompts, prompts * 4);
    for (int first = 0; first < tokens; first += W)
        for (int c = 0; c < d; c += W) {
            vf rows[W];
            for (int i = 0; i < W; i++)
                rows[i] = first + i < tokens ? load(from + (size_t)(first + i) * stride + c) : zero();
            transpose(rows);
            for (int i = 0; i < std::min(W, d - c); i++)
                store(to + (size_t)(c + i) * room.stride + prompts + first, rows[i]);
        }
}

// Keys (or values) of prompt and tokens as rows: [keys, depth].
template <class S>
inline void stack_keys(const HeadRoom& room, const float* prompt, int prompts, int width, const S* from, int stride,
                       int tokens, float* to) {
    gather_rows(prompt, width, prompts, room.depth, 1.0f, to);
    gather_rows(from, stride, tokens, room.depth, 1.0f, to + (size_t)prompts * room.depth);
}

// One head: writes `queries` rows of d values to `out` and the logarithm of every query's normaliser to `norms`.
template <class S>
void attend(const SequenceView<S>& s, const PromptView& p, const AttentionDropout& drop, int head, int d, float* at,
            S* out, int out_stride, float* norms, int norm_stride) {
    const int keys = p.length + s.tokens, from = head * d;
    HeadRoom room(at, s.queries, keys, d);
    gather_rows(s.q + from, s.q_stride, s.queries, room.depth, 1.0f / std::sqrt((float)d), room.q);
    turn_keys(room, p.keys_turned + (size_t)from * p.length, p.length, s.k + from, s.stride, s.tokens, d, room.kt);
    stack_keys(room, p.values + from, p.length, p.width, s.v + from, s.stride, s.tokens, room.v);
    for (int first = 0; first < s.queries; first += CHUNK) {
        int rows = std::min(CHUNK, s.queries - first);
        product<false>(room.q + (size_t)first * room.depth, room.depth, rows, room.kt, room.stride, d, room.padded,
                       room.scores, room.padded);
        for (int i = 0; i < rows; i++) {
            float* row = room.scores + (size_t)i * room.padded;
            int last = room.padded - W;
            store(row + last, without(load(row + last), keys - last, -INFINITY));
            vf most = load(row);
            for (int j = W; j < room.padded; j += W) most = larger(most, load(row + j));
            float top = largest(most);
            vf total = zero();
            for (int j = 0; j < room.padded; j += W) {
                vf e = exponential(load(row + j) - top);
                store(row + j, e);
                total += e;
            }
            float all = sum(total), share = 1.0f / all;
            for (int j = 0; j < room.padded; j += W) store(row + j, load(row + j) * share);
            if (drop.dropout) {
                const uint32_t drawn = drop.row(first + i, head);
                for (int j = 0; j < room.padded; j += W) store(row + j, drop.dropout(load(row + j), drawn, j));
            }
            if (norms) norms[(size_t)(first + i) * norm_stride + head] = top + std::log(all);
        }
        product<false>(room.scores, room.padded, rows, room.v, room.depth, keys, room.depth, room.out, room.depth);
        for (int i = 0; i < rows; i++)
            for (int c = 0; c < d; c += W)
                store_some(out + (size_t)(first + i) * out_stride + from + c,
                           load(room.out + (size_t)i * room.depth + c), d - c);
    }
}

// Where the gradients of one sequence go. `q`, `k`, `v` are null where only the prompt's are wanted.
template <class S>
struct SequenceSlope {
    S *q, *k, *v;
    int q_stride, stride;
    float *prompt_keys, *prompt_values;  // [length, width], added to; null where not wanted
};

// Gradients of keys and values [prompt; tokens] of one head, rows `stride` apart: those of the prompt are added.
template <class S>
void give_prompt_slopes(const PromptView& p, int head, int d, const float* dk, const float* dv, int stride,
                        const SequenceSlope<S>& to) {
    for (int j = 0; to.prompt_keys && j < p.length; j++)
        for (int c = 0; c < d; c += W) {
            const size_t at = (size_t)j * p.width + head * d + c, row = (size_t)j * stride + c;
            float *pk = to.prompt_keys + at, *pv = to.prompt_values + at;
            store_some(pk, load_some(pk, d - c) + load(dk + row), d - c);
            store_some(pv, load_some(pv, d - c) + load(dv + row), d - c);
        }
}

template <class S>
void give_token_slopes(const PromptView& p, int tokens, int head, int d, const float* dk, const float* dv, int stride,
                       const SequenceSlope<S>& to) {
    for (int j = 0; j < tokens; j++)
        for (int c = 0; c < d; c += W) {
            const size_t at = (size_t)j * to.stride + head * d + c, row = (size_t)(p.length + j) * stride + c;
            store_some(to.k + at, load(dk + row), d - c);
            store_some(to.v + at, load(dv + row), d - c);
        }
}

// One head backward from `d_out` (rows `d_stride` apart).
template <class S>
void attend_backward(const SequenceView<S>& s, const PromptView& p, const AttentionDropout& drop, int head, int d,
                     float* at, const S* d_out, int d_stride, const float* norms, int norm_stride,
                     const SequenceSlope<S>& to) {
    const int keys = p.length + s.tokens, from = head * d;
    const bool tokens_too = to.k != nullptr;
    const int wanted = tokens_too ? keys : p.length;
    const float scale = 1.0f / std::sqrt((float)d);
    HeadRoom room(at, s.queries, keys, d);
    gather_rows(s.q + from, s.q_stride, s.queries, room.depth, scale, room.q);
    gather_rows(d_out + from, d_stride, s.queries, room.depth, 1.0f, room.out);
    turn_keys(room, p.keys_turned + (size_t)from * p.length, p.length, s.k + from, s.stride, s.tokens, d, room.kt);
    turn_keys(room, p.values_turned + (size_t)from * p.length, p.length, s.v + from, s.stride, s.tokens, d, room.vt);
    if (tokens_too) stack_keys(room, p.keys + from, p.length, p.width, s.k + from, s.stride, s.tokens, room.k);
    for (int first = 0; first < s.queries; first += CHUNK) {
        int rows = std::min(CHUNK, s.queries - first), last = room.padded - W;
        const float* q = room.q + (size_t)first * room.depth;
        const float* slope = room.out + (size_t)first * room.depth;
        product<false>(q, room.depth, rows, room.kt, room.stride, d, room.padded, room.scores, room.padded);
        product<false>(slope, room.depth, rows, room.vt, room.stride, d, room.padded, room.slopes, room.padded);
        for (int i = 0; i < rows; i++) {
            float *weights = room.scores + (size_t)i * room.padded, *slopes = room.slopes + (size_t)i * room.padded;
            float norm = norms[(size_t)(first + i) * norm_stride + head];
            store(weights + last, without(load(weights + last), keys - last, -INFINITY));
            store(slopes + last, without(load(slopes + last), keys - last, 0.0f));
            const uint32_t drawn = drop.dropout ? drop.row(first + i, head) : 0;
            vf total = zero();
            for (int j = 0; j < room.padded; j += W) {
                vf e = exponential(load(weights + j) - norm);
                if (drop.dropout) store(slopes + j, drop.dropout(load(slopes + j), drawn, j));
                store(weights + j, e);
                total += e * load(slopes + j);
            }
            float mean = sum(total);
            for (int j = 0; j < room.padded; j += W) {
                vf e = load(weights + j);
                store(slopes + j, e * (load(slopes + j) - mean));
                if (drop.dropout) store(weights + j, drop.dropout(e, drawn, j));
            }
        }
        if (first == 0) {
            product<true>(room.scores, room.padded, wanted, slope, room.depth, rows, room.depth, room.dv, room.depth);
            product<true>(room.slopes, room.padded, wanted, q, room.depth, rows, room.depth, room.dk, room.depth);
        } else {
            product<true, true>(room.scores, room.padded, wanted, slope, room.depth, rows, room.depth, room.dv,
                                room.depth);
            product<true, true>(room.slopes, room.padded, wanted, q, room.depth, rows, room.depth, room.dk, room.depth);
        }
        if (!tokens_too) continue;
        float* dq = room.v;  // four rows at a time; the backward has no other use for it
        for (int i = 0; i < rows; i += 4) {
            product<false>(room.slopes + (size_t)i * room.padded, room.padded, 4, room.k, room.depth, keys, room.depth,
                           dq, room.depth);
            for (int r = 0; r < std::min(4, rows - i); r++)
                for (int c = 0; c < d; c += W)
                    store_some(to.q + (size_t)(first + i + r) * to.q_stride + from + c,
                               scale * load(dq + (size_t)r * room.depth + c), d - c);
        }
    }
    give_prompt_slopes(p, head, d, room.dk, room.dv, room.depth, to);
    if (tokens_too) give_token_slopes(p, s.tokens, head, d, room.dk, room.dv, room.depth, to);
}

}  // namespace pg
