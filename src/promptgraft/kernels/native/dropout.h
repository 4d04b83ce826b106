// Dropout whose masks nobody keeps: whether a value stays follows from its sequence's key, the place in the encoder,
// the row's position in the sequence and its column, so that forward, backward and the plain path all come to the same.
// `kernels/dropout.py` has the same numbers.
#pragma once

#include "simd.h"

namespace pg {

inline uint32_t mix(uint32_t x) {
    x ^= x >> 16, x *= 0x7feb352du;
    x ^= x >> 15, x *= 0x846ca68bu;
    return x ^ (x >> 16);
}

inline vu mix(vu x) {
    x ^= x >> 16, x *= 0x7feb352du;
    x ^= x >> 15, x *= 0x846ca68bu;
    return x ^ (x >> 16);
}

struct Dropout {
    uint32_t below = 0;  // of 2^32; 0: nothing is dropped
    float scale = 1;

    Dropout(int64_t share) : below((uint32_t)share), scale((float)(1.0 / (1.0 - share / 4294967296.0))) {}

    explicit operator bool() const { return below != 0; }

    static uint32_t row(int64_t key, uint32_t site, uint32_t position) {
        return mix(mix((uint32_t)key + site * 0x9e3779b9u) + position * 0x85ebca6bu);
    }

    // A vector of values of a row from `column` on.
    vf operator()(vf x, uint32_t row, int column) const {
        vu drawn = mix(((vu)lanes() + (uint32_t)column) * 0xc2b2ae35u + row);
        return drawn >= below ? x * scale : zero();
    }
};

// Where in an encoder something is dropped.
enum Site { EMBEDDED = 0, ATTENTION = 1, ATTENDED = 2, NARROW = 3 };

inline uint32_t site(Site of, int turn = 0) { return of + 3 * turn; }

}  // namespace pg
