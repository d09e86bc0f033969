// Rotary position embedding: each pair of a head's numbers is rotated by position * frequency.
#pragma once
#include <vector>

#include "weights.hpp"

namespace nextok {

class Rope {
  public:
    explicit Rope(const Config& config) : config_(config) {}

    void resize(int tokens) { turns_.resize(size_t(tokens) * config_.rope_width); }

    // Compute the cosines and sines of a token's position. Different threads may set different tokens at once.
    void set_position(int token, int position);

    // Rotate one head, [head_width], to the position of a token.
    void rotate(float* head, int token) const;

  private:
    const Config& config_;
    std::vector<float> turns_;  // [tokens, rope_width]: the cosines of a token's pairs, then the sines.
};

}  // namespace nextok
