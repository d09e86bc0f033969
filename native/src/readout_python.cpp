#include "readout_python.hpp"

#include <nanobind/ndarray.h>

#include <algorithm>
#include <limits>
#include <stdexcept>

#include "numbers_python.hpp"

namespace nextok {
namespace nb = nanobind;
namespace {

using Logits = nb::ndarray<const float, nb::c_contig, nb::device::cpu>;

// What Python calls the parts of a question and of its answer.
struct Names {
    nb::object pick, top, score, temperature, top_k, top_p, min_p, choice, candidate, unreadable;
};
const Names* names;  // set when the module is imported, and never freed

bool is(nb::handle object, const nb::object& type) {
    return PyObject_TypeCheck(object.ptr(), reinterpret_cast<PyTypeObject*>(type.ptr()));
}

// The lowest 64 bits of a whole number of any size.
uint64_t word(nb::handle number) {
    const uint64_t value = PyLong_AsUnsignedLongLongMask(number.ptr());
    if (value == UINT64_MAX && PyErr_Occurred()) throw nb::python_error();
    return value;
}

int token(nb::handle number, int vocab) { return index(number, vocab, "a token id is outside the vocabulary"); }

double between(nb::handle number, double least, double most, const char* says) {
    const double value(nb::float_{number});
    if (!(value >= least && value <= most)) throw std::invalid_argument(says);
    return value;
}

Transform transform_of(nb::handle transform, int vocab) {
    using Limits = std::numeric_limits<double>;
    if (is(transform, names->temperature))
        return {Transform::temperature, between(transform.attr("value"), Limits::denorm_min(), Limits::max(),
                                                "a temperature must be above 0 and finite")};
    if (is(transform, names->top_k))
        return {Transform::top_k, double(count(transform.attr("k"), 1, vocab, "top_k must be from 1 up"))};
    if (is(transform, names->top_p))
        return {Transform::top_p, between(transform.attr("p"), 0, 1, "top_p must be from 0 to 1")};
    if (is(transform, names->min_p))
        return {Transform::min_p, between(transform.attr("p"), 0, 1, "min_p must be from 0 to 1")};
    throw std::invalid_argument("a transform must be a Temperature, TopK, TopP or MinP");
}

std::vector<Transform> transforms_of(nb::handle transforms, int vocab) {
    std::vector<Transform> found;
    for (nb::handle each : transforms) found.push_back(transform_of(each, vocab));
    return found;
}

Read read_of(nb::handle row, int rows, int vocab) {
    constexpr const char* fewest = "a number of candidates must be from 0 up";
    const nb::object what = row.attr("read"), position = row.attr("position"), logprobs = row.attr("logprobs");
    Read read{};
    read.row = index(row.attr("index"), rows, "a row of a pass is not there");
    read.position = int64_t(word(position));
    read.key = noise_key(word(row.attr("seed")), word(position));
    read.logprobs = !logprobs.is_none();
    read.count = read.logprobs ? count(logprobs, 0, vocab, fewest) : 0;
    for (nb::handle each : row.attr("forbidden")) read.forbidden.push_back(token(each, vocab));
    if (is(what, names->pick)) {
        const nb::object sampler = what.attr("sampler");
        read.kind = Read::pick;
        read.noise = bool(nb::bool_(nb::object(sampler.attr("noise"))));
        if (read.noise) read.transforms = transforms_of(sampler.attr("transforms"), vocab);
    } else if (is(what, names->top)) {
        read.kind = Read::top;
        read.count = count(what.attr("count"), 0, vocab, fewest);
        read.transforms = transforms_of(what.attr("transforms"), vocab);
    } else if (is(what, names->score)) {
        read.kind = Read::score;
        read.token = token(what.attr("token"), vocab);
        read.logprobs = true;
    } else {
        throw std::invalid_argument("a row is read by a Pick, Top or Score");
    }
    return read;
}

nb::list candidates_of(const Answer& answer) {
    nb::list found;
    for (const Candidate& each : answer.candidates) found.append(names->candidate(each.token, each.logprob));
    return found;
}

nb::object reply_of(const Read& read, const Answer& answer) {
    if (!answer.readable()) return names->unreadable(read.position, answer.best);
    if (read.kind == Read::top) return candidates_of(answer);
    if (!read.logprobs) return names->choice(answer.token);
    return names->choice(answer.token, answer.logprob, nb::tuple(candidates_of(answer)));
}

nb::list read(Logits logits, nb::handle rows) {
    if (logits.ndim() != 2) throw std::invalid_argument("logits must have two dimensions, [rows, vocab]");
    const size_t vocab = logits.shape(1);
    const std::vector<Read> reads = reads_of(rows, logits.shape(0), vocab);
    std::vector<Answer> answers(reads.size());
    {
        nb::gil_scoped_release release;
        for (size_t i = 0; i < reads.size(); i++)
            answers[i] = read_row(logits.data() + reads[i].row * vocab, int(vocab), reads[i]);
    }
    return replies_of(reads, answers);
}

}  // namespace

std::vector<Read> reads_of(nb::handle rows, size_t count, size_t vocab) {
    if (vocab < 1 || std::max(vocab, count) > 1 << 30)
        throw std::invalid_argument("there must be from 1 to 2^30 tokens in the vocabulary, and no more rows");
    std::vector<Read> reads;
    for (nb::handle row : rows) reads.push_back(read_of(row, int(count), int(vocab)));
    return reads;
}

nb::list replies_of(const std::vector<Read>& reads, const std::vector<Answer>& answers) {
    nb::list replies;
    for (size_t i = 0; i < reads.size(); i++) replies.append(reply_of(reads[i], answers[i]));
    return replies;
}

void bind_readout(nb::module_& module) {
    const nb::module_ query = nb::module_::import_("nextok.query");
    const nb::module_ transforms = nb::module_::import_("nextok.sampling.transforms");
    const nb::module_ readout = nb::module_::import_("nextok.sampling.readout");
    names = new Names{query.attr("Pick"), query.attr("Top"), query.attr("Score"), transforms.attr("Temperature"),
                      transforms.attr("TopK"), transforms.attr("TopP"), transforms.attr("MinP"), query.attr("Choice"),
                      query.attr("Candidate"), readout.attr("unreadable")};
    module.def("read", &read, "Answer each row from logits [rows, vocab], as sampling/readout.py does.");
}

}  // namespace nextok
