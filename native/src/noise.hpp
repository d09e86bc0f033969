// Noise that belongs to the request: a pure function of (seed, position, token id), as in readout/noise.py.
#pragma once
#include <cmath>
#include <cstdint>

namespace nextok {

// SplitMix64's finaliser.
inline uint64_t mix(uint64_t x) {
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EB;
    return x ^ (x >> 31);
}
constexpr uint64_t kGamma = 0x9E3779B97F4A7C15;

// What the noise of all tokens at one position has in common.
inline uint64_t noise_key(uint64_t seed, uint64_t position) { return mix((mix(seed) ^ position) + kGamma); }

// The noise of a token as a whole number; token -1 is for what concerns the whole row.
inline uint64_t noise_bits(uint64_t key, int token) { return mix(key + (uint64_t(int64_t(token)) + 1) * kGamma); }

// Noise as a number in (0, 1).
inline double uniform(uint64_t bits) { return (double(int64_t(bits >> 12)) + 0.5) * 0x1p-52; }

// Noise as standard Gumbel noise.
inline double gumbel(uint64_t bits) { return -std::log(-std::log(uniform(bits))); }

// No less than `gumbel`, but without logarithms: it is at most -log(1 - u), whose power of two the leading ones tell.
inline double gumbel_at_most(uint64_t bits) { return (__builtin_clzll(~bits | 1) + 1) * 0.6931472; }

}  // namespace nextok
