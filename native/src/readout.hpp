// From one row of logits to an answer; readout/readout.py says the same in numpy and is the reference.
#pragma once
#include <cstdint>
#include <vector>

#include "survivors.hpp"
#include "transforms.hpp"

namespace nextok {

struct Read {
    enum Kind { pick, top, draws, score } kind;
    int row;           // of the pass
    int64_t position;  // of the token to be chosen
    bool noise;        // of a pick: draw; otherwise take the largest value
    uint64_t key;      // of the noise
    int token;         // of a score
    int count;         // of a top or of draws
    bool logprobs;     // of a pick or a score: whether to report any
    int alternatives;  // then with so many
    bool surprise;     // of a pick or a score: whether to report the processed log-probability for mirostat
    std::vector<Transform> transforms;
};

// A log-probability and the most probable tokens, best first.
struct Likelihood {
    double logprob;
    std::vector<Candidate> top;
};

struct Answer {
    enum Kind { answered, unreadable, dead_end } kind;
    float best;                  // of what is unreadable: NaN or an infinity
    int token;                   // of a pick or a score
    Likelihood raw, processed;   // before the transforms, and after them, where they are wanted
    std::vector<Candidate> top;  // of a top
    std::vector<Drawn> drawn;    // of draws
};

// Any number of threads may read at once. Tokens of `read` are within 0 .. vocab, and vocab is at least 1.
Answer read_row(const float* logits, int vocab, const Read& read);

}  // namespace nextok
