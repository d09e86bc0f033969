#include "weights.hpp"

#include <cstdlib>
#include <stdexcept>

namespace nextok {
namespace {

void check_matrix(const Linear& linear, int rows, int columns) {
    if (!linear.weight || linear.weight->rows() != rows || linear.weight->matrix().columns != up_to(columns, kColumns))
        throw std::invalid_argument("a matrix is missing or has another shape than the model's settings say");
    if (!linear.bias.empty() && int(linear.bias.size()) != rows)
        throw std::invalid_argument("a bias has another length than its matrix");
}

void check_norm(const std::vector<float>& norm, int size) {
    if (int(norm.size()) != size)
        throw std::invalid_argument("a norm is missing or has another length than the model's settings say");
}

void check_layer(const Layer& layer, const Config& config) {
    const int heads = config.heads * config.head_width, kv = config.kv_heads * config.head_width;
    check_matrix(layer.q, heads, config.width);
    check_matrix(layer.k, kv, config.width);
    check_matrix(layer.v, kv, config.width);
    check_matrix(layer.output, config.width, heads);
    check_matrix(layer.gate, config.hidden, config.width);
    check_matrix(layer.up, config.hidden, config.width);
    check_matrix(layer.down, config.width, config.hidden);
    check_norm(layer.attention_norm, config.width);
    check_norm(layer.feed_forward_norm, config.width);
    if (!layer.q_norm.empty()) check_norm(layer.q_norm, config.head_width);
    if (!layer.k_norm.empty()) check_norm(layer.k_norm, config.head_width);
}

}  // namespace

void Weights::set_vector(const std::string& name, const float* data, size_t size) {
    vector_named(name).assign(data, data + size);
}

void Weights::set_matrix(const std::string& name, const std::string& kind, const uint8_t* data, size_t size, int rows,
                         int columns, Pool& pool) {
    linear_named(name).weight = std::make_unique<Packed>(kind, data, size, rows, columns, arena_, pool);
}

// The layer of a name `blk.N.part`, and its part.
Layer& Weights::layer_named(const std::string& name, std::string& part) {
    const size_t dot = name.find('.', 4);
    if (name.rfind("blk.", 0) == 0 && dot != std::string::npos && dot - 4 <= 6) {
        const int index = std::atoi(name.c_str() + 4);
        part = name.substr(dot + 1);
        if (index >= 0 && index < config_.layers) return layers_[index];
    }
    throw std::invalid_argument("no weight is called " + name);
}

Linear& Weights::linear_named(const std::string& name) {
    if (name == "token_embd") return embedding_;
    if (name == "output") return output_;
    std::string part;
    Layer& layer = layer_named(name, part);
    if (part == "attn_q") return layer.q;
    if (part == "attn_k") return layer.k;
    if (part == "attn_v") return layer.v;
    if (part == "attn_output") return layer.output;
    if (part == "ffn_gate") return layer.gate;
    if (part == "ffn_up") return layer.up;
    if (part == "ffn_down") return layer.down;
    throw std::invalid_argument("no matrix is called " + name);
}

std::vector<float>& Weights::vector_named(const std::string& name) {
    if (name == "output_norm") return norm_;
    std::string part;
    Layer& layer = layer_named(name, part);
    if (part == "attn_norm") return layer.attention_norm;
    if (part == "ffn_norm") return layer.feed_forward_norm;
    if (part == "attn_q_norm") return layer.q_norm;
    if (part == "attn_k_norm") return layer.k_norm;
    const size_t bias = name.rfind(".bias");
    if (bias != std::string::npos && bias + 5 == name.size()) return linear_named(name.substr(0, bias)).bias;
    throw std::invalid_argument("no vector is called " + name);
}

void Weights::check() const {
    if (config_.width % 16) throw std::invalid_argument("the width of a model must be a multiple of 16");
    check_matrix(embedding_, config_.vocab, config_.width);
    if (output_.weight) check_matrix(output_, config_.vocab, config_.width);
    check_norm(norm_, config_.width);
    for (const Layer& layer : layers_) check_layer(layer, config_);
}

size_t Weights::bytes() const {
    size_t total = embedding_.weight->bytes() + (output_.weight ? output_.weight->bytes() : 0);
    for (const Layer& layer : layers_)
        for (const Linear* each : {&layer.q, &layer.k, &layer.v, &layer.output, &layer.gate, &layer.up, &layer.down})
            total += each->weight->bytes();
    return total;
}

}  // namespace nextok
