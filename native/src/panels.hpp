// How weights lie in memory while they are used.
//
// A matrix [rows, columns] lies in panels of 16 rows x 32 or 256 columns, all panels of the same rows one after
// another, so that one pass streams through memory. A lane is a row. A line of 64 bytes holds four consecutive columns
// of the 16 rows, as the dot products of bytes want them; two lines share their nibbles: the low ones are columns
// 8j .. 8j + 3, the high ones 8j + 4 .. 8j + 7. Scales and offsets keep the precision of the file.
#pragma once
#include <cstddef>
#include <cstdint>

namespace nextok {

constexpr int up_to(int n, int to) { return (n + to - 1) / to * to; }  // whole ones

constexpr int kRows = 16;     // of a panel
constexpr int kColumns = 32;  // of a block: the columns that share a scale

struct Panel4 {  // Q4_0, Q4_1: value = scale * code + offset
    static constexpr int kBlocks = 1;
    uint8_t codes[256];
    uint16_t scale[16], offset[16];  // binary16
};
struct Panel5 {  // Q5_0, Q5_1: bit k of a byte of `fifth` is the top bit of the code at that place of line k
    static constexpr int kBlocks = 1;
    uint8_t codes[256], fifth[64];
    uint16_t scale[16], offset[16];
};
struct Panel8 {  // Q8_0: value = scale * (code - 128)
    static constexpr int kBlocks = 1;
    uint8_t codes[512];
    uint16_t scale[16];
};
struct Panel4K {  // Q4_K: value = (scale * per_scale) * code + offset * per_offset
    static constexpr int kBlocks = 8;
    uint8_t codes[8][256], scale[8][16], offset[8][16];
    uint16_t per_scale[16], per_offset[16];
};
struct Panel5K {  // Q5_K
    static constexpr int kBlocks = 8;
    uint8_t codes[8][256], fifth[8][64], scale[8][16], offset[8][16];
    uint16_t per_scale[16], per_offset[16];
};
struct Panel6K {  // Q6_K: value = (scale * per_scale) * (code - 32), a scale for 16 columns; line k's top bits lie in
    static constexpr int kBlocks = 8;  // bits 2 (k % 4) of line k / 4 of `high`
    uint8_t codes[8][256], high[8][128];
    int8_t scale[8][2][16];
    uint16_t per_scale[16];
};
struct PanelHalf {  // F16, column by column
    static constexpr int kBlocks = 1;
    uint16_t value[512];
};
struct PanelBrain {  // BF16
    static constexpr int kBlocks = 1;
    uint16_t value[512];
};
struct PanelFloat {
    static constexpr int kBlocks = 1;
    float value[512];
};

enum class Layout { four, five, eight, four_k, five_k, six_k, half, brain, floats };

struct Matrix {
    Layout layout;
    int rows, columns;  // padded to whole panels and blocks
    const void* panels;
};

// Call `work(panels)` with the panels of a matrix as what they are.
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
