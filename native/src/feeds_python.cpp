#include "feeds_python.hpp"

#include <stdexcept>
#include <vector>

#include "numbers_python.hpp"

namespace nextok {
namespace nb = nanobind;
namespace {

// Slots of a cache, at most. Branches lie beside the trunk, so a slot may lie beyond the context.
constexpr int kMostSlots = 1 << 24;

std::vector<int> numbers_of(nb::handle list, int end, const char* message) {
    std::vector<int> numbers;
    for (nb::handle each : list) numbers.push_back(index(each, end, message));
    return numbers;
}

void add_feed(nb::handle feed, const Config& config, Batch& batch, std::vector<size_t>& tails) {
    constexpr const char* slot = "a slot is out of range";
    const size_t before = batch.tokens.size();
    Cache* cache = nb::cast<Cache*>(nb::object(feed.attr("cache")));
    const std::vector<int> ids = numbers_of(feed.attr("tokens"), config.vocab, "a token id is outside the vocabulary");
    const std::vector<int> slots = numbers_of(feed.attr("slots"), kMostSlots, slot);
    const std::vector<int> seen =
        numbers_of(feed.attr("seen"), config.context + 1, "a token sees more slots than the context holds");
    const nb::object own_tails = feed.attr("tails");
    if (slots.size() != ids.size() || seen.size() != ids.size() || nb::len(own_tails) != ids.size())
        throw std::invalid_argument("a feed must say slot, seen and tail of each token");
    size_t i = 0;
    for (nb::handle tail : own_tails) {
        tails.push_back(batch.tails.size());
        for (nb::handle each : tail) batch.tails.push_back(index(each, kMostSlots, slot));
        const size_t length = batch.tails.size() - tails.back();
        if (seen[i] + length < 1 || seen[i] + length > size_t(config.context))
            throw std::invalid_argument("a token sees more slots than the context holds, or none");
        batch.tokens.push_back({ids[i], slots[i], seen[i], nullptr, int(length), cache});
        i++;
    }
    for (int row : numbers_of(feed.attr("rows"), int(ids.size()), "a wanted row is not among the tokens"))
        batch.wanted.push_back(int(before) + row);
}

}  // namespace

int slot_of(nb::handle number) { return index(number, kMostSlots, "a slot is out of range"); }

Batch batch_of(nb::handle feeds, const Config& config) {
    Batch batch;
    std::vector<size_t> tails;  // Where each token's tail begins in batch.tails.
    for (nb::handle feed : feeds) add_feed(feed, config, batch, tails);
    for (size_t i = 0; i < tails.size(); i++) batch.tokens[i].tail = batch.tails.data() + tails[i];
    return batch;
}

}  // namespace nextok
