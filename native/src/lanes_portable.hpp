// Sixteen lanes in the vector extensions of GCC and Clang: the meaning of every operation, for any processor.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>

namespace {  // The same names mean other types in another translation unit.
namespace lanes {

constexpr int kTile = 2;              // Rows of activations that share one reading of a panel.
constexpr int kQueriesAtOnce = 1;     // Queries that share one reading of a page.
constexpr bool kCheapHalves = false;  // Whether float16 costs no time, so that the cache is kept in it.

template <class Number>
using Lanes [[gnu::vector_size(16 * sizeof(Number))]] = Number;
using Floats = Lanes<float>;
using Ints = Lanes<int32_t>;
using Words = Lanes<uint32_t>;
using Shorts __attribute__((vector_size(64))) = int16_t;  // Two numbers of 16 bits per lane.

template <class To, class From>
inline To bits_as(const From& from) {
    static_assert(sizeof(To) == sizeof(From));
    To to;
    std::memcpy(&to, &from, sizeof to);
    return to;
}
// The sixteen numbers at p, of whatever kind, as lanes.
template <class To, class Number>
inline To lanes_at(const Number* p) {
    Lanes<Number> numbers;
    std::memcpy(&numbers, p, sizeof numbers);
    return __builtin_convertvector(numbers, To);
}

inline Floats zero() { return Floats{}; }
inline Floats all(float x) { return Floats{x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x}; }
inline Floats load(const float* p) { return lanes_at<Floats>(p); }
inline void store(float* p, Floats x) { std::memcpy(p, &x, sizeof x); }
inline Floats fma(Floats x, Floats y, Floats z) { return x * y + z; }
inline Floats mul(Floats x, Floats y) { return x * y; }
inline Floats add(Floats x, Floats y) { return x + y; }
inline Floats greater(Floats x, Floats y) { return x > y ? x : y; }
inline Floats lesser(Floats x, Floats y) { return x < y ? x : y; }
inline Floats divide(Floats x, Floats y) { return x / y; }
inline Floats keep_above(Floats a, Floats x, float least) {
    return x < all(least) ? zero() : a;
}  // 0 where x is below `least`.

inline Ints int_all(int32_t x) { return Ints{x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x}; }
inline Ints int_load(const uint8_t* p) { return lanes_at<Ints>(reinterpret_cast<const int32_t*>(p)); }
inline Ints int_add(Ints x, Ints y) { return x + y; }
inline Ints either(Ints x, Ints y) { return x | y; }
inline Floats to_floats(Ints x) { return __builtin_convertvector(x, Floats); }
// To the nearest, ties to even, for sizes below 2^22: the sum has no room for a fraction.
inline Floats nearest(Floats x) { return (x + all(12582912.0f)) - all(12582912.0f); }
inline Ints to_ints(Floats x) { return __builtin_convertvector(nearest(x), Ints); }
inline Floats times_power_of_two(Floats x, Floats power) {  // The result must be a normal number.
    return x * bits_as<Floats>((to_ints(power) + 127) << 23);
}
template <int Mask>
inline Ints bits(Ints x) {
    return x & int_all(Mask * 0x01010101);
}
template <int Left>
inline Ints shifted(Ints x) {  // Bits cross from byte to byte: the caller masks them.
    if constexpr (Left > 0) return bits_as<Ints>(bits_as<Words>(x) << Left);
    return bits_as<Ints>(bits_as<Words>(x) >> -Left);
}
template <int Power>
inline Ints times_power_of_two(Ints x) {
    return x << Power;
}
template <int Index>
inline Ints byte_of(Ints x) {
    return (x >> (8 * Index)) & 255;
}
// acc + the product of four unsigned bytes of each lane with four signed bytes, the same for all lanes.
template <int>
inline Ints dot(Ints acc, Ints bytes, const int8_t* four) {
    const uint32_t even = uint16_t(four[0]) | uint32_t(uint16_t(four[2])) << 16,
                   odd = uint16_t(four[1]) | uint32_t(uint16_t(four[3])) << 16;
    const Shorts low = bits_as<Shorts>(bytes & 0x00ff00ff) * bits_as<Shorts>(int_all(int32_t(even)));
    const Shorts high = bits_as<Shorts>((bytes >> 8) & 0x00ff00ff) * bits_as<Shorts>(int_all(int32_t(odd)));
    // A product of two bytes fits into 16 bits, a sum of two products does not.
    const Ints a = bits_as<Ints>(low), b = bits_as<Ints>(high);
    return acc + ((a << 16) >> 16) + (a >> 16) + ((b << 16) >> 16) + (b >> 16);
}

inline Floats unsigned_bytes(const uint8_t* p) { return lanes_at<Floats>(p); }
inline Floats signed_bytes(const int8_t* p) { return lanes_at<Floats>(p); }
inline Floats brains(const uint16_t* p) { return bits_as<Floats>(lanes_at<Words>(p) << 16); }
inline Floats halves(const uint16_t* p) {  // IEEE 754 binary16; a float made of its bits is too small by 2^112
    const Words h = lanes_at<Words>(p), size = (h & 0x7fff) << 13;
    const Floats value = bits_as<Floats>(size) * all(5.192296858534828e33f);
    const Words special = bits_as<Words>(size >= 0x0f800000) & 0x7f800000;
    return bits_as<Floats>(bits_as<Words>(value) | special | (h & 0x8000) << 16);
}
inline uint16_t to_half(float x) {  // Rounds to the nearest, ties to even.
    const uint32_t all_bits = bits_as<uint32_t>(x), sign = all_bits >> 16 & 0x8000, size = all_bits & 0x7fffffff;
    if (size > 0x7f800000) return uint16_t(sign | 0x7e00);
    if (size >= 0x477ff000) return uint16_t(sign | 0x7c00);  // 65,520 and above.
    if (size < 0x38800000)
        return uint16_t(sign | uint32_t(std::nearbyint(std::fabs(x) * 16777216.0f)));  // In units of 2^-24.
    return uint16_t(sign | ((size - 0x38000000 + 0xfff + (size >> 13 & 1)) >> 13));
}
inline void store(uint16_t* p, Floats x) {  // As binary16.
    for (int i = 0; i < 16; i++) p[i] = to_half(x[i]);
}
inline void store_bytes(int8_t* p, Ints x) {
    for (int i = 0; i < 16; i++) p[i] = int8_t(x[i]);
}
inline float sum(Floats x) {  // Every instruction set adds in this order.
    for (int step = 8; step; step /= 2)
        for (int i = 0; i < step; i++) x[i] += x[i + step];
    return x[0];
}
inline int32_t int_sum(Ints x) {
    int32_t total = 0;
    for (int i = 0; i < 16; i++) total += x[i];
    return total;
}
inline float greatest(Floats x) {
    float most = x[0];
    for (int i = 1; i < 16; i++) most = x[i] > most ? x[i] : most;
    return most;
}
inline float greatest_size(Floats x, Floats y) {  // As integers, NaN is above all numbers.
    const Ints a = bits_as<Ints>(x) & 0x7fffffff, b = bits_as<Ints>(y) & 0x7fffffff, larger = a > b ? a : b;
    int32_t most = 0;
    for (int i = 0; i < 16; i++) most = larger[i] > most ? larger[i] : most;
    return bits_as<float>(most);
}

}  // namespace lanes
}  // namespace
