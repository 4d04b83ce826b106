// A register of floats at a time, in the vector extensions of GCC and Clang: one source for AVX-512, AVX2 and the rest.
// A vector is never wider than a register: of a wider one the compiler keeps every value in memory.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace pg {

#if defined(__AVX512F__)
constexpr int W = 16;  // lanes of a vector
#else
constexpr int W = 8;
#endif

typedef float vf __attribute__((vector_size(4 * W)));
typedef int32_t vi __attribute__((vector_size(4 * W)));
typedef uint32_t vu __attribute__((vector_size(4 * W)));
typedef uint16_t vh __attribute__((vector_size(2 * W)));

struct bf16 {
    uint16_t bits;
};

inline int up(int n, int to) { return (n + to - 1) / to * to; }

inline vf zero() { return vf{}; }
inline vf set(float x) { return x - vf{}; }

// 0, 1, 2, ...
inline vi lanes() {
#if defined(__AVX512F__)
    return vi{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
#else
    return vi{0, 1, 2, 3, 4, 5, 6, 7};
#endif
}

inline vf load(const float* p) {
    vf v;
    std::memcpy(&v, p, sizeof v);
    return v;
}

inline vf load(const bf16* p) {
    vh h;
    std::memcpy(&h, p, sizeof h);
    return (vf)(__builtin_convertvector(h, vu) << 16);
}

inline void store(float* p, vf v) { std::memcpy(p, &v, sizeof v); }

// Round to nearest, ties to even.
inline void store(bf16* p, vf v) {
#if defined(__AVX512BF16__)
    __m256bh h = _mm512_cvtneps_pbh((__m512)v);
    std::memcpy(p, &h, sizeof h);
#else
    vu u = (vu)v;
    vh h = __builtin_convertvector((u + 0x7fffu + ((u >> 16) & 1u)) >> 16, vh);
    std::memcpy(p, &h, sizeof h);
#endif
}

// Two vectors lane by lane: a0 b0 a1 b1 ...
inline void store_pairs(bf16* p, vf a, vf b) {
#if defined(__AVX512BF16__)
    vf both = (vf)_mm512_cvtne2ps_pbh((__m512)b, (__m512)a);
    alignas(64) static const uint16_t order[32] = {0, 16, 1, 17, 2,  18, 3,  19, 4,  20, 5,  21, 6,  22, 7,  23,
                                                   8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
    both = (vf)_mm512_permutexvar_epi16(_mm512_load_si512(order), (__m512i)both);
    std::memcpy(p, &both, sizeof both);
#else
    bf16 low[W], high[W];
    store(low, a), store(high, b);
    vh l, h;
    std::memcpy(&l, low, sizeof l), std::memcpy(&h, high, sizeof h);
    vu both = __builtin_convertvector(l, vu) | (__builtin_convertvector(h, vu) << 16);
    std::memcpy(p, &both, sizeof both);
#endif
}

inline float value(float x) { return x; }
inline float value(bf16 x) {
    uint32_t u = (uint32_t)x.bits << 16;
    float f;
    std::memcpy(&f, &u, sizeof f);
    return f;
}

// The first `n` values of a vector, the rest 0; nothing behind them is touched.
template <class S>
inline vf load_some(const S* p, int n) {
    if (n >= W) return load(p);
    S part[W] = {};
    std::memcpy(part, p, n * sizeof(S));
    return load(part);
}

template <class S>
inline void store_some(S* p, vf v, int n) {
    if (n >= W) return store(p, v);
    S part[W];
    store(part, v);
    std::memcpy(p, part, n * sizeof(S));
}

inline float sum(vf v) {
#if defined(__AVX512F__)
    return _mm512_reduce_add_ps((__m512)v);
#else
    float part[W];
    store(part, v);
    for (int i = 0; i < 4; i++) part[i] += part[i + 4];
    return (part[0] + part[2]) + (part[1] + part[3]);
#endif
}

inline float largest(vf v) {
#if defined(__AVX512F__)
    return _mm512_reduce_max_ps((__m512)v);
#else
    float part[W];
    store(part, v);
    float most = part[0];
    for (int i = 1; i < W; i++) most = part[i] > most ? part[i] : most;
    return most;
#endif
}

inline vf larger(vf a, vf b) {
#if defined(__AVX512F__)
    return (vf)_mm512_max_ps((__m512)a, (__m512)b);
#elif defined(__AVX2__)
    return (vf)_mm256_max_ps((__m256)a, (__m256)b);
#else
    return a > b ? a : b;
#endif
}

inline vf smaller(vf a, vf b) {
#if defined(__AVX512F__)
    return (vf)_mm512_min_ps((__m512)a, (__m512)b);
#elif defined(__AVX2__)
    return (vf)_mm256_min_ps((__m256)a, (__m256)b);
#else
    return a < b ? a : b;
#endif
}

inline vf magnitude(vf a) { return (vf)((vu)a & 0x7fffffffu); }

// 1 / a for a >= 1, to the last place or two: an estimate and one step of Newton's.
inline vf reciprocal(vf a) {
#if defined(__AVX512F__)
    vf r = (vf)_mm512_rcp14_ps((__m512)a);
    return r * (2.0f - a * r);
#else
    return 1.0f / a;
#endif
}

// e^x for x <= 88, relative error about 1e-7; 0 below -87.
inline vf exponential(vf x) {
    vf clamped = smaller(larger(x, set(-87.3f)), set(88.0f));
#if defined(__AVX512F__)
    vf n = (vf)_mm512_roundscale_ps((__m512)(clamped * 1.44269504f), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
#else
    vf magic = set(12582912.0f);  // 1.5 * 2^23: adding it rounds to an integer
    vf n = (clamped * 1.44269504f + magic) - magic;
#endif
    vf r = clamped - n * 0.693359375f;
    r = r + n * 2.12194440e-4f;
    vf p = set(1.9875691500e-4f);
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
#if defined(__AVX512F__)
    vf e = (vf)_mm512_scalef_ps((__m512)p, (__m512)n);
#else
    vf e = p * (vf)((__builtin_convertvector(n, vi) + 127) << 23);
#endif
    return x < -87.3f ? zero() : e;
}

// 2^x for x <= 126, relative error about 2e-7, 0 far below; ROUGHLY: about 8e-5, for what is rounded to bf16.
template <bool ROUGHLY>
inline vf power_of_two(vf x) {
    // What would underflow is never computed: a processor takes a hundred cycles for it.
#if defined(__AVX512F__)
    const __mmask16 some = _mm512_cmp_ps_mask((__m512)x, _mm512_set1_ps(-126.0f), _CMP_GE_OQ);
    vf n = (vf)_mm512_roundscale_ps((__m512)x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
#else
    const auto nothing = x < -126.0f;
    x = larger(x, set(-126.0f));
    vf magic = set(12582912.0f);  // 1.5 * 2^23: adding it rounds to an integer
    vf n = (x + magic) - magic;
#endif
    vf r = x - n, p;
    if (ROUGHLY) {
        p = 0.05517167f * r + 0.24261115f;
        p = (p * r + 0.69326099f) * r + 0.99992807f;
    } else {
        p = 1.535336188e-4f * r + 1.339887440e-3f;
        p = p * r + 9.618437358e-3f;
        p = p * r + 5.550332471e-2f;
        p = p * r + 2.402264791e-1f;
        p = p * r + 6.931472029e-1f;
        p = p * r + 1.0f;
    }
#if defined(__AVX512F__)
    return (vf)_mm512_maskz_scalef_ps(some, (__m512)p, (__m512)n);
#else
    return nothing ? zero() : p * (vf)((__builtin_convertvector(n, vi) + 127) << 23);
#endif
}

// Whether any lane of a comparison holds.
inline bool any(vi mask) {
#if defined(__AVX512F__)
    return _mm512_test_epi32_mask((__m512i)mask, (__m512i)mask) != 0;
#elif defined(__AVX2__)
    return !_mm256_testz_si256((__m256i)mask, (__m256i)mask);
#else
    int32_t all = 0;
    for (int i = 0; i < W; i++) all |= mask[i];
    return all != 0;
#endif
}

// A square of W rows of W floats, columns become rows.
inline void transpose(vf r[W]) {
#if defined(__AVX512F__)
    __m512 t[W];
    for (int i = 0; i < W; i += 2) {
        t[i] = _mm512_unpacklo_ps((__m512)r[i], (__m512)r[i + 1]);
        t[i + 1] = _mm512_unpackhi_ps((__m512)r[i], (__m512)r[i + 1]);
    }
    __m512 q[W];
    for (int i = 0; i < W; i += 4) {
        q[i] = _mm512_castpd_ps(_mm512_unpacklo_pd(_mm512_castps_pd(t[i]), _mm512_castps_pd(t[i + 2])));
        q[i + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(_mm512_castps_pd(t[i]), _mm512_castps_pd(t[i + 2])));
        q[i + 2] = _mm512_castpd_ps(_mm512_unpacklo_pd(_mm512_castps_pd(t[i + 1]), _mm512_castps_pd(t[i + 3])));
        q[i + 3] = _mm512_castpd_ps(_mm512_unpackhi_pd(_mm512_castps_pd(t[i + 1]), _mm512_castps_pd(t[i + 3])));
    }
    for (int i = 0; i < 4; i++) {
        __m512 a = _mm512_shuffle_f32x4(q[i], q[i + 4], 0x88), b = _mm512_shuffle_f32x4(q[i], q[i + 4], 0xdd);
        __m512 c = _mm512_shuffle_f32x4(q[i + 8], q[i + 12], 0x88), d = _mm512_shuffle_f32x4(q[i + 8], q[i + 12], 0xdd);
        r[i] = (vf)_mm512_shuffle_f32x4(a, c, 0x88);
        r[i + 8] = (vf)_mm512_shuffle_f32x4(a, c, 0xdd);
        r[i + 4] = (vf)_mm512_shuffle_f32x4(b, d, 0x88);
        r[i + 12] = (vf)_mm512_shuffle_f32x4(b, d, 0xdd);
    }
#elif defined(__AVX2__)
    __m256 t[W], q[W];
    for (int i = 0; i < W; i += 2) {
        t[i] = _mm256_unpacklo_ps((__m256)r[i], (__m256)r[i + 1]);
        t[i + 1] = _mm256_unpackhi_ps((__m256)r[i], (__m256)r[i + 1]);
    }
    for (int i = 0; i < W; i += 4) {
        q[i] = _mm256_shuffle_ps(t[i], t[i + 2], 0x44), q[i + 1] = _mm256_shuffle_ps(t[i], t[i + 2], 0xee);
        q[i + 2] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0x44), q[i + 3] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0xee);
    }
    for (int i = 0; i < 4; i++) {
        r[i] = (vf)_mm256_permute2f128_ps(q[i], q[i + 4], 0x20);
        r[i + 4] = (vf)_mm256_permute2f128_ps(q[i], q[i + 4], 0x31);
    }
#else
    float from[W][W], to[W][W];
    for (int i = 0; i < W; i++) store(from[i], r[i]);
    for (int i = 0; i < W; i++)
        for (int j = 0; j < W; j++) to[j][i] = from[i][j];
    for (int i = 0; i < W; i++) r[i] = load(to[i]);
#endif
}

// The first `n` lanes, `instead` in the others.
inline vf without(vf x, int n, float instead) { return lanes() < n ? x : set(instead); }

enum Activation { GELU = 0, GELU_TANH = 1, RELU = 2, SILU = 3 };

// x times a polynomial in x^2, for x between -4 and 4: `a` are its coefficients in x^2 / 8 - 1.
template <int N>
inline vf odd(vf x, const float (&a)[N]) {
    vf v = x * x * 0.125f - 1.0f, p = set(a[N - 1]);
    for (int i = N - 2; i >= 0; i--) p = p * v + a[i];
    return x * p;
}

// GELU for values that are kept in bf16: the normal distribution within 6e-5 and the slope within 6e-4, fits without
// an exponential (least squares, the largest errors weighted up).
inline void activate_roughly(vf x, vf& y, vf& slope) {
    static const float phi[] = {0.175942913f,  -0.0843434781f, 0.0561893880f,  -0.0367113724f,
                                0.0210850798f, -0.0125604635f, 0.00869975332f, -0.00331504479f};
    static const float rise[] = {0.183249086f,   -0.113375410f, 0.114635944f,   -0.117415242f, 0.0995348939f,
                                 -0.0645640492f, 0.0475200340f, -0.0408802032f, 0.0164346509f};
    vf near = smaller(larger(x, set(-4.0f)), set(4.0f));
    y = x * (odd(near, phi) + 0.5f);
    slope = odd(near, rise) + 0.5f;
}

// SiLU for values that are kept in bf16, within 2e-4 of each.
inline void open_roughly(vf x, vf& y, vf& slope) {
    const vf below = 1.0f + power_of_two<true>(smaller(-1.44269504f * x, set(126.0f)));
#if defined(__AVX512F__)
    const vf s = (vf)_mm512_rcp14_ps((__m512)below);
#else
    const vf s = 1.0f / below;
#endif
    y = x * s;
    slope = s + y * (1.0f - s);
}

// The non-linearity and its derivative, good enough for values stored as S.
template <int A, class S>
inline void activate(vf x, vf& y, vf& slope) {
    if (A == GELU && std::is_same<S, bf16>::value) return activate_roughly(x, y, slope);
    if (A == SILU && std::is_same<S, bf16>::value) return open_roughly(x, y, slope);
    if (A == RELU) {
        y = larger(x, zero());
        slope = x > 0.0f ? set(1.0f) : zero();
    } else if (A == SILU) {
        vf e = exponential(-magnitude(x));
        vf r = reciprocal(1.0f + e);
        vf s = x < 0.0f ? e * r : r;
        y = x * s;
        slope = s + y * (1.0f - s);
    } else if (A == GELU_TANH) {
        vf u = 0.7978845608f * (x + 0.044715f * x * x * x);
        vf e = exponential(-2.0f * magnitude(u));
        vf t = (1.0f - e) * reciprocal(1.0f + e);
        t = u < 0.0f ? -t : t;
        vf du = 0.7978845608f * (1.0f + 0.134145f * x * x);
        y = 0.5f * x * (1.0f + t);
        slope = 0.5f * (1.0f + t) + 0.5f * x * (1.0f - t * t) * du;
    } else {
        // erf by Abramowitz and Stegun 7.1.26 (absolute error 1.5e-7); its exponential is the density as well.
        vf z = magnitude(x) * 0.7071067812f;
        vf e = exponential(-z * z);
        vf t = reciprocal(1.0f + 0.3275911f * z);
        vf p = set(1.061405429f);
        p = p * t - 1.453152027f;
        p = p * t + 1.421413741f;
        p = p * t - 0.284496736f;
        p = p * t + 0.254829592f;
        vf tail = 0.5f * p * t * e;  // 1 - Phi(|x|)
        vf phi = x < 0.0f ? tail : 1.0f - tail;
        y = x * phi;
        slope = phi + x * e * 0.3989422804f;
    }
}

}  // namespace pg
