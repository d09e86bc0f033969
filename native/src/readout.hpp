// From one row of logits to an answer; readout/readout.py says the same in numpy and is the reference.
#pragma once
#include <cstdint>
#include <vector>

#include "survivors.hpp"
#include "transforms.hpp"

namespace nextok {

struct Read {
    enum Kind { pick, top, draws, score } kind;
    int row;           // The row among those of the logits at hand.
    int64_t position;  // The position of the token to be chosen.
    bool noise;        // Whether a pick draws; otherwise it takes the largest value.
    uint64_t key;      // The key of the noise: see noise_key.
    int token;         // The token that a score asks about.
    int count;         // The number of tokens of a top or of draws.
    bool logprobs;     // Whether a pick or a score reports log-probabilities.
    int alternatives;  // The number of alternatives reported with them.
    bool surprise;     // Whether it reports its processed log-probability: mirostat is among the transforms.
    std::vector<Transform> transforms;
};

// A log-probability and the most probable tokens, best first.
struct Likelihood {
    double logprob;
    std::vector<Candidate> top;
};

struct Answer {
    enum Kind { answered, unreadable, dead_end } kind;
    float best;                  // The largest logit of an unreadable row: NaN or an infinity.
    int token;                   // The token of a pick or a score.
    Likelihood raw, processed;   // Before the transforms, and after them, where they are wanted.
    std::vector<Candidate> top;  // The candidates of a top.
    std::vector<Drawn> drawn;    // The tokens of draws.
};

// Any number of threads may read at once. Tokens of `read` are within 0 .. vocab, and vocab is at least 1.
Answer read_row(const float* logits, int vocab, const Read& read);

}  // namespace nextok
