#include "instruction_sets.hpp"

#include <stdexcept>

namespace nextok {
namespace {

bool runs_here(const std::string& isa) {
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (isa == "avx512")
        return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
               __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
               __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("fma");
    if (isa == "avxvnni") return runs_here("avx2") && __builtin_cpu_supports("avxvnni");
    if (isa == "avx2")
        return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
#endif
    return isa == "portable";
}

}  // namespace

std::vector<std::string> instruction_sets() {
    std::vector<std::string> found;
    for (const char* isa : {"avx512", "avxvnni", "avx2", "portable"})
        if (runs_here(isa)) found.push_back(isa);
    return found;
}

const Kernels& kernels_named(const std::string& isa) {
    if (!runs_here(isa)) throw std::invalid_argument("this processor does not run the instruction set " + isa);
#if defined(__x86_64__)
    if (isa == "avx512") return avx512_kernels();
    if (isa == "avxvnni") return avxvnni_kernels();
    if (isa == "avx2") return avx2_kernels();
#endif
    return portable_kernels();
}

}  // namespace nextok
