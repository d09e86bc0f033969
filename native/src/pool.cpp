#include "pool.hpp"

#if defined(__x86_64__)
#include <immintrin.h>
#endif
#if defined(__unix__) || defined(__APPLE__)
#include <unistd.h>
#endif

namespace nextok {
namespace {

constexpr int kSpins = 20000;  // about 100 microseconds: longer than the pauses within one pass

inline void breathe() {
#if defined(__x86_64__)
    _mm_pause();
#else
    std::this_thread::yield();
#endif
}

long this_process() {
#if defined(__unix__) || defined(__APPLE__)
    return long(getpid());
#else
    return 0;
#endif
}

}  // namespace

Pool::Pool(int threads) : process_(this_process()) {
    for (int i = 1; i < threads; i++) workers_.emplace_back([this, i] { wait_and_work(i); });
}

void Pool::look_around() { alone_ = this_process() != process_; }

Pool::~Pool() {
    look_around();
    if (alone_) {  // threads that are not there can neither be joined nor woken: leave them and their bed behind
        new std::vector<std::thread>(std::move(workers_));
        bed_.release();
        return;
    }
    {
        std::lock_guard<std::mutex> lock(bed_->mutex);
        over_ = true;
        round_++;
    }
    bed_->wake.notify_all();
    for (std::thread& worker : workers_) worker.join();
}

void Pool::share(int count, const std::function<void(int, int)>& work) {
    if (workers_.empty() || alone_ || count < 2) {
        work(0, count);
        return;
    }
    work_ = &work;
    count_ = count;
    busy_.store(int(workers_.size()), std::memory_order_relaxed);
    round_.fetch_add(1);  // publishes the work
    if (asleep_.load() > 0) {
        std::lock_guard<std::mutex> lock(bed_->mutex);
        bed_->wake.notify_all();
    }
    work(0, count / size());
    for (int spins = 0; busy_.load(std::memory_order_acquire) > 0; spins++)
        if (spins < kSpins) breathe();
        else std::this_thread::yield();
}

void Pool::wait_and_work(int index) {
    uint64_t seen = 0;
    while (true) {
        for (int spins = 0; round_.load(std::memory_order_acquire) == seen; spins++) {
            if (spins < kSpins) {
                breathe();
                continue;
            }
            std::unique_lock<std::mutex> lock(bed_->mutex);
            asleep_++;
            bed_->wake.wait(lock, [&] { return round_.load() != seen; });
            asleep_--;
        }
        seen = round_.load(std::memory_order_acquire);
        if (over_) return;
        (*work_)(int(int64_t(count_) * index / size()), int(int64_t(count_) * (index + 1) / size()));
        busy_.fetch_sub(1, std::memory_order_release);
    }
}

}  // namespace nextok
