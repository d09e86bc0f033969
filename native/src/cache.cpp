#include "cache.hpp"

#include <algorithm>
#include <cstring>

namespace nextok {

Cache::Cache(int planes, int width, const Paging& paging) : planes_(planes), width_(width), paging_(paging) {}

Cache::Page Cache::fresh() const {
    return Page(new uint8_t[page_bytes()]());  // Zeros: what is read before it was written must be a number.
}

void Cache::reserve(int end) {
    while (pages() * kSlots < end) pages_.push_back(fresh());
}

void Cache::own(int slot) {
    reserve(slot + 1);
    Page& page = pages_[slot / kSlots];
    if (page.use_count() == 1) return;
    Page copy = fresh();
    std::memcpy(copy.get(), page.get(), page_bytes());
    page = std::move(copy);
}

std::unique_ptr<Cache> Cache::fork(int end) const {
    auto forked = std::make_unique<Cache>(planes_, width_, paging_);
    const int count = std::min(end / kSlots + (end % kSlots > 0), pages());
    forked->pages_.assign(pages_.begin(), pages_.begin() + count);
    return forked;
}

void Cache::move(const std::vector<int>& sources, const std::vector<int>& targets) {
    for (int slot : sources) reserve(slot + 1);
    for (int slot : targets) own(slot);
    // All are read before any is written.
    const size_t size = plane_bytes();
    std::vector<uint8_t> held((sources.size() + kSlots - 1) / kSlots * 2 * size);
    for (int plane = 0; plane < planes_; plane++) {
        auto page = [&](size_t i) { return held.data() + i / kSlots * 2 * size; };
        for (size_t i = 0; i < sources.size(); i++) {
            paging_.copy_key(keys(plane, sources[i]), sources[i] % kSlots, page(i), int(i % kSlots), width_);
            copy_value(plane, sources[i], page(i) + size, int(i % kSlots));
        }
        for (size_t i = 0; i < targets.size(); i++) {
            const int slot = targets[i] % kSlots;
            paging_.copy_key(page(i), int(i % kSlots), keys(plane, targets[i]), slot, width_);
            paging_.copy_value(page(i) + size, int(i % kSlots), values(plane, targets[i]), slot, width_);
        }
    }
}

}  // namespace nextok
