#include "lanes_avx2.hpp"
#include "kernels.inl"

const nextok::Kernels& nextok::avx2_kernels() {
    static constexpr Kernels kernels = table("avx2");
    return kernels;
}
