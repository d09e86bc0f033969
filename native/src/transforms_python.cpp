#include "transforms_python.hpp"

#include <algorithm>
#include <limits>

#include "names_python.hpp"
#include "numbers_python.hpp"

namespace nextok {
namespace nb = nanobind;
namespace {

constexpr double kMost = std::numeric_limits<double>::max(), kLeast = std::numeric_limits<double>::denorm_min();

struct Parser {
    nb::object type;
    Transform (*parse)(nb::handle transform, int vocab);
};

// What Python calls the transforms, the most frequent first.
struct Known {
    nb::object surprise;
    std::vector<Parser> parsers;
};
const Known* known;  // Set when the module is imported, and never freed.

std::vector<int> tokens_of(nb::handle tokens, int vocab) {
    std::vector<int> found;
    found.reserve(nb::len(tokens));
    for (nb::handle each : tokens) found.push_back(index(each, vocab, "a token id is outside the vocabulary"));
    return found;
}

Edit allow(nb::handle each, int) {
    const nb::object mask = each.attr("mask");
    char* first;
    Py_ssize_t length;
    if (PyBytes_AsStringAndSize(mask.ptr(), &first, &length)) throw nb::python_error();
    return Allow{{first, first + length}};
}

Edit forbid(nb::handle each, int vocab) { return Forbid{tokens_of(each.attr("tokens"), vocab)}; }

Edit add(nb::handle each, int vocab) {
    Add found{tokens_of(each.attr("tokens"), vocab), {}};
    for (nb::handle amount : each.attr("amounts")) found.amounts.push_back(float(real(amount)));
    if (found.amounts.size() != found.tokens.size())
        throw std::invalid_argument("an Add needs an amount for each of its tokens");
    return found;
}

Edit scale(nb::handle each, int vocab) {
    return Scale{tokens_of(each.attr("tokens"), vocab), float(real(each.attr("factor")))};
}

Filter temperature(nb::handle each, int) {
    return Temperature{between(each.attr("value"), kLeast, kMost, "a temperature must be above 0 and finite")};
}

Filter dynamic_temperature(nb::handle each, int) {
    const double low = between(each.attr("low"), kLeast, kMost, "a temperature must be above 0 and finite");
    const double high = between(each.attr("high"), low, kMost, "a dynamic temperature goes from low to high");
    return DynamicTemperature{low, high, between(each.attr("exponent"), 0, kMost, "an exponent must be 0 or above")};
}

Filter top_k(nb::handle each, int vocab) { return TopK{count(each.attr("k"), 1, vocab, "top_k must be from 1 up")}; }

Filter top_p(nb::handle each, int) {
    return TopP{between(each.attr("p"), kLeast, 1, "top_p must be above 0 and at most 1")};
}

Filter min_p(nb::handle each, int) { return MinP{between(each.attr("p"), 0, 1, "min_p must be from 0 to 1")}; }

Filter typical_p(nb::handle each, int) {
    return TypicalP{between(each.attr("p"), kLeast, 1, "typical_p must be above 0 and at most 1")};
}

Filter epsilon_cutoff(nb::handle each, int) {
    return EpsilonCutoff{between(each.attr("epsilon"), 0, 1, "epsilon_cutoff must be from 0 to 1")};
}

Filter eta_cutoff(nb::handle each, int) {
    return EtaCutoff{between(each.attr("epsilon"), 0, 1, "eta_cutoff must be from 0 to 1")};
}

Filter top_n_sigma(nb::handle each, int) {
    return TopNSigma{between(each.attr("n"), 0, kMost, "top_n_sigma must be 0 or above")};
}

Filter xtc(nb::handle each, int) {
    constexpr const char* says = "probability and threshold of XTC must be from 0 to 1";
    return XTC{between(each.attr("probability"), 0, 1, says), between(each.attr("threshold"), 0, 1, says)};
}

Filter surprise(nb::handle each, int) {
    return Surprise{index(each.attr("version"), 3, "the version of mirostat must be 1 or 2"), real(each.attr("mu"))};
}

template <auto parse>
Transform parsed(nb::handle each, int vocab) {
    return parse(each, vocab);
}

}  // namespace

Transforms transforms_of(nb::handle transforms, int vocab) {
    Transforms found;
    for (nb::handle each : transforms) {
        size_t i = 0;
        while (i < known->parsers.size() && !each.type().is(known->parsers[i].type)) i++;
        if (i < known->parsers.size())
            found.list.push_back(known->parsers[i].parse(each, vocab));
        else
            found.unknown = true;
        found.surprise = found.surprise || each.type().is(known->surprise);
    }
    return found;
}

bool knows(nb::handle type) {
    return std::any_of(known->parsers.begin(), known->parsers.end(),
                       [type](const Parser& each) { return each.type.is(type); });
}

void bind_transforms() {
    using namespace python;
    known = new Known{fetch(kSurprise),
                      {{fetch(kTemperature), parsed<temperature>},
                       {fetch(kTopK), parsed<top_k>},
                       {fetch(kTopP), parsed<top_p>},
                       {fetch(kMinP), parsed<min_p>},
                       {fetch(kScale), parsed<scale>},
                       {fetch(kAdd), parsed<add>},
                       {fetch(kForbid), parsed<forbid>},
                       {fetch(kAllow), parsed<allow>},
                       {fetch(kDynamicTemperature), parsed<dynamic_temperature>},
                       {fetch(kTypicalP), parsed<typical_p>},
                       {fetch(kEpsilonCutoff), parsed<epsilon_cutoff>},
                       {fetch(kEtaCutoff), parsed<eta_cutoff>},
                       {fetch(kTopNSigma), parsed<top_n_sigma>},
                       {fetch(kXTC), parsed<xtc>},
                       {fetch(kSurprise), parsed<surprise>}}};
}

}  // namespace nextok
