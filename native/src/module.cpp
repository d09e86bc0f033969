// What Python sees: a model that takes weights and answers passes.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/unique_ptr.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <stdexcept>

#include "bandwidth.hpp"
#include "feeds_python.hpp"
#include "instruction_sets.hpp"
#include "model.hpp"
#include "readout_python.hpp"

namespace nb = nanobind;
using namespace nextok;

namespace {

using Bytes = nb::ndarray<const uint8_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Floats = nb::ndarray<const float, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Logits = nb::ndarray<nb::numpy, float, nb::ndim<2>>;

// An array that deletes its numbers when Python frees it.
Logits owned(float* numbers, size_t rows, size_t vocab) {
    nb::capsule owner(numbers, [](void* p) noexcept { delete[] static_cast<float*>(p); });
    return Logits(numbers, {rows, vocab}, owner);
}

// Read all feeds; the scores [rows, vocab] of the tokens wanted.
Logits logits(Model& model, nb::handle feeds) {
    const Batch batch = batch_of(feeds, model.config());
    const size_t vocab = model.config().vocab, size = batch.wanted.size() * vocab;
    float* found = new float[size ? size : 1];
    const Logits scores = owned(found, batch.wanted.size(), vocab);
    {
        nb::gil_scoped_release release;
        model.forward(batch.tokens, batch.wanted, [&](int first, int count, const float* own, int stride) {
            for (int i = 0; i < count; i++)
                std::memcpy(found + (first + i) * vocab, own + size_t(i) * stride, vocab * sizeof(float));
        });
    }
    return scores;
}

// Read all feeds, then answer each row in the core. The scores of rows that are read apart come back as
// (place of the row, scores [1, vocab]).
nb::tuple answer(Model& model, nb::handle feeds, nb::handle rows) {
    const Batch batch = batch_of(feeds, model.config());
    const int vocab = model.config().vocab;
    const std::vector<Question> questions = questions_of(rows, batch.wanted.size(), vocab);
    std::vector<Answer> answers(questions.size());
    std::vector<std::unique_ptr<float[]>> apart(questions.size());
    {
        nb::gil_scoped_release release;
        model.forward(batch.tokens, batch.wanted, [&](int first, int count, const float* own, int stride) {
            model.pool().share(int(questions.size()), 1, [&](int i, int) {
                const int row = questions[i].row - first;
                if (row < 0 || row >= count) return;
                const float* scores = own + size_t(row) * stride;
                if (questions[i].apart()) {
                    apart[i].reset(new float[vocab]);
                    std::copy_n(scores, vocab, apart[i].get());
                } else {
                    answers[i] = read_row(scores, vocab, questions[i]);
                }
            });
        });
    }
    nb::list scores;
    for (size_t i = 0; i < apart.size(); i++)
        if (apart[i]) scores.append(nb::make_tuple(i, owned(apart[i].release(), 1, vocab)));
    return nb::make_tuple(replies_of(questions, answers), scores);
}

// The bytes of each page of a cache, by its address.
nb::dict pages_of(const Cache& cache) {
    nb::dict bytes;
    for (int i = 0; i < cache.pages(); i++)
        bytes[nb::int_(reinterpret_cast<uintptr_t>(cache.address_of(i)))] = cache.page_bytes();
    return bytes;
}

void bind_cache(nb::module_& module) {
    nb::class_<Cache>(module, "Cache")
        .def("pages", &pages_of)
        .def("fork", [](const Cache& cache, nb::handle end) { return cache.fork(slot_of(end)); })
        .def("move", [](Cache& cache, nb::handle sources, nb::handle targets) {
            std::vector<int> from, to;
            for (nb::handle slot : sources) from.push_back(slot_of(slot));
            for (nb::handle slot : targets) to.push_back(slot_of(slot));
            if (from.size() != to.size()) throw std::invalid_argument("a move needs a target for each source");
            cache.move(from, to);
        });
}

void make_model(Model* self, int layers, int width, int heads, int kv_heads, int head_width, int hidden, int vocab,
                int context, int rope_width, bool rope_interleaved, float norm_epsilon, std::vector<double> frequencies,
                int threads, bool exact, const std::string& isa) {
    Config config{layers, width,   heads,      kv_heads,         head_width,   hidden,
                  vocab,  context, rope_width, rope_interleaved, norm_epsilon, frequencies};
    new (self) Model(config, threads, exact, kernels_named(isa));
}

void bind_model(nb::module_& module) {
    nb::class_<Model>(module, "Model")
        .def("__init__", &make_model, nb::kw_only(), nb::arg("layers"), nb::arg("width"), nb::arg("heads"),
             nb::arg("kv_heads"), nb::arg("head_width"), nb::arg("hidden"), nb::arg("vocab"), nb::arg("context"),
             nb::arg("rope_width"), nb::arg("rope_interleaved"), nb::arg("norm_epsilon"), nb::arg("frequencies"),
             nb::arg("threads"), nb::arg("exact"), nb::arg("isa"))
        .def("set_vector", [](Model& model, const std::string& name,
                              Floats data) { model.set_vector(name, data.data(), data.size()); })
        .def("set_matrix",
             [](Model& model, const std::string& name, const std::string& kind, Bytes data, int rows, int columns) {
                 nb::gil_scoped_release release;
                 model.set_matrix(name, kind, data.data(), data.size(), rows, columns);
             })
        .def("finish", &Model::finish)
        .def("open", &Model::open)
        .def("logits", &logits)
        .def("answer", &answer)
        .def_prop_ro("weight_bytes", &Model::bytes);
}

}  // namespace

NB_MODULE(_native, module) {
    module.def("instruction_sets", &instruction_sets, "The instruction sets that this processor runs, best first.");
    module.def("read_bandwidth", &read_bandwidth, nb::arg("threads"), nb::arg("megabytes"),
               nb::call_guard<nb::gil_scoped_release>());
    bind_readout(module);
    bind_cache(module);
    bind_model(module);
}
