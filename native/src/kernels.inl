// The kernels, written once over sixteen lanes; each instruction set includes this after its lanes.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <initializer_list>
#include <limits>
#include <type_traits>

#include "kernels.hpp"

namespace nextok {
namespace {

using namespace lanes;

#include "panels.inl"
#include "products.inl"
#include "rows.inl"
#include "attention.inl"

constexpr Kernels table(const char* name) {
    return Kernels{name,           product, quantize, swiglu,
                   rms_norm,       softmax, fold,     paging<std::conditional_t<kCheapHalves, uint16_t, float>>(),
                   paging<float>()};
}

}  // namespace
}  // namespace nextok
