// Causal attention of packed rows to ranges of keys, forward and backward, in fp32 between products. A column is one
// query of one head: all heads of queries that share a head of keys stand side by side, so that many columns meet the
// same keys and nothing is summed across a vector. The softmax runs (Milakov and Gimelshein 2018), and the backward
// computes it again from its sums (Dao et al. 2022, algorithm 4).
#pragma once

#include <cmath>

#include "encoder.h"
#include "seen.h"
#include "tiles.h"

namespace pg {

constexpr int COLUMNED = 64;     // columns whose scores are held at once
constexpr int KEYED = 128;       // keys that are held at once
constexpr int SUMMED = 64;       // keys whose gradients are summed at once
constexpr float LAZY = 11.5f;    // by how many powers of two a score may pass the highest before before sums are scaled
constexpr float LOG2E = 1.44269504f;

// Products on vectors, all in fp32.
struct PlainProducts {
    typedef float Held;
    struct Tiles {};
    static constexpr bool TILED = false;
    static constexpr int DEPTHS = W, SPAN = W;  // widths of heads, and spans of columns, are multiples of these

    // Rows as columns, [width, COLUMNED].
    static void turn(const float* rows, int width, float* to) {
        for (int row = 0; row < COLUMNED; row += W)
            for (int c = 0; c < width; c += W) {
                vf square[W];
                for (int i = 0; i < W; i++) square[i] = load(rows + (size_t)(row + i) * width + c);
                transpose(square);
                for (int i = 0; i < W; i++) store(to + (size_t)(c + i) * COLUMNED + row, square[i]);
            }
    }

    // scores [keys, columns] = keys [keys, width] turned [width, columns], of the columns from `first` to `last`.
    static void score(const float* keys, int count, int width, const float* turned, int first, int last, float* to) {
        product<false>(keys, width, count, turned + first, COLUMNED, width, last - first, to + first, COLUMNED);
    }

    // out [width, columns] += keys^T [width, keys] weights [keys, columns].
    static void mix(const float* keys, const float*, int count, int width, const float* weights, int first, int last,
                    float* to) {
        product<true, true>(keys, width, width, weights + first, COLUMNED, count, last - first, to + first, COLUMNED);
    }

    // out [keys, width] += weights [keys, columns] rows [columns, width].
    static void collect(const float* weights, int count, const float* rows, int width, int first, int last, float* to) {
        product<false, true>(weights + first, COLUMNED, count, rows + (size_t)first * width, width, last - first,
                             width, to, width);
    }
};

#if defined(__AMX_BF16__)
// The same on tiles, of what is rounded to bf16.
struct TiledProducts {
    typedef bf16 Held;
    typedef pg::Tiles Tiles;
    static constexpr bool TILED = true;
    static constexpr int DEPTHS = 32, SPAN = 16;

    static void turn(const bf16* rows, int width, bf16* to) { turn_rows(rows, COLUMNED, width, to); }

    static void score(const bf16* keys, int count, int width, const bf16* turned, int first, int last, float* to) {
        const TiledSide side = {turned, width / 32, COLUMNED / 16, true};
        tiled_columns<false>(keys, width, up(count, 16), side, 0, side.deep, first / 16, last / 16, to + first,
                             COLUMNED);
    }

    // Of `keys` as columns, and `weights` in pairs of keys.
    static void mix(const bf16*, const bf16* keys, int count, int width, const bf16* weights, int first, int last,
                    float* to) {
        const TiledSide side = {weights, KEYED / 32, COLUMNED / 16, false};
        tiled_columns<true>(keys, KEYED, width, side, 0, up(count, 32) / 32, first / 16, last / 16, to + first,
                            COLUMNED);
    }

    // Of `rows` in pairs.
    static void collect(const bf16* weights, int count, const bf16* rows, int width, int first, int last, float* to) {
        const TiledSide side = {rows, COLUMNED / 32, width / 16, false};
        tiled_columns<true>(weights, COLUMNED, up(count, 16), side, first / 32, up(last, 32) / 32, 0, width / 16, to,
                            width);
    }
};
#endif

// A head's row in fp32, turned where there are angles, with zeros up to `width`.
template <class S>
inline void read_row(const S* from, const S* cosine, const S* sine, int depth, int width, float* to) {
    for (int c = 0; !cosine && c < depth; c += W) store_some(to + c, load_some(from + c, depth - c), depth - c);
    const int half = depth / 2;
    for (int c = 0; cosine && c < half; c += W) {
        const int left = half - c;
        const vf a = load_some(from + c, left), b = load_some(from + half + c, left);
        const vf cos = load_some(cosine + c, left), sin = load_some(sine + c, left);
        store_some(to + c, a * cos - b * sin, left);
        store_some(to + half + c, b * cos + a * sin, left);
    }
    for (int c = depth; c < width; c++) to[c] = 0.0f;
}

// A row of a gradient, turned back where there are angles (those of its place).
template <class S>
inline void write_row(float* row, const S* cosine, const S* sine, int64_t angle, int depth, float* line, S* to) {
    if (cosine) {
        const int half = depth / 2;
        for (int c = 0; c < half; c += W) {
            const int left = half - c;
            const vf a = load_some(row + c, left), b = load_some(row + half + c, left);
            const vf cos = load_some(cosine + angle + c, left), sin = load_some(sine + angle + c, left);
            store_some(line + c, a * cos + b * sin, left), store_some(line + half + c, b * cos - a * sin, left);
        }
        row = line;
    }
    for (int c = 0; c < depth; c += W) store_some(to + c, load(row + c), depth - c);
}

inline void hold(const float* row, int width, float* to) { std::memcpy(to, row, width * sizeof(float)); }
inline void hold(const float* row, int width, bf16* to) {
    for (int c = 0; c < width; c += W) store(to + c, load(row + c));
}

// Some keys and values of one head, as both products want them: rows of `width`, and turned, [width, KEYED].
template <class P>
struct HeldKeys {
    typedef typename P::Held Held;
    Held *keys, *values, *keys_turned, *values_turned;

    HeldKeys(Carver& from, int width) {
        for (Held** part : {&keys, &values}) *part = from.take<Held>((size_t)KEYED * width);
        for (Held** part : {&keys_turned, &values_turned})
            *part = from.take<Held>(P::TILED ? (size_t)KEYED * width : 0);
    }
};

// One task's head of keys: its columns in groups of COLUMNED, each with its queries turned and what is summed for it.
template <class S, class P>
struct CausalHead {
    typedef typename P::Held Held;
    const CausalCall& call;
    const QueryTask& task;
    int head, depth, width, group, columns, groups;
    Carver room;

    float *row, *scores, *slopes, *tops, *totals, *means;
    Held *rows, *weights, *d_weights, *pairs;
    Held *turned, *turned_slopes, *held, *held_slopes;  // of queries and of the outputs' gradients, a group each
    float* sums;                                        // [groups][width, COLUMNED]
    HeldKeys<P> near;
    int least[COLUMNED], most[COLUMNED];

    CausalHead(const CausalCall& call_, const QueryTask& task_, int head_, bool backward, Carver from)
        : call(call_), task(task_), head(head_), depth((int)call.width), width(up(depth, P::DEPTHS)),
          group(call.group()), columns((int)(task.last - task.first) * group),
          groups((columns + COLUMNED - 1) / COLUMNED), room(from), near(room, width) {
        const size_t square = (size_t)width * COLUMNED, all = square * groups, some = (size_t)KEYED * COLUMNED;
        row = room.take<float>(square), rows = room.take<Held>(square);
        scores = room.take<float>(some), slopes = room.take<float>(backward ? some : 0);
        for (Held** part : {&weights, &d_weights, &pairs}) *part = room.take<Held>(P::TILED ? some : 0);
        turned = room.take<Held>(all), sums = room.take<float>(all);
        for (float** part : {&tops, &totals, &means}) *part = room.take<float>((size_t)groups * COLUMNED);
        for (Held** part : {&turned_slopes, &held, &held_slopes}) *part = room.take<Held>(backward ? all : 0);
    }

    static size_t bytes(const CausalCall& call, const CausalPlan& plan, bool backward) {
        const QueryTask widest = {0, plan.most_queries, {}};
        return CausalHead(call, widest, 0, backward, Carver{nullptr}).room.used;
    }

    // Where a column's values stand among [queries, heads], and its query.
    int64_t query(int column) const { return task.first + column / group; }
    int64_t place(int column) const { return query(column) * call.heads + head * group + column % group; }

    // A group of columns as rows; those behind the last are zero.
    void read_group(int number, const void* from, const void* cosine, const void* sine) {
        const S *values = (const S*)from, *cos = (const S*)cosine, *sin = (const S*)sine;
        for (int i = 0; i < COLUMNED; i++) {
            const int column = number * COLUMNED + i;
            float* to = row + (size_t)i * width;
            if (column >= columns) {
                std::memset(to, 0, width * sizeof(float));
                continue;
            }
            const int64_t angle = query(column) * (depth / 2);
            read_row(values + place(column) * depth, cos ? cos + angle : nullptr, sin ? sin + angle : nullptr, depth,
                     width, to);
        }
    }

    // What was read, as products want it: turned and, for gradients of keys, as rows (on tiles in pairs).
    void hold_group(int number, Held* turned_to, Held* rows_to) {
        const size_t at = (size_t)number * width * COLUMNED;
        Held* plain = rows_to && !P::TILED ? rows_to + at : rows;
        for (int i = 0; i < COLUMNED; i++) hold(row + (size_t)i * width, width, plain + (size_t)i * width);
        P::turn(plain, width, turned_to + at);
#if defined(__AMX_BF16__)
        if constexpr (P::TILED)
            if (rows_to) pair_rows(rows, COLUMNED, width, rows_to + at);
#endif
    }

    // Keys (or values) of a range side by side, with zeros behind the last.
    template <class K>
    void hold_rows(const KeySource& from, const void* values, int64_t first, int count, bool turn, Held* to) {
        const K *cos = turn ? (const K*)from.cosine : nullptr, *sin = (const K*)from.sine;
        alignas(64) float line[WIDEST];
        for (int i = 0; i < count; i++, to += width) {
            const K* row_of = (const K*)values + from.start(first + i, head);
            if (std::is_same<K, Held>::value && !cos && depth == width) {
                std::memcpy((void*)to, row_of, width * sizeof(Held));
                continue;
            }
            const int64_t angle = (first + i) * (depth / 2);
            read_row(row_of, cos ? cos + angle : nullptr, cos ? sin + angle : nullptr, depth, width, line);
            hold(line, width, to);
        }
        std::memset((void*)to, 0, (size_t)(up(count, P::TILED ? 32 : 4) - count) * width * sizeof(Held));
    }

    template <class K>
    void hold_keys(const Seen& seen, int first, int count) {
        const KeySource& from = call.sources[seen.source];
        hold_rows<K>(from, from.keys, seen.key + first, count, true, near.keys);
        hold_rows<K>(from, from.values, seen.key + first, count, false, near.values);
    }

    void hold_keys(const Seen& seen, int first, int count, bool backward) {
        if (call.sources[seen.source].half)
            hold_keys<bf16>(seen, first, count);
        else
            hold_keys<float>(seen, first, count);
        if (!P::TILED) return;
        turn_halves(backward ? near.keys : near.values, up(count, 32), backward ? near.keys_turned : near.values_turned);
    }

    // Rows in bf16 as columns, [width, KEYED].
    void turn_halves(const Held* from, int count, Held* to) const {
        for (int i = 0; i < count; i += W)
            for (int c = 0; c < width; c += W) {
                vf square[W];
                for (int j = 0; j < W; j++) square[j] = load(from + (size_t)(i + j) * width + c);
                transpose(square);
                for (int j = 0; j < W; j++) store(to + (size_t)(c + j) * KEYED + i, square[j]);
            }
    }

    // The columns of a group that a range has: [first, last), with the keys that each sees; none: false.
    bool bound(const Seen& seen, int number, int& first, int& last) {
        const int64_t begin = (int64_t)number * COLUMNED;
        first = (int)std::max<int64_t>(0, (seen.first - task.first) * group - begin);
        last = (int)std::min<int64_t>(COLUMNED, (seen.last - task.first) * group - begin);
        if (first >= last) return false;
        for (int i = 0; i < COLUMNED; i++) {
            if (i < first || i >= last)
                least[i] = most[i] = 0;
            else if (i > first && (begin + i) % group)
                least[i] = least[i - 1], most[i] = most[i - 1];
            else
                seen.bounds(call, query((int)begin + i), least[i], most[i]);
        }
        return true;
    }

    // `work(number, first, last, count)` for every group of columns that sees some of the keys from `from` on: its
    // columns, and how many keys they see.
    template <class Work>
    void each_group(const Seen& seen, int from, int held_keys, Work work) {
        const int start = (int)((seen.first - task.first) * group / COLUMNED);
        for (int number = start, first, last; number < groups && bound(seen, number, first, last); number++) {
            const int count = std::min(held_keys, *std::max_element(most + first, most + last) - from);
            const int begin = call.window ? *std::min_element(least + first, least + last) : 0;
            if (count > 0 && begin < from + count) work(number, first, last, count);
        }
    }

    // The keys that a vector of columns sees, counted from `from`, and whether all of them see all `count`.
    bool sight(int column, int from, int count, vi& lower, vi& upper) const {
        std::memcpy(&lower, least + column, sizeof lower), std::memcpy(&upper, most + column, sizeof upper);
        lower -= from, upper -= from;
        return !any((lower > 0) | (upper < count));
    }

    // Where a vector of columns of two keys stands among the pairs.
    Held* pair(int column, int key) const {
        return pairs + (size_t)(key / 32 * (COLUMNED / 16) + column / 16) * 512 + key % 32 * 16;
    }

    // Probabilities and the gradients of scores as rows of keys: on tiles in bf16, else in the place of scores.
    Held* weighted() const { return P::TILED ? weights : (Held*)scores; }
    Held* d_weighted() const { return P::TILED ? d_weights : (Held*)slopes; }

    void forward() {
        for (int number = 0; number < groups; number++) {
            read_group(number, call.query, call.cosine, call.sine);
            hold_group(number, turned, nullptr);
        }
        std::memset(sums, 0, (size_t)groups * width * COLUMNED * sizeof(float));
        for (int i = 0; i < groups * COLUMNED; i++) tops[i] = -INFINITY, totals[i] = 0.0f;
        for (const Seen& seen : task.seen)
            for (int from = 0; from < seen.keys(); from += KEYED) {
                const int count = std::min<int>(KEYED, (int)seen.keys() - from);
                hold_keys(seen, from, count, false);
                each_group(seen, from, count, [&](int number, int first, int last, int keys) {
                    add(number, from, keys, first / P::SPAN * P::SPAN, up(last, P::SPAN));
                });
            }
        for (int number = 0; number < groups; number++) write_out(number);
    }

    // Add the held keys to what a group of columns has summed.
    void add(int number, int from, int count, int first, int last) {
        const size_t at = (size_t)number * width * COLUMNED;
        P::score(near.keys, count, width, turned + at, first, last, scores);
        for (int c = first; c < last; c += W) {
            vi lower, upper;
            if (sight(c, from, count, lower, upper))
                weigh<true>(number, c, count, lower, upper);
            else
                weigh<false>(number, c, count, lower, upper);
        }
        P::mix(near.values, near.values_turned, count, width, P::TILED ? pairs : (const Held*)scores, first, last,
               sums + at);
    }

    // Exponentials of a vector of columns in the place of its scores; what was summed before is scaled if it has to be.
    template <bool ALL>
    void weigh(int number, int column, int count, vi lower, vi upper) {
        float *at = scores + column, *top = tops + number * COLUMNED + column;
        const float scale = (float)call.scale * LOG2E;
        auto score = [&](int key) {
            const vf found = load(at + (size_t)key * COLUMNED);
            return ALL ? found : (lower <= key) & (upper > key) ? found : set(-INFINITY);
        };
        vf high[4] = {set(-INFINITY), set(-INFINITY), set(-INFINITY), set(-INFINITY)};
        int key = 0;
        for (; key + 4 <= count; key += 4)
            for (int i = 0; i < 4; i++) high[i] = larger(high[i], score(key + i));
        for (; key < count; key++) high[0] = larger(high[0], score(key));
        const vf before = load(top), highest = scale * larger(larger(high[0], high[1]), larger(high[2], high[3]));
        const vi passes = highest > before + LAZY;
        if (any(passes)) rescale(number, column, before, passes, highest);
        const vf now = load(top), base = now > -INFINITY ? now : zero();
        auto exponential_of = [&](int k) { return power_of_two<P::TILED>(score(k) * scale - base); };
        vf total = zero();
        if constexpr (P::TILED) {
            for (int k = 0; k < up(count, 32); k += 2) {
                const vf a = k < count ? exponential_of(k) : zero(), b = k + 1 < count ? exponential_of(k + 1) : zero();
                total += a + b;
                store_pairs(pair(column, k), a, b);
            }
        } else {
            for (int k = 0; k < count; k++) {
                const vf e = exponential_of(k);
                total += e;
                store(at + (size_t)k * COLUMNED, e);
            }
        }
        float* sum = totals + number * COLUMNED + column;
        store(sum, load(sum) + total);
    }

    void rescale(int number, int column, vf before, vi passes, vf highest) {
        const size_t at = (size_t)number * COLUMNED + column;
        store(tops + at, passes ? highest : before);
        if (!any(passes & (before > -INFINITY))) return;
        const vf factor = passes ? power_of_two<false>(before - highest) : set(1.0f);
        store(totals + at, load(totals + at) * factor);
        float* to = sums + (size_t)number * width * COLUMNED + column;
        for (int c = 0; c < width; c++) store(to + (size_t)c * COLUMNED, load(to + (size_t)c * COLUMNED) * factor);
    }

    // What a group of columns has summed as rows, times a factor a column.
    void turn_sums(int number, const float* factors) {
        const float* from = sums + (size_t)number * width * COLUMNED;
        for (int i = 0; i < COLUMNED; i += W) {
            const vf factor = load(factors + i);
            for (int c = 0; c < width; c += W) {
                vf square[W];
                for (int j = 0; j < W; j++) square[j] = factor * load(from + (size_t)(c + j) * COLUMNED + i);
                transpose(square);
                for (int j = 0; j < W; j++) store(row + (size_t)(i + j) * width + c, square[j]);
            }
        }
    }

    void write_out(int number) {
        float shares[COLUMNED];
        for (int i = 0; i < COLUMNED; i++) {
            const int column = number * COLUMNED + i;
            const float total = totals[column];
            shares[i] = total > 0 ? 1.0f / total : 0.0f;
            if (column < columns && call.norms)
                call.norms[place(column)] = total > 0 ? tops[column] / LOG2E + std::log(total) : 0.0f;
        }
        turn_sums(number, shares);
        for (int i = 0; i < COLUMNED && number * COLUMNED + i < columns; i++) {
            S* to = (S*)call.out + place(number * COLUMNED + i) * depth;
            for (int c = 0; c < depth; c += W) store_some(to + c, load(row + (size_t)i * width + c), depth - c);
        }
    }

    void backward(float* slabs) {
        for (int number = 0; number < groups; number++) read_slopes(number);
        std::memset(sums, 0, (size_t)groups * width * COLUMNED * sizeof(float));
        for (const Seen& seen : task.seen) {
            const bool of_keys = call.sources[seen.source].d_keys;
            if (!of_keys && !call.d_query) continue;
            const size_t slab = (size_t)up((int)seen.keys(), ROWS) * width;
            for (int from = 0; from < seen.keys(); from += KEYED) {
                const int count = std::min<int>(KEYED, (int)seen.keys() - from);
                hold_keys(seen, from, count, true);
                float* d_keys = of_keys ? slabs + seen.slab + 2 * slab * head + (size_t)from * width : nullptr;
                int summed = 0;
                each_group(seen, from, count, [&](int number, int first, int last, int keys) {
                    slope(number, from, keys, first, last);
                    if (of_keys) collect(number, keys, first, last, d_keys, d_keys + slab, summed);
                });
                if (of_keys && summed < count)
                    for (float* part : {d_keys, d_keys + slab})
                        std::memset(part + (size_t)summed * width, 0, (size_t)(count - summed) * width * sizeof(float));
            }
        }
        for (int number = 0; call.d_query && number < groups; number++) write_slopes(number);
    }

    // Queries, the outputs' gradients and their means over what was attended, for a group of columns.
    void read_slopes(int number) {
        read_group(number, call.query, call.cosine, call.sine);
        hold_group(number, turned, held);
        read_group(number, call.d_out, nullptr, nullptr);
        hold_group(number, turned_slopes, held_slopes);
        for (int i = 0; i < COLUMNED; i++) {
            const int column = number * COLUMNED + i;
            tops[column] = means[column] = 0.0f;
            if (column >= columns) continue;
            const S* out = (const S*)call.out + place(column) * depth;
            vf mean = zero();
            for (int c = 0; c < depth; c += W) mean += load(row + (size_t)i * width + c) * load_some(out + c, depth - c);
            tops[column] = call.norms[place(column)] * LOG2E, means[column] = sum(mean);
        }
    }

    // Probabilities of a group of columns and the gradients of their scores, and from these the queries' gradients.
    void slope(int number, int from, int count, int first, int last) {
        const size_t at = (size_t)number * width * COLUMNED;
        const int wide = P::TILED ? 32 : W;
        first = first / wide * wide, last = up(last, wide);
        P::score(near.keys, count, width, turned + at, first, last, scores);
        P::score(near.values, count, width, turned_slopes + at, first, last, slopes);
        for (int c = first; c < last; c += W) {
            vi lower, upper;
            if (sight(c, from, count, lower, upper))
                weigh_slopes<true>(number, c, count, lower, upper);
            else
                weigh_slopes<false>(number, c, count, lower, upper);
        }
        if (call.d_query)
            P::mix(near.keys, near.keys_turned, count, width, P::TILED ? pairs : (const Held*)slopes, first, last,
                   sums + at);
    }

    template <bool ALL>
    void weigh_slopes(int number, int column, int count, vi lower, vi upper) {
        const float scale = (float)call.scale * LOG2E;
        const vf norm = load(tops + number * COLUMNED + column), mean = load(means + number * COLUMNED + column);
        const float *weight = scores + column, *d_score = slopes + column;
        auto probability = [&](int k) {
            const vf found = power_of_two<P::TILED>(load(weight + (size_t)k * COLUMNED) * scale - norm);
            return ALL ? found : (lower <= k) & (upper > k) ? found : zero();
        };
        for (int k = 0; k < up(count, P::TILED ? 32 : 4); k += 2) {
            vf p[2] = {zero(), zero()}, d[2] = {zero(), zero()};
            for (int i = 0; i < 2 && k + i < count; i++) {
                p[i] = probability(k + i);
                d[i] = p[i] * (load(d_score + (size_t)(k + i) * COLUMNED) - mean);
            }
            if constexpr (P::TILED) store_pairs(pair(column, k), d[0], d[1]);
            for (int i = 0; i < 2; i++) {
                const size_t at = (size_t)(k + i) * COLUMNED + column;
                store(weighted() + at, p[i]), store(d_weighted() + at, d[i]);
            }
        }
    }

    // The gradients of the held keys and values, of which `summed` rows have some already.
    void collect(int number, int count, int first, int last, float* d_keys, float* d_values, int& summed) {
        const size_t at = (size_t)number * width * COLUMNED;
        for (float* part : {d_keys, d_values})
            if (count > summed)
                std::memset(part + (size_t)summed * width, 0, (size_t)(count - summed) * width * sizeof(float));
        summed = std::max(summed, count);
        P::collect(weighted(), count, held_slopes + at, width, first, last, d_values);
        P::collect(d_weighted(), count, held + at, width, first, last, d_keys);
    }

    void write_slopes(int number) {
        float factors[COLUMNED];
        for (float& factor : factors) factor = (float)call.scale;
        turn_sums(number, factors);
        alignas(64) float line[WIDEST];
        for (int i = 0; i < COLUMNED && number * COLUMNED + i < columns; i++) {
            const int column = number * COLUMNED + i;
            const int64_t angle = query(column) * (depth / 2);
            write_row(row + (size_t)i * width, (const S*)call.cosine, (const S*)call.sine, angle, depth, line,
                      (S*)call.d_query + place(column) * depth);
        }
    }
};

// Sum the gradients of some keys and values of one head, task by task.
template <class S, class P, class K>
void sum_keys(const CausalCall& call, const CausalPlan& plan, int source, int64_t first, int64_t last, int head,
              const float* slabs, float* room) {
    const KeySource& to = call.sources[source];
    const int depth = (int)call.width, width = up(depth, P::DEPTHS);
    float *keys = room, *values = room + (size_t)SUMMED * width, *line = values + (size_t)SUMMED * width;
    std::memset(room, 0, 2 * (size_t)SUMMED * width * sizeof(float));
    for (const QueryTask& task : plan.tasks)
        for (const Seen& seen : task.seen) {
            const int64_t begin = std::max(first, seen.key), end = std::min(last, seen.end);
            if (seen.source != source || begin >= end) continue;
            const size_t slab = (size_t)up((int)seen.keys(), ROWS) * width;
            const float* from = slabs + seen.slab + 2 * slab * head + (begin - seen.key) * width;
            const size_t at = (begin - first) * width, count = (end - begin) * width;
            for (size_t i = 0; i < count; i += W) {
                store(keys + at + i, load(keys + at + i) + load(from + i));
                store(values + at + i, load(values + at + i) + load(from + slab + i));
            }
        }
    const size_t count = (last - first) * width;
    for (size_t i = 0; i < count; i += W) store(keys + i, load(keys + i) * (float)call.scale);
    for (int64_t at = first; at < last; at++) {
        const size_t row = (at - first) * width, start = to.start(at, head);
        write_row(keys + row, (const K*)to.cosine, (const K*)to.sine, at * (depth / 2), depth, line,
                  (K*)to.d_keys + start);
        write_row(values + row, (const K*)nullptr, (const K*)nullptr, 0, depth, line, (K*)to.d_values + start);
    }
}

}  // namespace pg
