#include "edits.hpp"

#include <algorithm>
#include <limits>

namespace nextok {
namespace {

constexpr int kBit[] = {1, 2, 4, 8, 16, 32, 64, 128};
constexpr float kNever = -std::numeric_limits<float>::infinity();

struct Editor {
    float* row;
    int vocab;

    void operator()(const Allow& each) const {
        for (int first = 0; first < vocab; first += 8) {
            const size_t place = size_t(first) / 8;
            const int bits = place < each.mask.size() ? each.mask[place] : 0, n = std::min(8, vocab - first);
            if (bits == 0)
                std::fill_n(row + first, n, kNever);
            else if (bits != 0xff)
                for (int i = 0; i < n; i++) row[first + i] = bits & kBit[i] ? row[first + i] : kNever;
        }
    }

    void operator()(const Forbid& each) const {
        for (int token : each.tokens) row[token] = kNever;
    }

    void operator()(const Add& each) const {
        for (size_t i = 0; i < each.tokens.size(); i++) row[each.tokens[i]] += each.amounts[i];
    }

    void operator()(const Scale& each) const {
        for (int token : each.tokens) row[token] = row[token] > 0 ? row[token] / each.factor : row[token] * each.factor;
    }
};

}  // namespace

void edit(float* row, int vocab, const Edit& edit) { std::visit(Editor{row, vocab}, edit); }

}  // namespace nextok
