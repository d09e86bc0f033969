#include "lanes_portable.hpp"
#include "kernels.inl"

const nextok::Kernels& nextok::portable_kernels() {
    static constexpr Kernels kernels = table("portable");
    return kernels;
}
