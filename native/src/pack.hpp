// From the blocks of a model file to panels, exactly: codes are moved, scales are kept.
#pragma once
#include <cstdint>
#include <memory>
#include <string>

#include "kernels.hpp"
#include "pool.hpp"

namespace nextok {

// A matrix that owns its panels.
class Packed {
  public:
    // `data`: rows x columns in the storage format `kind` (Q4_0, Q4_1, Q5_0, Q5_1, Q8_0 or F32), `size` bytes.
    // Throws std::invalid_argument if the size is not what the shape needs.
    Packed(const std::string& kind, const uint8_t* data, size_t size, int rows, int columns, Pool& pool);

    const Matrix& matrix() const { return matrix_; }
    size_t bytes() const { return bytes_; }
    int rows() const { return rows_; }
    void row(int index, float* out) const;  // one row as float32, [columns]

  private:
    int rows_;
    size_t bytes_;
    std::unique_ptr<uint8_t[], void (*)(uint8_t*)> store_;
    Matrix matrix_;
};

}  // namespace nextok
