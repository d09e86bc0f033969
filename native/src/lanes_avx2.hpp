// Sixteen lanes as two registers of AVX2, with AVX-VNNI's dot product of bytes where the compiler may use it.
#pragma once
#include <immintrin.h>

#include <algorithm>
#include <cstdint>
#include <cstring>

namespace {  // The same names mean other types in another translation unit.
namespace lanes {

constexpr int kTile = 3;             // Rows of activations that share one reading of a panel.
constexpr int kQueriesAtOnce = 1;    // Queries that share one reading of a page.
constexpr bool kCheapHalves = true;  // Whether float16 costs no time, so that the cache is kept in it.

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
inline Floats fma(Floats x, Floats y, Floats z) {
    return {_mm256_fmadd_ps(x.a, y.a, z.a), _mm256_fmadd_ps(x.b, y.b, z.b)};
}
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
    return _mm256_castsi256_ps(
        _mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(power), _mm256_set1_epi32(127)), 23));
}
inline Floats times_power_of_two(Floats x, Floats power) {  // The result must be a normal number.
    return {_mm256_mul_ps(x.a, power_half(power.a)), _mm256_mul_ps(x.b, power_half(power.b))};
}
inline Floats halves(const uint16_t* p) {
    return {_mm256_cvtph_ps(_mm_loadu_si128((const __m128i*)p)),
            _mm256_cvtph_ps(_mm_loadu_si128((const __m128i*)(p + 8)))};
}
inline __m256 keep_half(__m256 a, __m256 x, float least) {
    return _mm256_andnot_ps(_mm256_cmp_ps(x, _mm256_set1_ps(least), _CMP_LT_OQ), a);
}
inline Floats keep_above(Floats a, Floats x, float least) {
    return {keep_half(a.a, x.a, least), keep_half(a.b, x.b, least)};
}
inline void store(uint16_t* p, Floats x) {  // As binary16.
    _mm_storeu_si128((__m128i*)p, _mm256_cvtps_ph(x.a, _MM_FROUND_TO_NEAREST_INT));
    _mm_storeu_si128((__m128i*)(p + 8), _mm256_cvtps_ph(x.b, _MM_FROUND_TO_NEAREST_INT));
}
inline __m256 brain_half(const uint16_t* p) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i*)p)), 16));
}
inline Floats brains(const uint16_t* p) { return {brain_half(p), brain_half(p + 8)}; }
inline Floats unsigned_bytes(const uint8_t* p) {
    return {_mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i*)p))),
            _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i*)(p + 8))))};
}
inline Floats signed_bytes(const int8_t* p) {
    return {_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i*)p))),
            _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i*)(p + 8))))};
}
inline float greatest(Floats x) {
    float lanes[16];
    store(lanes, x);
    return *std::max_element(lanes, lanes + 16);
}
inline float greatest_size(Floats x, Floats y) {  // As integers, NaN is above all numbers.
    const __m256i size = _mm256_set1_epi32(0x7fffffff);
    auto bits = [&](__m256 z) { return _mm256_and_si256(_mm256_castps_si256(z), size); };
    __m256i eight = _mm256_max_epi32(_mm256_max_epi32(bits(x.a), bits(x.b)), _mm256_max_epi32(bits(y.a), bits(y.b)));
    __m128i four = _mm_max_epi32(_mm256_castsi256_si128(eight), _mm256_extracti128_si256(eight, 1));
    __m128i two = _mm_max_epi32(four, _mm_unpackhi_epi64(four, four));
    return _mm_cvtss_f32(_mm_castsi128_ps(_mm_max_epi32(two, _mm_shuffle_epi32(two, 1))));
}

inline Ints int_all(int32_t x) { return {_mm256_set1_epi32(x), _mm256_set1_epi32(x)}; }
inline Ints int_load(const uint8_t* p) {
    return {_mm256_loadu_si256((const __m256i*)p), _mm256_loadu_si256((const __m256i*)(p + 32))};
}
inline Ints int_add(Ints x, Ints y) { return {_mm256_add_epi32(x.a, y.a), _mm256_add_epi32(x.b, y.b)}; }
inline Ints either(Ints x, Ints y) { return {_mm256_or_si256(x.a, y.a), _mm256_or_si256(x.b, y.b)}; }
inline Ints to_ints(Floats x) { return {_mm256_cvtps_epi32(x.a), _mm256_cvtps_epi32(x.b)}; }
inline int32_t int_sum(Ints x) {
    __m256i eight = _mm256_add_epi32(x.a, x.b);
    __m128i four = _mm_add_epi32(_mm256_castsi256_si128(eight), _mm256_extracti128_si256(eight, 1));
    __m128i two = _mm_add_epi32(four, _mm_unpackhi_epi64(four, four));
    return _mm_cvtsi128_si32(_mm_add_epi32(two, _mm_shuffle_epi32(two, 1)));
}
inline void store_bytes(int8_t* p, Ints x) {
    __m256i pairs = _mm256_permute4x64_epi64(_mm256_packs_epi32(x.a, x.b), 0xd8);
    _mm_storeu_si128((__m128i*)p, _mm_packs_epi16(_mm256_castsi256_si128(pairs), _mm256_extracti128_si256(pairs, 1)));
}
template <int Mask>
inline Ints bits(Ints x) {
    const __m256i mask = _mm256_set1_epi8(Mask);
    return {_mm256_and_si256(x.a, mask), _mm256_and_si256(x.b, mask)};
}
template <int Left>
inline Ints shifted(Ints x) {  // Bits cross within pairs of bytes: the caller masks them.
    if constexpr (Left > 0) return {_mm256_slli_epi16(x.a, Left), _mm256_slli_epi16(x.b, Left)};
    if constexpr (Left < 0) return {_mm256_srli_epi16(x.a, -Left), _mm256_srli_epi16(x.b, -Left)};
    return x;
}
template <int Power>
inline Ints times_power_of_two(Ints x) {
    return {_mm256_slli_epi32(x.a, Power), _mm256_slli_epi32(x.b, Power)};
}
template <int Index>
inline Ints byte_of(Ints x) {
    const __m256i mask = _mm256_set1_epi32(255);
    return {_mm256_and_si256(_mm256_srli_epi32(x.a, 8 * Index), mask),
            _mm256_and_si256(_mm256_srli_epi32(x.b, 8 * Index), mask)};
}
// acc + the product of four unsigned bytes of each lane, at most `Most`, with four signed bytes, the same for all
// lanes.
#ifdef __AVXVNNI__
template <int Most>
inline __m256i dot_half(__m256i acc, __m256i bytes, __m256i four) {
    return _mm256_dpbusd_avx_epi32(acc, bytes, four);
}
#else
template <int Most>
inline __m256i dot_half(__m256i acc, __m256i bytes, __m256i four) {
    if constexpr (2 * Most * 128 < 32768)
        return _mm256_add_epi32(acc, _mm256_madd_epi16(_mm256_maddubs_epi16(bytes, four), _mm256_set1_epi16(1)));
    // The sum of two products would not fit into 16 bits: even and odd bytes apart.
    const __m256i even = _mm256_srai_epi16(_mm256_slli_epi16(four, 8), 8), odd = _mm256_srai_epi16(four, 8);
    const __m256i low = _mm256_madd_epi16(_mm256_and_si256(bytes, _mm256_set1_epi16(255)), even);
    const __m256i high = _mm256_madd_epi16(_mm256_srli_epi16(bytes, 8), odd);
    return _mm256_add_epi32(acc, _mm256_add_epi32(low, high));
}
#endif
template <int Most>
inline Ints dot(Ints acc, Ints bytes, const int8_t* four) {
    int32_t word;
    std::memcpy(&word, four, 4);
    const __m256i x = _mm256_set1_epi32(word);
    return {dot_half<Most>(acc.a, bytes.a, x), dot_half<Most>(acc.b, bytes.b, x)};
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
