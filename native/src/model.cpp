#include "model.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <stdexcept>

namespace nextok {
namespace {

constexpr int kFewRows = 2;  // fewer are not worth waking a thread for, outside of products

int up_to(int n, int to) { return (n + to - 1) / to * to; }

}  // namespace

Cache::Cache(const Config& config)
    : layers_(config.layers), kv_heads_(config.kv_heads), width_(up_to(config.head_width, 16)) {}

void Cache::reserve(int end) {
    while (this->end() < end) {
        size_t size = size_t(layers_) * 2 * kv_heads_ * kSlots * width_;
        pages_.push_back(std::make_unique<float[]>(size));
    }
}

void Cache::move(const std::vector<int>& sources, const std::vector<int>& targets) {
    for (int slot : sources) reserve(slot + 1);
    for (int slot : targets) reserve(slot + 1);
    std::vector<float> held(sources.size() * width_);
    for (int plane = 0; plane < 2 * layers_; plane++)
        for (int head = 0; head < kv_heads_; head++) {
            for (size_t i = 0; i < sources.size(); i++)
                std::memcpy(&held[i * width_], at(plane, head, sources[i]), width_ * sizeof(float));
            for (size_t i = 0; i < targets.size(); i++)
                std::memcpy(at(plane, head, targets[i]), &held[i * width_], width_ * sizeof(float));
        }
}

// Rows of float32, padded to whole blocks with zeros, and their int8 codes where the products are fast.
struct Model::Rows {
    Rows(int rows, int columns, bool exact) : rows(rows), columns(up_to(columns, kColumns)) {
        values.resize(size_t(rows) * this->columns);
        if (exact) return;
        codes.resize(values.size());
        scale.resize(values.size() / kColumns);
        sum.resize(values.size() / kColumns);
    }
    float* row(int i) { return &values[size_t(i) * columns]; }
    void quantize(const Kernels& kernels, int i) {
        size_t block = size_t(i) * (columns / kColumns);
        if (!codes.empty()) kernels.quantize(row(i), columns, &codes[size_t(i) * columns], &scale[block], &sum[block]);
    }
    Activations view() const {
        return {rows, columns, values.data(), codes.empty() ? nullptr : codes.data(), scale.data(), sum.data()};
    }

    int rows, columns;
    std::vector<float> values, scale;
    std::vector<int8_t> codes;
    std::vector<int32_t> sum;
};

Model::Model(Config config, int threads, bool exact, const Kernels& kernels)
    : config_(std::move(config)),
      exact_(exact),
      kernels_(kernels),
      pool_(threads),
      width_(up_to(config_.width, kColumns)),
      padded_head_(up_to(config_.head_width, 16)),
      layers_(config_.layers) {}

void Model::set_vector(const std::string& name, const float* data, size_t size) {
    vector_named(name)->assign(data, data + size);
}

void Model::set_matrix(const std::string& name, const std::string& kind, const uint8_t* data, size_t size, int rows, int columns) {
    linear_named(name)->weight = std::make_unique<Packed>(kind, data, size, rows, columns, pool_);
}

Linear* Model::linear_named(const std::string& name) {
    if (name == "token_embd") return &embedding_;
    if (name == "output") return &head_;
    size_t dot = name.find('.', 4);
    if (name.rfind("blk.", 0) == 0 && dot != std::string::npos) {
        int index = std::stoi(name.substr(4, dot - 4));
        std::string part = name.substr(dot + 1);
        if (index >= 0 && index < config_.layers) {
            Layer& layer = layers_[index];
            if (part == "attn_q") return &layer.q;
            if (part == "attn_k") return &layer.k;
            if (part == "attn_v") return &layer.v;
            if (part == "attn_output") return &layer.output;
            if (part == "ffn_gate") return &layer.gate;
            if (part == "ffn_up") return &layer.up;
            if (part == "ffn_down") return &layer.down;
        }
    }
    throw std::invalid_argument("no matrix is called " + name);
}

std::vector<float>* Model::vector_named(const std::string& name) {
    if (name == "output_norm") return &norm_;
    size_t dot = name.find('.', 4), end = name.rfind('.');
    if (name.rfind("blk.", 0) == 0 && dot != std::string::npos) {
        int index = std::stoi(name.substr(4, dot - 4));
        std::string part = name.substr(dot + 1);
        if (index >= 0 && index < config_.layers) {
            Layer& layer = layers_[index];
            if (part == "attn_norm") return &layer.attention_norm;
            if (part == "ffn_norm") return &layer.feed_forward_norm;
            if (part == "attn_q_norm") return &layer.q_norm;
            if (part == "attn_k_norm") return &layer.k_norm;
            if (end > dot && name.substr(end) == ".bias") return &linear_named(name.substr(0, end))->bias;
        }
    }
    throw std::invalid_argument("no vector is called " + name);
}

void Model::finish() const {
    const int heads = config_.heads * config_.head_width, kv = config_.kv_heads * config_.head_width;
    auto check = [](const Linear& linear, int rows, int columns) {
        if (!linear.weight || linear.weight->rows() != rows || linear.weight->matrix().columns != up_to(columns, kColumns))
            throw std::invalid_argument("a matrix is missing or has another shape than the model's settings say");
        if (!linear.bias.empty() && int(linear.bias.size()) != rows) throw std::invalid_argument("a bias has another length than its matrix");
    };
    auto same = [](const std::vector<float>& vector, int size, bool needed) {
        if ((needed || !vector.empty()) && int(vector.size()) != size)
            throw std::invalid_argument("a norm is missing or has another length than the model's settings say");
    };
    if (config_.width % 16) throw std::invalid_argument("the width of a model must be a multiple of 16");
    check(embedding_, config_.vocab, config_.width);
    if (head_.weight) check(head_, config_.vocab, config_.width);
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
    size_t total = embedding_.weight->bytes() + (head_.weight ? head_.weight->bytes() : 0);
    for (const Layer& layer : layers_)
        for (const Linear* each : {&layer.q, &layer.k, &layer.v, &layer.output, &layer.gate, &layer.up, &layer.down})
            total += each->weight->bytes();
    return total;
}

template <class Work>
void Model::rows(int count, Work work) {
    if (count < kFewRows) {
        for (int i = 0; i < count; i++) work(i);
        return;
    }
    pool_.share(count, [&](int first, int last) {
        for (int i = first; i < last; i++) work(i);
    });
}

void Model::multiply(const std::vector<std::pair<const Linear*, float*>>& products, const Rows& x) {
    int panels = 0;
    for (const auto& product : products) panels += product.first->weight->matrix().rows / kRows;
    const Activations view = x.view();
    pool_.share(panels, [&](int first, int last) {
        for (const auto& [linear, y] : products) {
            const Matrix& matrix = linear->weight->matrix();
            const int here = matrix.rows / kRows, begin = std::max(first, 0), end = std::min(last, here);
            if (begin < end) {
                kernels_.product(matrix, view, y, matrix.rows, begin, end);
                for (int row = 0; row < x.rows && !linear->bias.empty(); row++)
                    for (int i = begin * kRows; i < std::min(end * kRows, int(linear->bias.size())); i++)
                        y[size_t(row) * matrix.rows + i] += linear->bias[i];
            }
            first -= here;
            last -= here;
        }
    });
}

void Model::add_product(const Linear& linear, const Rows& x, float* onto) {
    const int stride = linear.weight->matrix().rows;
    y_.resize(size_t(x.rows) * stride);
    multiply({{&linear, y_.data()}}, x);
    rows(x.rows, [&](int row) {
        for (int i = 0; i < config_.width; i++) onto[size_t(row) * width_ + i] += y_[size_t(row) * stride + i];
    });
}

void Model::head_norm(float* head, const std::vector<float>& weight) const {
    float sum = 0;
    for (int i = 0; i < config_.head_width; i++) sum += head[i] * head[i];
    float factor = 1.0f / std::sqrt(sum / float(config_.head_width) + config_.norm_epsilon);
    for (int i = 0; i < config_.head_width; i++) head[i] = head[i] * factor * weight[i];
}

void Model::place(int index, const std::vector<Token>& tokens) {
    const Layer& layer = layers_[index];
    const int n = int(tokens.size()), w = config_.head_width, half = config_.rope_width / 2;
    const int q_stride = layer.q.weight->matrix().rows, k_stride = layer.k.weight->matrix().rows;
    queries_.assign(size_t(n) * config_.heads * padded_head_, 0.0f);
    rows(n, [&](int i) {
        const float* turn = &turns_[size_t(i) * 2 * half];
        auto rotated = [&](float* head, const std::vector<float>& norm) {
            if (!norm.empty()) head_norm(head, norm);
            for (int j = 0; j < half; j++) {
                float& one = head[config_.rope_interleaved ? 2 * j : j];
                float& two = head[config_.rope_interleaved ? 2 * j + 1 : j + half];
                float a = one * turn[j] - two * turn[half + j], b = two * turn[j] + one * turn[half + j];
                one = a;
                two = b;
            }
        };
        for (int h = 0; h < config_.heads; h++) {
            float* query = &queries_[(size_t(i) * config_.heads + h) * padded_head_];
            std::memcpy(query, &q_[size_t(i) * q_stride + h * w], w * sizeof(float));
            rotated(query, layer.q_norm);
            for (int c = 0; c < w; c++) query[c] *= 1.0f / std::sqrt(float(w));
        }
        for (int h = 0; h < config_.kv_heads; h++) {
            float* key = tokens[i].cache->keys(index, h, tokens[i].slot);
            std::memcpy(key, &k_[size_t(i) * k_stride + h * w], w * sizeof(float));
            rotated(key, layer.k_norm);
            std::memcpy(tokens[i].cache->values(index, h, tokens[i].slot), &v_[size_t(i) * k_stride + h * w], w * sizeof(float));
        }
    });
}

void Model::attend(int index, const std::vector<Token>& tokens, Rows& mixed) {
    const int w = padded_head_, group = config_.heads / config_.kv_heads;
    pool_.share(int(tokens.size()) * config_.heads, [&](int first, int last) {
        std::vector<float> weights, head(w);
        for (int item = first; item < last; item++) {
            const Token& token = tokens[item / config_.heads];
            const int h = item % config_.heads, count = token.seen + token.tail_length;
            const float* query = &queries_[size_t(item) * w];
            weights.assign(up_to(count, 16), -std::numeric_limits<float>::infinity());
            // In path order, wherever the slots lie: whole runs of the trunk, then the tail one by one.
            auto visit = [&](auto work) {
                for (int s = 0; s < token.seen; s += Cache::kSlots) work(s, s, std::min(Cache::kSlots, token.seen - s));
                for (int t = 0; t < token.tail_length; t++) work(token.tail[t], token.seen + t, 1);
            };
            visit([&](int slot, int at, int run) {
                kernels_.scores(query, token.cache->keys(index, h / group, slot), run, w, &weights[at]);
            });
            const float sum = kernels_.softmax(weights.data(), count);
            std::fill(head.begin(), head.end(), 0.0f);
            visit([&](int slot, int at, int run) {
                kernels_.mix(head.data(), &weights[at], token.cache->values(index, h / group, slot), run, w);
            });
            float* out = mixed.row(item / config_.heads) + h * config_.head_width;
            for (int c = 0; c < config_.head_width; c++) out[c] = head[c] / sum;
        }
    });
}

void Model::normalise(const float* x, const std::vector<float>& weight, Rows& out) {
    rows(out.rows, [&](int i) {
        kernels_.rms_norm(x + size_t(i) * width_, weight.data(), config_.norm_epsilon, config_.width, out.row(i));
        out.quantize(kernels_, i);
    });
}

void Model::forward(const std::vector<Token>& tokens, const std::vector<int>& wanted, float* logits) {
    const int n = int(tokens.size()), half = config_.rope_width / 2;
    pool_.look_around();
    x_.assign(size_t(n) * width_, 0.0f);
    turns_.resize(size_t(n) * 2 * half);
    for (const Token& token : tokens) {
        int end = std::max(token.slot + 1, token.seen);
        for (int t = 0; t < token.tail_length; t++) end = std::max(end, token.tail[t] + 1);
        token.cache->reserve(end);
    }
    rows(n, [&](int i) {
        embedding_.weight->row(tokens[i].id, &x_[size_t(i) * width_]);
        const int position = tokens[i].seen + tokens[i].tail_length - 1;
        for (int j = 0; j < half; j++) {
            turns_[size_t(i) * 2 * half + j] = float(std::cos(position * config_.frequencies[j]));
            turns_[size_t(i) * 2 * half + half + j] = float(std::sin(position * config_.frequencies[j]));
        }
    });
    Rows normed(n, config_.width, exact_), mixed(n, config_.heads * config_.head_width, exact_), hidden(n, config_.hidden, exact_);
    for (int index = 0; index < config_.layers; index++) {
        const Layer& layer = layers_[index];
        const int kv_stride = layer.k.weight->matrix().rows, hidden_stride = layer.gate.weight->matrix().rows;
        normalise(x_.data(), layer.attention_norm, normed);
        q_.resize(size_t(n) * layer.q.weight->matrix().rows);
        k_.resize(size_t(n) * kv_stride);
        v_.resize(size_t(n) * kv_stride);
        multiply({{&layer.q, q_.data()}, {&layer.k, k_.data()}, {&layer.v, v_.data()}}, normed);
        place(index, tokens);
        attend(index, tokens, mixed);
        rows(n, [&](int i) { mixed.quantize(kernels_, i); });
        add_product(layer.output, mixed, x_.data());
        normalise(x_.data(), layer.feed_forward_norm, normed);
        gate_.resize(size_t(n) * hidden_stride);
        up_.resize(size_t(n) * hidden_stride);
        multiply({{&layer.gate, gate_.data()}, {&layer.up, up_.data()}}, normed);
        rows(n, [&](int i) {
            const size_t at = size_t(i) * hidden_stride;
            kernels_.swiglu(&gate_[at], &up_[at], hidden_stride, hidden.row(i));
            hidden.quantize(kernels_, i);
        });
        add_product(layer.down, hidden, x_.data());
    }
    Rows last(int(wanted.size()), config_.width, exact_);
    std::vector<float> states(wanted.size() * width_);
    for (size_t i = 0; i < wanted.size(); i++) std::memcpy(&states[i * width_], &x_[size_t(wanted[i]) * width_], width_ * sizeof(float));
    normalise(states.data(), norm_, last);
    const Linear& head = head_.weight ? head_ : embedding_;
    const int stride = head.weight->matrix().rows;
    y_.resize(wanted.size() * size_t(stride));
    multiply({{&head, y_.data()}}, last);
    rows(int(wanted.size()), [&](int i) { std::memcpy(logits + size_t(i) * config_.vocab, &y_[size_t(i) * stride], config_.vocab * sizeof(float)); });
}

}  // namespace nextok
