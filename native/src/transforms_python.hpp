// Transforms of Python (sampling/transforms.py) into records.
#pragma once
#include <nanobind/nanobind.h>

#include <vector>

#include "transforms.hpp"

namespace nextok {

struct Transforms {
    std::vector<Transform> list;  // unusable if there is a function among them
    bool function = false;        // a Custom: it needs Python
    bool remembers = false;       // a Surprise: it needs the answers before it, and has to hear of its own
};

// ValueError if one of them is none, or out of range for this vocabulary.
Transforms transforms_of(nanobind::handle transforms, int vocab);

// Look up what Python calls them.
void bind_transforms();

}  // namespace nextok
