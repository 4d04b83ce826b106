// What stands between the products of a decoder, row by row in one pass: the norm by the root of the mean square, and
// the gate of a wide product.
#pragma once

#include <cmath>

#include "simd.h"

namespace pg {

template <class S>
struct RootMeanSquare {
    const S* weight;
    int width;
    float epsilon;

    // What a row is multiplied by.
    float scale(const S* x) const {
        vf total = zero();
        for (int c = 0; c < width; c += W) {
            const vf v = load_some(x + c, width - c);
            total += v * v;
        }
        return 1.0f / std::sqrt(sum(total) / (float)width + epsilon);
    }

    void forward(const S* x, float by, S* to) const {
        for (int c = 0; c < width; c += W) {
            const int left = width - c;
            store_some(to + c, by * load_some(x + c, left) * load_some(weight + c, left), left);
        }
    }

    // The gradient of a row, `by` being what it was multiplied by.
    void backward(const S* x, float by, const S* slope, S* to) const {
        vf total = zero();
        for (int c = 0; c < width; c += W) {
            const int left = width - c;
            total += load_some(slope + c, left) * load_some(weight + c, left) * load_some(x + c, left);
        }
        const float mean = sum(total) / (float)width * by * by * by;
        for (int c = 0; c < width; c += W) {
            const int left = width - c;
            const vf d_normed = load_some(slope + c, left) * load_some(weight + c, left);
            store_some(to + c, by * d_normed - mean * load_some(x + c, left), left);
        }
    }
};

// The non-linearity A of a row's first half times its second half.
template <int A, class S>
struct Gate {
    int width;  // of a half

    void forward(const S* x, S* to) const {
        for (int c = 0; c < width; c += W) {
            const int left = width - c;
            vf y, slope;
            activate<A, S>(load_some(x + c, left), y, slope);
            store_some(to + c, y * load_some(x + width + c, left), left);
        }
    }

    void backward(const S* x, const S* d_out, S* to) const {
        for (int c = 0; c < width; c += W) {
            const int left = width - c;
            const vf value = load_some(x + width + c, left), d = load_some(d_out + c, left);
            vf y, slope;
            activate<A, S>(load_some(x + c, left), y, slope);
            store_some(to + c, d * value * slope, left), store_some(to + width + c, d * y, left);
        }
    }
};

// `work(row)` for every row, on some threads.
template <class Work>
void each_row(int64_t rows, int64_t threads, Work work) {
#pragma omp parallel for schedule(static) num_threads((int)threads)
    for (int64_t row = 0; row < rows; row++) work(row);
}

template <class S>
void root_mean_square(const void* x_, const void* weight, int64_t rows, int width, float epsilon, int64_t threads,
                      float* scales, const void* slopes, void* to_) {
    const RootMeanSquare<S> norm = {(const S*)weight, width, epsilon};
    each_row(rows, threads, [&](int64_t row) {
        const S* x = (const S*)x_ + row * width;
        S* to = (S*)to_ + row * width;
        if (slopes) return norm.backward(x, scales[row], (const S*)slopes + row * width, to);
        const float by = norm.scale(x);
        if (scales) scales[row] = by;
        norm.forward(x, by, to);
    });
}

template <int A, class S>
void gate(const void* x, int64_t rows, int width, int64_t threads, const void* slopes, void* to) {
    const Gate<A, S> part = {width};
    each_row(rows, threads, [&](int64_t row) {
        const S* from = (const S*)x + 2 * row * width;
        if (slopes)
            part.backward(from, (const S*)slopes + row * width, (S*)to + 2 * row * width);
        else
            part.forward(from, (S*)to + row * width);
    });
}

template <class S>
void gate(int activation, const void* x, int64_t rows, int width, int64_t threads, const void* slopes, void* to) {
    switch (activation) {
        case GELU: return gate<GELU, S>(x, rows, width, threads, slopes, to);
        case GELU_TANH: return gate<GELU_TANH, S>(x, rows, width, threads, slopes, to);
        case RELU: return gate<RELU, S>(x, rows, width, threads, slopes, to);
        default: return gate<SILU, S>(x, rows, width, threads, slopes, to);
    }
}

}  // namespace pg
