// A model as Python sees it: its weights, its threads, and one pass at a time.
#pragma once
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "attention.hpp"
#include "cache.hpp"
#include "kernels.hpp"
#include "pass.hpp"
#include "pool.hpp"
#include "weights.hpp"

namespace nextok {

class Model {
  public:
    Model(Config config, int threads, bool exact, const Kernels& kernels)
        : pool_(threads),
          weights_(std::move(config)),
          attention_(weights_.config(), kernels, pool_.size()),
          pass_(weights_, attention_, pool_, kernels, exact),
          paging_(exact ? kernels.full : kernels.half) {}
    Model(const Model&) = delete;
    Model& operator=(const Model&) = delete;

    void set_vector(const std::string& name, const float* data, size_t size) { weights_.set_vector(name, data, size); }
    void set_matrix(const std::string& name, const std::string& kind, const uint8_t* data, size_t size, int rows,
                    int columns) {
        weights_.set_matrix(name, kind, data, size, rows, columns, pool_);
    }
    // Throw std::invalid_argument if a weight is missing or has another shape than the configuration says.
    void finish() const { weights_.check(); }

    std::unique_ptr<Cache> open() const {
        return std::make_unique<Cache>(config().layers * config().kv_heads, config().padded_head(), paging_);
    }

    // See Pass::run. A thread waits while another one's pass is in hand.
    void forward(const std::vector<Token>& tokens, const std::vector<int>& wanted, const Pass::Reader& read) {
        std::lock_guard<std::mutex> lock(one_pass_);
        pass_.run(tokens, wanted, read);
    }

    const Config& config() const { return weights_.config(); }
    Pool& pool() { return pool_; }
    size_t bytes() const { return weights_.bytes(); }

  private:
    Pool pool_;
    Weights weights_;
    Attention attention_;
    Pass pass_;
    const Paging& paging_;
    std::mutex one_pass_;
};

}  // namespace nextok
