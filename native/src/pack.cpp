#include "pack.hpp"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <stdexcept>

namespace nextok {
namespace {

struct Block {  // 32 weights of one row, whatever the file called them: value = scale * code + offset
    uint8_t codes[32];
    uint16_t scale, offset;
};

float from_half(uint16_t h) {
    uint32_t exponent = (h >> 10) & 31, fraction = h & 1023;
    float size = exponent == 0    ? std::ldexp(float(fraction), -24)
                 : exponent == 31 ? (fraction ? std::numeric_limits<float>::quiet_NaN() : std::numeric_limits<float>::infinity())
                                  : std::ldexp(float(fraction + 1024), int(exponent) - 25);
    return h & 0x8000 ? -size : size;
}

// -factor * h for a power of two, exact but for overflow, which becomes infinite as it would in any arithmetic.
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

struct Format {
    const char* kind;
    Layout layout;
    size_t block_bytes;  // of 32 weights in the file
    size_t panel_bytes;
    void (*read)(const uint8_t*, Block&);
};

constexpr Format kFormats[] = {
    {"Q4_0", Layout::four, 18, sizeof(Panel4), read_q4_0},  {"Q4_1", Layout::four, 20, sizeof(Panel4), read_q4_1},
    {"Q5_0", Layout::five, 22, sizeof(Panel5), read_q5_0},  {"Q5_1", Layout::five, 24, sizeof(Panel5), read_q5_1},
    {"Q8_0", Layout::eight, 34, sizeof(Panel8), read_q8_0}, {"F32", Layout::floats, 128, sizeof(PanelF), nullptr},
};

const Format& format_named(const std::string& kind) {
    for (const Format& format : kFormats)
        if (kind == format.kind) return format;
    throw std::invalid_argument("no panel layout for " + kind + "; turn it into F32 first");
}

void place(Panel4& panel, int row, const Block& b) {
    for (int c = 0; c < 32; c++)
        panel.codes[64 * (c / 8) + 4 * row + c % 4] |= uint8_t(c % 8 < 4 ? b.codes[c] : b.codes[c] << 4);
    panel.scale[row] = b.scale;
    panel.offset[row] = b.offset;
}
void place(Panel5& panel, int row, const Block& b) {
    for (int c = 0; c < 32; c++) panel.codes[64 * (c / 4) + 4 * row + c % 4] = b.codes[c];
    panel.scale[row] = b.scale;
    panel.offset[row] = b.offset;
}
void place(Panel8& panel, int row, const Block& b) {
    for (int c = 0; c < 32; c++) panel.codes[64 * (c / 4) + 4 * row + c % 4] = b.codes[c];
    panel.scale[row] = b.scale;
}

int up(int n, int to) { return (n + to - 1) / to * to; }

uint8_t* aligned(size_t bytes) {
    void* p = std::aligned_alloc(64, (bytes + 63) / 64 * 64);
    if (!p) throw std::bad_alloc();
    return static_cast<uint8_t*>(p);
}

}  // namespace

Packed::Packed(const std::string& kind, const uint8_t* data, size_t size, int rows, int columns, Pool& pool)
    : rows_(rows), store_(nullptr, [](uint8_t* p) { std::free(p); }) {
    const Format& format = format_named(kind);
    if (rows < 1 || columns < 1 || (format.read && columns % kColumns))
        throw std::invalid_argument("a matrix needs rows, and columns in whole blocks of 32");
    const int blocks = up(columns, kColumns) / kColumns, panels = up(rows, kRows) / kRows;
    const size_t expected = format.read ? size_t(rows) * blocks * format.block_bytes : size_t(rows) * columns * 4;
    if (size != expected) throw std::invalid_argument("the data of a matrix has not the size of its shape");
    bytes_ = size_t(panels) * blocks * format.panel_bytes;
    store_.reset(aligned(bytes_));
    matrix_ = Matrix{format.layout, panels * kRows, blocks * kColumns, store_.get()};
    pool.share(panels, [&](int first, int last) {
        std::memset(store_.get() + size_t(first) * blocks * format.panel_bytes, 0, size_t(last - first) * blocks * format.panel_bytes);
        for (int r = first * kRows; r < std::min(last * kRows, rows); r++)
            for (int b = 0; b < blocks; b++) {
                uint8_t* panel = store_.get() + (size_t(r / kRows) * blocks + b) * format.panel_bytes;
                if (!format.read) {
                    float* value = reinterpret_cast<PanelF*>(panel)->value;
                    for (int c = 0; c < kColumns && b * kColumns + c < columns; c++)
                        std::memcpy(value + 16 * c + r % 16, data + (size_t(r) * columns + b * kColumns + c) * 4, 4);
                    continue;
                }
                Block block;
                format.read(data + (size_t(r) * blocks + b) * format.block_bytes, block);
                switch (format.layout) {
                    case Layout::four: place(*reinterpret_cast<Panel4*>(panel), r % kRows, block); break;
                    case Layout::five: place(*reinterpret_cast<Panel5*>(panel), r % kRows, block); break;
                    default: place(*reinterpret_cast<Panel8*>(panel), r % kRows, block); break;
                }
            }
    });
}

void Packed::row(int index, float* out) const {
    const int blocks = matrix_.columns / kColumns, lane = index % kRows;
    for (int b = 0; b < blocks; b++) {
        const size_t at = size_t(index / kRows) * blocks + b;
        for (int c = 0; c < kColumns; c++) {
            float& y = out[b * kColumns + c];
            switch (matrix_.layout) {
                case Layout::four: {
                    const Panel4& p = static_cast<const Panel4*>(matrix_.panels)[at];
                    int both = p.codes[64 * (c / 8) + 4 * lane + c % 4];
                    y = from_half(p.scale[lane]) * float(c % 8 < 4 ? both & 15 : both >> 4) + from_half(p.offset[lane]);
                    break;
                }
                case Layout::five: {
                    const Panel5& p = static_cast<const Panel5*>(matrix_.panels)[at];
                    y = from_half(p.scale[lane]) * float(p.codes[64 * (c / 4) + 4 * lane + c % 4]) + from_half(p.offset[lane]);
                    break;
                }
                case Layout::eight: {
                    const Panel8& p = static_cast<const Panel8*>(matrix_.panels)[at];
                    y = from_half(p.scale[lane]) * float(p.codes[64 * (c / 4) + 4 * lane + c % 4] - 128);
                    break;
                }
                case Layout::floats: y = static_cast<const PanelF*>(matrix_.panels)[at].value[16 * c + lane]; break;
            }
        }
    }
}

}  // namespace nextok
