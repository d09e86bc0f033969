// Sixteen lanes as one register of AVX-512, with VNNI's dot product of bytes.
#pragma once
#include <immintrin.h>

#include <cstdint>
#include <cstring>

namespace {  // own to each translation unit: the same names mean other types in another one
namespace lanes {

using Floats = __m512;
using Ints = __m512i;

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
inline float half(uint16_t h) { return _cvtsh_ss(h); }
inline Ints int_all(int32_t x) { return _mm512_set1_epi32(x); }
inline Ints int_load(const uint8_t* p) { return _mm512_loadu_si512(p); }
inline Ints low_nibbles(Ints x) { return _mm512_and_si512(x, _mm512_set1_epi8(15)); }
inline Ints high_nibbles(Ints x) { return low_nibbles(_mm512_srli_epi16(x, 4)); }
inline Ints byte_of(Ints x, int index) {
    return _mm512_and_si512(_mm512_srl_epi32(x, _mm_cvtsi32_si128(8 * index)), _mm512_set1_epi32(255));
}
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
