#include "readout.hpp"

#include <algorithm>
#include <cstring>
#include <limits>
#include <numeric>

namespace nextok {
namespace {

constexpr float kLowest = std::numeric_limits<float>::lowest();
constexpr double kNever = -std::numeric_limits<double>::infinity();

// NaN if there is one.
float largest_of(const float* x, int n) {
    constexpr int lanes = 32;  // enough that the compiler keeps a loop over them, in vectors
    float top[lanes];
    int odd[lanes] = {};
    std::fill_n(top, lanes, -std::numeric_limits<float>::infinity());
    const auto take = [&](const float* values, int count) {
        for (int i = 0; i < count; i++) {
            top[i] = values[i] > top[i] ? values[i] : top[i];
            odd[i] |= values[i] != values[i];
        }
    };
    int first = 0;
    for (; first + lanes <= n; first += lanes) take(x + first, lanes);
    take(x + first, n - first);
    if (std::any_of(odd, odd + lanes, [](int each) { return each; })) return std::numeric_limits<float>::quiet_NaN();
    return *std::max_element(top, top + lanes);
}

// The first NaN, or else the first of the largest.
int argmax(const float* x, int n) {
    float best = -std::numeric_limits<float>::infinity();
    int first = 0;
    for (int i = 0; i < n; i += 2048) {
        float top = largest_of(x + i, std::min(2048, n - i));
        if (top <= best) continue;
        best = top;
        first = i;
        if (std::isnan(best)) break;
    }
    while (!(x[first] == best || std::isnan(x[first]))) first++;
    return first;
}

// Below this, e^x is no normal number any more, and nothing next to e^0.
inline double floored(double x) { return x > -708 ? x : -708; }

// e^x for x from -708 to 0, to the last bit or two.
inline double exponential(double x) {
    constexpr double round = 6755399441055744.0;  // 1.5 * 2^52: what is added to it loses its fraction
    double shifted = x * 1.4426950408889634 + round, power = shifted - round;
    double r = x - power * 0.693147180369123816490 - power * 1.90821492927058770002e-10;
    // Taylor's series to the twelfth power; |r| is at most 0.35.
    double y = 1. / 39916800 + r * (1. / 479001600);
    y = 1. / 40320 + r * (1. / 362880 + r * (1. / 3628800 + r * y));
    y = 1. / 120 + r * (1. / 720 + r * (1. / 5040 + r * y));
    y = 1 + r * (1 + r * (1. / 2 + r * (1. / 6 + r * (1. / 24 + r * y))));
    uint64_t bits, exponent;
    std::memcpy(&bits, &y, sizeof bits);
    std::memcpy(&exponent, &shifted, sizeof exponent);
    bits += exponent << 52;
    std::memcpy(&y, &bits, sizeof y);
    return y;
}

// Floats in their order as whole numbers, and back.
int32_t rank_of(float x) {
    int32_t bits;
    std::memcpy(&bits, &x, sizeof bits);
    return bits < 0 ? bits ^ 0x7fffffff : bits;
}
float ranked(int32_t rank) {
    if (rank < 0) rank ^= 0x7fffffff;
    float x;
    std::memcpy(&x, &rank, sizeof x);
    return x;
}

struct Item {
    double value;
    float logit;
    int token;
    bool operator<(const Item& other) const {  // the better one first
        return value > other.value || (value == other.value && token < other.token);
    }
};

// The tokens that are left of a row. Temperatures and the softmax map logits to values by a function that never falls,
// so that float32 can be scanned for what float64 decides; two logits may have the same value, though.
class Survivors {
  public:
    // The largest logit is finite, and none is a NaN.
    Survivors(const float* logits, int vocab, float largest) : logits_(logits), size_(vocab), largest_(largest) {}

    void apply(const Transform& transform) {
        switch (transform.kind) {
            case Transform::temperature: steps_.push_back({top(), transform.value}); break;
            case Transform::top_k:
                if (transform.value < size_) keep(best(int(transform.value)));
                break;
            case Transform::top_p:
                if (transform.value < 1) keep(nucleus(transform.value));
                break;
            case Transform::min_p:
                if (transform.value > 0) keep(from(border(top() + std::log(transform.value))));
        }
    }

    // Values become log-probabilities.
    void normalise() {
        const double sum = mass();
        steps_.push_back({top(), 1});
        steps_.push_back({std::log(sum), 1});
    }

    double value(double logit) const {
        for (const Step& step : steps_) logit = (logit - step.shift) / step.scale;
        return logit;
    }

    std::vector<Candidate> candidates(int count) const {
        std::vector<Candidate> found;
        for (const Item& item : sorted(count))
            if (item.value > kNever) found.push_back({item.token, item.value});
        return found;
    }

    // The token with the largest sum of value and Gumbel noise.
    int draw(uint64_t key) const {
        int chosen = -1;
        double most = kNever;
        uint64_t noise[kChunk];
        chunks([&](int first, int n, const double* values) {
            for (int i = 0; i < n; i++) noise[i] = mix(key + (uint64_t(token(first + i)) + 1) * kGamma);
            for (int i = 0; i < n; i++) {
                // The noise is -log(-log u) <= -log(1 - u), whose power of two the leading ones of u tell: few tokens
                // need the logarithms.
                if (values[i] + (__builtin_clzll(~noise[i] | 1) + 1) * 0.6931472 < most) continue;
                const double u = (double(int64_t(noise[i] >> 12)) + 0.5) * 0x1p-52;
                const double score = values[i] - std::log(-std::log(u));
                if (score < most || (score == most && token(first + i) > chosen)) continue;
                most = score;
                chosen = token(first + i);
            }
        });
        return chosen;
    }

  private:
    struct Step {
        double shift, scale;
    };
    static constexpr int kChunk = 256;

    double top() const { return value(largest_); }
    int token(int index) const { return kept_.empty() ? index : kept_[index].token; }

    // Call use(first, n, values) on all survivors, in chunks.
    template <class Use>
    void chunks(Use use) const {
        double values[kChunk];
        for (int first = 0; first < size_; first += kChunk) {
            const int n = std::min(kChunk, size_ - first);
            for (int i = 0; i < n; i++) values[i] = logits_[first + i];
            for (const Step& step : steps_)
                for (int i = 0; i < n; i++) values[i] = (values[i] - step.shift) / step.scale;
            use(first, n, values);
        }
    }

    // The sum of e^(value - top).
    double mass() const {
        double sums[kChunk] = {};
        const double most = top();
        chunks([&](int, int n, double* values) {
            // Two loops, as the compiler makes no vectors of them in one.
            for (int i = 0; i < n; i++) values[i] = floored(values[i] - most);
            for (int i = 0; i < n; i++) sums[i] += exponential(values[i]);
        });
        return std::accumulate(sums, sums + kChunk, 0.0);
    }

    // The smallest finite logit whose value is at least `least`.
    float border(double least) const {
        int64_t low = rank_of(kLowest), high = rank_of(largest_);
        while (low < high) {
            const int64_t middle = low + (high - low) / 2;
            if (value(ranked(int32_t(middle))) >= least)
                high = middle;
            else
                low = middle + 1;
        }
        return ranked(int32_t(low));
    }

    // A logit that at least `k` survivors reach, and not many more: the k-th of the largest of many groups.
    float reached_by(int k) const {
        const int64_t groups = std::max<int64_t>(256, 4 * int64_t(k));
        if (size_ < 4 * groups) return kLowest;
        std::vector<float> most(logits_, logits_ + groups);
        for (const float* x = logits_ + groups; x + groups <= logits_ + size_; x += groups)
            for (int i = 0; i < groups; i++) most[i] = x[i] > most[i] ? x[i] : most[i];
        std::nth_element(most.begin(), most.begin() + k - 1, most.end(), std::greater<>());
        return most[k - 1];
    }

    // The survivors with this logit or a larger one.
    std::vector<Item> from(float border) const {
        std::vector<Item> found;
        for (int first = 0; first < size_; first += 64) {
            const int n = std::min(64, size_ - first);
            int many = 0;
            for (int i = 0; i < n; i++) many += logits_[first + i] >= border;
            for (int i = first; many && i < first + n; i++)
                if (logits_[i] >= border) found.push_back({value(logits_[i]), logits_[i], token(i)});
        }
        return found;
    }

    // The k largest, in no order; of equal ones those with the lowest ids.
    std::vector<Item> best(int k) const {
        if (k == 0) return {};
        std::vector<Item> items = from(border(value(reached_by(std::min(k, size_)))));
        if (size_t(k) < items.size()) {
            std::nth_element(items.begin(), items.begin() + k, items.end());
            items.resize(k);
        }
        return items;
    }

    std::vector<Item> sorted(int k) const {
        std::vector<Item> items = best(k);
        std::sort(items.begin(), items.end());
        return items;
    }

    // The smallest set whose mass reaches p; more is sorted only if less is not enough.
    std::vector<Item> nucleus(double p) const {
        const double enough = p * mass(), most = top();
        for (int size = 64;; size *= 16) {
            std::vector<Item> items = sorted(std::min(size, size_));
            double reached = 0;
            for (size_t i = 0; i < items.size(); i++) {
                reached += exponential(floored(items[i].value - most));
                if (reached < enough) continue;
                items.resize(i + 1);
                return items;
            }
            if (size >= size_) return items;
        }
    }

    void keep(std::vector<Item> items) {
        kept_ = std::move(items);
        size_ = int(kept_.size());
        kept_logits_.resize(kept_.size());
        for (int i = 0; i < size_; i++) kept_logits_[i] = kept_[i].logit;
        logits_ = kept_logits_.data();
    }

    const float* logits_;
    int size_;
    float largest_;
    std::vector<Step> steps_;
    std::vector<Item> kept_;  // empty: the whole vocabulary
    std::vector<float> kept_logits_;
};

// The chosen token with its raw log-probability: that of the model's own logits, before any transform.
void report(const float* logits, int vocab, const Read& read, Answer& answer) {
    const float largest = read.forbidden.empty() ? answer.best : logits[argmax(logits, vocab)];
    answer.logprob = std::numeric_limits<double>::quiet_NaN();
    if (!std::isfinite(largest)) return;  // only a forbidden token can be that high
    Survivors raw(logits, vocab, largest);
    raw.normalise();
    answer.logprob = raw.value(logits[answer.token]);
    answer.candidates = raw.candidates(read.count);
}

}  // namespace

Answer read_row(const float* logits, int vocab, const Read& read) {
    std::vector<float> allowed;
    const float* row = logits;
    if (!read.forbidden.empty()) {
        allowed.assign(logits, logits + vocab);
        for (int token : read.forbidden) allowed[token] = -std::numeric_limits<float>::infinity();
        row = allowed.data();
    }
    const int first = argmax(row, vocab);
    Answer answer{row[first], read.kind == Read::score ? read.token : first, 0, {}};
    if (!answer.readable()) return answer;
    if (read.noise || read.kind == Read::top) {
        Survivors survivors(row, vocab, answer.best);
        for (const Transform& transform : read.transforms) survivors.apply(transform);
        if (read.kind == Read::top) {
            survivors.normalise();
            answer.candidates = survivors.candidates(read.count);
            return answer;
        }
        answer.token = survivors.draw(read.key);
    }
    if (read.logprobs) report(logits, vocab, read, answer);
    return answer;
}

}  // namespace nextok
