// Transforms of Python (sampling/transforms.py and edits.py) into records.
#pragma once
#include <nanobind/nanobind.h>

#include <vector>

#include "transforms.hpp"

namespace nextok {

struct Transforms {
    std::vector<Transform> list;  // unusable if one of them is unknown
    bool unknown = false;         // the core has no code for one of them: the row is read in Python
    bool surprise = false;        // mirostat is among them: the answer tells how surprising the token was
};

// ValueError if one of them is out of range for this vocabulary.
Transforms transforms_of(nanobind::handle transforms, int vocab);

// Whether the core has code for transforms of this Python type.
bool knows(nanobind::handle type);

// Look up what Python calls them.
void bind_transforms();

}  // namespace nextok
