// Which kernels run on this processor.
#pragma once
#include <string>
#include <vector>

#include "kernels.hpp"

namespace nextok {

std::vector<std::string> instruction_sets();  // best first
const Kernels& kernels_named(
    const std::string& isa);  // throws std::invalid_argument if this processor does not run them

}  // namespace nextok
