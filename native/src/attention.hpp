// Attention of a pass: which queries are computed together, by which thread, and how their chunks are joined.
//
// A query sees its path in chunks of a fixed number of positions, and these are folded together in order. So the work
// can be divided among threads, and a result depends on nothing but its path.
#pragma once
#include <vector>

#include "batch.hpp"
#include "pool.hpp"
#include "rope.hpp"
#include "rows.hpp"
#include "tile.hpp"
#include "weights.hpp"

namespace nextok {

// Products of the current layer, [tokens, rows of the matrix].
struct Projections {
    std::vector<float> q, k, v;
};

class Attention {
  public:
    // `threads`: the size of the pool whose members will call it.
    Attention(const Config& config, const Kernels& kernels, int threads);
    Attention(const Attention&) = delete;
    Attention& operator=(const Attention&) = delete;

    // Divide a pass into tiles and get the memory that it needs, so that nothing can fail once the threads are at work.
    void plan(const std::vector<Token>& tokens);

    // The steps of a layer, to be called by every member of the team.
    void place(const Member& member, const Layer& layer, int index, const std::vector<Token>& tokens,
               const Projections& projections, const Rope& rope);
    void attend(const Member& member, int index, const std::vector<Token>& tokens);
    void combine(const Member& member, int tokens, Rows& out);

  private:
    // Some queries of one feed that share a key-value head, and the chunks that they see. Queries are counted over the
    // tokens of the feed and the heads of the group.
    struct Tile {
        int kv_head, feed, first, count;
        int first_chunk, last_chunk;
    };

    void split_tiles(int chunks);
    void place_query(int head, const Layer& layer, int tokens, const std::vector<float>& q, const Rope& rope);
    void place_key(int head, const Layer& layer, int plane, const std::vector<Token>& tokens,
                   const Projections& projections, const Rope& rope);
    void normalise_head(float* head, const std::vector<float>& norm) const;
    void keep(const Tile& tile, int chunk, const TileChunk& part, const Scratch& scratch);
    float* queries_of(int kv_head, int token, int tokens) {
        return &queries_[(size_t(kv_head) * tokens + token) * group_ * width_];
    }
    float* state(int token, int head, int split);

    const Config& config_;
    const Kernels& kernels_;
    const int width_, group_;       // Floats of a padded head, and query heads that share a key-value head.
    std::vector<Scratch> scratch_;  // One for each member of the team.

    // Of the pass in hand.
    std::vector<int> feeds_;  // The first token of each feed, and the number of tokens at the end.
    std::vector<Tile> tiles_;
    int splits_ = 1;              // The number of states that a query has: one, or one for each chunk.
    std::vector<float> queries_;  // [kv_heads, tokens, group, width]
    std::vector<float> keys_;     // [tokens, kv_heads, 2, width]: keys and values on their way into the cache.
    std::vector<float> states_;   // [tokens, heads, splits, kHeader + width]
};

}  // namespace nextok
