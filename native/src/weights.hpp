// The weights of a model of the Llama family, in panels: set by name while the model is loaded, constant once finished.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "arena.hpp"
#include "pack.hpp"
#include "pool.hpp"

namespace nextok {

struct Config {
    int layers, width, heads, kv_heads, head_width, hidden, vocab, context, rope_width;
    bool rope_interleaved;
    float norm_epsilon;
    std::vector<double> frequencies;  // [rope_width / 2], in radians per position.

    // The width of the residual stream in whole blocks, and that of a head in whole vectors of sixteen lanes.
    int padded_width() const { return up_to(width, kColumns); }
    int padded_head() const { return up_to(head_width, 16); }
    // The number of query heads that share a key-value head.
    int group() const { return heads / kv_heads; }
};

struct Linear {
    std::unique_ptr<Packed> weight;
    std::vector<float> bias;  // It is empty where the file has none.

    // The number of outputs, padded to whole panels.
    int rows() const { return weight->matrix().rows; }
};

struct Layer {
    std::vector<float> attention_norm, feed_forward_norm, q_norm, k_norm;
    Linear q, k, v, output, gate, up, down;
};

class Weights {
  public:
    explicit Weights(Config config) : config_(std::move(config)), layers_(config_.layers) {}
    Weights(const Weights&) = delete;
    Weights& operator=(const Weights&) = delete;

    // Take a tensor by its name in a GGUF file, without `.weight`. Throw std::invalid_argument for an unknown name.
    void set_vector(const std::string& name, const float* data, size_t size);
    void set_matrix(const std::string& name, const std::string& kind, const uint8_t* data, size_t size, int rows,
                    int columns, Pool& pool);

    // Throw std::invalid_argument if a tensor is missing or has another shape than the configuration says.
    void check() const;

    const Config& config() const { return config_; }
    const Linear& embedding() const { return embedding_; }
    const std::vector<Layer>& layers() const { return layers_; }
    const std::vector<float>& norm() const { return norm_; }
    // The last matrix: the embedding serves as such where the file has no other.
    const Linear& head() const { return output_.weight ? output_ : embedding_; }
    // The bytes of all packed matrices.
    size_t bytes() const;

  private:
    Layer& layer_named(const std::string& name, std::string& part);
    Linear& linear_named(const std::string& name);
    std::vector<float>& vector_named(const std::string& name);

    const Config config_;
    Arena arena_;
    Linear embedding_, output_;
    std::vector<float> norm_;
    std::vector<Layer> layers_;
};

}  // namespace nextok
