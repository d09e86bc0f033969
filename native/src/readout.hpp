// From one row of logits to an answer; sampling/readout.py says the same in numpy and is the reference.
#pragma once
#include <cmath>
#include <cstdint>
#include <vector>

namespace nextok {

struct Transform {
    enum Kind { temperature, top_k, top_p, min_p } kind;
    double value;  // a temperature above 0, a whole number from 1 up, or a probability
};

struct Read {
    enum Kind { pick, top, score } kind;
    int row;            // of the pass
    int64_t position;   // of the token to be chosen
    bool noise;         // of a pick: draw; otherwise take the largest logit
    uint64_t key;       // of the noise
    int token;          // of a score
    int count;          // of candidates to report
    bool logprobs;      // of a pick: whether to report any
    std::vector<Transform> transforms;
    std::vector<int> forbidden;
};

struct Candidate {
    int token;
    double logprob;
};

struct Answer {
    float best;  // the largest logit, or a NaN; if it is not finite, there is no answer
    int token;
    double logprob;
    std::vector<Candidate> candidates;  // best first

    bool readable() const { return std::isfinite(best); }
};

// SplitMix64's finaliser.
inline uint64_t mix(uint64_t x) {
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EB;
    return x ^ (x >> 31);
}
constexpr uint64_t kGamma = 0x9E3779B97F4A7C15;

// What the noise of all tokens at one position has in common.
inline uint64_t noise_key(uint64_t seed, uint64_t position) { return mix((mix(seed) ^ position) + kGamma); }

// Any number of threads may read at once. Tokens of `read` are within 0 .. vocab, and vocab is at least 1.
Answer read_row(const float* logits, int vocab, const Read& read);

}  // namespace nextok
