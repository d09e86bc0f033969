// How weights lie in memory while they are used.
//
// A matrix [rows, columns] lies in panels of 16 rows x 32 or 256 columns, all panels of the same rows one after
// another, so that one pass streams through memory. A lane is a row. A line of 64 bytes holds four consecutive columns
// of the 16 rows, as the dot products of bytes need them; two lines share their nibbles: the low ones are columns
// 8j .. 8j + 3, the high ones 8j + 4 .. 8j + 7. Scales and offsets keep the precision of the file.
#pragma once
#include <cstddef>
#include <cstdint>

namespace nextok {

// n, rounded up to a multiple of `to`.
constexpr int up_to(int n, int to) { return (n + to - 1) / to * to; }

// Rows of a panel.
constexpr int kRows = 16;

// Columns of a block, which share a scale.
constexpr int kColumns = 32;

// Q4_0, Q4_1: value = scale * code + offset.
struct Panel4 {
    static constexpr int kBlocks = 1;
    uint8_t codes[256];
    uint16_t scale[16], offset[16];  // As binary16.
};
// Q5_0, Q5_1: bit k of a byte of `fifth` is the top bit of the code at that place of line k.
struct Panel5 {
    static constexpr int kBlocks = 1;
    uint8_t codes[256], fifth[64];
    uint16_t scale[16], offset[16];
};
// Q8_0: value = scale * (code - 128).
struct Panel8 {
    static constexpr int kBlocks = 1;
    uint8_t codes[512];
    uint16_t scale[16];
};
// Q4_K: value = (scale * per_scale) * code + offset * per_offset.
struct Panel4K {
    static constexpr int kBlocks = 8;
    uint8_t codes[8][256], scale[8][16], offset[8][16];
    uint16_t per_scale[16], per_offset[16];
};
// Q5_K: as Q4_K, with `fifth` as in Panel5.
struct Panel5K {
    static constexpr int kBlocks = 8;
    uint8_t codes[8][256], fifth[8][64], scale[8][16], offset[8][16];
    uint16_t per_scale[16], per_offset[16];
};
// Q6_K: value = (scale * per_scale) * (code - 32), with a scale for 16 columns. The two top bits of a code of line k
// are bits 2 (k % 4) and the next one of the byte at that place of line k / 4 of `high`.
struct Panel6K {
    static constexpr int kBlocks = 8;
    uint8_t codes[8][256], high[8][128];
    int8_t scale[8][2][16];
    uint16_t per_scale[16];
};
// F16, column by column: the value of column c in lane r is number 16 * c + r.
struct PanelHalf {
    static constexpr int kBlocks = 1;
    uint16_t value[512];
};
// BF16 likewise.
struct PanelBrain {
    static constexpr int kBlocks = 1;
    uint16_t value[512];
};
// F32 likewise.
struct PanelFloat {
    static constexpr int kBlocks = 1;
    float value[512];
};

enum class Layout { four, five, eight, four_k, five_k, six_k, half, brain, floats };

struct Matrix {
    Layout layout;
    int rows, columns;  // Padded to whole panels and blocks.
    const void* panels;
};

// Call `work(panels)` with the panels of a matrix by their type.
template <class Work>
void with_panels(const Matrix& matrix, Work work) {
    switch (matrix.layout) {
        case Layout::four: return work(static_cast<const Panel4*>(matrix.panels));
        case Layout::five: return work(static_cast<const Panel5*>(matrix.panels));
        case Layout::eight: return work(static_cast<const Panel8*>(matrix.panels));
        case Layout::four_k: return work(static_cast<const Panel4K*>(matrix.panels));
        case Layout::five_k: return work(static_cast<const Panel5K*>(matrix.panels));
        case Layout::six_k: return work(static_cast<const Panel6K*>(matrix.panels));
        case Layout::half: return work(static_cast<const PanelHalf*>(matrix.panels));
        case Layout::brain: return work(static_cast<const PanelBrain*>(matrix.panels));
        case Layout::floats: return work(static_cast<const PanelFloat*>(matrix.panels));
    }
}

}  // namespace nextok
