// Keys and values of one tree, in pages that several trees may share.
#pragma once
#include <memory>
#include <vector>

#include "kernels.hpp"

namespace nextok {

class Cache {
  public:
    // `planes`: layers times key-value heads; `width`: of a head, a multiple of 16.
    Cache(int planes, int width, const Paging& paging);
    Cache(const Cache&) = delete;
    Cache& operator=(const Cache&) = delete;

    void reserve(int end);  // have the slots below `end`
    void own(int slot);     // have it, in a page that nobody else sees: to be called before anything is written there
    std::unique_ptr<Cache> fork(int end) const;  // a cache that begins with the slots below `end`, in shared pages
    void move(const std::vector<int>& sources, const std::vector<int>& targets);

    void* keys(int plane, int slot) { return at(2 * plane, slot); }        // of the whole page: [width, 64]
    void* values(int plane, int slot) { return at(2 * plane + 1, slot); }  // [64, width]
    void put(int plane, int slot, const float* key, const float* value) {
        paging_.put(key, value, width_, slot % kSlots, keys(plane, slot), values(plane, slot));
    }
    const void* keys_of_sixteen(int plane, int group) {  // slots from 16 * group on, in the middle of their page
        return static_cast<const uint8_t*>(keys(plane, 16 * group)) + size_t(16 * group % kSlots) * paging_.bytes;
    }
    // Copy a slot into a page of the caller.
    void copy_value(int plane, int slot, void* page, int to) {
        paging_.copy_value(values(plane, slot), slot % kSlots, page, to, width_);
    }
    const Paging& paging() const { return paging_; }
    size_t page_bytes() const { return 2 * size_t(planes_) * plane_bytes(); }
    int pages() const { return int(pages_.size()); }

  private:
    using Page = std::shared_ptr<uint8_t[]>;

    size_t plane_bytes() const { return size_t(kSlots) * width_ * paging_.bytes; }
    void* at(int half_plane, int slot) { return pages_[slot / kSlots].get() + half_plane * plane_bytes(); }
    Page fresh() const;

    int planes_, width_;
    const Paging& paging_;
    std::vector<Page> pages_;
};

}  // namespace nextok
