// Products of packed rows with frozen weights. A weight is packed once; the same layout serves tiles (AMX), pairs
// (AVX-512 BF16) and plain multiply-adds. Every output is summed in one order whatever else is in the batch, so a
// row's result does not depend on its neighbours.
#pragma once

#include <algorithm>
#include <cstdlib>
#include <type_traits>

#include "simd.h"

namespace pg {

constexpr int ROWS = 16;     // rows of a buffer are a multiple of this
constexpr int COLUMNS = 32;  // widths are padded to a multiple of this

// A weight [n, k] as blocks of 16 columns: fp32 [n / 16][k][16], bf16 [n / 16][k / 2][16][2].
template <class S>
struct Weight {
    int n = 0, k = 0;  // padded to multiples of COLUMNS
    S* data = nullptr;

    const S* block(int column) const { return data + (size_t)column * k; }
    Weight from(int row) const { return {n, k, data + (size_t)row * W}; }  // without its first inputs
    // Sixteen columns from `column` on (a multiple of 16), of as many inputs from `row` on: a vector an input.
    void put(int column, int row, const vf inputs[W]) {
        S* to = data + (size_t)column * k + (size_t)row * W;
        if constexpr (std::is_same<S, bf16>::value)
            for (int i = 0; i < W; i += 2) store_pairs(to + (size_t)i * W, inputs[i], inputs[i + 1]);
        else
            for (int i = 0; i < W; i++) store(to + (size_t)i * W, inputs[i]);
    }
};

#if defined(__AMX_BF16__)
// Eight tiles of 16 rows of 64 bytes; a thread asks for it before its products and lets go afterwards.
struct Tiles {
    Tiles() {
        alignas(64) struct {
            uint8_t palette, start, reserved[14];
            uint16_t bytes[16];
            uint8_t rows[16];
        } config = {};
        config.palette = 1;
        for (int i = 0; i < 8; i++) config.bytes[i] = 64, config.rows[i] = 16;
        _tile_loadconfig(&config);
    }
    ~Tiles() { _tile_release(); }
};

// 32 (or 16) rows by 32 columns into `out`, sums in fp32.
template <int TALL>
inline void tile(const bf16* a, int lda, const bf16* b0, const bf16* b1, int k, float* out) {
    __asm__ volatile("" ::: "memory");  // tile loads do not tell the compiler what they read
    _tile_zero(0);
    _tile_zero(1);
    if constexpr (TALL == 2) {
        _tile_zero(2);
        _tile_zero(3);
    }
    const bf16* lower = a + (size_t)16 * lda;
    for (int i = 0; i < k; i += 32) {
        _tile_loadd(4, a + i, lda * 2);
        _tile_loadd(6, b0 + (size_t)i * W, 64);
        _tile_loadd(7, b1 + (size_t)i * W, 64);
        _tile_dpbf16ps(0, 4, 6);
        _tile_dpbf16ps(1, 4, 7);
        if constexpr (TALL == 2) {
            _tile_loadd(5, lower + i, lda * 2);
            _tile_dpbf16ps(2, 5, 6);
            _tile_dpbf16ps(3, 5, 7);
        }
    }
    _tile_stored(0, out, 128);
    _tile_stored(1, out + 16, 128);
    if constexpr (TALL == 2) {
        _tile_stored(2, out + 16 * 32, 128);
        _tile_stored(3, out + 16 * 32 + 16, 128);
    }
}
#else
struct Tiles {};
#endif

#if defined(__AVX512F__)
constexpr int HIGH = 8, WIDE = 2;  // rows and blocks of columns held in registers
#else
constexpr int HIGH = 4, WIDE = 1;
#endif

inline void multiply(const float* a, int lda, const float* b, int apart, int k, vf acc[HIGH][WIDE]) {
    for (int i = 0; i < k; i++) {
        vf w[WIDE];
        for (int j = 0; j < WIDE; j++) w[j] = load(b + ((size_t)j * apart + i) * W);
        for (int r = 0; r < HIGH; r++)
            for (int j = 0; j < WIDE; j++) acc[r][j] += a[(size_t)r * lda + i] * w[j];
    }
}

inline void multiply(const bf16* a, int lda, const bf16* b, int apart, int k, vf acc[HIGH][WIDE]) {
    for (int i = 0; i < k; i += 2) {
#if defined(__AVX512BF16__)
        __m512bh w[WIDE];
        for (int j = 0; j < WIDE; j++) std::memcpy(&w[j], b + ((size_t)j * apart + i) * W, 64);
        for (int r = 0; r < HIGH; r++) {
            int both;
            std::memcpy(&both, a + (size_t)r * lda + i, 4);
            __m512bh x = (__m512bh)_mm512_set1_epi32(both);
            for (int j = 0; j < WIDE; j++) acc[r][j] = (vf)_mm512_dpbf16_ps((__m512)acc[r][j], x, w[j]);
        }
#else
        vf even[WIDE], odd[WIDE];
        for (int j = 0; j < WIDE; j++) {
            vu both;
            std::memcpy(&both, b + ((size_t)j * apart + i) * W, 64);
            even[j] = (vf)(both << 16), odd[j] = (vf)(both & 0xffff0000u);
        }
        for (int r = 0; r < HIGH; r++) {
            float x = value(a[(size_t)r * lda + i]), y = value(a[(size_t)r * lda + i + 1]);
            for (int j = 0; j < WIDE; j++) acc[r][j] = acc[r][j] + x * even[j] + y * odd[j];
        }
#endif
    }
}

#if defined(__AMX_BF16__)
constexpr int SHALLOW = 2048;  // rows of more inputs than this do not all stay in the cache
constexpr int GROUP = 128;     // so each is then read for so many columns at a time

// `gemm` on tiles.
template <class Put>
inline void tiled_gemm(const bf16* a, int lda, int rows, const Weight<bf16>& w, int depth, int first, int last,
                       Put put) {
    alignas(64) float out[32 * 32];
    const int wide = depth > SHALLOW ? GROUP : COLUMNS;
    for (int group = first; group < last; group += wide)
        for (int row = 0; row < rows; row += 32)
            for (int column = group; column < std::min(last, group + wide); column += COLUMNS) {
                const bf16 *from = a + (size_t)row * lda, *b0 = w.block(column), *b1 = w.block(column + W);
                const int high = rows - row < 32 ? 16 : 32;
                if (high == 32)
                    tile<2>(from, lda, b0, b1, depth, out);
                else
                    tile<1>(from, lda, b0, b1, depth, out);
                for (int r = 0; r < high; r++) {
                    put(row + r, column, load(out + r * 32));
                    put(row + r, column + W, load(out + r * 32 + W));
                }
            }
}
#endif

// Rows of `a` times the columns `first` to `last` of a weight; `put(row, column, sixteen values)` takes them.
// Only the first `depth` of the weight's inputs are used.
template <class S, class Put>
inline void gemm(const S* a, int lda, int rows, const Weight<S>& w, int depth, int first, int last, Put put) {
#if defined(__AMX_BF16__)
    if constexpr (std::is_same<S, bf16>::value) return tiled_gemm(a, lda, rows, w, depth, first, last, put);
#endif
    for (int column = first; column < last; column += COLUMNS) {
        const S *b0 = w.block(column), *b1 = w.block(column + W);
        for (int row = 0; row < rows; row += HIGH)
            for (int part = 0; part < COLUMNS / W; part += WIDE) {
                vf acc[HIGH][WIDE] = {};
                multiply(a + (size_t)row * lda, lda, part ? b1 : b0, w.k, depth, acc);
                for (int r = 0; r < HIGH; r++)
                    for (int j = 0; j < WIDE; j++) put(row + r, column + (part + j) * W, acc[r][j]);
            }
    }
}

}  // namespace pg
