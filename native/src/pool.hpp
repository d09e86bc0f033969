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

// The threads during one piece of work. All of them run the same code and meet at the end of each share.
class Team {
  public:
    explicit Team(int size) : size_(size) {}
    Team(const Team&) = delete;
    Team& operator=(const Team&) = delete;

    int size() const { return size_; }

    // Call work(first, last) for all of 0 .. count, in pieces of `grain` for whoever is free; return when all are done.
    // If it throws, the others go on, and the pool throws the first exception when all work is over.
    template <class Work>
    void share(int count, int grain, const Work& work) {
        try {
            for (int first; (first = next_.fetch_add(grain, std::memory_order_relaxed)) < count;)
                work(first, std::min(first + grain, count));
        } catch (...) {
            if (!failed_.test_and_set()) failure_ = std::current_exception();
        }
        meet();
    }

    void check() const {
        if (failure_) std::rethrow_exception(failure_);
    }

  private:
    void meet();

    const int size_;
    std::atomic<int> next_{0};
    std::atomic<int> here_{0};
    std::atomic<uint32_t> meetings_{0};
    std::atomic_flag failed_ = ATOMIC_FLAG_INIT;
    std::exception_ptr failure_;
};

class Pool {
  public:
    explicit Pool(int threads);
    ~Pool();
    Pool(const Pool&) = delete;
    Pool& operator=(const Pool&) = delete;

    int size() const { return int(workers_.size()) + 1; }

    // Run work(team) on every thread at once. It may throw within a share only, and not call the pool.
    void together(const std::function<void(Team&)>& work);

    // Call work(first, last) on shares of 0 .. count.
    template <class Work>
    void share(int count, int grain, const Work& work) {
        together([&](Team& team) { team.share(count, grain, work); });
    }

  private:
    void wait_and_work();

    std::vector<std::thread> workers_;
    const long process_;
    std::atomic<uint64_t> round_{0};
    std::atomic<int> busy_{0};
    std::atomic<int> asleep_{0};
    std::atomic<bool> over_{false};
    const std::function<void(Team&)>* work_ = nullptr;
    Team* team_ = nullptr;
    struct Bed {
        std::mutex mutex;
        std::condition_variable wake;
    };
    std::unique_ptr<Bed> bed_ = std::make_unique<Bed>();
};

}  // namespace nextok
