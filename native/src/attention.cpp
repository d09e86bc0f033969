// Attention of a pass: who looks at what, a page at a time.
//
// A query looks at its path in chunks of a fixed number of positions, each with a softmax of its own, and these are
// folded together in order. So the work can be divided among threads, and a result depends on nothing but its path:
// not on the threads, not on the other queries that share the reading of a page, not on where in the cache slots lie.
#include <cmath>
#include <cstring>
#include <limits>
#include <type_traits>

#include "model.hpp"

namespace nextok {
namespace {

constexpr int kChunk = 256;               // positions
constexpr int kScores = kChunk + kSlots;  // of a query, with room for a page that begins at the last position
constexpr int kLooksForEach = 4;          // so that threads are busy for about the same time

}  // namespace

struct Model::Scratch {
    Scratch(int width, const Paging& paging)
        : sums(size_t(kQueries) * width), values(size_t(kSlots) * width * paging.bytes) {}

    float weights[kQueries][kScores];
    float maximum[kQueries], total[kQueries];
    int limit[kQueries];  // positions of this chunk that a query sees
    std::vector<float> sums;
    std::vector<uint8_t> values;  // a page of slots that lie here and there
};

void Model::plan_looks(const std::vector<Token>& tokens) {
    looks_.clear();
    int most = 1;
    for (const Token& token : tokens) most = std::max(most, (token.count() + kChunk - 1) / kChunk);
    for (size_t feed = 0; feed + 1 < feeds_.size(); feed++)
        for (int kv_head = 0; kv_head < config_.kv_heads; kv_head++) {
            const int queries = (feeds_[feed + 1] - feeds_[feed]) * group_;
            for (int first = 0; first < queries; first += kQueries)
                looks_.push_back({kv_head, int(feed), first, std::min(kQueries, queries - first), 0, most});
        }
    splits_ = int(looks_.size()) < kLooksForEach * pool_.size() ? most : 1;
    if (splits_ == 1) return;
    std::vector<Look> whole;
    whole.swap(looks_);
    for (const Look& look : whole)
        for (int chunk = 0; chunk < most; chunk++) {
            looks_.push_back(look);
            looks_.back().first_chunk = chunk;
            looks_.back().last_chunk = chunk + 1;
        }
}

// Rotary position embedding of one head, after its norm where the model has one: pairs turn by position * frequency.
void Model::rotate(float* head, const float* turn, const std::vector<float>& norm) const {
    if (!norm.empty()) {
        float sum = 0;
        for (int i = 0; i < config_.head_width; i++) sum += head[i] * head[i];
        const float factor = 1.0f / std::sqrt(sum / float(config_.head_width) + config_.norm_epsilon);
        for (int i = 0; i < config_.head_width; i++) head[i] = head[i] * factor * norm[i];
    }
    const int half = config_.rope_width / 2;
    const float* __restrict cosine = turn;
    const float* __restrict sine = turn + half;
    auto turned = [&](float* __restrict first, float* __restrict second, auto step) {
        for (int j = 0; j < half; j++) {
            const float one = first[step * j], two = second[step * j];
            first[step * j] = one * cosine[j] - two * sine[j];
            second[step * j] = two * cosine[j] + one * sine[j];
        }
    };
    if (config_.rope_interleaved)
        turned(head, head + 1, std::integral_constant<int, 2>{});
    else
        turned(head, head + half, std::integral_constant<int, 1>{});
}

// Queries to where attention finds them together, keys and values into the cache. A head at a time, since the slots of
// one head share cache lines, which two threads should not both write.
void Model::place(Team& team, int index, const std::vector<Token>& tokens) {
    const Layer& layer = layers_[index];
    const int n = int(tokens.size()), w = config_.head_width, rope = config_.rope_width;
    auto place_query = [&](int h) {
        const float shrink = 1.0f / std::sqrt(float(w));
        for (int i = 0; i < n; i++) {
            float* query = &queries_[((size_t(h / group_) * n + i) * group_ + h % group_) * head_];
            std::memcpy(query, &q_[size_t(i) * layer.q.rows() + h * w], w * sizeof(float));
            rotate(query, &turns_[size_t(i) * rope], layer.q_norm);
            for (int c = 0; c < w; c++) query[c] *= shrink;
        }
    };
    auto place_key = [&](int h) {
        for (int i = 0; i < n; i++) {
            float* key = &keys_[(size_t(i) * config_.kv_heads + h) * 2 * head_];
            const size_t at = size_t(i) * layer.k.rows() + h * w;
            std::memcpy(key, &k_[at], w * sizeof(float));
            std::memcpy(key + head_, &v_[at], w * sizeof(float));
            rotate(key, &turns_[size_t(i) * rope], layer.k_norm);
            tokens[i].cache->put(index * config_.kv_heads + h, tokens[i].slot, key, key + head_);
        }
    };
    team.share(config_.kv_heads + config_.heads, 1, [&](int h, int) {
        if (h < config_.kv_heads)
            place_key(h);
        else
            place_query(h - config_.kv_heads);
    });
}

void Model::attend(Team& team, int layer, const std::vector<Token>& tokens) {
    thread_local std::unique_ptr<Scratch> scratch;
    if (!scratch || scratch->sums.size() < size_t(kQueries) * head_)
        scratch = std::make_unique<Scratch>(head_, kernels_.full);
    team.share(int(looks_.size()), 1, [&](int first, int) {
        const Look& look = looks_[first];
        for (int chunk = look.first_chunk; chunk < look.last_chunk; chunk++) {
            look_at(look, chunk, layer, tokens, *scratch);
            keep(look, chunk, *scratch);
        }
    });
}

void Model::look_at(const Look& look, int chunk, int layer, const std::vector<Token>& tokens, Scratch& scratch) {
    const int n = int(tokens.size()), plane = layer * config_.kv_heads + look.kv_head, begin = chunk * kChunk;
    const Token* feed = &tokens[feeds_[look.feed]];
    Cache& cache = *feed->cache;
    const Paging& paging = cache.paging();
    const float* queries = &queries_[((size_t(look.kv_head) * n + feeds_[look.feed]) * group_ + look.first) * head_];
    auto token_of = [&](int q) -> const Token& { return feed[(look.first + q) / group_]; };
    auto trunk = [&](int q) { return std::min(std::max(token_of(q).seen - begin, 0), kChunk); };
    // Call work(first query, queries, offset, slots, count) for what each token sees beyond the trunk, in pages.
    auto tails = [&](auto work) {
        for (int q = 0, own; q < look.count; q += own) {
            const Token& token = token_of(q);
            own = std::min(look.count - q, group_ - (look.first + q) % group_);
            for (int at = std::max(begin, token.seen), end = std::min(begin + kChunk, token.count()); at < end;
                 at += kSlots)
                work(q, own, at - begin, token.tail + (at - token.seen), std::min(kSlots, end - at));
        }
    };

    int most = 0, common = kChunk;
    for (int q = 0; q < look.count; q++) {
        scratch.limit[q] = std::min(std::max(token_of(q).count() - begin, 0), kChunk);
        most = std::max(most, trunk(q));
        common = std::min(common, trunk(q));
    }
    for (int at = 0; at < most; at += kSlots)
        paging.scores(queries, look.count, head_, cache.keys(plane, begin + at), head_, std::min(kSlots, most - at),
                      &scratch.weights[0][at], kScores);
    tails([&](int q, int own, int at, const int* slots, int count) {
        // Slots of a tail lie here and there, but some next to each other: score sixteen at once, and take those.
        float* scores = &scratch.weights[q][at];
        for (int s = 0; s < count;) {
            const int group = slots[s] / 16;
            float found[kQueries][16];
            paging.scores(queries + size_t(q) * head_, own, head_, cache.keys_of_sixteen(plane, group), head_, 16,
                          found[0], 16);
            for (; s < count && slots[s] / 16 == group; s++)
                for (int i = 0; i < own; i++) scores[i * kScores + s] = found[i][slots[s] % 16];
        }
    });
    for (int q = 0; q < look.count; q++) {
        const int padded = up_to(scratch.limit[q], 16);
        std::fill(&scratch.weights[q][scratch.limit[q]], &scratch.weights[q][padded],
                  -std::numeric_limits<float>::infinity());
        if (padded) kernels_.softmax(scratch.weights[q], padded, &scratch.maximum[q], &scratch.total[q]);
    }
    std::fill(scratch.sums.begin(), scratch.sums.end(), 0.0f);
    auto mix = [&](int q, int count, int at, const void* values, int slots) {
        paging.mix(&scratch.sums[size_t(q) * head_], count, head_, &scratch.weights[q][at], kScores, values, head_,
                   slots);
    };
    for (int at = 0; at < most; at += kSlots) {
        const void* values = cache.values(plane, begin + at);
        const int together = std::min(std::max(common - at, 0), kSlots);
        if (together) mix(0, look.count, at, values, together);
        for (int q = 0; q < look.count; q++) {
            const int more = std::min(trunk(q) - at, kSlots) - together;
            if (more > 0)
                mix(q, 1, at + together, static_cast<const uint8_t*>(values) + size_t(together) * head_ * paging.bytes,
                    more);
        }
    }
    tails([&](int q, int own, int at, const int* slots, int count) {
        for (int s = 0; s < count; s++) cache.copy_value(plane, slots[s], scratch.values.data(), s);
        mix(q, own, at, scratch.values.data(), count);
    });
}

// What was seen of one chunk joins what was seen before.
void Model::keep(const Look& look, int chunk, const Scratch& scratch) {
    for (int q = 0; q < look.count; q++) {
        const int token = feeds_[look.feed] + (look.first + q) / group_,
                  head = look.kv_head * group_ + (look.first + q) % group_;
        float* kept = state(token, head, splits_ == 1 ? 0 : chunk);
        const float* sums = &scratch.sums[size_t(q) * head_];
        if (scratch.limit[q] == 0) {
            if (splits_ > 1) kept[1] = 0;
        } else if (chunk == look.first_chunk) {
            kept[0] = scratch.maximum[q];
            kept[1] = scratch.total[q];
            std::memcpy(kept + 16, sums, head_ * sizeof(float));
        } else {
            kernels_.fold(&kept[0], &kept[1], kept + 16, &scratch.maximum[q], &scratch.total[q], sums, head_);
        }
    }
}

void Model::combine(Team& team, int count) {
    each_row(team, count, [&](int i) {
        for (int h = 0; h < config_.heads; h++) {
            float* first = state(i, h, 0);
            for (int split = 1; split < splits_; split++) {
                const float* next = state(i, h, split);
                if (next[1] != 0) kernels_.fold(&first[0], &first[1], first + 16, &next[0], &next[1], next + 16, head_);
            }
            float* out = mixed_.row(i) + h * config_.head_width;
            for (int c = 0; c < config_.head_width; c++) out[c] = first[16 + c] / first[1];
        }
        mixed_.quantize(kernels_, i);
    });
}

}  // namespace nextok
