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

// A weight [n, k] as blocks of W columns: fp32 [n / W][k][W], bf16 [n / W][k / 2][W][2].
template <class S>
struct Weight {
    int n = 0, k = 0;  // padded to multiples of COLUMNS
    S* data = nullptr;

    const S* block(int column) const { return data + (size_t)column * k; }
    Weight from(int row) const { return {n, k, data + (size_t)row * W}; }  // without its first inputs
    // W columns from `column` on (a multiple of W), of as many inputs from `row` on: a vector an input.
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

// Rows, and vectors of columns, whose sums are held in registers. Of AVX2's sixteen, six by two sums take twelve, the
// weights two and an input one; bf16 that has to be taken apart needs two for each of these. AVX-512 has 32.
constexpr int WIDE = 2, LOW = 4;  // LOW: rows where HIGH are not left
#if defined(__AVX512F__)
template <class S>
constexpr int HIGH = 8;
#else
template <class S>
constexpr int HIGH = std::is_same<S, float>::value ? 6 : 4;
#endif

// TALL rows times WIDE vectors of columns, summed over `k` inputs into `sums` [TALL][WIDE][W]. A function of its own: as
// part of a caller, whose epilogue wants registers too, its loop is compiled anew each time, with row pointers or sums
// kept in memory.
template <int TALL>
[[gnu::noinline]] void multiply(const float* a, int lda, const float* b, int apart, int k, float* sums) {
    vf acc[TALL][WIDE];
    for (int r = 0; r < TALL; r++)
        for (int j = 0; j < WIDE; j++) acc[r][j] = zero();
#pragma GCC unroll 2
    for (int i = 0; i < k; i++) {
        vf w[WIDE];
        for (int j = 0; j < WIDE; j++) w[j] = load(b + ((size_t)j * apart + i) * W);
        for (int r = 0; r < TALL; r++) {
            const vf x = set(a[(size_t)r * lda + i]);
            for (int j = 0; j < WIDE; j++) acc[r][j] += x * w[j];
        }
    }
    for (int r = 0; r < TALL; r++)
        for (int j = 0; j < WIDE; j++) store(sums + (r * WIDE + j) * W, acc[r][j]);
}

template <int TALL>
[[gnu::noinline]] void multiply(const bf16* a, int lda, const bf16* b, int apart, int k, float* sums) {
    vf acc[TALL][WIDE];
    for (int r = 0; r < TALL; r++)
        for (int j = 0; j < WIDE; j++) acc[r][j] = zero();
#pragma GCC unroll 2
    for (int i = 0; i < k; i += 2) {
        vu w[WIDE];
        for (int j = 0; j < WIDE; j++) std::memcpy(&w[j], b + ((size_t)j * apart + i) * W, sizeof w[j]);
        for (int r = 0; r < TALL; r++) {
            uint32_t both;
            std::memcpy(&both, a + (size_t)r * lda + i, sizeof both);
#if defined(__AVX512BF16__)
            const __m512bh x = (__m512bh)_mm512_set1_epi32((int)both);
            for (int j = 0; j < WIDE; j++) acc[r][j] = (vf)_mm512_dpbf16_ps((__m512)acc[r][j], x, (__m512bh)w[j]);
#else
            const vu x = both - vu{};
            for (int j = 0; j < WIDE; j++) {
                acc[r][j] += (vf)(x << 16) * (vf)(w[j] << 16);
                acc[r][j] += (vf)(x & 0xffff0000u) * (vf)(w[j] & 0xffff0000u);
            }
#endif
        }
    }
    for (int r = 0; r < TALL; r++)
        for (int j = 0; j < WIDE; j++) store(sums + (r * WIDE + j) * W, acc[r][j]);
}

constexpr int GROUP = 128;  // columns for which rows are read once where not all of them stay in the cache

#if defined(__AMX_BF16__)
constexpr int SHALLOW = 2048;  // rows of more inputs than this do not all stay in the cache
constexpr size_t MANY = 512 << 10;  // nor so many values of all rows; each is then read for a group of columns

// `gemm` on tiles.
template <class Put>
inline void tiled_gemm(const bf16* a, int lda, int rows, const Weight<bf16>& w, int depth, int first, int last,
                       Put put) {
    alignas(64) float out[32 * 32];
    const int wide = depth > SHALLOW || (size_t)rows * depth > MANY ? GROUP : COLUMNS;
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

// TALL rows from `row` on times WIDE vectors of columns.
template <int TALL, class S, class Put>
inline void gemm_block(const S* a, int lda, int row, const Weight<S>& w, int depth, int column, Put put) {
    alignas(64) float sums[TALL * WIDE * W];
    multiply<TALL>(a + (size_t)row * lda, lda, w.block(column), w.k, depth, sums);
    for (int r = 0; r < TALL; r++)
        for (int j = 0; j < WIDE; j++) put(row + r, column + j * W, load(sums + (r * WIDE + j) * W));
}

constexpr int GROUP_BYTES = 512 << 10;  // of rows that stay in the second cache while all columns go by

// Rows of `a` times the columns `first` to `last` of a weight; `put(row, column, vector)` takes them.
// Only the first `depth` of the weight's inputs are used.
template <class S, class Put>
inline void gemm(const S* a, int lda, int rows, const Weight<S>& w, int depth, int first, int last, Put put) {
#if defined(__AMX_BF16__)
    if constexpr (std::is_same<S, bf16>::value) return tiled_gemm(a, lda, rows, w, depth, first, last, put);
#endif
    constexpr int high = HIGH<S>;
    const int group = std::max<int>(8 * high, GROUP_BYTES / (int)(depth * sizeof(S)) / high * high);
    for (int from = 0, to; from < rows; from = to) {
        to = rows - from < group + high ? rows : from + group;
        for (int column = first; column < last; column += WIDE * W)
            for (int row = from; row < to;) {
                const int left = to - row;
                if (left == high || left >= high + LOW)
                    gemm_block<high>(a, lda, row, w, depth, column, put), row += high;
                else
                    gemm_block<LOW>(a, lda, row, w, depth, column, put), row += LOW;
            }
    }
}

}  // namespace pg
