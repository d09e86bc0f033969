#include "blocks.hpp"

#include <cmath>
#include <cstring>
#include <limits>

namespace nextok {
namespace {

// -(2^power) * h as binary16, exact but for overflow, which becomes infinite.
uint16_t minus_times(uint16_t h, int power) {
    uint32_t exponent = (h >> 10) & 31, fraction = h & 1023, sign = (h & 0x8000) ^ 0x8000;
    if (exponent == 31) return uint16_t(sign | (h & 0x7fff));
    if (exponent == 0) {
        if (fraction == 0) return uint16_t(sign);
        exponent = 1;
        while (!(fraction & 1024)) {
            if (power == 0) return uint16_t(sign | (fraction & 1023));
            fraction <<= 1;
            power--;
        }
        fraction &= 1023;
    }
    exponent += uint32_t(power);
    return uint16_t(exponent >= 31 ? sign | 0x7c00 : sign | exponent << 10 | fraction);
}

uint16_t half_at(const uint8_t* p) { return uint16_t(p[0] | p[1] << 8); }

void nibbles(const uint8_t* q, uint8_t* codes) {
    for (int i = 0; i < 16; i++) {
        codes[i] = q[i] & 15;
        codes[i + 16] = q[i] >> 4;
    }
}

void fifth_bits(const uint8_t* q, uint8_t* codes) {
    for (int i = 0; i < 32; i++) codes[i] = uint8_t(codes[i] | ((q[i / 8] >> (i % 8)) & 1) << 4);
}

void read_scales_k(const uint8_t* p, BlockK& b) {  // 8 scales and 8 offsets of 6 bits, in 12 bytes.
    for (int i = 0; i < 4; i++) {
        b.scale[i] = p[i] & 63;
        b.offset[i] = p[i + 4] & 63;
        b.scale[i + 4] = uint8_t((p[i + 8] & 15) | (p[i] >> 6) << 4);
        b.offset[i + 4] = uint8_t((p[i + 8] >> 4) | (p[i + 4] >> 6) << 4);
    }
}

}  // namespace

float from_half(uint16_t h) {
    uint32_t exponent = (h >> 10) & 31, fraction = h & 1023;
    float size = exponent == 0 ? std::ldexp(float(fraction), -24)
                 : exponent == 31
                     ? (fraction ? std::numeric_limits<float>::quiet_NaN() : std::numeric_limits<float>::infinity())
                     : std::ldexp(float(fraction + 1024), int(exponent) - 25);
    return h & 0x8000 ? -size : size;
}

void read_q4_0(const uint8_t* p, Block& b) {
    b.scale = half_at(p);
    b.offset = minus_times(b.scale, 3);
    nibbles(p + 2, b.codes);
}
void read_q4_1(const uint8_t* p, Block& b) {
    b.scale = half_at(p);
    b.offset = half_at(p + 2);
    nibbles(p + 4, b.codes);
}
void read_q5_0(const uint8_t* p, Block& b) {
    b.scale = half_at(p);
    b.offset = minus_times(b.scale, 4);
    nibbles(p + 6, b.codes);
    fifth_bits(p + 2, b.codes);
}
void read_q5_1(const uint8_t* p, Block& b) {
    b.scale = half_at(p);
    b.offset = half_at(p + 2);
    nibbles(p + 8, b.codes);
    fifth_bits(p + 4, b.codes);
}
void read_q8_0(const uint8_t* p, Block& b) {
    b.scale = half_at(p);
    b.offset = 0;
    for (int i = 0; i < 32; i++) b.codes[i] = uint8_t(p[2 + i] + 128);
}

void read_q4_k(const uint8_t* p, BlockK& b) {
    b.per_scale = half_at(p);
    b.per_offset = minus_times(half_at(p + 2), 0);
    read_scales_k(p + 4, b);
    for (int i = 0; i < 256; i++) b.codes[i] = uint8_t(p[16 + i / 64 * 32 + i % 32] >> (i % 64 < 32 ? 0 : 4) & 15);
}
void read_q5_k(const uint8_t* p, BlockK& b) {
    b.per_scale = half_at(p);
    b.per_offset = minus_times(half_at(p + 2), 0);
    read_scales_k(p + 4, b);
    for (int i = 0; i < 256; i++)
        b.codes[i] = uint8_t((p[48 + i / 64 * 32 + i % 32] >> (i % 64 < 32 ? 0 : 4) & 15) |
                             (p[16 + i % 32] >> (i / 32) & 1) << 4);
}
void read_q6_k(const uint8_t* p, BlockK& b) {
    for (int i = 0; i < 256; i++) {
        const int half = i / 128, quarter = i % 128 / 32;
        const int low = p[half * 64 + i % 64] >> (quarter < 2 ? 0 : 4) & 15,
                  high = p[128 + half * 32 + i % 32] >> (2 * quarter) & 3;
        b.codes[i] = uint8_t(low | high << 4);
    }
    std::memcpy(b.scale, p + 192, 16);
    b.per_scale = half_at(p + 208);
}

}  // namespace nextok
