// Sixteen lanes as one register of AVX-512, with VNNI's dot product of bytes.
#pragma once
#include <immintrin.h>

#include <cstdint>
#include <cstring>

namespace {  // The same names mean other types in another translation unit.
namespace lanes {

using Floats = __m512;
using Ints = __m512i;

constexpr int kTile = 8;             // Rows of activations that share one reading of a panel.
constexpr int kQueriesAtOnce = 6;    // Queries that share one reading of a page.
constexpr bool kCheapHalves = true;  // Whether float16 costs no time, so that the cache is kept in it.

inline Floats zero() { return _mm512_setzero_ps(); }
inline Floats all(float x) { return _mm512_set1_ps(x); }
inline Floats load(const float* p) { return _mm512_loadu_ps(p); }
inline void store(float* p, Floats x) { _mm512_storeu_ps(p, x); }
inline Floats fma(Floats x, Floats y, Floats z) { return _mm512_fmadd_ps(x, y, z); }
inline Floats mul(Floats x, Floats y) { return _mm512_mul_ps(x, y); }
inline Floats add(Floats x, Floats y) { return _mm512_add_ps(x, y); }
inline Floats greater(Floats x, Floats y) { return _mm512_max_ps(x, y); }
inline Floats lesser(Floats x, Floats y) { return _mm512_min_ps(x, y); }
inline Floats divide(Floats x, Floats y) { return _mm512_div_ps(x, y); }
inline Floats nearest(Floats x) { return _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
inline Floats times_power_of_two(Floats x, Floats power) { return _mm512_scalef_ps(x, power); }
inline Floats halves(const uint16_t* p) { return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i*)p)); }
inline Floats keep_above(Floats a, Floats x, float least) {
    return _mm512_mask_mov_ps(a, _mm512_cmp_ps_mask(x, all(least), _CMP_LT_OQ), zero());
}
inline void store(uint16_t* p, Floats x) {  // As binary16.
    _mm256_storeu_si256((__m256i*)p, _mm512_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
inline Floats brains(const uint16_t* p) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i*)p)), 16));
}
inline Floats unsigned_bytes(const uint8_t* p) {
    return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i*)p)));
}
inline Floats signed_bytes(const int8_t* p) {
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i*)p)));
}
inline float greatest(Floats x) { return _mm512_reduce_max_ps(x); }
inline float greatest_size(Floats x, Floats y) {  // As integers, NaN is above all numbers.
    const __m512i size = _mm512_set1_epi32(0x7fffffff);
    int32_t bits = _mm512_reduce_max_epi32(_mm512_max_epi32(_mm512_and_si512(_mm512_castps_si512(x), size),
                                                            _mm512_and_si512(_mm512_castps_si512(y), size)));
    float f;
    std::memcpy(&f, &bits, 4);
    return f;
}

inline Ints int_all(int32_t x) { return _mm512_set1_epi32(x); }
inline Ints int_load(const uint8_t* p) { return _mm512_loadu_si512(p); }
inline Ints int_add(Ints x, Ints y) { return _mm512_add_epi32(x, y); }
inline Ints either(Ints x, Ints y) { return _mm512_or_si512(x, y); }
inline Ints to_ints(Floats x) { return _mm512_cvtps_epi32(x); }
inline int32_t int_sum(Ints x) { return _mm512_reduce_add_epi32(x); }
inline void store_bytes(int8_t* p, Ints x) { _mm_storeu_si128((__m128i*)p, _mm512_cvtepi32_epi8(x)); }
template <int Mask>
inline Ints bits(Ints x) {
    return _mm512_and_si512(x, _mm512_set1_epi8(Mask));
}
template <int Left>
inline Ints shifted(Ints x) {  // Bits cross within pairs of bytes: the caller masks them.
    if constexpr (Left > 0) return _mm512_slli_epi16(x, Left);
    if constexpr (Left < 0) return _mm512_srli_epi16(x, -Left);
    return x;
}
template <int Power>
inline Ints times_power_of_two(Ints x) {
    return _mm512_slli_epi32(x, Power);
}
template <int Index>
inline Ints byte_of(Ints x) {
    return _mm512_and_si512(_mm512_srli_epi32(x, 8 * Index), _mm512_set1_epi32(255));
}
template <int>
inline Ints dot(Ints acc, Ints bytes, const int8_t* four) {
    int32_t word;
    std::memcpy(&word, four, 4);
    return _mm512_dpbusd_epi32(acc, bytes, _mm512_set1_epi32(word));
}
inline Floats to_floats(Ints x) { return _mm512_cvtepi32_ps(x); }
inline float sum(Floats x) {
    __m256 eight = _mm256_add_ps(_mm512_castps512_ps256(x), _mm512_extractf32x8_ps(x, 1));
    __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps(two, two, 1)));
}

}  // namespace lanes
}  // namespace
