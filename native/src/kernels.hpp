// What each instruction set provides.
#pragma once
#include "panels.hpp"

namespace nextok {

// Rows of activations: float32, and for the fast products int8 with one scale per block of 32.
struct Activations {
    int rows, columns;
    const float* values;    // [rows, columns]
    const int8_t* codes;    // [rows, columns]; null for exact products
    const float* scale;     // [rows, columns / 32]
    const float* weighted;  // [rows, columns / 32]: scale times the sum of the codes
    const int32_t* minus;   // [rows, columns / 16]: minus the sum of the codes of each half block
};

// The same, to be written.
struct Quantised {
    int8_t* codes;
    float* scale;
    float* weighted;
    int32_t* minus;
};

// Slots of a page of the cache.
constexpr int kSlots = 64;

// Queries that share one reading of a page, at most.
constexpr int kQueries = 6;

// Attention over one page, whose keys are [width, 64] and whose values [64, width] in some number format. Widths are
// multiples of 16; queries and sums have `stride` floats from one to the next.
struct Paging {
    int bytes;  // Bytes of a number.
    // out[q * out_stride + s] = query q . key of slot s, for the slots up to `count`, rounded up to 16 or 64.
    void (*scores)(const float* queries, int n, int stride, const void* keys, int width, int count, float* out,
                   int out_stride);
    // sums[q] += weights[q * weight_stride + s] * value of slot s, for s below `count`.
    void (*mix)(float* sums, int n, int stride, const float* weights, int weight_stride, const void* values, int width,
                int count);
    void (*put)(const float* key, const float* value, int width, int slot, void* keys, void* values);
    void (*copy_key)(const void* from_keys, int from, void* keys, int slot, int width);
    void (*copy_value)(const void* from_values, int from, void* values, int slot, int width);
};

struct Kernels {
    const char* name;
    // y[row, first * 16 .. last * 16) = matrix panels [first, last) times each row; y has `stride` floats a row.
    void (*product)(const Matrix&, const Activations&, float* y, int stride, int first, int last);
    void (*quantize)(const float* x, int columns, Quantised out);
    void (*swiglu)(const float* gate, const float* up, int n, float* y);  // y = silu(gate) * up
    void (*rms_norm)(const float* x, const float* weight, float epsilon, int n, float* y);
    // x becomes e^(x - its maximum), which is returned with the sum; n is a multiple of 16, padded with -inf.
    void (*softmax)(float* x, int n, float* maximum, float* sum);
    // A sum and its accumulators [width], seen from `maximum`, join what `other_...` have.
    void (*fold)(float* maximum, float* sum, float* sums, const float* other_maximum, const float* other_sum,
                 const float* other_sums, int width);
    Paging half, full;  // In float16 where that costs no time, and in float32.
};

const Kernels& avx512_kernels();
const Kernels& avxvnni_kernels();
const Kernels& avx2_kernels();
const Kernels& portable_kernels();

}  // namespace nextok
