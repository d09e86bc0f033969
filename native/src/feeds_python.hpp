// The feeds of a pass (nextok/models/base.py) as flat tokens. Every index comes from outside and is checked here,
// before anything is touched.
#pragma once
#include <nanobind/nanobind.h>

#include <vector>

#include "model.hpp"

namespace nextok {

struct Pass {
    std::vector<Token> tokens;
    std::vector<int> tails;   // of all tokens, which point into it
    std::vector<int> wanted;  // whose logits are to be read
};

// What is out of range raises ValueError. The caller holds the feeds, and with them their caches, until the pass is
// over.
Pass pass_of(nanobind::handle feeds, const Config& config);

// A slot's number; ValueError if no tree could be so large.
int slot_of(nanobind::handle number);

}  // namespace nextok
