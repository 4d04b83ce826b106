// One kernel of the native path at a time, on one thread: seconds of the fastest of many calls. See kernels.py.
#include <chrono>
#include <vector>

#include "native.cpp"

namespace {

// Memory that lies as the library's own does, filled with small values.
template <class T>
T* filled(size_t count) {
    T* values = (T*)std::aligned_alloc(64, (count * sizeof(T) + 255) / 64 * 64);
    for (size_t i = 0; i < count; i++) {
        const float x = (float)((i * 2654435761u) % 1000) / 1000 - 0.5f;
        if constexpr (std::is_same<T, bf16>::value) {
            uint32_t bits;
            std::memcpy(&bits, &x, sizeof bits);
            values[i].bits = (uint16_t)(bits >> 16);
        } else if constexpr (std::is_same<T, float>::value)
            values[i] = x;
        else
            values[i] = (T)(x * 100);
    }
    return values;
}

template <class Work>
double fastest(double seconds, Work work) {
    using clock = std::chrono::steady_clock;
    const auto end = clock::now() + std::chrono::duration<double>(seconds);
    double best = 1e9;
    [[maybe_unused]] Tiles tiles;
    do {
        const auto began = clock::now();
        work();
        best = std::min(best, std::chrono::duration<double>(clock::now() - began).count());
    } while (clock::now() < end);
    return best;
}

template <class S>
double product_of(int rows, int k, int n, double seconds) {
    S *a = filled<S>((size_t)rows * k), *out = filled<S>((size_t)rows * n);
    Weight<S> w;
    w.n = n, w.k = k, w.data = filled<S>((size_t)n * k);
    const double best = fastest(seconds, [&] {
        gemm(a, k, rows, w, k, 0, n, [&](int r, int c, vf v) { store(out + (size_t)r * n + c, v); });
    });
    std::free(a), std::free(out), std::free(w.data);
    return best;
}

double int8_product(int rows, int k, int n, double seconds) {
    if constexpr (!HAS_INT8) return 0;
    float *out = filled<float>((size_t)rows * n), *x = filled<float>((size_t)rows * k);
    Int8Rows a = {filled<uint8_t>(rows * Int8Rows::width(k)), filled<float>(rows), filled<float>(rows)};
    Int8Weight w;
    w.n = n, w.k = k, w.data = filled<int8_t>((size_t)n * k);
    w.scale.assign(n, 0.01f), w.sum.assign(n, 1.0f);
    const double best = fastest(seconds, [&] {
        quantise(x, k, rows, k, a);
        gemm(a, rows, w, 0, n, [&](int r, int c, vf v) { store(out + (size_t)r * n + c, v); });
    });
    std::free(out), std::free(x), std::free(a.data), std::free(a.step), std::free(a.least), std::free(w.data);
    return best;
}

// All heads of some sequences of equal length behind one prompt, forward or backward.
template <class S>
double attention_of(int sequences, int tokens, int length, int heads, int depth, bool backward, double seconds) {
    const int hidden = heads * depth, rows = sequences * tokens;
    S *qkv = filled<S>((size_t)(rows + 1) * 3 * hidden), *out = filled<S>((size_t)(rows + 1) * hidden);
    S *d_qkv = filled<S>((size_t)(rows + 1) * 3 * hidden), *d_out = filled<S>((size_t)(rows + 1) * hidden);
    const size_t side = (size_t)(length + 16) * hidden;
    float *norms = filled<float>(rows * heads), *prompt = filled<float>(2 * side), *turned = filled<float>(2 * side);
    float* d_prompt = filled<float>(2 * side);
    bf16* halves = filled<bf16>(2 * side);
    const Sizes z = {hidden, heads, 4 * hidden, 1, 0, false, 1e-12f};
    const PromptView view = {length, hidden, prompt, prompt + side, turned, turned + side, halves, halves + side};
    const int keys = tokens + length;
#if defined(__AMX_BF16__)
    size_t room = std::max(TiledRoom::floats(tokens, keys, depth), HeadRoom::floats(tokens, keys, depth));
#else
    size_t room = HeadRoom::floats(tokens, keys, depth);
#endif
    float* at = filled<float>(room);
    const AttentionDropout none = {Dropout(0), 0, 0, heads};
    const double best = fastest(seconds, [&] {
        for (int s = 0; s < sequences; s++) {
            S *first = qkv + (size_t)s * tokens * 3 * hidden, *to = d_qkv + (size_t)s * tokens * 3 * hidden;
            const SequenceView<S> own = {tokens, tokens, first, first + hidden, first + 2 * hidden, 3 * hidden, 3 * hidden};
            const SequenceSlope<S> slope = {to, to + hidden, to + 2 * hidden, 3 * hidden, 3 * hidden, d_prompt, d_prompt + side};
            S *o = out + (size_t)s * tokens * hidden, *d_o = d_out + (size_t)s * tokens * hidden;
            float* n = norms + (size_t)s * tokens * heads;
            for (int h = 0; h < heads; h++)
                if (backward)
                    attend_backward_by<S>(z, own, view, none, h, depth, at, d_o, hidden, n, heads, slope);
                else
                    attend_by<S>(z, own, view, none, h, depth, at, o, hidden, n, heads);
        }
    });
    for (void* one : {(void*)qkv, (void*)out, (void*)d_qkv, (void*)d_out, (void*)halves}) std::free(one);
    for (float* one : {norms, prompt, turned, d_prompt, at}) std::free(one);
    return best;
}

template <class S>
double norm_of(int rows, int width, double seconds) {
    float *x = filled<float>((size_t)rows * width), *scale = filled<float>(width), *rate = filled<float>(rows);
    S *kept = filled<S>((size_t)rows * width), *y = filled<S>((size_t)rows * width);
    const double best =
        fastest(seconds, [&] { normalise(x, rows, width, width, scale, scale, 1e-12f, kept, rate, y); });
    for (void* one : {(void*)x, (void*)scale, (void*)rate, (void*)kept, (void*)y}) std::free(one);
    return best;
}

template <class S>
double gelu_of(int rows, int width, double seconds) {
    float* x = filled<float>((size_t)rows * width);
    S *y = filled<S>((size_t)rows * width), *slopes = filled<S>((size_t)rows * width);
    const double best = fastest(seconds, [&] {
        for (size_t i = 0; i < (size_t)rows * width; i += W) {
            vf value, slope;
            activate<GELU, S>(load(x + i), value, slope);
            store(y + i, value), store(slopes + i, slope);
        }
    });
    for (void* one : {(void*)x, (void*)y, (void*)slopes}) std::free(one);
    return best;
}

}  // namespace

extern "C" {

// `arithmetic`: 0 fp32, 1 bf16, 2 int8. Seconds of a call; 0 where the processor's kind has no such kernel.
double time_product(int arithmetic, int rows, int k, int n, double seconds) {
    may_use_tiles();
    if (arithmetic == 2) return int8_product(rows, k, n, seconds);
    return arithmetic ? product_of<bf16>(rows, k, n, seconds) : product_of<float>(rows, k, n, seconds);
}

double time_attention(int half, int sequences, int tokens, int length, int heads, int depth, int backward,
                      double seconds) {
    may_use_tiles();
    return half ? attention_of<bf16>(sequences, tokens, length, heads, depth, backward, seconds)
                : attention_of<float>(sequences, tokens, length, heads, depth, backward, seconds);
}

double time_norm(int half, int rows, int width, double seconds) {
    return half ? norm_of<bf16>(rows, width, seconds) : norm_of<float>(rows, width, seconds);
}

double time_gelu(int half, int rows, int width, double seconds) {
    return half ? gelu_of<bf16>(rows, width, seconds) : gelu_of<float>(rows, width, seconds);
}
}
