// The blocks of quantised weights in model files, as codes, scales and offsets.
#pragma once
#include <cstdint>

namespace nextok {

// A run of 32 weights of one row: value = scale * code + offset, or scale * (code - centre).
struct Block {
    uint8_t codes[32];
    uint16_t scale, offset;  // As binary16.
};

// K formats: 8 runs of 32, or 16 runs of 16, with integer scales below those of the block of 256.
struct BlockK {
    uint8_t codes[256], scale[16], offset[8];
    uint16_t per_scale, per_offset;
};

// The number that an IEEE 754 binary16 stands for.
float from_half(uint16_t h);

void read_q4_0(const uint8_t* p, Block& b);
void read_q4_1(const uint8_t* p, Block& b);
void read_q5_0(const uint8_t* p, Block& b);
void read_q5_1(const uint8_t* p, Block& b);
void read_q8_0(const uint8_t* p, Block& b);
void read_q4_k(const uint8_t* p, BlockK& b);
void read_q5_k(const uint8_t* p, BlockK& b);
void read_q6_k(const uint8_t* p, BlockK& b);

}  // namespace nextok
