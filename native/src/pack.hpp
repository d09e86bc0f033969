// From the blocks of a model file to panels, exactly: codes are moved, scales are kept.
#pragma once
#include <cstdint>
#include <string>

#include "arena.hpp"
#include "panels.hpp"
#include "pool.hpp"

namespace nextok {

// A matrix in panels, in the memory of an arena.
class Packed {
  public:
    // `data`: rows x columns in the storage format `kind`, `size` bytes. Throws std::invalid_argument if the size is
    // not what the shape needs.
    Packed(const std::string& kind, const uint8_t* data, size_t size, int rows, int columns, Arena& arena, Pool& pool);

    const Matrix& matrix() const { return matrix_; }
    // The bytes of the panels, and the rows of the matrix before they were padded.
    size_t bytes() const { return bytes_; }
    int rows() const { return rows_; }
    // One row as float32, [columns].
    void row(int index, float* out) const;

  private:
    int rows_;
    size_t bytes_;
    Matrix matrix_;
};

}  // namespace nextok
