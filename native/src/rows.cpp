#include "rows.hpp"

namespace nextok {

void Rows::resize(int rows, int columns, bool exact) {
    rows_ = rows;
    columns_ = up_to(columns, kColumns);
    exact_ = exact;
    // In whole tiles of sixteen rows.
    const size_t size = size_t(up_to(rows, 16)) * columns_;
    values_.resize(size);
    if (exact) return;
    codes_.resize(size);
    scale_.resize(size / kColumns);
    weighted_.resize(size / kColumns);
    minus_.resize(2 * size / kColumns);
}

void Rows::quantize(const Kernels& kernels, int row, int first, int last) {
    if (exact_) return;
    const size_t at = size_t(row) * columns_ + first, block = at / kColumns;
    kernels.quantize(&values_[at], up_to(last - first, kColumns),
                     {&codes_[at], &scale_[block], &weighted_[block], &minus_[2 * block]});
}

Activations Rows::view() const {
    const int8_t* codes = exact_ ? nullptr : codes_.data();
    return {rows_, columns_, values_.data(), codes, scale_.data(), weighted_.data(), minus_.data()};
}

}  // namespace nextok
