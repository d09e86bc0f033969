// Transforms of Python (sampling/transforms.py and edits.py) into records.
#pragma once
#include <nanobind/nanobind.h>

#include <vector>

#include "transforms.hpp"

namespace nextok {

struct Transforms {
    std::vector<Transform> list;  // Incomplete if one of them is unknown.
    bool unknown = false;         // Whether the core has no code for one of them.
    bool surprise = false;        // Whether mirostat is among them: the answer tells how surprising its token was.
};

// ValueError if one of them is out of range for this vocabulary.
Transforms transforms_of(nanobind::handle transforms, int vocab);

// Whether the core has code for transforms of this Python type.
bool knows(nanobind::handle type);

// Look up what Python calls them.
void bind_transforms();

}  // namespace nextok
