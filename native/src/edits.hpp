// Single tokens changed in a row of float32, as the model writes its scores.
#pragma once
#include "transforms.hpp"

namespace nextok {

void edit(float* row, int vocab, const Edit& edit);

}  // namespace nextok
