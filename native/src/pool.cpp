#include "pool.hpp"

#if defined(__x86_64__)
#include <immintrin.h>
#endif
#if defined(__unix__) || defined(__APPLE__)
#include <unistd.h>
#endif

namespace nextok {
namespace {

// How often a thread looks for work before it sleeps: for almost a millisecond, longer than the pauses between passes.
constexpr int kSpins = 20000;

// How often a thread looks whether a share is over before it yields: longer than the other threads need for a share.
// After that one of them has lost its processor, and may need the one of this thread.
constexpr int kShareSpins = 1000;

inline void relax() {
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

void Team::meet() {
    const uint32_t meeting = meetings_.load(std::memory_order_relaxed);
    if (here_.fetch_add(1, std::memory_order_acq_rel) + 1 == size_) {
        here_.store(0, std::memory_order_relaxed);
        next_.store(0, std::memory_order_relaxed);
        meetings_.store(meeting + 1, std::memory_order_release);
        return;
    }
    for (int spins = 0; meetings_.load(std::memory_order_acquire) == meeting; spins++)
        if (spins < kShareSpins)
            relax();
        else
            std::this_thread::yield();
}

Pool::Pool(int threads) : process_(this_process()) {
    for (int i = 1; i < threads; i++) workers_.emplace_back([this, i] { wait_and_work(i); });
}

Pool::~Pool() {
    if (this_process() != process_) {
        // A forked child has no such threads: they can neither be joined nor woken, so they are left behind.
        new std::vector<std::thread>(std::move(workers_));
        sleep_.release();
        return;
    }
    {
        std::lock_guard<std::mutex> lock(sleep_->mutex);
        over_ = true;
        round_++;
    }
    sleep_->wake.notify_all();
    for (std::thread& worker : workers_) worker.join();
}

void Pool::together(const std::function<void(const Member&)>& work) {
    // A forked child has none of its parent's threads and works alone.
    Team team(this_process() == process_ ? size() : 1);
    if (team.size() == 1) {
        work(Member(team, 0));
        return team.check();
    }
    work_ = &work;
    team_ = &team;
    busy_.store(int(workers_.size()), std::memory_order_relaxed);
    round_.fetch_add(1);  // This publishes the work.
    if (asleep_.load() > 0) {
        std::lock_guard<std::mutex> lock(sleep_->mutex);
        sleep_->wake.notify_all();
    }
    work(Member(team, 0));
    for (int spins = 0; busy_.load(std::memory_order_acquire) > 0; spins++)
        if (spins < kSpins)
            relax();
        else
            std::this_thread::yield();
    team.check();
}

void Pool::wait_and_work(int index) {
    uint64_t seen = 0;
    while (true) {
        for (int spins = 0; round_.load(std::memory_order_acquire) == seen; spins++) {
            if (spins < kSpins) {
                relax();
                continue;
            }
            std::unique_lock<std::mutex> lock(sleep_->mutex);
            asleep_++;
            sleep_->wake.wait(lock, [&] { return round_.load() != seen; });
            asleep_--;
        }
        seen = round_.load(std::memory_order_acquire);
        if (over_) return;
        (*work_)(Member(*team_, index));
        busy_.fetch_sub(1, std::memory_order_release);
    }
}

}  // namespace nextok
