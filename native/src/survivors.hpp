// The tokens that are left of a row of logits, and their values after the transforms so far.
#pragma once
#include <cstdint>
#include <limits>
#include <vector>

#include "transforms.hpp"

namespace nextok {

// The value of a token that was removed.
constexpr double kNever = -std::numeric_limits<double>::infinity();

struct Candidate {
    int token;
    double logprob;
};

struct Drawn {
    int token;
    double logprob, perturbed;
};

struct Item {
    double value;
    float logit;
    int token;
    bool operator<(const Item& other) const {  // The better one comes first.
        return value > other.value || (value == other.value && token < other.token);
    }
};

// Logits from `low` up to `high`, without it.
struct Span {
    float low, high;

    bool holds(float logit) const { return (logit >= low) & (logit < high); }  // No branch: loops become vectors.
};

// Sums over the survivors of e^x and of x e^x, where x is how far a value is above the largest.
struct Mass {
    double sum, weighted;

    double log() const;      // The logarithm of the sum.
    double entropy() const;  // The entropy in nats.
};

// Filters and temperatures map logits to values by a function that never falls, so that float32 can be scanned for what
// float64 decides; two logits may have the same value, though. After each change ask for `best` first: all else, but
// another edit, needs it to be finite.
class Survivors {
  public:
    // The largest logit is finite, and the first one of that size is at `first`.
    Survivors(const float* logits, int vocab, int first);
    Survivors(const Survivors&) = delete;
    Survivors& operator=(const Survivors&) = delete;

    // The largest logit: -infinity if nothing is left, NaN or +infinity if an edit made one.
    float best();

    // The number of tokens that may be left: those of -infinity among them are not.
    int size() const { return size_; }
    int vocab() const { return vocab_; }
    double top() const { return value(largest_); }
    double value(double logit) const {
        for (const Step& step : steps_) logit = (logit - step.shift) / step.scale;
        return logit;
    }
    int first() const;           // The lowest id among the tokens of the largest value.
    double of(int token) const;  // The token's value; kNever if it was removed.
    int count() const;           // The number of tokens that are left.
    double deviation() const;    // The standard deviation of their values.
    Mass mass() const;

    // Call use(first, n, values) on all survivors, in chunks.
    static constexpr int kChunk = 256;
    template <class Use>
    void chunks(const Use& use) const {
        double values[kChunk];
        for (int first = 0; first < size_; first += kChunk) {
            const int n = size_ - first < kChunk ? size_ - first : kChunk;
            for (int i = 0; i < n; i++) values[i] = logits_[first + i];
            for (const Step& step : steps_)
                for (int i = 0; i < n; i++) values[i] = (values[i] - step.shift) / step.scale;
            use(first, n, values);
        }
    }

    // The k largest, in no order, and best first; of equal ones those with the lowest ids.
    std::vector<Item> largest(int k) const;
    std::vector<Item> sorted(int k) const;

    // The smallest logit whose value makes `holds` true, which it is for the largest value and does not fall.
    template <class Holds>
    float border(const Holds& holds) const {
        int64_t low = rank_of(std::numeric_limits<float>::lowest()), high = rank_of(largest_);
        while (low < high) {
            const int64_t middle = low + (high - low) / 2;
            if (holds(value(ranked(int32_t(middle)))))
                high = middle;
            else
                low = middle + 1;
        }
        return ranked(int32_t(low));
    }

    // The survivors with this logit or a larger one, and those in one span but not in the other.
    std::vector<Item> from(float border) const;
    std::vector<Item> between(const Span& outer, const Span& inner) const;

    std::vector<Candidate> candidates(int count) const;

    // The tokens with the largest sums of value and Gumbel noise, best first.
    std::vector<Drawn> draws(int count, uint64_t key) const;

    // Values become log-probabilities.
    void normalise();

    // A value x becomes (x - shift) / scale.
    void map(double shift, double scale) { steps_.push_back({shift, scale}); }
    void keep(const std::vector<Item>& items);  // There is at least one.
    void keep_from(float border);
    void keep_below(float border, int token);                             // This token is kept as well.
    void keep_within(const Span& span, const std::vector<Item>& others);  // These lie outside and are kept as well.

    // Single values, rounded to float32 first.
    void change(const Edit& edit);

  private:
    struct Step {
        double shift, scale;
    };
    // Floats in their order as whole numbers, and back.
    static int32_t rank_of(float x);
    static float ranked(int32_t rank);

    int token(int index) const { return ids_.empty() ? index : ids_[index]; }
    template <class Part>
    double sum_of(const Part& part) const;
    template <class Holds>
    std::vector<Item> where(const Holds& holds) const;
    template <class Holds>
    void keep_where(const Holds& holds);
    float reached_by(int k) const;
    void replace(std::vector<int> ids, std::vector<float> logits);

    const int vocab_;
    const float* logits_;
    int size_;
    float largest_;
    bool changed_ = false;  // Whether logits have changed since `largest_` was found.
    std::vector<Step> steps_;
    std::vector<int> ids_;    // Empty for the whole vocabulary.
    std::vector<float> own_;  // The memory of `logits_` once they were changed.
};

}  // namespace nextok
