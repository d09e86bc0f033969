// Memory for the weights of a model.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

namespace nextok {

// Chunks of whole huge pages, handed out piece by piece and freed together.
class Arena {
  public:
    Arena() = default;
    ~Arena();
    Arena(const Arena&) = delete;
    Arena& operator=(const Arena&) = delete;

    // Memory aligned to 64 bytes, which may be read up to 64 bytes beyond its end. Throws std::bad_alloc.
    uint8_t* take(size_t bytes);

  private:
    // Bytes of a huge page, of a chunk at least, and that may be read beyond the end of a piece.
    static constexpr size_t kHuge = size_t(2) << 20, kChunk = size_t(32) << 20, kTail = 64;

    std::vector<uint8_t*> chunks_;
    uint8_t* next_ = nullptr;
    size_t left_ = 0;
};

}  // namespace nextok
