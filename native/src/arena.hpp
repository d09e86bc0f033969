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

    uint8_t* take(size_t bytes);  // aligned to 64; a little behind the end may be read. Throws std::bad_alloc

  private:
    static constexpr size_t kHuge = size_t(2) << 20, kChunk = size_t(32) << 20, kTail = 64;

    std::vector<uint8_t*> chunks_;
    uint8_t* next_ = nullptr;
    size_t left_ = 0;
};

}  // namespace nextok
