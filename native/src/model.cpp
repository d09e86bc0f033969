#include "model.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <stdexcept>

namespace nextok {
namespace {

constexpr int kPieces = 8;     // of a product for each thread, so that a slow one holds up nobody
constexpr int kReadRows = 64;  // rows of logits held in memory together: of 49,152 tokens 12 MB

}  // namespace

void Rows::resize(int rows, int columns, bool exact) {
    rows_ = rows;
    columns_ = up_to(columns, kColumns);
    exact_ = exact;
    const size_t size = size_t(up_to(rows, 16)) * columns_;  // whole tiles
    values_.resize(size);
    if (exact) return;
    codes_.resize(size);
    scale_.resize(size / kColumns);
    weighted_.resize(size / kColumns);
    minus_.resize(2 * size / kColumns);
}

void Rows::quantize(const Kernels& kernels, int row, int first, int last) {
    if (exact_) return;
    const size_t at = size_t(row) * columns_ + first, block = at / kColumns;
    kernels.quantize(&values_[at], up_to(last - first, kColumns),
                     {&codes_[at], &scale_[block], &weighted_[block], &minus_[2 * block]});
}

Activations Rows::view() const {
    return {rows_,         columns_,         values_.data(), exact_ ? nullptr : codes_.data(),
            scale_.data(), weighted_.data(), minus_.data()};
}

Model::Model(Config config, int threads, bool exact, const Kernels& kernels)
    : config_(std::move(config)),
      exact_(exact),
      kernels_(kernels),
      pool_(threads),
      width_(up_to(config_.width, kColumns)),
      head_(up_to(config_.head_width, 16)),
      group_(config_.heads / config_.kv_heads),
      layers_(config_.layers) {}

void Model::set_vector(const std::string& name, const float* data, size_t size) {
    vector_named(name)->assign(data, data + size);
}

void Model::set_matrix(const std::string& name, const std::string& kind, const uint8_t* data, size_t size, int rows,
                       int columns) {
    linear_named(name)->weight = std::make_unique<Packed>(kind, data, size, rows, columns, arena_, pool_);
}

// The layer of a name `blk.N.part`, and its part.
Layer& Model::layer_named(const std::string& name, std::string& part) {
    const size_t dot = name.find('.', 4);
    if (name.rfind("blk.", 0) == 0 && dot != std::string::npos && dot - 4 <= 6) {
        const int index = std::atoi(name.c_str() + 4);
        part = name.substr(dot + 1);
        if (index >= 0 && index < config_.layers) return layers_[index];
    }
    throw std::invalid_argument("no weight is called " + name);
}

Linear* Model::linear_named(const std::string& name) {
    if (name == "token_embd") return &embedding_;
    if (name == "output") return &output_;
    std::string part;
    Layer& layer = layer_named(name, part);
    if (part == "attn_q") return &layer.q;
    if (part == "attn_k") return &layer.k;
    if (part == "attn_v") return &layer.v;
    if (part == "attn_output") return &layer.output;
    if (part == "ffn_gate") return &layer.gate;
    if (part == "ffn_up") return &layer.up;
    if (part == "ffn_down") return &layer.down;
    throw std::invalid_argument("no matrix is called " + name);
}

std::vector<float>* Model::vector_named(const std::string& name) {
    if (name == "output_norm") return &norm_;
    std::string part;
    Layer& layer = layer_named(name, part);
    if (part == "attn_norm") return &layer.attention_norm;
    if (part == "ffn_norm") return &layer.feed_forward_norm;
    if (part == "attn_q_norm") return &layer.q_norm;
    if (part == "attn_k_norm") return &layer.k_norm;
    const size_t bias = name.rfind(".bias");
    if (bias != std::string::npos && bias + 5 == name.size()) return &linear_named(name.substr(0, bias))->bias;
    throw std::invalid_argument("no vector is called " + name);
}

void Model::finish() const {
    const int heads = config_.heads * config_.head_width, kv = config_.kv_heads * config_.head_width;
    auto check = [](const Linear& linear, int rows, int columns) {
        if (!linear.weight || linear.weight->rows() != rows ||
            linear.weight->matrix().columns != up_to(columns, kColumns))
            throw std::invalid_argument("a matrix is missing or has another shape than the model's settings say");
        if (!linear.bias.empty() && int(linear.bias.size()) != rows)
            throw std::invalid_argument("a bias has another length than its matrix");
    };
    auto same = [](const std::vector<float>& vector, int size, bool needed) {
        if ((needed || !vector.empty()) && int(vector.size()) != size)
            throw std::invalid_argument("a norm is missing or has another length than the model's settings say");
    };
    if (config_.width % 16) throw std::invalid_argument("the width of a model must be a multiple of 16");
    check(embedding_, config_.vocab, config_.width);
    if (output_.weight) check(output_, config_.vocab, config_.width);
    same(norm_, config_.width, true);
    for (const Layer& layer : layers_) {
        check(layer.q, heads, config_.width);
        check(layer.k, kv, config_.width);
        check(layer.v, kv, config_.width);
        check(layer.output, config_.width, heads);
        check(layer.gate, config_.hidden, config_.width);
        check(layer.up, config_.hidden, config_.width);
        check(layer.down, config_.width, config_.hidden);
        same(layer.attention_norm, config_.width, true);
        same(layer.feed_forward_norm, config_.width, true);
        same(layer.q_norm, config_.head_width, false);
        same(layer.k_norm, config_.head_width, false);
    }
}

size_t Model::bytes() const {
    size_t total = embedding_.weight->bytes() + (output_.weight ? output_.weight->bytes() : 0);
    for (const Layer& layer : layers_)
        for (const Linear* each : {&layer.q, &layer.k, &layer.v, &layer.output, &layer.gate, &layer.up, &layer.down})
            total += each->weight->bytes();
    return total;
}

std::unique_ptr<Cache> Model::open() const {
    return std::make_unique<Cache>(config_.layers * config_.kv_heads, head_, exact_ ? kernels_.full : kernels_.half);
}

// All memory that the pass needs, so that nothing can fail once the threads are at work.
void Model::prepare(const std::vector<Token>& tokens) {
    const int n = int(tokens.size());
    feeds_.clear();
    for (int i = 0; i < n; i++) {
        const Token& token = tokens[i];
        int end = token.seen;
        for (int t = 0; t < token.tail_length; t++) end = std::max(end, token.tail[t] + 1);
        token.cache->reserve(end);
        token.cache->own(token.slot);
        if (i == 0 || token.cache != tokens[i - 1].cache) feeds_.push_back(i);
    }
    feeds_.push_back(n);
    plan_looks(tokens);
    const Layer& layer = layers_[0];
    normed_.resize(n, config_.width, exact_);
    mixed_.resize(n, config_.heads * config_.head_width, exact_);
    hidden_.resize(n, config_.hidden, exact_);
    x_.resize(size_t(n) * width_);
    turns_.resize(size_t(n) * config_.rope_width);
    q_.resize(size_t(n) * layer.q.rows());
    k_.resize(size_t(n) * layer.k.rows());
    v_.resize(size_t(n) * layer.v.rows());
    queries_.resize(size_t(n) * config_.heads * head_);
    keys_.resize(size_t(n) * config_.kv_heads * 2 * head_);
    states_.resize(size_t(n) * config_.heads * splits_ * (head_ + 16));
    y_.resize(size_t(n) * std::max(layer.output.rows(), layer.down.rows()));
    gate_.resize(size_t(n) * layer.gate.rows());
    up_.resize(gate_.size());
}

void Model::embed(Team& team, const std::vector<Token>& tokens) {
    const int half = config_.rope_width / 2;
    each_row(team, int(tokens.size()), [&](int i) {
        embedding_.weight->row(tokens[i].id, &x_[size_t(i) * width_]);
        float* turn = &turns_[size_t(i) * config_.rope_width];
        for (int j = 0; j < half; j++) {
            turn[j] = float(std::cos((tokens[i].count() - 1) * config_.frequencies[j]));
            turn[half + j] = float(std::sin((tokens[i].count() - 1) * config_.frequencies[j]));
        }
    });
}

void Model::normalise(Team& team, const float* x, const std::vector<float>& weight, Rows& out, int count) {
    each_row(team, count, [&](int i) {
        kernels_.rms_norm(x + size_t(i) * width_, weight.data(), config_.norm_epsilon, config_.width, out.row(i));
        out.quantize(kernels_, i);
    });
}

// Call work(linear, first panel, last panel) for pieces of some products, whoever is free.
template <class Work>
void Model::pieces(Team& team, std::initializer_list<const Linear*> linears, const Work& work) {
    int panels = 0;
    for (const Linear* linear : linears) panels += linear->rows() / kRows;
    team.share(panels, std::max(1, panels / (kPieces * team.size())), [&](int first, int last) {
        for (const Linear* linear : linears) {
            const int here = linear->rows() / kRows, begin = std::max(first, 0), end = std::min(last, here);
            if (begin < end) work(*linear, begin, end);
            first -= here;
            last -= here;
        }
    });
}

// y = these panels of the product, and the bias.
void Model::multiply(const Linear& linear, const Rows& x, float* y, int first, int last) {
    const Activations view = x.view();
    const int stride = linear.rows();
    kernels_.product(linear.weight->matrix(), view, y, stride, first, last);
    if (linear.bias.empty()) return;
    const int end = std::min(last * kRows, int(linear.bias.size()));
    for (int row = 0; row < view.rows; row++)
        for (int i = first * kRows; i < end; i++) y[size_t(row) * stride + i] += linear.bias[i];
}

// The stream takes up a product.
void Model::add_product(Team& team, const Linear& linear, const Rows& x, int count) {
    pieces(team, {&linear}, [&](const Linear&, int first, int last) {
        multiply(linear, x, y_.data(), first, last);
        const int begin = first * kRows, end = std::min(last * kRows, config_.width);
        for (int row = 0; row < count; row++) {
            float* __restrict to = &x_[size_t(row) * width_];
            const float* __restrict from = &y_[size_t(row) * linear.rows()];
            for (int i = begin; i < end; i++) to[i] += from[i];
        }
    });
}

// silu(gate) * up, as many columns at a time as the next product has in a block.
void Model::gate(Team& team, const Layer& layer, int count) {
    constexpr int panels = kColumns / kRows;
    const int stride = layer.gate.rows(), blocks = up_to(stride, kColumns) / kColumns;
    team.share(blocks, std::max(1, blocks / (kPieces * team.size())), [&](int first, int last) {
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

void Model::forward(const std::vector<Token>& tokens, const std::vector<int>& wanted, const Reader& read) {
    std::lock_guard<std::mutex> lock(one_pass_);
    const int n = int(tokens.size());
    prepare(tokens);
    pool_.together([&](Team& team) {
        embed(team, tokens);
        for (int index = 0; index < config_.layers; index++) {
            const Layer& layer = layers_[index];
            normalise(team, x_.data(), layer.attention_norm, normed_, n);
            pieces(team, {&layer.q, &layer.k, &layer.v}, [&](const Linear& linear, int first, int last) {
                multiply(linear, normed_,
                         &linear == &layer.q   ? q_.data()
                         : &linear == &layer.k ? k_.data()
                                               : v_.data(),
                         first, last);
            });
            place(team, index, tokens);
            attend(team, index, tokens);
            combine(team, n);
            add_product(team, layer.output, mixed_, n);
            normalise(team, x_.data(), layer.feed_forward_norm, normed_, n);
            gate(team, layer, n);
            add_product(team, layer.down, hidden_, n);
        }
    });
    const Linear& head = output_.weight ? output_ : embedding_;
    for (int first = 0; first < int(wanted.size()); first += kReadRows) {
        const int count = std::min(kReadRows, int(wanted.size()) - first);
        normed_.resize(count, config_.width, exact_);
        logits_.resize(size_t(count) * head.rows());
        finals_.resize(size_t(count) * width_);
        for (int i = 0; i < count; i++)
            std::memcpy(&finals_[size_t(i) * width_], &x_[size_t(wanted[first + i]) * width_], width_ * sizeof(float));
        pool_.together([&](Team& team) {
            normalise(team, finals_.data(), norm_, normed_, count);
            pieces(team, {&head},
                   [&](const Linear&, int begin, int end) { multiply(head, normed_, logits_.data(), begin, end); });
        });
        read(first, count, logits_.data(), head.rows());
    }
}

}  // namespace nextok
