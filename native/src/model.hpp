// The Llama family over a flat batch of tokens; the same shape as the numpy model, which is its oracle.
#pragma once
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "kernels.hpp"
#include "pack.hpp"
#include "pool.hpp"

namespace nextok {

struct Config {
    int layers, width, heads, kv_heads, head_width, hidden, vocab, context, rope_width;
    bool rope_interleaved;
    float norm_epsilon;
    std::vector<double> frequencies;  // [rope_width / 2], radians a position
};

struct Linear {
    std::unique_ptr<Packed> weight;
    std::vector<float> bias;  // empty: none
};

struct Layer {
    std::vector<float> attention_norm, feed_forward_norm, q_norm, k_norm;
    Linear q, k, v, output, gate, up, down;
};

// Keys and values of one tree in pages of slots, so that growth never copies.
class Cache {
  public:
    static constexpr int kSlots = 64;
    explicit Cache(const Config& config);
    Cache(const Cache&) = delete;
    Cache& operator=(const Cache&) = delete;

    void reserve(int end);
    void move(const std::vector<int>& sources, const std::vector<int>& targets);
    float* keys(int layer, int head, int slot) { return at(2 * layer, head, slot); }
    float* values(int layer, int head, int slot) { return at(2 * layer + 1, head, slot); }
    int end() const { return int(pages_.size()) * kSlots; }

  private:
    float* at(int plane, int head, int slot) {
        size_t offset = (size_t(plane) * kv_heads_ + head) * kSlots + slot % kSlots;
        return pages_[slot / kSlots].get() + offset * width_;
    }

    int layers_, kv_heads_, width_;  // width: of a head, padded to 16
    std::vector<std::unique_ptr<float[]>> pages_;
};

// One token of a pass and what it sees: slots 0 .. seen - 1 of its cache, then those of its tail.
struct Token {
    int id, slot, seen;
    const int* tail;
    int tail_length;
    Cache* cache;
};

class Model {
  public:
    Model(Config config, int threads, bool exact, const Kernels& kernels);
    Model(const Model&) = delete;
    Model& operator=(const Model&) = delete;

    void set_vector(const std::string& name, const float* data, size_t size);
    void set_matrix(const std::string& name, const std::string& kind, const uint8_t* data, size_t size, int rows, int columns);
    void finish() const;  // throws if a weight is missing or has another shape than the configuration says

    // Read all tokens; logits [wanted, vocab] of those wanted, in order.
    void forward(const std::vector<Token>& tokens, const std::vector<int>& wanted, float* logits);

    const Config& config() const { return config_; }
    size_t bytes() const;

  private:
    struct Rows;  // activations of a pass and what is quantised of them

    Linear* linear_named(const std::string& name);
    std::vector<float>* vector_named(const std::string& name);
    void normalise(const float* x, const std::vector<float>& weight, Rows& out);
    void multiply(const std::vector<std::pair<const Linear*, float*>>& products, const Rows& x);
    void add_product(const Linear& linear, const Rows& x, float* onto);
    void place(int layer, const std::vector<Token>& tokens);
    void attend(int layer, const std::vector<Token>& tokens, Rows& mixed);
    void head_norm(float* head, const std::vector<float>& weight) const;
    template <class Work>
    void rows(int count, Work work);

    Config config_;
    bool exact_;
    const Kernels& kernels_;
    Pool pool_;
    int width_, padded_head_;
    Linear embedding_, head_;
    std::vector<float> norm_;
    std::vector<Layer> layers_;
    std::vector<float> x_, turns_, q_, k_, v_, queries_, gate_, up_, y_;
};

}  // namespace nextok
