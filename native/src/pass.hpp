// The pass in hand: a flat batch of tokens goes through the layers; the numpy model, its oracle, has the same shape.
#pragma once
#include <functional>
#include <initializer_list>
#include <vector>

#include "attention.hpp"
#include "batch.hpp"
#include "kernels.hpp"
#include "pool.hpp"
#include "rope.hpp"
#include "rows.hpp"
#include "weights.hpp"

namespace nextok {

class Pass {
  public:
    // `attention`: of the same model. `exact`: float32 activations instead of int8.
    Pass(const Weights& weights, Attention& attention, Pool& pool, const Kernels& kernels, bool exact);
    Pass(const Pass&) = delete;
    Pass& operator=(const Pass&) = delete;

    // Read all tokens; then call read(first, count, logits, stride) for those wanted, in order, some rows at a time.
    using Reader = std::function<void(int first, int count, const float* logits, int stride)>;
    void run(const std::vector<Token>& tokens, const std::vector<int>& wanted, const Reader& read);

  private:
    void prepare(const std::vector<Token>& tokens);
    void embed(const Member& member, const std::vector<Token>& tokens);
    void run_layer(const Member& member, int index, const std::vector<Token>& tokens);
    void normalise(const Member& member, const float* x, const std::vector<float>& weight, Rows& out, int count);
    void project(const Member& member, const Layer& layer);
    template <class Work>
    void share_panels(const Member& member, std::initializer_list<const Linear*> linears, const Work& work);
    void multiply(const Linear& linear, const Rows& x, float* y, int first, int last);
    void add_product(const Member& member, const Linear& linear, const Rows& x, int count);
    void gate(const Member& member, const Layer& layer, int count);
    void read_out(const std::vector<int>& wanted, int first, int count);

    const Weights& weights_;
    const Config& config_;
    Attention& attention_;
    Pool& pool_;
    const Kernels& kernels_;
    const bool exact_;
    const int width_;  // Floats of a padded row of the residual stream.

    Rope rope_;
    Projections projections_;
    std::vector<float> x_;                // The residual stream, [tokens, width_].
    std::vector<float> y_;                // A product on its way into the residual stream.
    std::vector<float> gate_, up_;        // [tokens, rows of the matrix]
    std::vector<float> finals_, logits_;  // The last rows of the stream that are read out together, and their scores.
    Rows normed_, mixed_, hidden_;        // The inputs of the products.
};

}  // namespace nextok
