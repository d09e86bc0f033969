// Rows of a pass (nextok/query.py) into records, and answers back: reads_of, then read_row for each without the
// interpreter's lock and on any thread, then replies_of.
#pragma once
#include <nanobind/nanobind.h>

#include "readout.hpp"

namespace nextok {

// One Read for each Row; what is out of range for logits [rows, vocab] raises ValueError.
std::vector<Read> reads_of(nanobind::handle rows, size_t count, size_t vocab);

// A Choice, a list of Candidates or a LogitsError for each.
nanobind::list replies_of(const std::vector<Read>& reads, const std::vector<Answer>& answers);

void bind_readout(nanobind::module_& module);

}  // namespace nextok
