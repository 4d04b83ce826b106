// Products of rows with weights in whole numbers of eight bits: a weight is scaled by output, a row is brought between
// its own smallest and largest value when it comes, sums are exact. For passes that no gradient follows.
#pragma once

#include <vector>

#include "gemm.h"

namespace pg {

#if defined(__AVX512VNNI__)
constexpr bool HAS_INT8 = true;
#else
constexpr bool HAS_INT8 = false;
#endif

constexpr int DEEP = 64;        // summed-over widths are padded to a multiple of this
constexpr float LARGEST = 127;  // whole number of a weight
constexpr float STEPS = 255;    // of a row, from its smallest value to its largest

// A weight [n, k] as blocks of W columns, [n / W][k / 4][W][4]: `data` times `scale` of its column.
struct Int8Weight {
    int n = 0, k = 0;  // padded to multiples of COLUMNS and DEEP
    int8_t* data = nullptr;
    std::vector<float> scale, sum;  // of a column; the sum is that of whole numbers

    const int8_t* block(int column) const { return data + (size_t)column * k; }
};

// Rows of a product's input, [rows, k]: `data` times `step` of its row, from `least` on.
struct Int8Rows {
    uint8_t* data;
    float *step, *least;

    static size_t width(int n) { return (size_t)up(n, DEEP); }
};

inline vi nearest(vf v) {
    vf magic = set(12582912.0f);  // 1.5 * 2^23: adding it rounds to an integer
    return __builtin_convertvector((v + magic) - magic, vi);
}

// `rows` rows of `a`, their first `depth` values, which end with a whole vector. What is behind them is padding.
template <class S>
inline void quantise(const S* a, int lda, int rows, int depth, const Int8Rows& to) {
    typedef uint8_t bytes __attribute__((vector_size(W)));
    const size_t wide = Int8Rows::width(depth);
    for (int r = 0; r < rows; r++) {
        const S* from = a + (size_t)r * lda;
        uint8_t* out = to.data + r * wide;
        vf least = zero(), most = zero(), infinite = zero();  // the last is 0, or NaN
        for (int c = 0; c < depth; c += W) {
            const vf x = load(from + c);
            least = smaller(least, x), most = larger(most, x), infinite += x - x;
        }
        const float low = -largest(-least) + sum(infinite), step = (largest(most) - low) / STEPS;
        const float times = step > 0 ? 1.0f / step : 0.0f;
        to.step[r] = step, to.least[r] = low;
        for (int c = 0; c < depth; c += W) {
            bytes whole = __builtin_convertvector(nearest((load(from + c) - low) * times), bytes);
            std::memcpy(out + c, &whole, sizeof whole);
        }
        std::memset(out + depth, 0, wide - depth);
    }
}

#if defined(__AMX_INT8__)
// 32 (or 16) rows by 32 columns into `out`.
template <int TALL>
inline void int8_tile(const uint8_t* a, size_t lda, const int8_t* b0, const int8_t* b1, int k, int32_t* out) {
    __asm__ volatile("" ::: "memory");  // tile loads do not tell the compiler what they read
    _tile_zero(0);
    _tile_zero(1);
    if constexpr (TALL == 2) {
        _tile_zero(2);
        _tile_zero(3);
    }
    const uint8_t* lower = a + 16 * lda;
    for (int i = 0; i < k; i += DEEP) {
        _tile_loadd(4, a + i, lda);
        _tile_loadd(6, b0 + (size_t)i * W, 64);
        _tile_loadd(7, b1 + (size_t)i * W, 64);
        _tile_dpbusd(0, 4, 6);
        _tile_dpbusd(1, 4, 7);
        if constexpr (TALL == 2) {
            _tile_loadd(5, lower + i, lda);
            _tile_dpbusd(2, 5, 6);
            _tile_dpbusd(3, 5, 7);
        }
    }
    _tile_stored(0, out, 128);
    _tile_stored(1, out + 16, 128);
    if constexpr (TALL == 2) {
        _tile_stored(2, out + 16 * 32, 128);
        _tile_stored(3, out + 16 * 32 + 16, 128);
    }
}
#elif defined(__AVX512VNNI__)
constexpr int TALL = HIGH<uint8_t>;

inline void multiply(const uint8_t* a, size_t lda, const int8_t* b0, const int8_t* b1, int k, vi acc[TALL][WIDE]) {
    for (int i = 0; i < k; i += 4) {
        __m512i w[WIDE];
        std::memcpy(&w[0], b0 + (size_t)i * W, 64), std::memcpy(&w[1], b1 + (size_t)i * W, 64);
        for (int r = 0; r < TALL; r++) {
            int four;
            std::memcpy(&four, a + r * lda + i, 4);
            const __m512i x = _mm512_set1_epi32(four);
            for (int j = 0; j < WIDE; j++) acc[r][j] = (vi)_mm512_dpbusd_epi32((__m512i)acc[r][j], x, w[j]);
        }
    }
}
#endif

// Rows times the columns `first` to `last` of a weight; `put(row, column, vector)` takes them.
template <class Put>
inline void gemm(const Int8Rows& a, int rows, const Int8Weight& w, int first, int last, Put put) {
    const size_t lda = w.k;
    for (int column = first; column < last; column += COLUMNS) {
        const int8_t *b0 = w.block(column), *b1 = w.block(column + W);
        const vf scale[2] = {load(w.scale.data() + column), load(w.scale.data() + column + W)};
        const vf sum[2] = {load(w.sum.data() + column), load(w.sum.data() + column + W)};
        [[maybe_unused]] auto give = [&](int row, int part, vi sums) {
            const vf exact = __builtin_convertvector(sums, vf) * a.step[row] + sum[part] * a.least[row];
            put(row, column + part * W, exact * scale[part]);
        };
#if defined(__AMX_INT8__)
        alignas(64) int32_t out[32 * 32];
        for (int row = 0; row < rows; row += 32) {
            const int high = rows - row < 32 ? 16 : 32;
            if (high == 32)
                int8_tile<2>(a.data + row * lda, lda, b0, b1, w.k, out);
            else
                int8_tile<1>(a.data + row * lda, lda, b0, b1, w.k, out);
            for (int r = 0; r < high; r++)
                for (int part = 0; part < 2; part++) {
                    vi sums;
                    std::memcpy(&sums, out + r * 32 + part * W, sizeof sums);
                    give(row + r, part, sums);
                }
        }
#elif defined(__AVX512VNNI__)
        for (int row = 0; row < rows; row += TALL) {
            vi acc[TALL][WIDE] = {};
            multiply(a.data + row * lda, lda, b0, b1, w.k, acc);
            for (int r = 0; r < TALL; r++)
                for (int part = 0; part < WIDE; part++) give(row + r, part, acc[r][part]);
        }
#endif
    }
}

}  // namespace pg
