// The tokens of one pass, flat: those of one cache stand together.
#pragma once
#include <vector>

#include "cache.hpp"

namespace nextok {

// One token of a pass. It sees the slots 0 .. seen - 1 of its cache, its trunk, and then those of its tail.
struct Token {
    int id, slot, seen;
    const int* tail;
    int tail_length;
    Cache* cache;

    // The number of slots that it sees; its position is one less.
    int count() const { return seen + tail_length; }
};

struct Batch {
    std::vector<Token> tokens;
    std::vector<int> tails;   // The tails of all tokens; Token::tail points into it.
    std::vector<int> wanted;  // The indices of the tokens whose logits are to be read.
};

}  // namespace nextok
