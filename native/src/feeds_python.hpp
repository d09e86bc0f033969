// The feeds of a pass (nextok/models/base.py) as flat tokens. Every index comes from outside and is checked here,
// before anything is touched.
#pragma once
#include <nanobind/nanobind.h>

#include "batch.hpp"
#include "weights.hpp"

namespace nextok {

// The tokens of all feeds; what is out of range raises ValueError. The caller holds the feeds, and with them their
// caches, until the pass is over.
Batch batch_of(nanobind::handle feeds, const Config& config);

// A slot's number; ValueError if it is larger than any slot of a tree.
int slot_of(nanobind::handle number);

}  // namespace nextok
