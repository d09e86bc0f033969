// The kernels, written once over sixteen lanes; each instruction set includes this after its lanes.
//
// A row's result never depends on the other rows: integer dot products are exact, and the float32 sums run over
// the column blocks in the same order for every number of rows.
#include <cmath>
#include <initializer_list>
#include <type_traits>

#include "kernels.hpp"

namespace nextok {
namespace {

using namespace lanes;

constexpr int kTile = 8;  // rows of activations that share one reading of a panel

template <int M, class Panel>
inline void fast_tile(const Panel* panels, const Activations& x, int row, float* y, int stride) {
    const int blocks = x.columns / kColumns;
    Floats acc[M];
    for (int m = 0; m < M; m++) acc[m] = zero();
    for (int b = 0; b < blocks; b++) {
        const Panel& panel = panels[b];
        Ints product[M];
        for (int m = 0; m < M; m++)
            product[m] = std::is_same_v<Panel, Panel8> ? int_all(-128 * x.sum[(row + m) * blocks + b]) : int_all(0);
        const int8_t* codes = x.codes + size_t(row) * x.columns + b * kColumns;
        if constexpr (sizeof(panel.codes) == 256) {
            for (int line = 0; line < 4; line++) {
                Ints both = int_load(panel.codes + 64 * line);
                Ints low = low_nibbles(both), high = high_nibbles(both);
                for (int m = 0; m < M; m++) product[m] = dot(product[m], low, codes + size_t(m) * x.columns + 8 * line);
                for (int m = 0; m < M; m++) product[m] = dot(product[m], high, codes + size_t(m) * x.columns + 8 * line + 4);
            }
        } else {
            for (int line = 0; line < 8; line++) {
                Ints bytes = int_load(panel.codes + 64 * line);
                for (int m = 0; m < M; m++) product[m] = dot(product[m], bytes, codes + size_t(m) * x.columns + 4 * line);
            }
        }
        Floats scale = halves(panel.scale);
        for (int m = 0; m < M; m++) {
            float own = x.scale[(row + m) * blocks + b];
            acc[m] = fma(to_floats(product[m]), mul(scale, all(own)), acc[m]);
            if constexpr (!std::is_same_v<Panel, Panel8>)
                acc[m] = fma(halves(panel.offset), all(own * float(x.sum[(row + m) * blocks + b])), acc[m]);
        }
    }
    for (int m = 0; m < M; m++) store(y + size_t(row + m) * stride, acc[m]);
}

// The values of one column of a block, all sixteen rows.
template <class Panel>
inline Floats column(const Panel& panel, int c) {
    if constexpr (std::is_same_v<Panel, PanelF>) {
        return load(panel.value + 16 * c);
    } else {
        Ints codes;
        if constexpr (std::is_same_v<Panel, Panel4>) {
            Ints line = int_load(panel.codes + 64 * (c / 8));
            codes = byte_of(c % 8 < 4 ? low_nibbles(line) : high_nibbles(line), c % 4);
        } else {
            codes = byte_of(int_load(panel.codes + 64 * (c / 4)), c % 4);
        }
        Floats scale = halves(panel.scale);
        if constexpr (std::is_same_v<Panel, Panel8>)
            return mul(add(to_floats(codes), all(-128.0f)), scale);
        else
            return fma(to_floats(codes), scale, halves(panel.offset));
    }
}

template <int M, class Panel>
inline void exact_tile(const Panel* panels, const Activations& x, int row, float* y, int stride) {
    Floats acc[M];
    for (int m = 0; m < M; m++) acc[m] = zero();
    for (int b = 0; b < x.columns / kColumns; b++)
        for (int c = 0; c < kColumns; c++) {
            Floats weights = column(panels[b], c);
            for (int m = 0; m < M; m++)
                acc[m] = fma(weights, all(x.values[size_t(row + m) * x.columns + b * kColumns + c]), acc[m]);
        }
    for (int m = 0; m < M; m++) store(y + size_t(row + m) * stride, acc[m]);
}

template <int M, class Panel>
inline void tile(const Panel* panels, const Activations& x, int row, float* y, int stride) {
    if constexpr (!std::is_same_v<Panel, PanelF>)
        if (x.codes) return fast_tile<M>(panels, x, row, y, stride);
    exact_tile<M>(panels, x, row, y, stride);
}

template <class Panel>
void product_of(const Matrix& matrix, const Activations& x, float* y, int stride, int first, int last) {
    const int blocks = matrix.columns / kColumns;
    for (int p = first; p < last; p++) {
        const Panel* panels = static_cast<const Panel*>(matrix.panels) + size_t(p) * blocks;
        float* out = y + p * kRows;
        int row = 0;
        for (; row + kTile <= x.rows; row += kTile) tile<kTile>(panels, x, row, out, stride);
        switch (x.rows - row) {
            case 7: tile<7>(panels, x, row, out, stride); break;
            case 6: tile<6>(panels, x, row, out, stride); break;
            case 5: tile<5>(panels, x, row, out, stride); break;
            case 4: tile<4>(panels, x, row, out, stride); break;
            case 3: tile<3>(panels, x, row, out, stride); break;
            case 2: tile<2>(panels, x, row, out, stride); break;
            case 1: tile<1>(panels, x, row, out, stride); break;
        }
    }
}

void product(const Matrix& matrix, const Activations& x, float* y, int stride, int first, int last) {
    switch (matrix.layout) {
        case Layout::four: return product_of<Panel4>(matrix, x, y, stride, first, last);
        case Layout::eight: return product_of<Panel8>(matrix, x, y, stride, first, last);
        case Layout::five: return product_of<Panel5>(matrix, x, y, stride, first, last);
        case Layout::floats: return product_of<PanelF>(matrix, x, y, stride, first, last);
    }
}

void quantize(const float* x, int columns, int8_t* codes, float* scale, int32_t* sum) {
    for (int b = 0; b < columns / kColumns; b++) {
        float largest = 0, poison = 0;
        for (int c = 0; c < kColumns; c++) {
            float size = std::fabs(x[b * kColumns + c]);
            largest = size > largest ? size : largest;
            poison += size * 0.0f;
        }
        if (poison != 0) {  // infinite or not a number: no code can say so, but the scale can
            for (int c = 0; c < kColumns; c++) codes[b * kColumns + c] = 0;
            scale[b] = poison;
            sum[b] = 0;
            continue;
        }
        float per = largest / 127.0f, inverse = largest > 0 ? 127.0f / largest : 0.0f;
        int32_t total = 0;
        for (int c = 0; c < kColumns; c++) {
            int code = int(std::nearbyint(x[b * kColumns + c] * inverse));
            codes[b * kColumns + c] = int8_t(code);
            total += code;
        }
        scale[b] = per;
        sum[b] = total;
    }
}

// e^x for x <= 88, within two units in the last place; below -87 it is 0. Cody and Waite's reduction.
inline Floats exponential(Floats x) {
    Floats clipped = greater(x, all(-87.0f));
    Floats power = nearest(mul(clipped, all(1.44269504088896341f)));
    Floats rest = fma(power, all(-0.693359375f), clipped);
    rest = fma(power, all(2.12194440e-4f), rest);
    Floats p = all(1.9875691500e-4f);
    for (float c : {1.3981999507e-3f, 8.3334519073e-3f, 4.1665795894e-2f, 1.6666665459e-1f, 5.0000001201e-1f})
        p = fma(p, rest, all(c));
    Floats result = times_power_of_two(add(fma(mul(p, rest), rest, rest), all(1.0f)), power);
    return keep_above(result, x, -87.0f);
}

void scores(const float* query, const float* keys, int count, int width, float* out) {
    for (int i = 0; i < count; i++) {
        Floats acc = zero();
        for (int c = 0; c < width; c += 16) acc = fma(load(query + c), load(keys + size_t(i) * width + c), acc);
        out[i] = sum(acc);
    }
}

float softmax(float* x, int n) {
    float largest = x[0];
    for (int i = 1; i < n; i++) largest = x[i] > largest ? x[i] : largest;
    Floats total = zero();
    for (int i = 0; i < n; i += 16) {
        Floats e = exponential(add(load(x + i), all(-largest)));
        store(x + i, e);
        total = add(total, e);
    }
    return sum(total);
}

void mix(float* y, const float* weights, const float* values, int count, int width) {
    for (int c = 0; c < width; c += 16) {
        Floats acc = load(y + c);
        for (int i = 0; i < count; i++) acc = fma(load(values + size_t(i) * width + c), all(weights[i]), acc);
        store(y + c, acc);
    }
}

void swiglu(const float* gate, const float* up, int n, float* y) {
    for (int i = 0; i < n; i += 16) {
        Floats g = load(gate + i);
        Floats e = exponential(lesser(mul(g, all(-1.0f)), all(88.0f)));
        store(y + i, mul(divide(g, add(e, all(1.0f))), load(up + i)));
    }
}

void rms_norm(const float* x, const float* weight, float epsilon, int n, float* y) {
    Floats acc = zero();
    for (int i = 0; i < n; i += 16) acc = fma(load(x + i), load(x + i), acc);
    Floats factor = all(1.0f / std::sqrt(sum(acc) / float(n) + epsilon));
    for (int i = 0; i < n; i += 16) store(y + i, mul(mul(load(x + i), factor), load(weight + i)));
}

constexpr Kernels table(const char* name) {
    return Kernels{name, product, quantize, scores, softmax, mix, swiglu, rms_norm};
}

}  // namespace
}  // namespace nextok
