// From the blocks of a model file to panels, exactly: codes are moved, scales are kept.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "panels.hpp"
#include "pool.hpp"

namespace nextok {

// Memory for the weights of a model, in chunks of whole huge pages.
class Arena {
  public:
    Arena() = default;
    ~Arena();
    Arena(const Arena&) = delete;
    Arena& operator=(const Arena&) = delete;

    uint8_t* take(size_t bytes);  // aligned to 64; a little behind the end may be read. Throws std::bad_alloc

  private:
    static constexpr size_t kHuge = size_t(2) << 20, kChunk = size_t(32) << 20, kTail = 64;

    std::vector<uint8_t*> chunks_;
    uint8_t* next_ = nullptr;
    size_t left_ = 0;
};

std::vector<std::string> stored_kinds();  // the storage formats of files that have panels

// A matrix in panels, in the memory of an arena.
class Packed {
  public:
    // `data`: rows x columns in the storage format `kind`, `size` bytes. Throws std::invalid_argument if the size is
    // not what the shape needs.
    Packed(const std::string& kind, const uint8_t* data, size_t size, int rows, int columns, Arena& arena, Pool& pool);

    const Matrix& matrix() const { return matrix_; }
    size_t bytes() const { return bytes_; }
    int rows() const { return rows_; }
    void row(int index, float* out) const;  // one row as float32, [columns]

  private:
    int rows_;
    size_t bytes_;
    Matrix matrix_;
};

}  // namespace nextok
