// The Llama family over a flat batch of tokens; the same shape as the numpy model, which is its oracle.
#pragma once
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "cache.hpp"
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

    int rows() const { return weight->matrix().rows; }  // padded to whole panels
};

struct Layer {
    std::vector<float> attention_norm, feed_forward_norm, q_norm, k_norm;
    Linear q, k, v, output, gate, up, down;
};

// One token of a pass and what it sees: slots 0 .. seen - 1 of its cache, then those of its tail.
struct Token {
    int id, slot, seen;
    const int* tail;
    int tail_length;
    Cache* cache;

    int count() const { return seen + tail_length; }  // slots in sight; its position is one less
};

// Rows of float32, padded to whole blocks with zeros, and their int8 codes where the products are fast.
class Rows {
  public:
    void resize(int rows, int columns, bool exact);
    float* row(int i) { return &values_[size_t(i) * columns_]; }
    void quantize(const Kernels& kernels, int row, int first, int last);  // of columns, whole blocks or up to the end
    void quantize(const Kernels& kernels, int row) { quantize(kernels, row, 0, columns_); }
    Activations view() const;

  private:
    int rows_ = 0, columns_ = 0;
    bool exact_ = true;
    std::vector<float> values_, scale_, weighted_;
    std::vector<int8_t> codes_;
    std::vector<int32_t> minus_;
};

class Model {
  public:
    Model(Config config, int threads, bool exact, const Kernels& kernels);
    Model(const Model&) = delete;
    Model& operator=(const Model&) = delete;

    void set_vector(const std::string& name, const float* data, size_t size);
    void set_matrix(const std::string& name, const std::string& kind, const uint8_t* data, size_t size, int rows,
                    int columns);
    void finish() const;  // throws if a weight is missing or has another shape than the configuration says

    std::unique_ptr<Cache> open() const;

    // Read all tokens; then call read(first, count, logits, stride) for those wanted, in order, some rows at a time.
    using Reader = std::function<void(int first, int count, const float* logits, int stride)>;
    void forward(const std::vector<Token>& tokens, const std::vector<int>& wanted, const Reader& read);

    const Config& config() const { return config_; }
    Pool& pool() { return pool_; }
    size_t bytes() const;

  private:
    // Some queries of one feed that share a key-value head, hence keys and values, and the chunks they look at.
    struct Look {
        int kv_head, feed, first, count;  // queries, counted over the tokens of the feed and the heads of the group
        int first_chunk, last_chunk;
    };
    struct Scratch;  // of one thread in attention

    Layer& layer_named(const std::string& name, std::string& part);
    Linear* linear_named(const std::string& name);
    std::vector<float>* vector_named(const std::string& name);

    // Call work(row) for all rows, neighbours by the same thread, as they share cache lines.
    template <class Work>
    static void each_row(Team& team, int count, const Work& work) {
        team.share(count, std::max(1, count / (4 * team.size())), [&](int first, int last) {
            for (int row = first; row < last; row++) work(row);
        });
    }

    void prepare(const std::vector<Token>& tokens);
    void plan_looks(const std::vector<Token>& tokens);
    void embed(Team& team, const std::vector<Token>& tokens);
    void normalise(Team& team, const float* x, const std::vector<float>& weight, Rows& out, int count);
    template <class Work>
    void pieces(Team& team, std::initializer_list<const Linear*> linears, const Work& work);
    void multiply(const Linear& linear, const Rows& x, float* y, int first, int last);
    void add_product(Team& team, const Linear& linear, const Rows& x, int count);
    void gate(Team& team, const Layer& layer, int count);
    void place(Team& team, int layer, const std::vector<Token>& tokens);
    void rotate(float* head, const float* turn, const std::vector<float>& norm) const;
    void attend(Team& team, int layer, const std::vector<Token>& tokens);
    void look_at(const Look& look, int chunk, int layer, const std::vector<Token>& tokens, Scratch& scratch);
    void keep(const Look& look, int chunk, const Scratch& scratch);
    void combine(Team& team, int count);
    float* state(int token, int head, int split) {
        return &states_[((size_t(token) * config_.heads + head) * splits_ + split) * (head_ + 16)];
    }

    Config config_;
    const bool exact_;
    const Kernels& kernels_;
    Pool pool_;
    std::mutex one_pass_;
    const int width_, head_, group_;  // of the stream and of a head, padded; query heads that share a key-value head
    Arena arena_;
    Linear embedding_, output_;
    std::vector<float> norm_;
    std::vector<Layer> layers_;

    // Of the pass in hand.
    Rows normed_, mixed_, hidden_;
    std::vector<float> x_, turns_, q_, k_, v_, queries_, keys_, states_, y_, gate_, up_, finals_, logits_;
    std::vector<int> feeds_;  // the first token of each feed, and the end
    std::vector<Look> looks_;
    int splits_ = 1;
};

}  // namespace nextok
