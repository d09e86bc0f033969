// A few threads that work together: they spin for a moment and then sleep, so that an idle process uses no time.
#pragma once
#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

namespace nextok {

// What the threads of a pool have in common during one piece of work.
class Team {
  public:
    explicit Team(int size) : size_(size) {}
    Team(const Team&) = delete;
    Team& operator=(const Team&) = delete;

    int size() const { return size_; }

    // Throw the first exception that a share has thrown.
    void check() const {
        if (failure_) std::rethrow_exception(failure_);
    }

  private:
    friend class Member;

    void meet();

    const int size_;
    std::atomic<int> next_{0};           // The first index of the current share that no thread has taken yet.
    std::atomic<int> here_{0};           // The number of threads that wait at the end of the current share.
    std::atomic<uint32_t> meetings_{0};  // The number of shares that are over.
    std::atomic_flag failed_ = ATOMIC_FLAG_INIT;
    std::exception_ptr failure_;
};

// One thread of a team. All members run the same code and wait for each other at the end of each share.
class Member {
  public:
    Member(Team& team, int index) : team_(team), index_(index) {}

    // The member's number, from 0 to size() - 1: memory of its own can be found by it.
    int index() const { return index_; }
    int size() const { return team_.size_; }

    // Call work(first, last) for all of 0 .. count in pieces of `grain`: a thread that has finished one takes the next.
    // Return when all are done. If it throws, the other threads go on, and the pool throws the first exception when
    // all work is over.
    template <class Work>
    void share(int count, int grain, const Work& work) const {
        try {
            for (int first; (first = team_.next_.fetch_add(grain, std::memory_order_relaxed)) < count;)
                work(first, std::min(first + grain, count));
        } catch (...) {
            if (!team_.failed_.test_and_set()) team_.failure_ = std::current_exception();
        }
        team_.meet();
    }

    // Call work(i) for all of 0 .. count, neighbours by the same thread, as they share cache lines.
    template <class Work>
    void each(int count, const Work& work) const {
        share(count, std::max(1, count / (4 * size())), [&](int first, int last) {
            for (int i = first; i < last; i++) work(i);
        });
    }

  private:
    Team& team_;
    const int index_;
};

class Pool {
  public:
    explicit Pool(int threads);
    ~Pool();
    Pool(const Pool&) = delete;
    Pool& operator=(const Pool&) = delete;

    int size() const { return int(workers_.size()) + 1; }

    // Run work(member) on every thread at once. It may throw within a share only, and must not call the pool.
    void together(const std::function<void(const Member&)>& work);

    // Call work(first, last) on shares of 0 .. count.
    template <class Work>
    void share(int count, int grain, const Work& work) {
        together([&](const Member& member) { member.share(count, grain, work); });
    }

  private:
    // What sleeping threads wait on. It has memory of its own, as a forked child must leave it behind.
    struct Sleep {
        std::mutex mutex;
        std::condition_variable wake;
    };

    void wait_and_work(int index);

    std::vector<std::thread> workers_;
    const long process_;              // The process that started the threads.
    std::atomic<uint64_t> round_{0};  // The number of pieces of work so far; a change tells the threads to begin.
    std::atomic<int> busy_{0};        // The number of threads that have not finished the current work.
    std::atomic<int> asleep_{0};      // The number of threads that sleep.
    std::atomic<bool> over_{false};   // Whether the threads are to end.
    const std::function<void(const Member&)>* work_ = nullptr;
    Team* team_ = nullptr;
    std::unique_ptr<Sleep> sleep_ = std::make_unique<Sleep>();
};

}  // namespace nextok
