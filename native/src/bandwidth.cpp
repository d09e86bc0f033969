#include "bandwidth.hpp"

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <stdexcept>
#include <thread>
#include <vector>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace nextok {
namespace {

// Reads of the memory, of which the fastest counts.
constexpr int kReads = 5;

// Sums that are added to at once, so that none waits for another.
constexpr int kSums = 16;

// Bytes of a huge page.
constexpr std::align_val_t kHugePage{size_t(2) << 20};

struct Free {
    void operator()(uint64_t* words) const { ::operator delete(words, kHugePage); }
};
using Buffer = std::unique_ptr<uint64_t[], Free>;

// In huge pages where the system has them: with small ones, address lookups would be measured as well.
Buffer buffer_of(size_t bytes) {
    Buffer buffer(static_cast<uint64_t*>(::operator new(bytes, kHugePage)));
#if defined(__linux__) && defined(MADV_HUGEPAGE)
    madvise(buffer.get(), bytes, MADV_HUGEPAGE);
#endif
    return buffer;
}

uint64_t sum(const uint64_t* words, size_t count) {
    uint64_t sums[kSums] = {};
    for (size_t i = 0; i < count; i += kSums)
        for (int lane = 0; lane < kSums; lane++) sums[lane] += words[i + lane];
    uint64_t total = 0;
    for (uint64_t each : sums) total += each;
    return total;
}

// Call work(thread, first, last) on equal shares of the words, each in a thread of its own.
template <class Work>
void share(int threads, size_t words, Work work) {
    std::vector<std::thread> others;
    auto begin = [&](int thread) { return words / kSums * thread / threads * kSums; };
    for (int thread = 1; thread < threads; thread++)
        others.emplace_back(work, thread, begin(thread), begin(thread + 1));
    work(0, begin(0), begin(1));
    for (std::thread& other : others) other.join();
}

}  // namespace

double read_bandwidth(int threads, int megabytes) {
    if (threads < 1 || threads > 256 || megabytes < 1)
        throw std::invalid_argument("read_bandwidth needs 1 to 256 threads and some megabytes");
    const size_t bytes = size_t(megabytes) << 20, words = bytes / sizeof(uint64_t);
    const Buffer buffer = buffer_of(bytes);
    uint64_t* const data = buffer.get();
    // Each thread writes what it will read, so that it lies in the memory nearest to it.
    share(threads, words, [&](int, size_t first, size_t last) { std::fill(data + first, data + last, uint64_t(1)); });
    double best = 0;
    for (int read = 0; read < kReads; read++) {
        std::vector<uint64_t> sums(threads);
        const auto start = std::chrono::steady_clock::now();
        share(threads, words,
              [&](int thread, size_t first, size_t last) { sums[thread] = sum(data + first, last - first); });
        const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
        uint64_t total = 0;
        for (uint64_t each : sums) total += each;
        // The check also keeps the compiler from leaving reads out.
        if (total != words) throw std::runtime_error("memory did not keep what was written to it");
        best = std::max(best, double(bytes) / seconds.count() / 1e9);
    }
    return best;
}

}  // namespace nextok
