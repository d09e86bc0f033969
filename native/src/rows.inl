// Kernels that work on single rows.

// e^x for x <= 88, within two units in the last place; below -87 it is 0. Cody and Waite's reduction.
inline Floats exponential(Floats x) {
    Floats clipped = greater(all(-87.0f), x);  // In this order NaN stays NaN.
    Floats power = nearest(mul(clipped, all(1.44269504088896341f)));
    Floats rest = fma(power, all(-0.693359375f), clipped);
    rest = fma(power, all(2.12194440e-4f), rest);
    Floats p = all(1.9875691500e-4f);
    for (float c : {1.3981999507e-3f, 8.3334519073e-3f, 4.1665795894e-2f, 1.6666665459e-1f, 5.0000001201e-1f})
        p = fma(p, rest, all(c));
    Floats result = times_power_of_two(add(fma(mul(p, rest), rest, rest), all(1.0f)), power);
    return keep_above(result, x, -87.0f);
}

// int8 codes with a scale for each block of 32, which the fast products take.
void quantize(const float* x, int columns, Quantised out) {
    for (int b = 0; b < columns / kColumns; b++) {
        const Floats low = load(x + b * kColumns), high = load(x + b * kColumns + 16);
        const float largest = greatest_size(low, high);
        const bool sound = largest <= std::numeric_limits<float>::max();
        // Infinity and NaN have no code, so the scale becomes NaN.
        const float scale = sound ? largest / 127.0f : std::numeric_limits<float>::quiet_NaN();
        const Floats inverse = all(sound && largest > 0 ? 127.0f / largest : 0.0f);
        const Ints first = to_ints(mul(sound ? low : zero(), inverse)),
                   second = to_ints(mul(sound ? high : zero(), inverse));
        store_bytes(out.codes + b * kColumns, first);
        store_bytes(out.codes + b * kColumns + 16, second);
        const int32_t sums[2] = {int_sum(first), int_sum(second)};
        out.scale[b] = scale;
        out.weighted[b] = scale * float(sums[0] + sums[1]);
        out.minus[2 * b] = -sums[0];
        out.minus[2 * b + 1] = -sums[1];
    }
}

void swiglu(const float* gate, const float* up, int n, float* y) {
    for (int i = 0; i < n; i += 16) {
        Floats g = load(gate + i);
        Floats e = exponential(lesser(all(88.0f), mul(g, all(-1.0f))));
        store(y + i, mul(divide(g, add(e, all(1.0f))), load(up + i)));
    }
}

void rms_norm(const float* x, const float* weight, float epsilon, int n, float* y) {
    Floats acc = zero();
    for (int i = 0; i < n; i += 16) acc = fma(load(x + i), load(x + i), acc);
    Floats factor = all(1.0f / std::sqrt(sum(acc) / float(n) + epsilon));
    for (int i = 0; i < n; i += 16) store(y + i, mul(mul(load(x + i), factor), load(weight + i)));
}
