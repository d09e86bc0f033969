#include "filters.hpp"

#include <algorithm>
#include <cmath>

#include "exponential.hpp"
#include "noise.hpp"

namespace nextok {
namespace {

constexpr double kLog2 = 0.6931471805599453;
constexpr float kLowest = std::numeric_limits<float>::lowest(), kEndless = std::numeric_limits<float>::infinity();

// Cut `items` to the smallest number of the best ones whose weights reach `enough`; false if all together do not.
template <class Weight>
bool cut(std::vector<Item>& items, double enough, const Weight& weight) {
    auto first = items.begin(), last = items.end();  // The sum reaches `enough` within these.
    double sum = 0;                                  // The weight of all items before `first`.
    while (last - first > 64) {
        const auto middle = first + (last - first) / 2;
        std::nth_element(first, middle, last);
        double half = 0;
        for (auto item = first; item != middle; ++item) half += weight(*item);
        if (sum + half >= enough) {
            last = middle;
        } else {
            sum += half;
            first = middle;
        }
    }
    std::sort(first, last);
    while (first != last && sum < enough) sum += weight(*first++);
    const bool reached = sum >= enough || last != items.end();
    items.erase(first, items.end());
    return reached;
}

struct Apply {
    Survivors& row;
    const uint64_t key;

    void operator()(const Temperature& each) const { row.map(row.top(), each.value); }

    void operator()(const DynamicTemperature& each) const {
        const int count = row.count();
        if (count < 2) return;
        const double share = std::min(1.0, std::max(0.0, row.mass().entropy() / std::log(count)));
        (*this)(Temperature{each.low + (each.high - each.low) * std::pow(share, each.exponent)});
    }

    void operator()(const TopK& each) const {
        if (each.k < row.size()) row.keep(row.largest(each.k));
    }

    // The largest are tried first; all tokens are read only where those are not enough.
    void operator()(const TopP& each) const {
        if (each.p == 1) return;
        const double enough = each.p * row.mass().sum, most = row.top();
        const auto weight = [most](const Item& item) { return exponential(floored(item.value - most)); };
        for (int size : {64, 1024}) {
            std::vector<Item> items = row.largest(size);
            if (cut(items, enough, weight) || size >= row.size()) return row.keep(items);
        }
        keep_nearest([most](double value) { return most - value; }, enough);
    }

    void operator()(const MinP& each) const {
        if (each.p > 0) keep_from(row.top() + std::log(each.p));
    }

    void operator()(const TypicalP& each) const {
        if (each.p == 1) return;
        const Mass mass = row.mass();
        const double most = row.top(), sum = mass.log(), entropy = mass.entropy(), enough = each.p * mass.sum;
        const auto gap = [=](double value) { return -((value - most) - sum) - entropy; };
        // Mostly the nearest are enough; they are few, as none is less probable than e^-(entropy + reach).
        for (const double reach : {2.0, 5.0}) {
            if (entropy + reach > 9 || gap(most) > reach) break;
            std::vector<Item> items = row.from(row.border([&](double value) { return gap(value) <= reach; }));
            for (Item& item : items) item.value = -std::abs(gap(item.value));
            items.erase(
                std::remove_if(items.begin(), items.end(), [=](const Item& item) { return item.value < -reach; }),
                items.end());
            const auto weight = [=](const Item& item) { return exponential(floored(row.value(item.logit) - most)); };
            if (cut(items, enough, weight)) return row.keep(items);
        }
        keep_nearest(gap, enough);
    }

    void operator()(const EpsilonCutoff& each) const { keep_probable(row.mass(), each.epsilon); }

    void operator()(const EtaCutoff& each) const {
        const Mass mass = row.mass();
        keep_probable(mass, std::min(each.epsilon, std::sqrt(each.epsilon) * std::exp(-mass.entropy())));
    }

    void operator()(const TopNSigma& each) const {
        const double least = row.top() - each.n * row.deviation();
        if (!std::isnan(least)) keep_from(least);
    }

    void operator()(const XTC& each) const {
        if (uniform(noise_bits(key, -1)) >= each.probability) return;
        const double most = row.top(), sum = row.mass().log();
        const auto high = [&](double value) {
            return value > kNever && std::exp((value - most) - sum) >= each.threshold;
        };
        if (!high(most)) return;
        const float border = row.border(high);
        const std::vector<Item> items = row.from(border);
        if (items.size() > 1) row.keep_below(border, std::max_element(items.begin(), items.end())->token);
    }

    void operator()(const Surprise& each) const {
        const double most = row.top(), sum = row.mass().log();
        const auto bits = [=](double value) { return -((value - most) - sum) / kLog2; };
        if (each.version == 1) return (*this)(TopK{zipf_k(bits, each.mu)});
        keep_if([&](double value) { return bits(value) <= each.mu; });
    }

  private:
    void keep_from(double least) const {
        row.keep_from(row.border([least](double value) { return value >= least; }));
    }

    // Those whose value makes `holds` true, which does not fall, or else the best one.
    template <class Holds>
    void keep_if(const Holds& holds) const {
        if (holds(row.top()))
            row.keep_from(row.border(holds));
        else
            row.keep(row.largest(1));
    }

    // The smallest set of the nearest tokens whose weights e^(value - top) reach `enough`; `gap`, which does not rise,
    // is how far a value lies below what is nearest of all, and negative above it.
    template <class Gap>
    void keep_nearest(const Gap& gap, double enough) const {
        constexpr int parts = 2048, per_nat = 32;
        double weights[parts] = {}, before = 0;
        const double most = row.top();
        row.chunks([&](int, int n, double* values) {
            int part[Survivors::kChunk];
            for (int i = 0; i < n; i++) part[i] = int(std::min(std::abs(gap(values[i])) * per_nat, parts - 1.0));
            for (int i = 0; i < n; i++) values[i] = floored(values[i] - most);
            for (int i = 0; i < n; i++) values[i] = exponential(values[i]);
            for (int i = 0; i < n; i++) weights[part[i]] += values[i];
        });
        int last = 0;
        while (last < parts - 1 && before + weights[last] < enough) before += weights[last++];
        const auto nearer = [&](int part) -> Span {
            if (part == 0) return {1, -1};
            if (part == parts) return {kLowest, kEndless};
            return {first_of([=](double value) { return gap(value) * per_nat < part; }),
                    first_of([=](double value) { return gap(value) * per_nat <= -part; })};
        };
        const Span inner = nearer(last), outer = nearer(last + 1);
        std::vector<Item> items = row.between(outer, inner);
        for (Item& item : items) item.value = -std::abs(gap(item.value));
        cut(items, enough - before,
            [=](const Item& item) { return exponential(floored(row.value(item.logit) - most)); });
        if (inner.low > inner.high)
            row.keep(items);
        else
            row.keep_within(inner, items);
    }

    // The smallest logit whose value makes `holds` true, which does not fall; +infinity if there is none.
    template <class Holds>
    float first_of(const Holds& holds) const {
        return holds(row.top()) ? row.border(holds) : kEndless;
    }

    void keep_probable(const Mass& mass, double probability) const {
        const double most = row.top(), sum = mass.log();
        keep_if([=](double value) { return std::exp((value - most) - sum) >= probability; });
    }

    // The k whose tokens have a cross-entropy of about mu bits, by an estimate of Zipf's exponent.
    template <class Bits>
    int zipf_k(const Bits& bits, double mu) const {
        constexpr int estimated_from = 100;
        double cross = 0, squares = 0, before = 0;
        int rank = 0;
        for (const Item& item : row.sorted(estimated_from)) {
            const double own = bits(item.value);
            if (!std::isfinite(own)) break;
            if (rank > 0) {
                const double t = std::log((rank + 1.0) / rank);
                cross += t * (own - before);
                squares += t * t;
            }
            before = own;
            rank++;
        }
        const double s = rank > 1 ? cross * kLog2 / squares : 0, spread = s - 1, vocab = row.vocab();
        const double k = std::pow(spread * std::pow(2, mu) / (1 - std::pow(vocab, -spread)), 1 / s);
        return std::isfinite(k) ? int(std::min(std::max(k, 1.0), vocab)) : row.vocab();
    }
};

}  // namespace

void apply(const std::vector<Transform>& transforms, uint64_t key, Survivors& row) {
    for (const Transform& each : transforms) {
        if (const Edit* edit = std::get_if<Edit>(&each))
            row.change(*edit);
        else if (std::isfinite(row.best()))
            std::visit(Apply{row, key}, std::get<Filter>(each));
    }
}

}  // namespace nextok
