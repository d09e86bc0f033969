// A tile of attention: some queries of one feed that share a key-value head, on one chunk of positions at a time.
//
// Each chunk has a softmax of its own, so a query's result depends on its path alone: not on the other queries of the
// tile, not on where in the cache the slots lie.
#pragma once
#include <algorithm>
#include <vector>

#include "batch.hpp"
#include "kernels.hpp"

namespace nextok {

// Positions of a chunk.
constexpr int kChunk = 256;

// Scores that are stored for a query: those of a chunk, and of a page that begins at the chunk's last position.
constexpr int kScores = kChunk + kSlots;

// The memory of one thread for the tile and chunk in hand. It is aligned, so that two threads do not write one line.
struct alignas(64) Scratch {
    // `width`: floats of a padded head.
    Scratch(int width, int number_bytes)
        : sums(size_t(kQueries) * width), values(size_t(kSlots) * width * number_bytes) {}

    float weights[kQueries][kScores];          // Scores, and after softmax_rows their exponentials.
    float maximum[kQueries], total[kQueries];  // The largest score of a row, and the sum of its exponentials.
    std::vector<float> sums;                   // [kQueries, width]: the values, weighted with those exponentials.
    std::vector<uint8_t> values;               // A page of values, [kSlots, width], gathered from slots of a tail.
};

// The queries of a tile, and what they see of one chunk.
struct TileChunk {
    // Query q belongs to token (first + q) / group of the feed. `queries`: [count, width]. `begin`: the position at
    // which the chunk begins.
    TileChunk(const Token* feed, int group, int first, int count, const float* queries, int width, int plane,
              int begin);

    const Token& token_of(int q) const { return feed[(first + q) / group]; }
    Cache& cache() const { return *feed->cache; }

    // Call work(first query, queries, offset in the chunk, slots, count) for what each token sees of the chunk beyond
    // its trunk, in pages.
    template <class Work>
    void each_tail(const Work& work) const {
        for (int q = 0, own; q < count; q += own) {
            const Token& token = token_of(q);
            own = std::min(count - q, group - (first + q) % group);
            const int end = std::min(begin + kChunk, token.count());
            for (int at = std::max(begin, token.seen); at < end; at += kSlots)
                work(q, own, at - begin, token.tail + (at - token.seen), std::min(kSlots, end - at));
        }
    }

    const Token* const feed;
    const int group, first, count;
    const float* const queries;
    const int width, plane, begin;
    int seen[kQueries];                            // The positions of the chunk that a query sees.
    int trunk[kQueries];                           // How many of them lie in the trunk.
    int longest_trunk = 0, common_trunk = kChunk;  // The largest and the smallest of those numbers.
};

// The steps of attention on a chunk, in their order.
void score_trunk(const TileChunk& tile, Scratch& scratch);
void score_tails(const TileChunk& tile, Scratch& scratch);
void softmax_rows(const TileChunk& tile, const Kernels& kernels, Scratch& scratch);
void mix_values(const TileChunk& tile, Scratch& scratch);

}  // namespace nextok
