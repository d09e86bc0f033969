#include "pool.hpp"

#if defined(__x86_64__)
#include <immintrin.h>
#endif
#if defined(__unix__) || defined(__APPLE__)
#include <unistd.h>
#endif

namespace nextok {
namespace {

constexpr int kSpins = 20000;  // almost a millisecond: longer than the pauses between passes
constexpr int kBriefly =
    1000;  // longer than the others need for a share; else somebody is off his processor, and may want this one

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

void Team::meet() {
    const uint32_t meeting = meetings_.load(std::memory_order_relaxed);
    if (here_.fetch_add(1, std::memory_order_acq_rel) + 1 == size_) {
        here_.store(0, std::memory_order_relaxed);
        next_.store(0, std::memory_order_relaxed);
        meetings_.store(meeting + 1, std::memory_order_release);
        return;
    }
    for (int spins = 0; meetings_.load(std::memory_order_acquire) == meeting; spins++)
        if (spins < kBriefly)
            breathe();
        else
            std::this_thread::yield();
}

Pool::Pool(int threads) : process_(this_process()) {
    for (int i = 1; i < threads; i++) workers_.emplace_back([this] { wait_and_work(); });
}

Pool::~Pool() {
    if (this_process() !=
        process_) {  // threads that are not there can neither be joined nor woken: leave them and their bed behind
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

void Pool::together(const std::function<void(Team&)>& work) {
    // A forked child has none of its parent's threads and works alone.
    Team team(this_process() == process_ ? size() : 1);
    if (team.size() == 1) {
        work(team);
        return team.check();
    }
    work_ = &work;
    team_ = &team;
    busy_.store(int(workers_.size()), std::memory_order_relaxed);
    round_.fetch_add(1);  // publishes the work
    if (asleep_.load() > 0) {
        std::lock_guard<std::mutex> lock(bed_->mutex);
        bed_->wake.notify_all();
    }
    work(team);
    for (int spins = 0; busy_.load(std::memory_order_acquire) > 0; spins++)
        if (spins < kSpins)
            breathe();
        else
            std::this_thread::yield();
    team.check();
}

void Pool::wait_and_work() {
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
        (*work_)(*team_);
        busy_.fetch_sub(1, std::memory_order_release);
    }
}

}  // namespace nextok
