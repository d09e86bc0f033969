#include "lanes_avx512.hpp"
#include "kernels.inl"

const nextok::Kernels& nextok::avx512_kernels() {
    static constexpr Kernels kernels = table("avx512");
    return kernels;
}
