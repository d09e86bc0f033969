#include "readout_python.hpp"

#include <nanobind/ndarray.h>

#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "names_python.hpp"
#include "noise.hpp"
#include "numbers_python.hpp"
#include "transforms_python.hpp"

namespace nextok {
namespace nb = nanobind;
namespace {

using Logits = nb::ndarray<const float, nb::c_contig, nb::device::cpu>;

// What Python calls the parts of a question and of its answer.
struct Names {
    nb::object pick, top, draws, score, choice, candidate, drawn, unreadable, dead_end;
};
const Names* names;  // Set when the module is imported, and never freed.

// The lowest 64 bits of a whole number of any size.
uint64_t word(nb::handle number) {
    const uint64_t value = PyLong_AsUnsignedLongLongMask(number.ptr());
    if (value == UINT64_MAX && PyErr_Occurred()) throw nb::python_error();
    return value;
}

Question question_of(nb::handle row, int first, int end, int vocab) {
    constexpr const char* fewest = "a number of candidates must be from 0 up";
    const nb::object what = row.attr("read"), position = row.attr("position"), logprobs = row.attr("logprobs");
    Question found{};
    found.row = index(row.attr("index"), end, "a row of a pass is not there") - first;
    if (found.row < 0) throw std::invalid_argument("a row of a pass is not there");
    found.position = int64_t(word(position));
    found.key = noise_key(word(row.attr("seed")), word(position));
    found.logprobs = !logprobs.is_none();
    found.alternatives = found.logprobs ? count(logprobs, 0, vocab, fewest) : 0;
    if (is(what, names->pick)) {
        found.kind = Read::pick;
        found.noise = bool(nb::bool_(nb::object(what.attr("sampler").attr("noise"))));
    } else if (is(what, names->top) || is(what, names->draws)) {
        found.kind = is(what, names->top) ? Read::top : Read::draws;
        found.count = count(what.attr("count"), 0, vocab, fewest);
    } else if (is(what, names->score)) {
        found.kind = Read::score;
        found.token = index(what.attr("token"), vocab, "a token id is outside the vocabulary");
        found.logprobs = true;
    } else {
        throw std::invalid_argument("a row is read by a Pick, Top, Draws or Score");
    }
    Transforms transforms = transforms_of(what.attr("transforms"), vocab);
    found.transforms = std::move(transforms.list);
    found.surprise = transforms.surprise;
    found.unknown = transforms.unknown;
    found.follows = !row.attr("after").is_none();
    return found;
}

nb::list candidates_of(const std::vector<Candidate>& candidates) {
    nb::list found;
    for (const Candidate& each : candidates) found.append(names->candidate(each.token, each.logprob));
    return found;
}

nb::object choice_of(const Question& question, const Answer& answer) {
    nb::object surprise = nb::none();
    if (question.surprise) surprise = nb::float_(-answer.processed.logprob / std::log(2.0));
    if (!question.logprobs && !question.surprise) return names->choice(answer.token);
    if (!question.logprobs) return names->choice(answer.token, nb::arg("surprise") = surprise);
    const nb::object logprob = nb::float_(answer.raw.logprob), top = nb::tuple(candidates_of(answer.raw.top));
    if (question.transforms.empty()) return names->choice(answer.token, logprob, top, logprob, top);
    return names->choice(answer.token, logprob, top, answer.processed.logprob,
                         nb::tuple(candidates_of(answer.processed.top)), surprise);
}

nb::object reply_of(const Question& question, const Answer& answer) {
    if (answer.kind == Answer::unreadable) return names->unreadable(question.position, answer.best);
    if (question.kind == Read::top) return candidates_of(answer.top);
    if (question.kind == Read::draws) {
        nb::list found;
        for (const Drawn& each : answer.drawn) found.append(names->drawn(each.token, each.logprob, each.perturbed));
        return found;
    }
    return answer.kind == Answer::dead_end ? names->dead_end(question.position) : choice_of(question, answer);
}

void check_shape(size_t rows, size_t vocab) {
    if (vocab < 1 || std::max(vocab, rows) > 1 << 30)
        throw std::invalid_argument("there must be from 1 to 2^30 tokens in the vocabulary, and no more rows");
}

nb::list read(Logits logits, nb::handle rows, nb::handle first) {
    if (logits.ndim() != 2) throw std::invalid_argument("logits must have two dimensions, [rows, vocab]");
    const size_t vocab = logits.shape(1);
    check_shape(logits.shape(0), vocab);
    const int before = count(first, 0, 1 << 30, "the first row of a pass must be from 0 up");
    nb::list replies;
    for (nb::handle row : rows) {
        const Question question = question_of(row, before, before + int(logits.shape(0)), int(vocab));
        if (question.apart())
            throw std::invalid_argument("this row has a transform that the core does not know, or follows another one");
        Answer answer;
        {
            nb::gil_scoped_release release;
            answer = read_row(logits.data() + question.row * vocab, int(vocab), question);
        }
        replies.append(reply_of(question, answer));
    }
    return replies;
}

}  // namespace

std::vector<Question> questions_of(nb::handle rows, size_t count, size_t vocab) {
    check_shape(count, vocab);
    std::vector<Question> questions;
    for (nb::handle row : rows) questions.push_back(question_of(row, 0, int(count), int(vocab)));
    return questions;
}

nb::list replies_of(const std::vector<Question>& questions, const std::vector<Answer>& answers) {
    nb::list replies;
    for (size_t i = 0; i < questions.size(); i++)
        replies.append(questions[i].apart() ? nb::object(nb::none()) : reply_of(questions[i], answers[i]));
    return replies;
}

void bind_readout(nb::module_& module) {
    bind_transforms();
    using namespace python;
    names = new Names{fetch(kPick),      fetch(kTop),   fetch(kDraws),      fetch(kScore),  fetch(kChoice),
                      fetch(kCandidate), fetch(kDrawn), fetch(kUnreadable), fetch(kDeadEnd)};
    module.def("read", &read, nb::arg("logits"), nb::arg("rows"), nb::arg("first") = 0,
               "Answer each row from logits [rows, vocab], of which the first is row `first` of the pass, as "
               "readout/readout.py does.");
    module.def("knows", &knows, nb::arg("type"), "Whether the core has code for transforms of this type.");
}

}  // namespace nextok
