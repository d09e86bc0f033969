// What can be done to a row of logits; sampling/transforms.py and edits.py say what each of them means.
#pragma once
#include <cstdint>
#include <variant>
#include <vector>

namespace nextok {

struct Allow {
    std::vector<uint8_t> mask;
};
struct Forbid {
    std::vector<int> tokens;
};
struct Add {
    std::vector<int> tokens;
    std::vector<float> amounts;  // As many as tokens.
};
struct Scale {
    std::vector<int> tokens;
    float factor;
};

struct Temperature {
    double value;
};
struct DynamicTemperature {
    double low, high, exponent;
};
struct TopK {
    int k;
};
struct TopP {
    double p;
};
struct MinP {
    double p;
};
struct TypicalP {
    double p;
};
struct EpsilonCutoff {
    double epsilon;
};
struct EtaCutoff {
    double epsilon;
};
struct TopNSigma {
    double n;
};
struct XTC {
    double probability, threshold;
};
struct Surprise {
    int version;
    double mu;
};

using Edit = std::variant<Allow, Forbid, Add, Scale>;
using Filter = std::variant<Temperature, DynamicTemperature, TopK, TopP, MinP, TypicalP, EpsilonCutoff, EtaCutoff,
                            TopNSigma, XTC, Surprise>;
// Its tokens are below the size of the vocabulary.
using Transform = std::variant<Edit, Filter>;

}  // namespace nextok
