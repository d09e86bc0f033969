#include "attention.hpp"

#include <cmath>
#include <cstring>

namespace nextok {
namespace {

// Floats before the sums of a state: its maximum, its total, and padding to a whole vector.
constexpr int kHeader = 16;

// Tiles for each thread, at least where there are chunks to split, so that threads are busy for about the same time.
constexpr int kTilesPerThread = 4;

}  // namespace

Attention::Attention(const Config& config, const Kernels& kernels, int threads)
    : config_(config),
      kernels_(kernels),
      width_(config.padded_head()),
      group_(config.group()),
      scratch_(threads, Scratch(width_, kernels.full.bytes)) {}

void Attention::plan(const std::vector<Token>& tokens) {
    const int n = int(tokens.size());
    feeds_.clear();
    int chunks = 1;
    for (int i = 0; i < n; i++) {
        if (i == 0 || tokens[i].cache != tokens[i - 1].cache) feeds_.push_back(i);
        chunks = std::max(chunks, (tokens[i].count() + kChunk - 1) / kChunk);
    }
    feeds_.push_back(n);
    tiles_.clear();
    for (size_t feed = 0; feed + 1 < feeds_.size(); feed++)
        for (int kv_head = 0; kv_head < config_.kv_heads; kv_head++) {
            const int queries = (feeds_[feed + 1] - feeds_[feed]) * group_;
            for (int first = 0; first < queries; first += kQueries)
                tiles_.push_back({kv_head, int(feed), first, std::min(kQueries, queries - first), 0, chunks});
        }
    splits_ = int(tiles_.size()) < kTilesPerThread * int(scratch_.size()) ? chunks : 1;
    if (splits_ > 1) split_tiles(chunks);
    queries_.resize(size_t(n) * config_.heads * width_);
    keys_.resize(size_t(n) * config_.kv_heads * 2 * width_);
    states_.resize(size_t(n) * config_.heads * splits_ * (kHeader + width_));
}

// One tile for each chunk.
void Attention::split_tiles(int chunks) {
    std::vector<Tile> whole;
    whole.swap(tiles_);
    for (const Tile& tile : whole)
        for (int chunk = 0; chunk < chunks; chunk++) {
            tiles_.push_back(tile);
            tiles_.back().first_chunk = chunk;
            tiles_.back().last_chunk = chunk + 1;
        }
}

// Queries to where a tile finds them together, keys and values into the cache. A head at a time, since the slots of one
// head share cache lines, which two threads should not both write.
void Attention::place(const Member& member, const Layer& layer, int index, const std::vector<Token>& tokens,
                      const Projections& projections, const Rope& rope) {
    member.share(config_.kv_heads + config_.heads, 1, [&](int head, int) {
        if (head < config_.kv_heads)
            place_key(head, layer, index * config_.kv_heads + head, tokens, projections, rope);
        else
            place_query(head - config_.kv_heads, layer, int(tokens.size()), projections.q, rope);
    });
}

void Attention::place_query(int head, const Layer& layer, int tokens, const std::vector<float>& q, const Rope& rope) {
    const int w = config_.head_width;
    const float shrink = 1.0f / std::sqrt(float(w));
    for (int i = 0; i < tokens; i++) {
        float* query = queries_of(head / group_, i, tokens) + head % group_ * width_;
        std::memcpy(query, &q[size_t(i) * layer.q.rows() + head * w], w * sizeof(float));
        normalise_head(query, layer.q_norm);
        rope.rotate(query, i);
        for (int c = 0; c < w; c++) query[c] *= shrink;
    }
}

void Attention::place_key(int head, const Layer& layer, int plane, const std::vector<Token>& tokens,
                          const Projections& projections, const Rope& rope) {
    const int w = config_.head_width;
    for (int i = 0; i < int(tokens.size()); i++) {
        float* key = &keys_[(size_t(i) * config_.kv_heads + head) * 2 * width_];
        const size_t at = size_t(i) * layer.k.rows() + head * w;
        std::memcpy(key, &projections.k[at], w * sizeof(float));
        std::memcpy(key + width_, &projections.v[at], w * sizeof(float));
        normalise_head(key, layer.k_norm);
        rope.rotate(key, i);
        tokens[i].cache->put(plane, tokens[i].slot, key, key + width_);
    }
}

// The norm of one head, where the model has one.
void Attention::normalise_head(float* head, const std::vector<float>& norm) const {
    if (norm.empty()) return;
    float sum = 0;
    for (int i = 0; i < config_.head_width; i++) sum += head[i] * head[i];
    const float factor = 1.0f / std::sqrt(sum / float(config_.head_width) + config_.norm_epsilon);
    for (int i = 0; i < config_.head_width; i++) head[i] = head[i] * factor * norm[i];
}

void Attention::attend(const Member& member, int index, const std::vector<Token>& tokens) {
    Scratch& scratch = scratch_[member.index()];
    member.share(int(tiles_.size()), 1, [&](int i, int) {
        const Tile& tile = tiles_[i];
        const int first = feeds_[tile.feed], plane = index * config_.kv_heads + tile.kv_head;
        const float* queries = queries_of(tile.kv_head, first, int(tokens.size())) + size_t(tile.first) * width_;
        for (int chunk = tile.first_chunk; chunk < tile.last_chunk; chunk++) {
            const TileChunk part(&tokens[first], group_, tile.first, tile.count, queries, width_, plane,
                                 chunk * kChunk);
            score_trunk(part, scratch);
            score_tails(part, scratch);
            softmax_rows(part, kernels_, scratch);
            mix_values(part, scratch);
            keep(tile, chunk, part, scratch);
        }
    });
}

// The state of a query: its maximum, its total, and from kHeader on its sums.
float* Attention::state(int token, int head, int split) {
    return &states_[((size_t(token) * config_.heads + head) * splits_ + split) * (kHeader + width_)];
}

// Join the result of a chunk to those of the tile's chunks before it.
void Attention::keep(const Tile& tile, int chunk, const TileChunk& part, const Scratch& scratch) {
    for (int q = 0; q < tile.count; q++) {
        const int token = feeds_[tile.feed] + (tile.first + q) / group_;
        float* kept = state(token, tile.kv_head * group_ + (tile.first + q) % group_, splits_ == 1 ? 0 : chunk);
        const float* sums = &scratch.sums[size_t(q) * width_];
        if (part.seen[q] == 0) {
            if (splits_ > 1) kept[1] = 0;
        } else if (chunk == tile.first_chunk) {
            kept[0] = scratch.maximum[q];
            kept[1] = scratch.total[q];
            std::memcpy(kept + kHeader, sums, width_ * sizeof(float));
        } else {
            kernels_.fold(&kept[0], &kept[1], kept + kHeader, &scratch.maximum[q], &scratch.total[q], sums, width_);
        }
    }
}

// Join the states of each query, and divide by the total.
void Attention::combine(const Member& member, int tokens, Rows& out) {
    member.each(tokens, [&](int i) {
        for (int h = 0; h < config_.heads; h++) {
            float* first = state(i, h, 0);
            for (int split = 1; split < splits_; split++) {
                const float* next = state(i, h, split);
                if (next[1] != 0)
                    kernels_.fold(&first[0], &first[1], first + kHeader, &next[0], &next[1], next + kHeader, width_);
            }
            float* mixed = out.row(i) + h * config_.head_width;
            for (int c = 0; c < config_.head_width; c++) mixed[c] = first[kHeader + c] / first[1];
        }
        out.quantize(kernels_, i);
    });
}

}  // namespace nextok
