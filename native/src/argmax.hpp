// The best of a row of float32.
#pragma once

namespace nextok {

// Where the first NaN is, or else the first of the largest; n is at least 1.
int argmax(const float* x, int n);

}  // namespace nextok
