// The frozen encoder: packed weights, and what a forward keeps for its backward.
#pragma once

#include <vector>

#include "int8.h"
#include "plan.h"

namespace pg {

struct Sizes {
    int hidden, heads, wide, layers, activation;
    bool int8;  // whether products are in whole numbers
    float epsilon;

    int depth() const { return hidden / heads; }
    int width() const { return up(hidden, COLUMNS); }
    int broad() const { return up(wide, COLUMNS); }
};

// A linear layer forward and backward: y = x W^T + b, dx = dy W; or forward alone, in whole numbers.
template <class S>
struct Linear {
    Weight<S> forward, backward;
    Int8Weight int8;
    std::vector<float> bias;
};

template <class S>
struct Layer {
    Linear<S> qkv, attended, wide, narrow;
    std::vector<float> attended_scale, attended_shift, narrow_scale, narrow_shift;
};

template <class S>
struct Encoder {
    Sizes sizes;
    std::vector<Layer<S>> own;                                         // layers with weights of their own
    std::vector<int> order;                                            // which of them each turn uses
    const S *words = nullptr, *types = nullptr, *positions = nullptr;  // [., hidden], the caller's
    int64_t vocabulary = 0, kinds = 0, places = 0;                     // their rows
    std::vector<float> embedded_scale, embedded_shift;
    std::vector<void*> memory;

    const Layer<S>& layer(int turn) const { return own[order[turn]]; }
    ~Encoder() {
        for (void* one : memory) std::free(one);
    }
};

template <class S>
Weight<S> room_for(int n, int k, std::vector<void*>& memory) {
    Weight<S> w;
    w.n = n, w.k = k;
    size_t bytes = ((size_t)n * k * sizeof(S) + 127) / 64 * 64;
    w.data = (S*)std::aligned_alloc(64, bytes);
    if (w.data) memory.push_back(w.data);
    return w;
}

// A weight [parts * out, in] as it is given: `parts` products over the same input side by side (query, key, value),
// each padded by itself.
struct Given {
    const float* weight;
    int parts, out, in;

    int wide() const { return up(out, COLUMNS); }
    int deep() const { return up(in, COLUMNS); }

    // A vector of weights of a padded output from input `i` on, 0 where there is none.
    vf row(int o, int i) const {
        if (o % wide() >= out || i >= in) return zero();
        return load_some(weight + ((size_t)(o / wide()) * out + o % wide()) * in + i, in - i);
    }
};

inline bool make_room(const Given& from, Int8Weight& to, std::vector<void*>& memory) {
    to.n = from.parts * from.wide(), to.k = up(from.in, DEEP);
    to.data = room_for<int8_t>(to.n, to.k, memory).data;
    return to.data;
}

// Room for one direction. Room that is there already is written again: weights that learn are packed at every step.
template <class S>
bool make_room(const Given& from, bool backward, Linear<S>& to, std::vector<void*>& memory) {
    const int all = from.parts * from.wide();
    Weight<S>& weight = backward ? to.backward : to.forward;
    if (!weight.data) weight = backward ? room_for<S>(from.deep(), all, memory) : room_for<S>(all, from.deep(), memory);
    return weight.data;
}

inline std::vector<float> padded_bias(const Given& from, const float* bias) {
    std::vector<float> padded(from.parts * from.wide() + W, 0.0f);
    for (int p = 0; p < from.parts; p++)
        std::copy(bias + p * from.out, bias + (p + 1) * from.out, padded.begin() + p * from.wide());
    return padded;
}

// y = x W^T + b, every output's weights in whole numbers of its own scale.
template <class S>
void pack_int8(const Given& from, const float* bias, Linear<S>& to) {
    Int8Weight& w = to.int8;
    to.bias = padded_bias(from, bias);
    w.scale.assign(w.n, 0.0f), w.sum.assign(w.n, 0.0f);
    for (int o = 0; o < w.n; o++) {
        vf most = zero();
        for (int i = 0; i < w.k; i += W) most = larger(most, magnitude(from.row(o, i)));
        const float scale = largest(most) / LARGEST;
        w.scale[o] = scale;
        int8_t* column = w.data + (size_t)(o / W * W) * w.k + o % W * 4;
        for (int i = 0; i < w.k; i += W) {
            const vi whole = scale > 0 ? nearest(from.row(o, i) / scale) : vi{};
            for (int j = 0; j < W; j++) {
                column[(size_t)(i + j) / 4 * 4 * W + j % 4] = (int8_t)whole[j];
                w.sum[o] += whole[j];
            }
        }
    }
}

// y = x W^T + b.
template <class S>
void pack_forward(const Given& from, const float* bias, Linear<S>& to) {
    const int all = from.parts * from.wide();
    to.bias = padded_bias(from, bias);
    for (int first = 0; first < all; first += W)
        for (int i = 0; i < from.deep(); i += W) {
            vf rows[W];
            for (int o = 0; o < W; o++) rows[o] = from.row(first + o, i);
            transpose(rows);
            to.forward.put(first, i, rows);
        }
}

// dx = dy W; only passes that have a backward need it.
template <class S>
void pack_backward(const Given& from, Linear<S>& to) {
    for (int first = 0; first < from.deep(); first += W)
        for (int o = 0; o < from.parts * from.wide(); o += W) {
            vf rows[W];
            for (int r = 0; r < W; r++) rows[r] = from.row(o + r, first);
            to.backward.put(first, o, rows);
        }
}

// Bytes handed out one after the other, each on a line of its own; with `base` null only counted.
struct Carver {
    char* base;
    size_t used = 0;

    template <class T>
    T* take(size_t count) {
        T* at = (T*)(base ? base + used : nullptr);
        used += (count * sizeof(T) + 127) / 64 * 64;  // and room behind, for vectors that end past the last value
        return at;
    }
};

// What one layer keeps: normalised values instead of inputs, slopes instead of arguments; where weights learn, the four
// products' inputs as well. The backward puts the gradients of the products' outputs in the place of `qkv`, `attended`,
// `slope` and `narrow`.
template <class S>
struct Kept {
    S *qkv, *query;                      // `query` apart in a last layer that reads few rows
    float* norms;                        // of the softmax, a value a head
    S *attended, *slope, *narrow;        // normalised, slope of the activation, normalised
    float *attended_rate, *narrow_rate;  // 1 / standard deviation
    S *x = nullptr, *mixed = nullptr, *y = nullptr, *wide = nullptr;
    int64_t out;  // rows that go on

    Kept(Carver& from, const Sizes& z, int64_t rows, int64_t reads, bool last, bool learn) {
        out = last ? reads : rows;
        qkv = from.take<S>(rows * 3 * z.width());
        query = last ? from.take<S>(reads * z.width()) : qkv;
        norms = from.take<float>(out * z.heads);
        attended = from.take<S>(out * z.width()), slope = from.take<S>(out * z.broad());
        narrow = from.take<S>(out * z.width());
        attended_rate = from.take<float>(out), narrow_rate = from.take<float>(out);
        if (!learn) return;
        x = from.take<S>(rows * z.width()), mixed = from.take<S>(out * z.width());
        y = from.take<S>(out * z.width()), wide = from.take<S>(out * z.broad());
    }
};

// Whether attention goes over tiles.
template <class S>
bool is_tiled(const Sizes& z) {
#if defined(__AMX_BF16__)
    return std::is_same<S, bf16>::value && z.depth() % 32 == 0;
#else
    return false;
#endif
}

// The prompts as attention reads them, [layers, 2], every prompt [hidden, length] or, halved, [length, hidden].
struct TurnedPrompts {
    float* turned = nullptr;
    float* plain = nullptr;  // a copy with room behind it, where heads are no multiple of a vector
    bf16* halved = nullptr;  // for tiles, instead

    TurnedPrompts(Carver& from, const Sizes& z, const Call& call, bool tiled) {
        size_t all = (size_t)z.layers * 2 * call.prompt_rows * z.hidden;
        if (tiled) {
            halved = from.take<bf16>(all);
            return;
        }
        turned = from.take<float>(all);
        plain = z.depth() % W ? from.take<float>(all) : nullptr;
    }
};

}  // namespace pg
