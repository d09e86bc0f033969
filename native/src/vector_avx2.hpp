// Sixteen lanes as two registers of AVX2.
#pragma once
#include <immintrin.h>

#include <cstdint>
#include <cstring>

namespace {  // own to each translation unit: the same names mean other types in another one
namespace lanes {

struct Floats {
    __m256 a, b;
};
struct Ints {
    __m256i a, b;
};

inline Floats zero() { return {_mm256_setzero_ps(), _mm256_setzero_ps()}; }
inline Floats all(float x) { return {_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
inline Floats load(const float* p) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
inline void store(float* p, Floats x) {
    _mm256_storeu_ps(p, x.a);
    _mm256_storeu_ps(p + 8, x.b);
}
inline Floats fma(Floats x, Floats y, Floats z) { return {_mm256_fmadd_ps(x.a, y.a, z.a), _mm256_fmadd_ps(x.b, y.b, z.b)}; }
inline Floats mul(Floats x, Floats y) { return {_mm256_mul_ps(x.a, y.a), _mm256_mul_ps(x.b, y.b)}; }
inline Floats add(Floats x, Floats y) { return {_mm256_add_ps(x.a, y.a), _mm256_add_ps(x.b, y.b)}; }
inline Floats greater(Floats x, Floats y) { return {_mm256_max_ps(x.a, y.a), _mm256_max_ps(x.b, y.b)}; }
inline Floats lesser(Floats x, Floats y) { return {_mm256_min_ps(x.a, y.a), _mm256_min_ps(x.b, y.b)}; }
inline Floats divide(Floats x, Floats y) { return {_mm256_div_ps(x.a, y.a), _mm256_div_ps(x.b, y.b)}; }
inline Floats nearest(Floats x) {
    constexpr int mode = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
    return {_mm256_round_ps(x.a, mode), _mm256_round_ps(x.b, mode)};
}
inline __m256 power_half(__m256 power) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(power), _mm256_set1_epi32(127)), 23));
}
inline Floats times_power_of_two(Floats x, Floats power) {  // of a normal result only
    return {_mm256_mul_ps(x.a, power_half(power.a)), _mm256_mul_ps(x.b, power_half(power.b))};
}
inline Floats halves(const uint16_t* p) {
    return {_mm256_cvtph_ps(_mm_loadu_si128((const __m128i*)p)), _mm256_cvtph_ps(_mm_loadu_si128((const __m128i*)(p + 8)))};
}
inline __m256 keep_half(__m256 a, __m256 x, float least) {
    return _mm256_andnot_ps(_mm256_cmp_ps(x, _mm256_set1_ps(least), _CMP_LT_OQ), a);
}
inline Floats keep_above(Floats a, Floats x, float least) { return {keep_half(a.a, x.a, least), keep_half(a.b, x.b, least)}; }
inline float half(uint16_t h) { return _cvtsh_ss(h); }
inline Ints int_all(int32_t x) { return {_mm256_set1_epi32(x), _mm256_set1_epi32(x)}; }
inline Ints int_load(const uint8_t* p) {
    return {_mm256_loadu_si256((const __m256i*)p), _mm256_loadu_si256((const __m256i*)(p + 32))};
}
inline Ints low_nibbles(Ints x) {
    __m256i mask = _mm256_set1_epi8(15);
    return {_mm256_and_si256(x.a, mask), _mm256_and_si256(x.b, mask)};
}
inline Ints high_nibbles(Ints x) { return low_nibbles({_mm256_srli_epi16(x.a, 4), _mm256_srli_epi16(x.b, 4)}); }
inline Ints byte_of(Ints x, int index) {
    __m256i mask = _mm256_set1_epi32(255);
    __m128i shift = _mm_cvtsi32_si128(8 * index);
    return {_mm256_and_si256(_mm256_srl_epi32(x.a, shift), mask), _mm256_and_si256(_mm256_srl_epi32(x.b, shift), mask)};
}
// Even and odd bytes apart in 16 bits: maddubs would saturate for weights above 127.
inline __m256i dot_half(__m256i acc, __m256i w, __m256i even, __m256i odd) {
    __m256i low = _mm256_madd_epi16(_mm256_and_si256(w, _mm256_set1_epi16(255)), even);
    __m256i high = _mm256_madd_epi16(_mm256_srli_epi16(w, 8), odd);
    return _mm256_add_epi32(acc, _mm256_add_epi32(low, high));
}
inline Ints dot(Ints acc, Ints bytes, const int8_t* four) {
    int32_t word;
    std::memcpy(&word, four, 4);
    __m256i x = _mm256_set1_epi32(word);
    __m256i even = _mm256_srai_epi16(_mm256_slli_epi16(x, 8), 8), odd = _mm256_srai_epi16(x, 8);
    return {dot_half(acc.a, bytes.a, even, odd), dot_half(acc.b, bytes.b, even, odd)};
}
inline Floats to_floats(Ints x) { return {_mm256_cvtepi32_ps(x.a), _mm256_cvtepi32_ps(x.b)}; }
inline float sum(Floats x) {
    __m256 eight = _mm256_add_ps(x.a, x.b);
    __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps(two, two, 1)));
}

}  // namespace lanes
}  // namespace
