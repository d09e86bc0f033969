#include "filters.hpp"

#include <algorithm>
#include <cmath>

#include "exponential.hpp"
#include "noise.hpp"

namespace nextok {
namespace {

constexpr double kLog2 = 0.6931471805599453;

// Cut `items` to the smallest number of the best ones whose weights reach `enough`; false if all together do not.
template <class Weight>
bool cut(std::vector<Item>& items, double enough, const Weight& weight) {
    auto first = items.begin(), last = items.end();  // within these the sum reaches it
    double sum = 0;                                  // of all before `first`
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

    // More is looked at only if less is not enough.
    void operator()(const TopP& each) const {
        if (each.p == 1) return;
        const double enough = each.p * row.mass().sum, most = row.top();
        const auto weight = [most](const Item& item) { return exponential(floored(item.value - most)); };
        for (int64_t size = 64;; size *= 16) {
            std::vector<Item> items = row.largest(int(std::min<int64_t>(size, row.size())));
            if (!cut(items, enough, weight) && size < row.size()) continue;
            return row.keep(items);
        }
    }

    void operator()(const MinP& each) const {
        if (each.p > 0) keep_from(row.top() + std::log(each.p));
    }

    void operator()(const TypicalP& each) const {
        if (each.p == 1) return;
        const Mass mass = row.mass();
        const double most = row.top(), sum = mass.log(), entropy = mass.entropy();
        const auto surprise = [=](double value) { return -((value - most) - sum); };
        const auto weight = [=](const Item& item) { return std::exp((row.value(item.logit) - most) - sum); };
        // There are few tokens as probable as that, and mostly they are enough: no more than e^(entropy + reach).
        for (const double reach : {2.0, 6.0, -kNever}) {
            std::vector<Item> items;
            if (surprise(most) - entropy <= reach)
                items = row.from(row.border([&](double value) { return surprise(value) - entropy <= reach; }));
            for (Item& item : items) item.value = -std::abs(surprise(item.value) - entropy);
            items.erase(std::remove_if(items.begin(), items.end(), [=](const Item& item) { return -item.value > reach; }), items.end());
            if (!cut(items, each.p, weight) && reach < -kNever) continue;
            return row.keep(items);
        }
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
        const auto high = [&](double value) { return value > kNever && std::exp((value - most) - sum) >= each.threshold; };
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
