// Keys and values of one tree, in pages that several trees may share.
#pragma once
#include <memory>
#include <vector>

#include "kernels.hpp"

namespace nextok {

class Cache {
  public:
    // `planes`: layers times key-value heads; `width`: floats of a padded head, a multiple of 16.
    Cache(int planes, int width, const Paging& paging);
    Cache(const Cache&) = delete;
    Cache& operator=(const Cache&) = delete;

    // Make sure that there are pages for the slots below `end`.
    void reserve(int end);
    // Make sure that a slot lies in a page that no other cache shares: to be called before it is written.
    void own(int slot);
    // A cache that begins with the slots below `end`, in shared pages.
    std::unique_ptr<Cache> fork(int end) const;
    // Copy slots; all are read before any is written.
    void move(const std::vector<int>& sources, const std::vector<int>& targets);

    // The page in which a slot lies: keys are [width, 64], values [64, width].
    void* keys(int plane, int slot) { return at(2 * plane, slot); }
    void* values(int plane, int slot) { return at(2 * plane + 1, slot); }
    void put(int plane, int slot, const float* key, const float* value) {
        paging_.put(key, value, width_, slot % kSlots, keys(plane, slot), values(plane, slot));
    }
    // The keys of the slots from 16 * group on, in the middle of their page.
    const void* keys_of_sixteen(int plane, int group) {
        return static_cast<const uint8_t*>(keys(plane, 16 * group)) + size_t(16 * group % kSlots) * paging_.bytes;
    }
    // Copy the value of a slot into a page of the caller.
    void copy_value(int plane, int slot, void* page, int to) {
        paging_.copy_value(values(plane, slot), slot % kSlots, page, to, width_);
    }
    const Paging& paging() const { return paging_; }
    size_t page_bytes() const { return 2 * size_t(planes_) * plane_bytes(); }
    int pages() const { return int(pages_.size()); }
    // The same for every cache that shares the page.
    const void* address_of(int page) const { return pages_[page].get(); }

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
