// Rows of a pass into records, and answers back: questions_of, then read_row for each without the interpreter's lock
// and on any thread, then replies_of.
#pragma once
#include <nanobind/nanobind.h>

#include "readout.hpp"

namespace nextok {

// How a row is read, and whether it is read apart, in Python's order: the core does not know one of its transforms, or
// mirostat needs the answer to an earlier row of the pass.
struct Question : Read {
    bool unknown, follows;

    bool apart() const { return unknown || follows; }
};

// One for each Row; what is out of range for logits [rows, vocab] raises ValueError.
std::vector<Question> questions_of(nanobind::handle rows, size_t count, size_t vocab);

// A Choice, a list of Candidates or of Drawns, or an error for each; None for those that are read apart.
nanobind::list replies_of(const std::vector<Question>& questions, const std::vector<Answer>& answers);

void bind_readout(nanobind::module_& module);

}  // namespace nextok
