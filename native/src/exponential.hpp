// e^x for loops that the compiler makes vectors of.
#pragma once
#include <cstdint>
#include <cstring>

namespace nextok {

// Below this, e^x is not a normal number, and adding it to e^0 changes nothing.
constexpr double kFloor = -708;
inline double floored(double x) { return x > kFloor ? x : kFloor; }

// e^x for x from kFloor to 0, to the last bit or two.
inline double exponential(double x) {
    constexpr double round = 6755399441055744.0;  // 1.5 * 2^52: a sum with it has no fraction.
    double shifted = x * 1.4426950408889634 + round, power = shifted - round;
    double r = x - power * 0.693147180369123816490 - power * 1.90821492927058770002e-10;
    // Taylor's series to the twelfth power; |r| is at most 0.35.
    double y = 1. / 39916800 + r * (1. / 479001600);
    y = 1. / 40320 + r * (1. / 362880 + r * (1. / 3628800 + r * y));
    y = 1. / 120 + r * (1. / 720 + r * (1. / 5040 + r * y));
    y = 1 + r * (1 + r * (1. / 2 + r * (1. / 6 + r * (1. / 24 + r * y))));
    uint64_t bits, exponent;
    std::memcpy(&bits, &y, sizeof bits);
    std::memcpy(&exponent, &shifted, sizeof exponent);
    bits += exponent << 52;
    std::memcpy(&y, &bits, sizeof y);
    return y;
}

}  // namespace nextok
