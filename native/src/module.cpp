// What Python sees: a model that takes weights, and passes over flat arrays.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/unique_ptr.h>
#include <nanobind/stl/vector.h>

#include <cstdlib>
#include <cstring>
#include <stdexcept>

#include "model.hpp"
#include "readout_python.hpp"

namespace nb = nanobind;
using namespace nextok;

namespace {

using Bytes = nb::ndarray<const uint8_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Floats = nb::ndarray<const float, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Ints = nb::ndarray<const int32_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Logits = nb::ndarray<nb::numpy, float, nb::ndim<2>>;

bool runs_here(const std::string& isa) {
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (isa == "avx512")
        return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
               __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("fma");
    if (isa == "avxvnni") return runs_here("avx2") && __builtin_cpu_supports("avxvnni");
    if (isa == "avx2") return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
#endif
    return isa == "portable";
}

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

// Every index comes from outside and is checked before anything is touched.
std::vector<Token> tokens_of(const Model& model, nb::list caches, Ints feeds, Ints ids, Ints slots, Ints seen, Ints tails, Ints tail_ends) {
    const size_t n = ids.size();
    if (feeds.size() != n || slots.size() != n || seen.size() != n || tail_ends.size() != n)
        throw std::invalid_argument("the arrays of a pass must have one entry for each token");
    std::vector<Token> tokens;
    const int most = model.config().context;
    for (size_t i = 0; i < n; i++) {
        const int begin = i ? tail_ends(i - 1) : 0, end = tail_ends(i);
        if (begin > end || end > int(tails.size())) throw std::invalid_argument("the tails of a pass are out of order");
        if (feeds(i) < 0 || size_t(feeds(i)) >= nb::len(caches)) throw std::invalid_argument("a token names a cache that is not there");
        if (ids(i) < 0 || ids(i) >= model.config().vocab) throw std::invalid_argument("a token id is outside the vocabulary");
        if (seen(i) < 0 || seen(i) + (end - begin) < 1 || seen(i) + (end - begin) > most)
            throw std::invalid_argument("a token sees more slots than the context holds, or none");
        // Branches lie beside the trunk, so a slot may be beyond the context, but not by more than all tokens of a tree.
        if (slots(i) < 0 || slots(i) >= (1 << 24)) throw std::invalid_argument("a slot is out of range");
        for (int t = begin; t < end; t++)
            if (tails(t) < 0 || tails(t) >= (1 << 24)) throw std::invalid_argument("a slot is out of range");
        tokens.push_back({ids(i), slots(i), seen(i), tails.data() + begin, end - begin, nb::cast<Cache*>(caches[feeds(i)])});
    }
    return tokens;
}

Logits forward(Model& model, nb::list caches, Ints feeds, Ints ids, Ints slots, Ints seen, Ints tails, Ints tail_ends, Ints wanted) {
    std::vector<Token> tokens = tokens_of(model, caches, feeds, ids, slots, seen, tails, tail_ends);
    std::vector<int> rows(wanted.data(), wanted.data() + wanted.size());
    for (int row : rows)
        if (row < 0 || size_t(row) >= tokens.size()) throw std::invalid_argument("a wanted row is not among the tokens");
    const size_t size = rows.size() * size_t(model.config().vocab);
    float* logits = new float[size ? size : 1];
    nb::capsule owner(logits, [](void* p) noexcept { delete[] static_cast<float*>(p); });
    {
        nb::gil_scoped_release release;
        const int vocab = model.config().vocab;
        model.forward(tokens, rows, [&](int first, int count, const float* own, int stride) {
            for (int i = 0; i < count; i++) std::memcpy(logits + size_t(first + i) * vocab, own + size_t(i) * stride, vocab * sizeof(float));
        });
    }
    return Logits(logits, {rows.size(), size_t(model.config().vocab)}, owner);
}

}  // namespace

NB_MODULE(_native, module) {
    module.def("instruction_sets", &instruction_sets, "The instruction sets that this processor runs, best first.");
    bind_readout(module);
    nb::class_<Cache>(module, "Cache")
        .def_prop_ro("pages", &Cache::pages)
        .def("fork", [](const Cache& cache, int end) {
            if (end < 0) throw std::invalid_argument("a cache cannot begin with a negative number of slots");
            return cache.fork(end);
        })
        .def("move", [](Cache& cache, std::vector<int> sources, std::vector<int> targets) {
            if (sources.size() != targets.size()) throw std::invalid_argument("a move needs a target for each source");
            for (const auto* each : {&sources, &targets})
                for (int slot : *each)
                    if (slot < 0 || slot >= (1 << 24)) throw std::invalid_argument("a slot is out of range");
            cache.move(sources, targets);
        });
    nb::class_<Model>(module, "Model")
        .def("__init__",
             [](Model* self, int layers, int width, int heads, int kv_heads, int head_width, int hidden, int vocab, int context,
                int rope_width, bool rope_interleaved, float norm_epsilon, std::vector<double> frequencies, int threads, bool exact,
                const std::string& isa) {
                 Config config{layers, width, heads, kv_heads, head_width, hidden, vocab, context, rope_width, rope_interleaved, norm_epsilon, frequencies};
                 new (self) Model(config, threads, exact, kernels_named(isa));
             },
             nb::kw_only(), nb::arg("layers"), nb::arg("width"), nb::arg("heads"), nb::arg("kv_heads"), nb::arg("head_width"), nb::arg("hidden"),
             nb::arg("vocab"), nb::arg("context"), nb::arg("rope_width"), nb::arg("rope_interleaved"), nb::arg("norm_epsilon"),
             nb::arg("frequencies"), nb::arg("threads"), nb::arg("exact"), nb::arg("isa"))
        .def("set_vector", [](Model& model, const std::string& name, Floats data) { model.set_vector(name, data.data(), data.size()); })
        .def("set_matrix",
             [](Model& model, const std::string& name, const std::string& kind, Bytes data, int rows, int columns) {
                 nb::gil_scoped_release release;
                 model.set_matrix(name, kind, data.data(), data.size(), rows, columns);
             })
        .def("finish", &Model::finish)
        .def("open", &Model::open)
        .def("forward", &forward)
        .def_prop_ro("weight_bytes", &Model::bytes);
}
