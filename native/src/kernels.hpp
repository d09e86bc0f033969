// What each instruction set provides, and the layouts that it works on.
//
// A matrix [rows, columns] lies in panels of 16 rows x 32 columns, all column blocks of a panel one after another, so
// that one pass streams through memory. A lane is a row. Each 64-byte line of codes holds four consecutive
// columns of the 16 rows, as VNNI wants them.
#pragma once
#include <cstddef>
#include <cstdint>

namespace nextok {

constexpr int kRows = 16;     // of a panel
constexpr int kColumns = 32;  // of a block

struct Panel4 {  // Q4_0, Q4_1: value = scale * code + offset
    uint8_t codes[256];  // line j: columns 8j..8j+3 in the low nibbles, 8j+4..8j+7 in the high ones
    uint16_t scale[16], offset[16];  // binary16
};
struct Panel8 {  // Q8_0: value = scale * (code - 128)
    uint8_t codes[512];
    uint16_t scale[16];
};
struct Panel5 {  // Q5_0, Q5_1, in bytes: value = scale * code + offset
    uint8_t codes[512];
    uint16_t scale[16], offset[16];
};
struct PanelF {  // any other format, as float32
    float value[512];  // column by column
};

enum class Layout { four, eight, five, floats };

struct Matrix {
    Layout layout;
    int rows, columns;  // padded to whole panels and blocks
    const void* panels;
};

// Rows of activations: float32, and for the fast products int8 with one scale per block of 32.
struct Activations {
    int rows, columns;
    const float* values;     // [rows, columns]
    const int8_t* codes;     // [rows, columns]; null: exact products
    const float* scale;      // [rows, columns / 32]
    const int32_t* sum;      // [rows, columns / 32] of the codes
};

struct Kernels {
    const char* name;
    // y[row, first * 16 .. last * 16) = matrix panels [first, last) times each row; y has `stride` floats a row.
    void (*product)(const Matrix&, const Activations&, float* y, int stride, int first, int last);
    void (*quantize)(const float* x, int columns, int8_t* codes, float* scale, int32_t* sum);
    // Of attention; widths are multiples of 16.
    void (*scores)(const float* query, const float* keys, int count, int width, float* out);  // query . each key
    float (*softmax)(float* x, int n);  // x becomes e^(x - max), its sum is returned; padded with -inf to 16
    void (*mix)(float* y, const float* weights, const float* values, int count, int width);  // y += weights . values
    void (*swiglu)(const float* gate, const float* up, int n, float* y);  // silu(gate) * up
    void (*rms_norm)(const float* x, const float* weight, float epsilon, int n, float* y);
};

const Kernels& avx512_kernels();
const Kernels& avx2_kernels();
const Kernels& portable_kernels();

}  // namespace nextok
