// Rows of activations as the products take them.
#pragma once
#include <vector>

#include "kernels.hpp"

namespace nextok {

// Rows of float32, padded to whole blocks with zeros, and their int8 codes where the products are fast.
class Rows {
  public:
    void resize(int rows, int columns, bool exact);
    float* row(int i) { return &values_[size_t(i) * columns_]; }

    // Compute the codes of columns [first, last) of a row; `first` begins a block, `last` ends a block or the row.
    void quantize(const Kernels& kernels, int row, int first, int last);
    void quantize(const Kernels& kernels, int row) { quantize(kernels, row, 0, columns_); }

    Activations view() const;

  private:
    int rows_ = 0, columns_ = 0;
    bool exact_ = true;
    std::vector<float> values_, scale_, weighted_;
    std::vector<int8_t> codes_;
    std::vector<int32_t> minus_;
};

}  // namespace nextok
