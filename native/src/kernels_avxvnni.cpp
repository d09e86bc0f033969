#include "lanes_avx2.hpp"
#include "kernels.inl"

const nextok::Kernels& nextok::avxvnni_kernels() {
    static constexpr Kernels kernels = table("avxvnni");
    return kernels;
}
