#include "tile.hpp"

#include <limits>

namespace nextok {
namespace {

void mix_trunk(const TileChunk& tile, Scratch& scratch) {
    Cache& cache = tile.cache();
    const Paging& paging = cache.paging();
    auto mix = [&](int q, int count, int at, const void* values, int slots) {
        paging.mix(&scratch.sums[size_t(q) * tile.width], count, tile.width, &scratch.weights[q][at], kScores, values,
                   tile.width, slots);
    };
    for (int at = 0; at < tile.longest_trunk; at += kSlots) {
        const uint8_t* values = static_cast<const uint8_t*>(cache.values(tile.plane, tile.begin + at));
        // All queries read the slots that all of them see; each reads alone what only some see.
        const int together = std::min(std::max(tile.common_trunk - at, 0), kSlots);
        if (together) mix(0, tile.count, at, values, together);
        const uint8_t* rest = values + size_t(together) * tile.width * paging.bytes;
        for (int q = 0; q < tile.count; q++) {
            const int more = std::min(tile.trunk[q] - at, kSlots) - together;
            if (more > 0) mix(q, 1, at + together, rest, more);
        }
    }
}

void mix_tails(const TileChunk& tile, Scratch& scratch) {
    Cache& cache = tile.cache();
    const Paging& paging = cache.paging();
    tile.each_tail([&](int q, int own, int at, const int* slots, int count) {
        for (int s = 0; s < count; s++) cache.copy_value(tile.plane, slots[s], scratch.values.data(), s);
        paging.mix(&scratch.sums[size_t(q) * tile.width], own, tile.width, &scratch.weights[q][at], kScores,
                   scratch.values.data(), tile.width, count);
    });
}

}  // namespace

TileChunk::TileChunk(const Token* feed, int group, int first, int count, const float* queries, int width, int plane,
                     int begin)
    : feed(feed), group(group), first(first), count(count), queries(queries), width(width), plane(plane), begin(begin) {
    for (int q = 0; q < count; q++) {
        const Token& token = token_of(q);
        seen[q] = std::min(std::max(token.count() - begin, 0), kChunk);
        trunk[q] = std::min(std::max(token.seen - begin, 0), kChunk);
        longest_trunk = std::max(longest_trunk, trunk[q]);
        common_trunk = std::min(common_trunk, trunk[q]);
    }
}

void score_trunk(const TileChunk& tile, Scratch& scratch) {
    Cache& cache = tile.cache();
    for (int at = 0; at < tile.longest_trunk; at += kSlots)
        cache.paging().scores(tile.queries, tile.count, tile.width, cache.keys(tile.plane, tile.begin + at), tile.width,
                              std::min(kSlots, tile.longest_trunk - at), &scratch.weights[0][at], kScores);
}

// The slots of a tail lie apart, but some lie next to each other: sixteen are scored at once, and those of the tail
// among them are kept.
void score_tails(const TileChunk& tile, Scratch& scratch) {
    Cache& cache = tile.cache();
    tile.each_tail([&](int q, int own, int at, const int* slots, int count) {
        float* scores = &scratch.weights[q][at];
        const float* queries = tile.queries + size_t(q) * tile.width;
        for (int s = 0; s < count;) {
            const int group = slots[s] / 16;
            float found[kQueries][16];
            cache.paging().scores(queries, own, tile.width, cache.keys_of_sixteen(tile.plane, group), tile.width, 16,
                                  found[0], 16);
            for (; s < count && slots[s] / 16 == group; s++)
                for (int i = 0; i < own; i++) scores[i * kScores + s] = found[i][slots[s] % 16];
        }
    });
}

void softmax_rows(const TileChunk& tile, const Kernels& kernels, Scratch& scratch) {
    for (int q = 0; q < tile.count; q++) {
        float* row = scratch.weights[q];
        const int padded = up_to(tile.seen[q], 16);
        std::fill(row + tile.seen[q], row + padded, -std::numeric_limits<float>::infinity());
        if (padded) kernels.softmax(row, padded, &scratch.maximum[q], &scratch.total[q]);
    }
}

void mix_values(const TileChunk& tile, Scratch& scratch) {
    std::fill(scratch.sums.begin(), scratch.sums.end(), 0.0f);
    mix_trunk(tile, scratch);
    mix_tails(tile, scratch);
}

}  // namespace nextok
