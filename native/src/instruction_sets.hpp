// Which kernels run on this processor.
#pragma once
#include <string>
#include <vector>

#include "kernels.hpp"

namespace nextok {

// Those that this processor runs, best first.
std::vector<std::string> instruction_sets();

// Throws std::invalid_argument if this processor does not run them.
const Kernels& kernels_named(const std::string& isa);

}  // namespace nextok
