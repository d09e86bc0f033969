// What each transform does to a row; readout/filters.py says the same in numpy and is the reference.
#pragma once
#include "survivors.hpp"
#include "transforms.hpp"

namespace nextok {

// The transforms in their order; `key` is that of the row's noise.
void apply(const std::vector<Transform>& transforms, uint64_t key, Survivors& row);

}  // namespace nextok
