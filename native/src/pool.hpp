// A few threads that wait together: they spin for a moment and then sleep, so that an idle process uses no time.
#pragma once
#include <atomic>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

namespace nextok {

class Pool {
  public:
    explicit Pool(int threads);
    ~Pool();
    Pool(const Pool&) = delete;
    Pool& operator=(const Pool&) = delete;

    int size() const { return int(workers_.size()) + 1; }

    // To be called before a pass: a forked child has none of its parent's threads and works alone.
    void look_around();

    // Call work(first, last) on equal shares of 0 .. count, one a thread, and return when all are done.
    void share(int count, const std::function<void(int, int)>& work);

  private:
    void wait_and_work(int index);

    std::vector<std::thread> workers_;
    long process_;
    bool alone_ = false;
    std::atomic<uint64_t> round_{0};
    std::atomic<int> busy_{0};
    std::atomic<int> asleep_{0};
    std::atomic<bool> over_{false};
    const std::function<void(int, int)>* work_ = nullptr;
    int count_ = 0;
    struct Bed {
        std::mutex mutex;
        std::condition_variable wake;
    };
    std::unique_ptr<Bed> bed_ = std::make_unique<Bed>();
};

}  // namespace nextok
