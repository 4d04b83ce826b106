// Products of rows with a weight that lies as it was loaded: in bf16 on tiles, and in fp32. A few columns of the weight
// are packed into the second cache, multiplied by all rows and forgotten: it is in memory once, and a call reads it once.
#pragma once

#include "gemm.h"

namespace pg {

// As `library.py` fills it.
struct ProductCall {
    int64_t rows, columns, depth;  // of the result, and how much is summed; columns and depth are multiples of COLUMNS
    int64_t stride;                // from one stored row of the weight to the next, in values
    int64_t turned;                // the weight is stored [depth][columns], not [columns][depth]
    int64_t half, half_out;        // what is multiplied is bf16, not fp32; and what comes out
    int64_t threads;
    const void *x, *weight, *bias, *added;  // the last two may be null; `added` is as large as the result
    void* to;
};

// W columns of a weight [columns][depth], of which `from` is the first value.
inline void pack_columns(const float* from, int64_t stride, int depth, float* to) {
    for (int k = 0; k < depth; k += W) {
        vf part[W];
        for (int c = 0; c < W; c++) {
            __builtin_prefetch(from + (c + W) * stride + k);  // the next columns' share of the same inputs
            part[c] = load(from + c * stride + k);
        }
        transpose(part);
        for (int i = 0; i < W; i++) store(to + (size_t)(k + i) * W, part[i]);
    }
}

// W columns of a weight [columns][depth], of which `from` is the first value. Two inputs share a lane.
inline void pack_columns(const bf16* from, int64_t stride, int depth, bf16* to) {
    for (int k = 0; k < depth; k += 2 * W) {
        vf part[W];
        for (int c = 0; c < W; c++) {
            __builtin_prefetch(from + (c + W) * stride + k);  // the next columns' share of the same inputs
            std::memcpy(&part[c], from + c * stride + k, sizeof part[c]);
        }
        transpose(part);
        for (int i = 0; i < W; i++) std::memcpy(to + (size_t)(k + 2 * i) * W, &part[i], sizeof part[i]);
    }
}

constexpr int AHEAD = 32;  // inputs that are asked of the memory before they are needed

// COLUMNS columns of a weight [depth][columns].
inline void pack_turned(const float* from, int64_t stride, int depth, float* to) {
    for (int k = 0; k < depth; k++) {
        const float* row = from + k * stride;
        for (int c = 0; c < COLUMNS; c += W) {
            __builtin_prefetch(row + AHEAD * stride + c);
            store(to + (size_t)c * depth + (size_t)k * W, load(row + c));
        }
    }
}

inline void pack_turned(const bf16* from, int64_t stride, int depth, bf16* to) {
    for (int k = 0; k < depth; k += 2) {
        const bf16 *row = from + k * stride, *next = row + stride;
        __builtin_prefetch(row + AHEAD * stride), __builtin_prefetch(next + AHEAD * stride);
        for (int c = 0; c < COLUMNS; c += W) {
            vh low, high;
            std::memcpy(&low, row + c, sizeof low), std::memcpy(&high, next + c, sizeof high);
            const vu both = __builtin_convertvector(low, vu) | (__builtin_convertvector(high, vu) << 16);
            std::memcpy(to + (size_t)c * depth + (size_t)k * W, &both, sizeof both);
        }
    }
}

// What the threads share out: groups of columns, and where these are few, parts of the rows too.
struct ProductPlan {
    int wide;             // columns of a group
    int64_t groups;       // of columns
    int64_t high, parts;  // rows of a part, and how many there are

    explicit ProductPlan(const ProductCall& call) {
        const int64_t bytes = call.depth * (call.half ? sizeof(bf16) : sizeof(float));
        const int64_t fitting = std::max<int64_t>(1, PACKED_BYTES / (bytes * COLUMNS));
        const int64_t blocks = call.columns / COLUMNS, most = std::min<int64_t>(GROUP / COLUMNS, fitting) * call.threads;
        const int64_t turns = (blocks + most - 1) / most;
        const int64_t each = (blocks + turns * call.threads - 1) / (turns * call.threads);
        wide = (int)each * COLUMNS;
        groups = (blocks + each - 1) / each;
        const int64_t wanted = groups % call.threads ? (2 * call.threads + groups - 1) / groups : 1;
        const int64_t even = (call.rows + wanted - 1) / wanted;
        high = std::max<int64_t>(LEAST_ROWS, (even + ROWS - 1) / ROWS * ROWS);
        parts = (call.rows + high - 1) / high;
    }

    static constexpr int LEAST_ROWS = 128;  // fewer do not pay for packing the columns again
    static constexpr int PACKED_BYTES = 256 << 10;  // of packed columns that stay in the second cache
};

template <class S>
struct Product {
    const ProductCall& call;
    S *packed, *last;   // a group of columns; the last rows, with rows of zeros behind them

    static size_t bytes(const ProductCall& call, const ProductPlan& plan) {
        return (plan.wide + ROWS) * call.depth * sizeof(S);
    }

    Product(const ProductCall& call, const ProductPlan& plan, char* room)
        : call(call), packed((S*)room), last(packed + plan.wide * call.depth) {}

    // Rows `first` to `end` of so many columns of the result.
    void part(int64_t column, int wide, int64_t first, int64_t end) const {
        const int64_t depth = call.depth, whole = first + (end - first) / ROWS * ROWS;
        const S* x = (const S*)call.x;
        pack(column, wide);
        multiply_rows(x + first * depth, first, whole, whole, column, wide);
        if (whole == end) return;
        const size_t rest = (end - whole) * depth;
        std::memcpy(last, x + whole * depth, rest * sizeof(S));
        std::memset((void*)(last + rest), 0, (ROWS * depth - rest) * sizeof(S));
        multiply_rows(last, whole, whole + ROWS, end, column, wide);
    }

   private:
    void pack(int64_t column, int wide) const {
        const int depth = (int)call.depth;
        const S* weight = (const S*)call.weight;
        if (call.turned)
            for (int c = 0; c < wide; c += COLUMNS)
                pack_turned(weight + column + c, call.stride, depth, packed + (size_t)c * depth);
        else
            for (int c = 0; c < wide; c += W)
                pack_columns(weight + (column + c) * call.stride, call.stride, depth, packed + (size_t)c * depth);
    }

    // Rows `first` to `last` of the result, of which those from `end` on are not there.
    void multiply_rows(const S* x, int64_t first, int64_t last, int64_t end, int64_t column, int wide) const {
        const int depth = (int)call.depth;
        const Weight<S> weight = {wide, depth, packed};
        const S *bias = (const S*)call.bias, *added = (const S*)call.added;
        gemm(x, depth, (int)(last - first), weight, depth, 0, wide, [&](int row, int c, vf value) {
            if (first + row >= end) return;
            const int64_t at = (first + row) * call.columns + column + c;
            if (bias) value += load(bias + column + c);
            if (added) value += load(added + at);
            call.half_out ? store((bf16*)call.to + at, value) : store((float*)call.to + at, value);
        });
    }
};

}  // namespace pg
