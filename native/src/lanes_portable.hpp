// Sixteen lanes in plain C++: the meaning of every operation, for any processor.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <initializer_list>

namespace {  // own to each translation unit: the same names mean other types in another one
namespace lanes {

constexpr int kTile = 4;           // rows of activations that share one reading of a panel
constexpr int kQueriesAtOnce = 1;  // queries that share one reading of a page

struct Floats {
    float v[16];
};
struct Ints {
    int32_t v[16];
};

inline Floats zero() { return Floats{}; }
inline Floats all(float x) {
    Floats r;
    for (float& y : r.v) y = x;
    return r;
}
inline Floats load(const float* p) {
    Floats r;
    std::memcpy(r.v, p, sizeof r.v);
    return r;
}
inline void store(float* p, Floats a) { std::memcpy(p, a.v, sizeof a.v); }
inline Floats fma(Floats a, Floats b, Floats c) {
    for (int i = 0; i < 16; i++) c.v[i] = a.v[i] * b.v[i] + c.v[i];
    return c;
}
inline Floats mul(Floats a, Floats b) {
    for (int i = 0; i < 16; i++) a.v[i] *= b.v[i];
    return a;
}
inline Floats add(Floats a, Floats b) {
    for (int i = 0; i < 16; i++) a.v[i] += b.v[i];
    return a;
}
inline Floats greater(Floats a, Floats b) {
    for (int i = 0; i < 16; i++) a.v[i] = a.v[i] > b.v[i] ? a.v[i] : b.v[i];
    return a;
}
inline Floats lesser(Floats a, Floats b) {
    for (int i = 0; i < 16; i++) a.v[i] = a.v[i] < b.v[i] ? a.v[i] : b.v[i];
    return a;
}
inline Floats divide(Floats a, Floats b) {
    for (int i = 0; i < 16; i++) a.v[i] /= b.v[i];
    return a;
}
inline Floats nearest(Floats a) {
    for (float& x : a.v) x = std::nearbyint(x);
    return a;
}
inline Floats times_power_of_two(Floats a, Floats power) {
    for (int i = 0; i < 16; i++) a.v[i] = std::ldexp(a.v[i], int(power.v[i]));
    return a;
}
inline Floats keep_above(Floats a, Floats x, float least) {  // a, or 0 where x is below the least
    for (int i = 0; i < 16; i++) a.v[i] = x.v[i] < least ? 0.0f : a.v[i];
    return a;
}
inline float half(uint16_t h) {  // IEEE 754 binary16
    uint32_t sign = uint32_t(h & 0x8000) << 16, exponent = (h >> 10) & 31, fraction = h & 1023;
    if (exponent == 0) {
        float tiny = std::ldexp(float(fraction), -24);
        return sign ? -tiny : tiny;
    }
    uint32_t bits = sign | (exponent == 31 ? 0x7f800000u : (exponent + 112) << 23) | fraction << 13;
    float f;
    std::memcpy(&f, &bits, 4);
    return f;
}
inline Floats halves(const uint16_t* p) {
    Floats r;
    for (int i = 0; i < 16; i++) r.v[i] = half(p[i]);
    return r;
}
inline uint16_t to_half(float x) {  // to nearest, ties to even
    uint32_t bits;
    std::memcpy(&bits, &x, 4);
    const uint32_t sign = bits >> 16 & 0x8000, size = bits & 0x7fffffff;
    if (size > 0x7f800000) return uint16_t(sign | 0x7e00);
    if (size >= 0x477ff000) return uint16_t(sign | 0x7c00);  // 65,520 and above
    if (size < 0x38800000) return uint16_t(sign | uint32_t(std::nearbyint(std::fabs(x) * 16777216.0f)));  // in units of 2^-24
    const uint32_t odd = size >> 13 & 1;
    return uint16_t(sign | ((size - 0x38000000 + 0xfff + odd) >> 13));
}
inline void store(uint16_t* p, Floats a) {  // as binary16
    for (int i = 0; i < 16; i++) p[i] = to_half(a.v[i]);
}
inline Floats brains(const uint16_t* p) {
    Floats r;
    for (int i = 0; i < 16; i++) {
        uint32_t bits = uint32_t(p[i]) << 16;
        std::memcpy(&r.v[i], &bits, 4);
    }
    return r;
}
inline Floats unsigned_bytes(const uint8_t* p) {
    Floats r;
    for (int i = 0; i < 16; i++) r.v[i] = p[i];
    return r;
}
inline Floats signed_bytes(const int8_t* p) {
    Floats r;
    for (int i = 0; i < 16; i++) r.v[i] = p[i];
    return r;
}
inline float greatest(Floats a) { return *std::max_element(a.v, a.v + 16); }
inline float greatest_size(Floats a, Floats b) {  // as integers, what is no number is above all numbers
    int32_t largest = 0;
    for (const Floats& each : {a, b})
        for (float x : each.v) {
            int32_t bits;
            std::memcpy(&bits, &x, 4);
            largest = std::max(largest, bits & 0x7fffffff);
        }
    float f;
    std::memcpy(&f, &largest, 4);
    return f;
}

inline Ints int_all(int32_t x) {
    Ints r;
    for (int32_t& y : r.v) y = x;
    return r;
}
inline Ints int_load(const uint8_t* p) {
    Ints r;
    std::memcpy(r.v, p, sizeof r.v);
    return r;
}
inline Ints int_add(Ints a, Ints b) {
    for (int i = 0; i < 16; i++) a.v[i] += b.v[i];
    return a;
}
inline Ints either(Ints a, Ints b) {
    for (int i = 0; i < 16; i++) a.v[i] |= b.v[i];
    return a;
}
inline Ints to_ints(Floats a) {
    Ints r;
    for (int i = 0; i < 16; i++) r.v[i] = int32_t(std::nearbyint(a.v[i]));
    return r;
}
inline int32_t int_sum(Ints a) {
    int32_t total = 0;
    for (int32_t x : a.v) total += x;
    return total;
}
inline void store_bytes(int8_t* p, Ints a) {
    for (int i = 0; i < 16; i++) p[i] = int8_t(a.v[i]);
}
template <int Mask>
inline Ints bits(Ints a) {
    for (int32_t& x : a.v) x &= Mask * 0x01010101;
    return a;
}
template <int Left>
inline Ints shifted(Ints a) {  // what crosses from byte to byte is masked away by whoever shifts
    for (int32_t& x : a.v) x = int32_t(Left > 0 ? uint32_t(x) << (Left > 0 ? Left : 0) : uint32_t(x) >> (Left < 0 ? -Left : 0));
    return a;
}
template <int Power>
inline Ints times_power_of_two(Ints a) {
    for (int32_t& x : a.v) x *= 1 << Power;
    return a;
}
template <int Index>
inline Ints byte_of(Ints a) {
    for (int32_t& x : a.v) x = int32_t(uint32_t(x) >> (8 * Index)) & 255;
    return a;
}
// acc + the product of four unsigned bytes of each lane with four signed bytes, the same for all lanes.
template <int>
inline Ints dot(Ints acc, Ints bytes, const int8_t* four) {
    for (int i = 0; i < 16; i++) {
        uint32_t w = uint32_t(bytes.v[i]);
        for (int j = 0; j < 4; j++) acc.v[i] += int32_t((w >> (8 * j)) & 255) * four[j];
    }
    return acc;
}
inline Floats to_floats(Ints a) {
    Floats r;
    for (int i = 0; i < 16; i++) r.v[i] = float(a.v[i]);
    return r;
}
inline float sum(Floats a) {  // a fixed tree, so that the result is one and the same everywhere
    for (int step = 8; step; step /= 2)
        for (int i = 0; i < step; i++) a.v[i] += a.v[i + step];
    return a.v[0];
}

}  // namespace lanes
}  // namespace
