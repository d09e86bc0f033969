#include "survivors.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <numeric>

#include "argmax.hpp"
#include "edits.hpp"
#include "exponential.hpp"
#include "noise.hpp"

namespace nextok {
namespace {

constexpr float kLowest = std::numeric_limits<float>::lowest();
// Logits that are skipped together where none of them counts.
constexpr int kBlock = 64;

// Compiled for wider vectors as well, and chosen when the program starts; without contraction all give the same bits.
#if defined(__x86_64__) && defined(__linux__) && defined(__GNUC__) && !defined(__clang__) && \
    !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define NEXTOK_CLONES __attribute__((target_clones("default", "avx2", "avx512f")))
#else
#define NEXTOK_CLONES
#endif

// e^(value - most) and its product with value - most, each added to its own sum.
NEXTOK_CLONES void add_powers(double* __restrict values, int n, double most, double* __restrict sums,
                              double* __restrict weighted) {
    double powers[256];
    // Several loops, as the compiler makes no vectors of them in one.
    for (int i = 0; i < n; i++) values[i] = floored(values[i] - most);
    for (int i = 0; i < n; i++) powers[i] = exponential(values[i]);
    for (int i = 0; i < n; i++) sums[i] += powers[i];
    for (int i = 0; i < n; i++) weighted[i] += powers[i] * (values[i] > kFloor ? values[i] : 0);
}

}  // namespace

double Mass::log() const { return std::log(sum); }
double Mass::entropy() const { return log() - weighted / sum; }

Survivors::Survivors(const float* logits, int vocab, int first)
    : vocab_(vocab), logits_(logits), size_(vocab), largest_(logits[first]) {}

float Survivors::best() {
    if (changed_) largest_ = logits_[argmax(logits_, size_)];
    changed_ = false;
    return largest_;
}

int Survivors::first() const { return steps_.empty() && ids_.empty() ? argmax(logits_, size_) : sorted(1)[0].token; }

double Survivors::of(int token) const {
    if (ids_.empty()) return value(logits_[token]);
    const auto found = std::find(ids_.begin(), ids_.end(), token);
    return found == ids_.end() ? kNever : value(logits_[found - ids_.begin()]);
}

// The sum of what `part` makes of each value that is left; the compiler makes vectors of it.
template <class Part>
double Survivors::sum_of(const Part& part) const {
    double sums[kChunk] = {};
    chunks([&](int, int n, const double* values) {
        for (int i = 0; i < n; i++) sums[i] += values[i] > kNever ? part(values[i]) : 0;
    });
    return std::accumulate(sums, sums + kChunk, 0.0);
}

int Survivors::count() const {
    return int(sum_of([](double) { return 1.0; }));
}

double Survivors::deviation() const {
    const int left = count();
    const double mean = sum_of([](double value) { return value; }) / left;
    return std::sqrt(sum_of([mean](double value) { return (value - mean) * (value - mean); }) / left);
}

Mass Survivors::mass() const {
    double sums[kChunk] = {}, weighted[kChunk] = {};
    const double most = top();
    chunks([&](int, int n, double* values) { add_powers(values, n, most, sums, weighted); });
    return {std::accumulate(sums, sums + kChunk, 0.0), std::accumulate(weighted, weighted + kChunk, 0.0)};
}

void Survivors::normalise() {
    const double sum = mass().log();
    map(top(), 1);
    map(sum, 1);
}

template <class Holds>
std::vector<Item> Survivors::where(const Holds& holds) const {
    std::vector<Item> found;
    for (int first = 0; first < size_; first += kBlock) {
        const int n = std::min(kBlock, size_ - first);
        int many = 0;
        for (int i = 0; i < n; i++) many += holds(logits_[first + i]);
        for (int i = first; many && i < first + n; i++)
            if (holds(logits_[i])) found.push_back({value(logits_[i]), logits_[i], token(i)});
    }
    return found;
}

std::vector<Item> Survivors::from(float border) const {
    return where([border](float logit) { return logit >= border; });
}

std::vector<Item> Survivors::between(const Span& outer, const Span& inner) const {
    return where([=](float logit) { return outer.holds(logit) & !inner.holds(logit); });
}

// A logit that at least `k` survivors reach, and not many more: the k-th of the largest of many groups.
float Survivors::reached_by(int k) const {
    const int64_t groups = std::max<int64_t>(256, 4 * int64_t(k));
    if (size_ < 4 * groups) return kLowest;
    std::vector<float> most(logits_, logits_ + groups);
    for (const float* x = logits_ + groups; x + groups <= logits_ + size_; x += groups)
        for (int i = 0; i < groups; i++) most[i] = x[i] > most[i] ? x[i] : most[i];
    std::nth_element(most.begin(), most.begin() + k - 1, most.end(), std::greater<>());
    return most[k - 1];
}

std::vector<Item> Survivors::largest(int k) const {
    if (k == 0) return {};
    const double least = value(reached_by(std::min(k, size_)));
    std::vector<Item> items = from(border([least](double value) { return value >= least; }));
    if (size_t(k) < items.size()) {
        std::nth_element(items.begin(), items.begin() + k, items.end());
        items.resize(k);
    }
    return items;
}

std::vector<Item> Survivors::sorted(int k) const {
    std::vector<Item> items = largest(k);
    std::sort(items.begin(), items.end());
    return items;
}

std::vector<Candidate> Survivors::candidates(int count) const {
    std::vector<Candidate> found;
    for (const Item& item : sorted(count))
        if (item.value > kNever) found.push_back({item.token, item.value});
    return found;
}

std::vector<Drawn> Survivors::draws(int count, uint64_t key) const {
    const auto better = [](const Drawn& a, const Drawn& b) {
        return a.perturbed > b.perturbed || (a.perturbed == b.perturbed && a.token < b.token);
    };
    std::vector<Drawn> found;  // A heap with the worst of them in front.
    double least = count ? kNever : -kNever;
    uint64_t bits[kChunk];
    chunks([&](int first, int n, const double* values) {
        for (int i = 0; i < n; i++) bits[i] = noise_bits(key, token(first + i));
        for (int i = 0; i < n; i++) {
            if (values[i] + gumbel_at_most(bits[i]) < least || values[i] == kNever) continue;
            const Drawn drawn{token(first + i), values[i], values[i] + gumbel(bits[i])};
            if (int(found.size()) == count) {
                if (!better(drawn, found.front())) continue;
                std::pop_heap(found.begin(), found.end(), better);
                found.pop_back();
            }
            found.push_back(drawn);
            std::push_heap(found.begin(), found.end(), better);
            if (int(found.size()) == count) least = found.front().perturbed;
        }
    });
    std::sort_heap(found.begin(), found.end(), better);
    return found;
}

void Survivors::replace(std::vector<int> ids, std::vector<float> logits) {
    ids_ = std::move(ids);
    own_ = std::move(logits);
    logits_ = own_.data();
    size_ = int(own_.size());
    changed_ = true;
}

void Survivors::keep(const std::vector<Item>& items) {
    std::vector<int> ids;
    std::vector<float> logits;
    for (const Item& item : items) {
        ids.push_back(item.token);
        logits.push_back(item.logit);
    }
    replace(std::move(ids), std::move(logits));
}

// Those of which holds(index) is true, at least one.
template <class Holds>
void Survivors::keep_where(const Holds& holds) {
    const auto number = [&](int first, int n) {
        int many = 0;
        for (int i = first; i < first + n; i++) many += holds(i);
        return many;
    };
    const int all = number(0, size_);
    if (all == size_) return;
    std::vector<int> ids(all + 1);  // One more, as each is written before it is known to count.
    std::vector<float> logits(all + 1);
    for (int first = 0, found = 0; first < size_; first += kBlock) {
        const int n = std::min(kBlock, size_ - first);
        if (number(first, n) == 0) continue;
        for (int i = first; i < first + n; i++) {
            ids[found] = token(i);
            logits[found] = logits_[i];
            found += holds(i);
        }
    }
    ids.pop_back();
    logits.pop_back();
    replace(std::move(ids), std::move(logits));
}

void Survivors::keep_from(float border) {
    keep_where([&](int i) { return logits_[i] >= border; });
}

void Survivors::keep_within(const Span& span, const std::vector<Item>& others) {
    keep_where([&](int i) { return span.holds(logits_[i]); });
    if (others.empty()) return;
    for (const Item& item : others) {
        ids_.push_back(item.token);
        own_.push_back(item.logit);
    }
    logits_ = own_.data();
    size_ = int(own_.size());
}

void Survivors::keep_below(float border, int token) {
    const int* ids = ids_.empty() ? nullptr : ids_.data();
    keep_where([&](int i) { return (logits_[i] >= kLowest && logits_[i] < border) || (ids ? ids[i] : i) == token; });
}

void Survivors::change(const Edit& each) {
    if (!steps_.empty() || !ids_.empty()) {
        std::vector<float> row(vocab_, float(kNever));
        chunks([&](int first, int n, const double* values) {
            for (int i = 0; i < n; i++) row[token(first + i)] = float(values[i]);
        });
        steps_.clear();
        replace({}, std::move(row));
    } else if (logits_ != own_.data()) {
        replace({}, std::vector<float>(logits_, logits_ + size_));
    }
    edit(own_.data(), vocab_, each);
    changed_ = true;
}

int32_t Survivors::rank_of(float x) {
    int32_t bits;
    std::memcpy(&bits, &x, sizeof bits);
    return bits < 0 ? bits ^ 0x7fffffff : bits;
}

float Survivors::ranked(int32_t rank) {
    if (rank < 0) rank ^= 0x7fffffff;
    float x;
    std::memcpy(&x, &rank, sizeof x);
    return x;
}

}  // namespace nextok
