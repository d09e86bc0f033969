// Transforms of Python (sampling/transforms.py) into records.
#pragma once
#include <nanobind/nanobind.h>

#include <vector>

#include "transforms.hpp"

namespace nextok {

struct Transforms {
    std::vector<Transform> list;  // Incomplete if a Custom is among them.
    bool function = false;        // Whether one is a Custom, which needs Python.
    bool remembers = false;       // Whether one is a Surprise, which needs the answers of the rows before.
};

// ValueError if one of them is no transform, or out of range for this vocabulary.
Transforms transforms_of(nanobind::handle transforms, int vocab);

// Look up what Python calls them.
void bind_transforms();

}  // namespace nextok
