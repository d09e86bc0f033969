#include "pack.hpp"

#include <algorithm>
#include <cstring>
#include <stdexcept>
#include <type_traits>

#include "blocks.hpp"

namespace nextok {
namespace {

// Where the code of column c of a block lies: line c / 4, byte 4 * lane + c % 4.
void put_nibble(uint8_t* codes, int lane, int c, int code) {
    codes[64 * (c / 8) + 4 * lane + c % 4] |= uint8_t((code & 15) << (c % 8 < 4 ? 0 : 4));
}
void put_fifth(uint8_t* fifth, int lane, int c, int code) {
    fifth[4 * lane + c % 4] |= uint8_t((code >> 4) << (c / 4));
}
void put_high(uint8_t* high, int lane, int c, int code) {
    high[64 * (c / 16) + 4 * lane + c % 4] |= uint8_t((code >> 4) << (2 * (c / 4 % 4)));
}

void place(Panel4& panel, int lane, const Block& b) {
    for (int c = 0; c < 32; c++) put_nibble(panel.codes, lane, c, b.codes[c]);
    panel.scale[lane] = b.scale;
    panel.offset[lane] = b.offset;
}
void place(Panel5& panel, int lane, const Block& b) {
    for (int c = 0; c < 32; c++) {
        put_nibble(panel.codes, lane, c, b.codes[c]);
        put_fifth(panel.fifth, lane, c, b.codes[c]);
    }
    panel.scale[lane] = b.scale;
    panel.offset[lane] = b.offset;
}
void place(Panel8& panel, int lane, const Block& b) {
    for (int c = 0; c < 32; c++) panel.codes[64 * (c / 4) + 4 * lane + c % 4] = b.codes[c];
    panel.scale[lane] = b.scale;
}
template <class Panel>
void place_scales(Panel& panel, int lane, const BlockK& b) {
    for (int i = 0; i < 8; i++) {
        panel.scale[i][lane] = b.scale[i];
        panel.offset[i][lane] = b.offset[i];
    }
    panel.per_scale[lane] = b.per_scale;
    panel.per_offset[lane] = b.per_offset;
}
void place(Panel4K& panel, int lane, const BlockK& b) {
    for (int c = 0; c < 256; c++) put_nibble(panel.codes[c / 32], lane, c % 32, b.codes[c]);
    place_scales(panel, lane, b);
}
void place(Panel5K& panel, int lane, const BlockK& b) {
    for (int c = 0; c < 256; c++) {
        put_nibble(panel.codes[c / 32], lane, c % 32, b.codes[c]);
        put_fifth(panel.fifth[c / 32], lane, c % 32, b.codes[c]);
    }
    place_scales(panel, lane, b);
}
void place(Panel6K& panel, int lane, const BlockK& b) {
    for (int c = 0; c < 256; c++) {
        put_nibble(panel.codes[c / 32], lane, c % 32, b.codes[c]);
        put_high(panel.high[c / 32], lane, c % 32, b.codes[c]);
    }
    for (int i = 0; i < 16; i++) panel.scale[i / 2][i % 2][lane] = int8_t(b.scale[i]);
    panel.per_scale[lane] = b.per_scale;
}

// Copy a row's blocks or numbers from a file into the panels of its sixteen rows.
template <class Panel, class Raw, void (*Read)(const uint8_t*, Raw&)>
void take_blocks(const uint8_t* data, size_t block_bytes, size_t count, void* panels, int lane) {
    for (size_t b = 0; b < count; b++) {
        Raw block;
        Read(data + b * block_bytes, block);
        place(static_cast<Panel*>(panels)[b], lane, block);
    }
}
template <class Number>
void take_numbers(const uint8_t* data, size_t, size_t count, void* panels, int lane) {
    for (size_t c = 0; c < count; c++)
        std::memcpy(static_cast<Number*>(panels) + 16 * c + lane, data + c * sizeof(Number), sizeof(Number));
}

struct Format {
    const char* kind;
    Layout layout;
    int length;          // The columns of a block: values of a row that lie together in the file.
    size_t block_bytes;  // Bytes of a block in the file.
    size_t panel_bytes;  // Bytes of the same columns of sixteen rows in a panel.
    void (*take)(const uint8_t* data, size_t block_bytes, size_t count, void* panels, int lane);
};

constexpr Format kFormats[] = {
    {"Q4_0", Layout::four, 32, 18, sizeof(Panel4), take_blocks<Panel4, Block, read_q4_0>},
    {"Q4_1", Layout::four, 32, 20, sizeof(Panel4), take_blocks<Panel4, Block, read_q4_1>},
    {"Q5_0", Layout::five, 32, 22, sizeof(Panel5), take_blocks<Panel5, Block, read_q5_0>},
    {"Q5_1", Layout::five, 32, 24, sizeof(Panel5), take_blocks<Panel5, Block, read_q5_1>},
    {"Q8_0", Layout::eight, 32, 34, sizeof(Panel8), take_blocks<Panel8, Block, read_q8_0>},
    {"Q4_K", Layout::four_k, 256, 144, sizeof(Panel4K), take_blocks<Panel4K, BlockK, read_q4_k>},
    {"Q5_K", Layout::five_k, 256, 176, sizeof(Panel5K), take_blocks<Panel5K, BlockK, read_q5_k>},
    {"Q6_K", Layout::six_k, 256, 210, sizeof(Panel6K), take_blocks<Panel6K, BlockK, read_q6_k>},
    {"F16", Layout::half, 1, 2, 32, take_numbers<uint16_t>},
    {"BF16", Layout::brain, 1, 2, 32, take_numbers<uint16_t>},
    {"F32", Layout::floats, 1, 4, 64, take_numbers<float>},
};

const Format& format_named(const std::string& kind) {
    for (const Format& format : kFormats)
        if (kind == format.kind) return format;
    throw std::invalid_argument("no panel layout for " + kind + "; turn it into F32 first");
}

}  // namespace

Packed::Packed(const std::string& kind, const uint8_t* data, size_t size, int rows, int columns, Arena& arena,
               Pool& pool)
    : rows_(rows) {
    const Format& format = format_named(kind);
    if (rows < 1 || columns < 1 || columns % format.length)
        throw std::invalid_argument("a matrix needs rows, and columns in whole blocks of " +
                                    std::to_string(format.length));
    const size_t blocks = columns / format.length, padded = up_to(columns, kColumns) / format.length;
    const int panels = up_to(rows, kRows) / kRows;
    if (size != size_t(rows) * blocks * format.block_bytes)
        throw std::invalid_argument("the data of a matrix has not the size of its shape");
    bytes_ = size_t(panels) * padded * format.panel_bytes;
    uint8_t* store = arena.take(bytes_);
    matrix_ = Matrix{format.layout, panels * kRows, int(padded) * format.length, store};
    pool.share(panels, 1, [&](int panel, int) {
        uint8_t* own = store + size_t(panel) * padded * format.panel_bytes;
        std::memset(own, 0, padded * format.panel_bytes);
        for (int r = panel * kRows; r < std::min((panel + 1) * kRows, rows); r++)
            format.take(data + size_t(r) * blocks * format.block_bytes, format.block_bytes, blocks, own, r % kRows);
    });
}

namespace {

int code_of(const uint8_t* codes, int lane, int c) {
    return codes[64 * (c / 8) + 4 * lane + c % 4] >> (c % 8 < 4 ? 0 : 4) & 15;
}
int fifth_of(const uint8_t* fifth, int lane, int c) { return (fifth[4 * lane + c % 4] >> (c / 4) & 1) << 4; }
int high_of(const uint8_t* high, int lane, int c) {
    return (high[64 * (c / 16) + 4 * lane + c % 4] >> (2 * (c / 4 % 4)) & 3) << 4;
}

float value(const Panel4& p, int lane, int c) {
    return from_half(p.scale[lane]) * float(code_of(p.codes, lane, c)) + from_half(p.offset[lane]);
}
float value(const Panel5& p, int lane, int c) {
    return from_half(p.scale[lane]) * float(code_of(p.codes, lane, c) | fifth_of(p.fifth, lane, c)) +
           from_half(p.offset[lane]);
}
float value(const Panel8& p, int lane, int c) {
    return from_half(p.scale[lane]) * float(p.codes[64 * (c / 4) + 4 * lane + c % 4] - 128);
}
float value(const Panel4K& p, int lane, int c) {
    const float scale = from_half(p.per_scale[lane]) * p.scale[c / 32][lane],
                offset = from_half(p.per_offset[lane]) * p.offset[c / 32][lane];
    return scale * float(code_of(p.codes[c / 32], lane, c % 32)) + offset;
}
float value(const Panel5K& p, int lane, int c) {
    const float scale = from_half(p.per_scale[lane]) * p.scale[c / 32][lane],
                offset = from_half(p.per_offset[lane]) * p.offset[c / 32][lane];
    return scale * float(code_of(p.codes[c / 32], lane, c % 32) | fifth_of(p.fifth[c / 32], lane, c % 32)) + offset;
}
float value(const Panel6K& p, int lane, int c) {
    const int code = code_of(p.codes[c / 32], lane, c % 32) | high_of(p.high[c / 32], lane, c % 32);
    return from_half(p.per_scale[lane]) * p.scale[c / 32][c % 32 / 16][lane] * float(code - 32);
}
float value(const PanelHalf& p, int lane, int c) { return from_half(p.value[16 * c + lane]); }
float value(const PanelBrain& p, int lane, int c) {
    const uint32_t bits = uint32_t(p.value[16 * c + lane]) << 16;
    float f;
    std::memcpy(&f, &bits, 4);
    return f;
}
float value(const PanelFloat& p, int lane, int c) { return p.value[16 * c + lane]; }

}  // namespace

void Packed::row(int index, float* out) const {
    with_panels(matrix_, [&](auto* panels) {
        constexpr int width = kColumns * std::remove_pointer_t<decltype(panels)>::kBlocks;
        const int count = matrix_.columns / width;
        for (int c = 0; c < matrix_.columns; c++)
            out[c] = value(panels[size_t(index / kRows) * count + c / width], index % kRows, c % width);
    });
}

}  // namespace nextok
