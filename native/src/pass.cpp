#include "pass.hpp"

#include <algorithm>
#include <cstring>

namespace nextok {
namespace {

// Pieces of a product for each thread: small enough that a slow thread does not delay the others for long.
constexpr int kPieces = 8;

// Rows of logits held in memory together: with 49,152 tokens they take 12 MB.
constexpr int kReadRows = 64;

}  // namespace

Pass::Pass(const Weights& weights, Attention& attention, Pool& pool, const Kernels& kernels, bool exact)
    : weights_(weights),
      config_(weights.config()),
      attention_(attention),
      pool_(pool),
      kernels_(kernels),
      exact_(exact),
      width_(config_.padded_width()),
      rope_(config_) {}

// Get all memory that the pass needs, so that nothing can fail once the threads are at work.
void Pass::prepare(const std::vector<Token>& tokens) {
    for (const Token& token : tokens) {
        int end = token.seen;
        for (int t = 0; t < token.tail_length; t++) end = std::max(end, token.tail[t] + 1);
        token.cache->reserve(end);
        token.cache->own(token.slot);
    }
    attention_.plan(tokens);
    const size_t n = tokens.size();
    const Layer& layer = weights_.layers()[0];
    normed_.resize(int(n), config_.width, exact_);
    mixed_.resize(int(n), config_.heads * config_.head_width, exact_);
    hidden_.resize(int(n), config_.hidden, exact_);
    rope_.resize(int(n));
    x_.resize(n * width_);
    projections_.q.resize(n * layer.q.rows());
    projections_.k.resize(n * layer.k.rows());
    projections_.v.resize(n * layer.v.rows());
    y_.resize(n * std::max(layer.output.rows(), layer.down.rows()));
    gate_.resize(n * layer.gate.rows());
    up_.resize(gate_.size());
}

void Pass::embed(const Member& member, const std::vector<Token>& tokens) {
    member.each(int(tokens.size()), [&](int i) {
        weights_.embedding().weight->row(tokens[i].id, &x_[size_t(i) * width_]);
        rope_.set_position(i, tokens[i].count() - 1);
    });
}

void Pass::normalise(const Member& member, const float* x, const std::vector<float>& weight, Rows& out, int count) {
    member.each(count, [&](int i) {
        kernels_.rms_norm(x + size_t(i) * width_, weight.data(), config_.norm_epsilon, config_.width, out.row(i));
        out.quantize(kernels_, i);
    });
}

// Call work(linear, first panel, last panel) for pieces of some products.
template <class Work>
void Pass::share_panels(const Member& member, std::initializer_list<const Linear*> linears, const Work& work) {
    int panels = 0;
    for (const Linear* linear : linears) panels += linear->rows() / kRows;
    member.share(panels, std::max(1, panels / (kPieces * member.size())), [&](int first, int last) {
        for (const Linear* linear : linears) {
            const int here = linear->rows() / kRows, begin = std::max(first, 0), end = std::min(last, here);
            if (begin < end) work(*linear, begin, end);
            first -= here;
            last -= here;
        }
    });
}

// y = panels [first, last) of the product, and the bias.
void Pass::multiply(const Linear& linear, const Rows& x, float* y, int first, int last) {
    const Activations view = x.view();
    const int stride = linear.rows();
    kernels_.product(linear.weight->matrix(), view, y, stride, first, last);
    if (linear.bias.empty()) return;
    const int end = std::min(last * kRows, int(linear.bias.size()));
    for (int row = 0; row < view.rows; row++)
        for (int i = first * kRows; i < end; i++) y[size_t(row) * stride + i] += linear.bias[i];
}

// Queries, keys and values of all tokens.
void Pass::project(const Member& member, const Layer& layer) {
    share_panels(member, {&layer.q, &layer.k, &layer.v}, [&](const Linear& linear, int first, int last) {
        std::vector<float>& y = &linear == &layer.q   ? projections_.q
                                : &linear == &layer.k ? projections_.k
                                                      : projections_.v;
        multiply(linear, normed_, y.data(), first, last);
    });
}

// Add a product to the residual stream.
void Pass::add_product(const Member& member, const Linear& linear, const Rows& x, int count) {
    share_panels(member, {&linear}, [&](const Linear&, int first, int last) {
        multiply(linear, x, y_.data(), first, last);
        const int begin = first * kRows, end = std::min(last * kRows, config_.width);
        for (int row = 0; row < count; row++) {
            float* __restrict to = &x_[size_t(row) * width_];
            const float* __restrict from = &y_[size_t(row) * linear.rows()];
            for (int i = begin; i < end; i++) to[i] += from[i];
        }
    });
}

// hidden = silu(gate) * up, as many columns at a time as the next product has in a block.
void Pass::gate(const Member& member, const Layer& layer, int count) {
    constexpr int panels = kColumns / kRows;
    const int stride = layer.gate.rows(), blocks = up_to(stride, kColumns) / kColumns;
    member.share(blocks, std::max(1, blocks / (kPieces * member.size())), [&](int first, int last) {
        const int begin = first * kColumns, end = std::min(last * kColumns, stride);
        multiply(layer.gate, normed_, gate_.data(), first * panels, end / kRows);
        multiply(layer.up, normed_, up_.data(), first * panels, end / kRows);
        for (int row = 0; row < count; row++) {
            const size_t at = size_t(row) * stride + begin;
            kernels_.swiglu(&gate_[at], &up_[at], end - begin, hidden_.row(row) + begin);
            hidden_.quantize(kernels_, row, begin, end);
        }
    });
}

void Pass::run_layer(const Member& member, int index, const std::vector<Token>& tokens) {
    const Layer& layer = weights_.layers()[index];
    const int n = int(tokens.size());
    normalise(member, x_.data(), layer.attention_norm, normed_, n);
    project(member, layer);
    attention_.place(member, layer, index, tokens, projections_, rope_);
    attention_.attend(member, index, tokens);
    attention_.combine(member, n, mixed_);
    add_product(member, layer.output, mixed_, n);
    normalise(member, x_.data(), layer.feed_forward_norm, normed_, n);
    gate(member, layer, n);
    add_product(member, layer.down, hidden_, n);
}

// The logits of `count` of the tokens wanted, from the one at `first` on.
void Pass::read_out(const std::vector<int>& wanted, int first, int count) {
    const Linear& head = weights_.head();
    normed_.resize(count, config_.width, exact_);
    logits_.resize(size_t(count) * head.rows());
    finals_.resize(size_t(count) * width_);
    for (int i = 0; i < count; i++)
        std::memcpy(&finals_[size_t(i) * width_], &x_[size_t(wanted[first + i]) * width_], width_ * sizeof(float));
    pool_.together([&](const Member& member) {
        normalise(member, finals_.data(), weights_.norm(), normed_, count);
        share_panels(member, {&head},
                     [&](const Linear&, int begin, int end) { multiply(head, normed_, logits_.data(), begin, end); });
    });
}

void Pass::run(const std::vector<Token>& tokens, const std::vector<int>& wanted, const Reader& read) {
    prepare(tokens);
    pool_.together([&](const Member& member) {
        embed(member, tokens);
        for (int index = 0; index < config_.layers; index++) run_layer(member, index, tokens);
    });
    for (int first = 0; first < int(wanted.size()); first += kReadRows) {
        const int count = std::min(kReadRows, int(wanted.size()) - first);
        read_out(wanted, first, count);
        read(first, count, logits_.data(), weights_.head().rows());
    }
}

}  // namespace nextok
