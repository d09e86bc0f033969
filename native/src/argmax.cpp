#include "argmax.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

namespace nextok {
namespace {

// The largest value, or NaN if there is one.
float largest_of(const float* x, int n) {
    // Values that are compared at once: enough that the compiler keeps the loops over them and makes vectors of them.
    constexpr int lanes = 32;
    float top[lanes];
    int odd[lanes] = {};
    std::fill_n(top, lanes, -std::numeric_limits<float>::infinity());
    const auto take = [&](const float* values, int count) {
        for (int i = 0; i < count; i++) {
            top[i] = values[i] > top[i] ? values[i] : top[i];
            odd[i] |= values[i] != values[i];
        }
    };
    int first = 0;
    for (; first + lanes <= n; first += lanes) take(x + first, lanes);
    take(x + first, n - first);
    if (std::any_of(odd, odd + lanes, [](int each) { return each; })) return std::numeric_limits<float>::quiet_NaN();
    return *std::max_element(top, top + lanes);
}

}  // namespace

int argmax(const float* x, int n) {
    float best = -std::numeric_limits<float>::infinity();
    int first = 0;
    for (int i = 0; i < n; i += 2048) {
        float top = largest_of(x + i, std::min(2048, n - i));
        if (top <= best) continue;
        best = top;
        first = i;
        if (std::isnan(best)) break;
    }
    while (!(x[first] == best || std::isnan(x[first]))) first++;
    return first;
}

}  // namespace nextok
