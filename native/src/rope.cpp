#include "rope.hpp"

#include <cmath>
#include <type_traits>

namespace nextok {

void Rope::set_position(int token, int position) {
    const int half = config_.rope_width / 2;
    float* turn = &turns_[size_t(token) * config_.rope_width];
    for (int j = 0; j < half; j++) {
        turn[j] = float(std::cos(position * config_.frequencies[j]));
        turn[half + j] = float(std::sin(position * config_.frequencies[j]));
    }
}

void Rope::rotate(float* head, int token) const {
    const int half = config_.rope_width / 2;
    const float* __restrict cosine = &turns_[size_t(token) * config_.rope_width];
    const float* __restrict sine = cosine + half;
    auto rotate_pairs = [&](float* __restrict first, float* __restrict second, auto step) {
        for (int j = 0; j < half; j++) {
            const float one = first[step * j], two = second[step * j];
            first[step * j] = one * cosine[j] - two * sine[j];
            second[step * j] = two * cosine[j] + one * sine[j];
        }
    };
    if (config_.rope_interleaved)
        rotate_pairs(head, head + 1, std::integral_constant<int, 2>{});
    else
        rotate_pairs(head, head + half, std::integral_constant<int, 1>{});
}

}  // namespace nextok
