// The attention of attention.h on matrix tiles (AMX): products in bf16 summed in fp32, everything between them in fp32.
// For heads whose depth is a multiple of 32.
#pragma once

#include "attention.h"
#include "gemm.h"

#if defined(__AMX_BF16__)

namespace pg {

constexpr int TILE = 512;  // bf16 values of one tile
constexpr int TILED = 32;  // depths and widths of products are multiples of this

// A product's right side as tiles: `deep` times 32 summed over, `broad` times 16 columns.
struct TiledSide {
    const bf16* tiles;
    int deep, broad;
    bool turned;  // packed from rows that are columns here

    const bf16* at(int depth, int column) const {
        return tiles + (size_t)(turned ? column * deep + depth : depth * broad + column) * TILE;
    }
};

// Rows as columns: what x is multiplied with for x rows^T. `count` is a multiple of 32, as is `depth`.
inline TiledSide turn_rows(const bf16* rows, int count, int depth, bf16* to) {
    const TiledSide side = {to, depth / 32, count / 16, true};
    for (int n = 0; n < side.broad; n++)
        for (int k = 0; k < side.deep; k++, to += TILE) {
            vf pairs[W];  // two values of a row are moved as one
            for (int i = 0; i < W; i++) std::memcpy(&pairs[i], rows + (size_t)(n * 16 + i) * depth + k * 32, 64);
            transpose(pairs);
            std::memcpy(to, pairs, sizeof pairs);
        }
    return side;
}

// Rows as they are: what x is multiplied with for x rows.
inline TiledSide pair_rows(const bf16* rows, int count, int depth, bf16* to) {
    const TiledSide side = {to, count / 32, depth / 16, false};
    for (int k = 0; k < side.deep; k++)
        for (int n = 0; n < side.broad; n++, to += TILE)
            for (int i = 0; i < 16; i++) {
                const bf16* two = rows + (size_t)(k * 32 + 2 * i) * depth + n * 16;
                vh low, high;
                std::memcpy(&low, two, sizeof low), std::memcpy(&high, two + depth, sizeof high);
                vu both = __builtin_convertvector(low, vu) | (__builtin_convertvector(high, vu) << 16);
                std::memcpy(to + i * 32, &both, sizeof both);
            }
    return side;
}

// 32 (or 16) rows by 32 (or 16) columns, of the depths from `first` to `last`; MORE: added to what is there.
template <int TALL, int WIDTH, bool MORE>
inline void tiled_block(const bf16* a, int lda, const TiledSide& b, int first, int last, int column, float* out,
                        int ldo) {
    __asm__ volatile("" ::: "memory");  // tile loads do not tell the compiler what they read
    constexpr bool tall = TALL == 2, broad = WIDTH == 2;
    const bf16* lower = a + (size_t)16 * lda;
    float* below = out + (size_t)16 * ldo;
    if constexpr (MORE) {
        _tile_loadd(0, out, ldo * 4);
        if constexpr (broad) _tile_loadd(1, out + 16, ldo * 4);
        if constexpr (tall) _tile_loadd(2, below, ldo * 4);
        if constexpr (tall && broad) _tile_loadd(3, below + 16, ldo * 4);
    } else {
        _tile_zero(0);
        if constexpr (broad) _tile_zero(1);
        if constexpr (tall) _tile_zero(2);
        if constexpr (tall && broad) _tile_zero(3);
    }
    for (int k = first; k < last; k++) {
        _tile_loadd(4, a + k * 32, lda * 2);
        _tile_loadd(6, b.at(k, column), 64);
        _tile_dpbf16ps(0, 4, 6);
        if constexpr (broad) _tile_loadd(7, b.at(k, column + 1), 64);
        if constexpr (broad) _tile_dpbf16ps(1, 4, 7);
        if constexpr (tall) _tile_loadd(5, lower + k * 32, lda * 2);
        if constexpr (tall) _tile_dpbf16ps(2, 5, 6);
        if constexpr (tall && broad) _tile_dpbf16ps(3, 5, 7);
    }
    _tile_stored(0, out, ldo * 4);
    if constexpr (broad) _tile_stored(1, out + 16, ldo * 4);
    if constexpr (tall) _tile_stored(2, below, ldo * 4);
    if constexpr (tall && broad) _tile_stored(3, below + 16, ldo * 4);
}

// Of a [rows, 32 b.deep] b the columns from 16 `column` up to 16 `end`, into `out`, summed over some depths;
// `rows` is a multiple of 16.
template <bool MORE>
inline void tiled_columns(const bf16* a, int lda, int rows, const TiledSide& b, int first, int last, int column,
                          int end, float* out, int ldo) {
    for (int row = 0; row < rows; row += 32) {
        const bf16* from = a + (size_t)row * lda;
        float* to = out + (size_t)row * ldo;
        for (int at = column; at < end; at += 2, to += 32)
            if (rows - row >= 32 && end - at >= 2)
                tiled_block<2, 2, MORE>(from, lda, b, first, last, at, to, ldo);
            else if (rows - row >= 32)
                tiled_block<2, 1, MORE>(from, lda, b, first, last, at, to, ldo);
            else if (end - at >= 2)
                tiled_block<1, 2, MORE>(from, lda, b, first, last, at, to, ldo);
            else
                tiled_block<1, 1, MORE>(from, lda, b, first, last, at, to, ldo);
    }
}

// out [rows, 16 b.broad] = a [rows, 32 b.deep] b; `rows` is a multiple of 16.
template <bool MORE = false>
inline void tiled_product(const bf16* a, int lda, int rows, const TiledSide& b, float* out, int ldo) {
    tiled_columns<MORE>(a, lda, rows, b, 0, b.deep, 0, b.broad, out, ldo);
}

// Room for one head of one sequence.
struct TiledRoom {
    int keys, queries;  // padded
    bf16 *q, *d_out, *k, *v, *turned_k, *turned_v, *paired, *paired_q, *paired_d_out;
    bf16 *weights, *turned_weights, *turned_slopes;
    float *scores, *slopes, *out, *dk, *dv;

    static size_t floats(int queries, int keys, int d) {
        const size_t m = up(queries, TILED), n = up(keys, TILED), rows = std::min<size_t>(m, CHUNK);
        return (2 * m * d + 5 * n * d + 2 * rows * d + 3 * rows * n) / 2 + 2 * rows * n + rows * d + 2 * n * d + 64;
    }

    TiledRoom(float* at, int queries_, int keys_, int d) : keys(up(keys_, TILED)), queries(up(queries_, TILED)) {
        const size_t m = queries, n = keys, rows = std::min<size_t>(m, CHUNK);
        auto take = [&](size_t count) {
            float* p = at;
            at += count;
            return p;
        };
        scores = take(rows * n), slopes = take(rows * n), out = take(rows * d);
        dk = take(n * d), dv = take(n * d);
        auto half = [&](size_t count) { return (bf16*)take(count / 2); };
        q = half(m * d), d_out = half(m * d), k = half(n * d), v = half(n * d);
        turned_k = half(n * d), turned_v = half(n * d), paired = half(n * d);
        paired_q = half(rows * d), paired_d_out = half(rows * d);
        weights = half(rows * n), turned_weights = half(rows * n), turned_slopes = half(rows * n);
    }
};

// Rows of one head side by side, with zeros up to `padded` rows.
inline void gather_halves(const bf16* from, int stride, int rows, int padded, int d, bf16* to) {
    for (int i = 0; i < rows; i++)
        std::memcpy((void*)(to + (size_t)i * d), from + (size_t)i * stride, d * sizeof(bf16));
    if (padded > rows) std::memset((void*)(to + (size_t)rows * d), 0, (size_t)(padded - rows) * d * sizeof(bf16));
}

// Keys (or values) of prompt and tokens.
inline void stack_halves(const bf16* prompt, int prompts, int width, const bf16* from, int stride, int tokens,
                         int padded, int d, bf16* to) {
    gather_halves(prompt, width, prompts, prompts, d, to);
    gather_halves(from, stride, tokens, padded - prompts, d, to + (size_t)prompts * d);
}

// Rows of scores, scaled, with nothing behind the last key.
inline vf scaled_score(const float* row, int column, int keys, float scale, float instead) {
    return without(load(row + column) * scale, keys - column, instead);
}

inline void attend_tiled(const SequenceView<bf16>& s, const PromptView& p, const AttentionDropout& drop, int head,
                         int d, float* at, bf16* out, int out_stride, float* norms, int norm_stride) {
    const int keys = p.length + s.tokens, from = head * d;
    const float scale = 1.0f / std::sqrt((float)d);
    TiledRoom room(at, s.queries, keys, d);
    gather_halves(s.q + from, s.q_stride, s.queries, room.queries, d, room.q);
    stack_halves(p.half_keys + from, p.length, p.width, s.k + from, s.stride, s.tokens, room.keys, d, room.k);
    stack_halves(p.half_values + from, p.length, p.width, s.v + from, s.stride, s.tokens, room.keys, d, room.v);
    const TiledSide by_keys = turn_rows(room.k, room.keys, d, room.turned_k);
    const TiledSide values = pair_rows(room.v, room.keys, d, room.paired);
    for (int first = 0; first < s.queries; first += CHUNK) {
        const int rows = std::min(CHUNK, s.queries - first), tall = up(rows, 16);
        tiled_product(room.q + (size_t)first * d, d, tall, by_keys, room.scores, room.keys);
        for (int i = 0; i < rows; i++) {
            float* row = room.scores + (size_t)i * room.keys;
            vf most = set(-INFINITY);
            for (int j = 0; j < room.keys; j += W) {
                vf score = scaled_score(row, j, keys, scale, -INFINITY);
                store(row + j, score);
                most = larger(most, score);
            }
            const float top = largest(most);
            vf total = zero();
            for (int j = 0; j < room.keys; j += W) {
                vf e = exponential(load(row + j) - top);
                store(row + j, e);
                total += e;
            }
            const float all = sum(total), share = 1.0f / all;
            const uint32_t drawn = drop.dropout ? drop.row(first + i, head) : 0;
            for (int j = 0; j < room.keys; j += W) {
                vf weight = load(row + j) * share;
                store(room.weights + (size_t)i * room.keys + j, drop.dropout ? drop.dropout(weight, drawn, j) : weight);
            }
            if (norms) norms[(size_t)(first + i) * norm_stride + head] = top + std::log(all);
        }
        tiled_product(room.weights, room.keys, tall, values, room.out, d);
        for (int i = 0; i < rows; i++)
            for (int c = 0; c < d; c += W)
                store(out + (size_t)(first + i) * out_stride + from + c, load(room.out + (size_t)i * d + c));
    }
}

// [rows, width] with rows as columns, [width, rows], in bf16; both multiples of 16.
inline void turn_block(const float* from, int rows, int width, bf16* to) {
    for (int row = 0; row < rows; row += W)
        for (int column = 0; column < width; column += W) {
            vf square[W];
            for (int i = 0; i < W; i++) square[i] = load(from + (size_t)(row + i) * width + column);
            transpose(square);
            for (int i = 0; i < W; i++) store(to + (size_t)(column + i) * rows + row, square[i]);
        }
}

inline void attend_backward_tiled(const SequenceView<bf16>& s, const PromptView& p, const AttentionDropout& drop,
                                  int head, int d, float* at, const bf16* d_out, int d_stride, const float* norms,
                                  int norm_stride, const SequenceSlope<bf16>& to) {
    const int keys = p.length + s.tokens, from = head * d;
    const bool tokens_too = to.k != nullptr;
    const int wanted = up(tokens_too ? keys : p.length, 16);
    const float scale = 1.0f / std::sqrt((float)d);
    TiledRoom room(at, s.queries, keys, d);
    gather_halves(s.q + from, s.q_stride, s.queries, room.queries, d, room.q);
    gather_halves(d_out + from, d_stride, s.queries, room.queries, d, room.d_out);
    stack_halves(p.half_keys + from, p.length, p.width, s.k + from, s.stride, s.tokens, room.keys, d, room.k);
    stack_halves(p.half_values + from, p.length, p.width, s.v + from, s.stride, s.tokens, room.keys, d, room.v);
    const TiledSide by_keys = turn_rows(room.k, room.keys, d, room.turned_k);
    const TiledSide by_values = turn_rows(room.v, room.keys, d, room.turned_v);
    const TiledSide plain_keys = tokens_too ? pair_rows(room.k, room.keys, d, room.paired) : TiledSide{};
    for (int first = 0; first < s.queries; first += CHUNK) {
        const int rows = std::min(CHUNK, s.queries - first), tall = up(rows, TILED);
        const bf16 *q = room.q + (size_t)first * d, *slope = room.d_out + (size_t)first * d;
        tiled_product(q, d, tall, by_keys, room.scores, room.keys);
        tiled_product(slope, d, tall, by_values, room.slopes, room.keys);
        for (int i = 0; i < rows; i++) {
            float *weights = room.scores + (size_t)i * room.keys, *slopes = room.slopes + (size_t)i * room.keys;
            const float norm = norms[(size_t)(first + i) * norm_stride + head];
            const uint32_t drawn = drop.dropout ? drop.row(first + i, head) : 0;
            vf total = zero();
            for (int j = 0; j < room.keys; j += W) {
                vf e = exponential(scaled_score(weights, j, keys, scale, -INFINITY) - norm);
                if (drop.dropout) store(slopes + j, drop.dropout(load(slopes + j), drawn, j));
                store(weights + j, e);
                total += e * load(slopes + j);
            }
            const float mean = sum(total);
            for (int j = 0; j < room.keys; j += W) {
                vf e = load(weights + j);
                store(slopes + j, e * (load(slopes + j) - mean) * scale);
                if (drop.dropout) store(weights + j, drop.dropout(e, drawn, j));
            }
        }
        const size_t padding = (size_t)(tall - rows) * room.keys * sizeof(float);
        std::memset(room.scores + (size_t)rows * room.keys, 0, padding);
        std::memset(room.slopes + (size_t)rows * room.keys, 0, padding);
        turn_block(room.scores, tall, room.keys, room.turned_weights);
        turn_block(room.slopes, tall, room.keys, room.turned_slopes);
        const TiledSide outs = pair_rows(slope, tall, d, room.paired_d_out);
        const TiledSide queries = pair_rows(q, tall, d, room.paired_q);
        if (first == 0) {
            tiled_product(room.turned_weights, tall, wanted, outs, room.dv, d);
            tiled_product(room.turned_slopes, tall, wanted, queries, room.dk, d);
        } else {
            tiled_product<true>(room.turned_weights, tall, wanted, outs, room.dv, d);
            tiled_product<true>(room.turned_slopes, tall, wanted, queries, room.dk, d);
        }
        if (!tokens_too) continue;
        for (int i = 0; i < tall; i++)
            for (int j = 0; j < room.keys; j += W)
                store(room.weights + (size_t)i * room.keys + j, load(room.slopes + (size_t)i * room.keys + j));
        tiled_product(room.weights, room.keys, tall, plain_keys, room.out, d);
        for (int i = 0; i < rows; i++)
            for (int c = 0; c < d; c += W)
                store(to.q + (size_t)(first + i) * to.q_stride + from + c, load(room.out + (size_t)i * d + c));
    }
    give_prompt_slopes(p, head, d, room.dk, room.dv, d, to);
    if (tokens_too) give_token_slopes(p, s.tokens, head, d, room.dk, room.dv, d, to);
}

}  // namespace pg

#endif
