// The core without Python, for the sanitizers: every storage format, instruction set and precision, in passes with
// crowds, branches, forks and moves. Exits with 1 if a row's scores depend on what else is in its pass.
#include <cmath>
#include <cstdio>
#include <cstring>
#include <random>

#include "instruction_sets.hpp"
#include "model.hpp"
#include "readout.hpp"

using namespace nextok;

namespace {

constexpr int kVocab = 77, kWidth = 256, kLayers = 2, kHidden = 288, kHead = 64, kContext = 700;

struct Kind {
    const char* name;
    int length, bytes;
    std::vector<int> halves;  // where a block holds binary16 scales
};

const std::vector<Kind> kKinds = {
    {"Q4_0", 32, 18, {0}},       {"Q4_1", 32, 20, {0, 2}},    {"Q5_0", 32, 22, {0}},    {"Q5_1", 32, 24, {0, 2}}, {"Q8_0", 32, 34, {0}},
    {"Q4_K", 256, 144, {0, 2}},  {"Q5_K", 256, 176, {0, 2}},  {"Q6_K", 256, 210, {208}}, {"F16", 1, 2, {0}},       {"BF16", 1, 2, {0}},
    {"F32", 1, 4, {0, 2}},
};

std::mt19937 dice(7);

std::vector<uint8_t> matrix_of(const Kind& kind, int rows, int columns) {
    std::vector<uint8_t> data(size_t(rows) * columns / kind.length * kind.bytes);
    for (uint8_t& byte : data) byte = uint8_t(dice());
    const uint16_t small = kind.name == std::string("BF16") || kind.name == std::string("F32") ? 0x3c00 : 0x1400;
    for (size_t block = 0; block < data.size(); block += kind.bytes)
        for (int at : kind.halves) {
            const uint16_t scale = uint16_t(small | (dice() & 0x80ff));
            std::memcpy(&data[block + at], &scale, 2);
        }
    return data;
}

void fill(Model& model, const Kind& kind) {
    const int hidden = kind.length == 256 ? 512 : kHidden;
    auto matrix = [&](const std::string& name, const Kind& own, int rows, int columns) {
        const std::vector<uint8_t> data = matrix_of(own, rows, columns);
        model.set_matrix(name, own.name, data.data(), data.size(), rows, columns);
    };
    const std::vector<float> ones(kWidth, 1.0f);
    matrix("token_embd", kind, kVocab, kWidth);
    model.set_vector("output_norm", ones.data(), ones.size());
    for (int layer = 0; layer < kLayers; layer++) {
        const std::string prefix = "blk." + std::to_string(layer) + ".";
        for (const char* part : {"attn_norm", "ffn_norm"}) model.set_vector(prefix + part, ones.data(), ones.size());
        matrix(prefix + "attn_q", kind, kWidth, kWidth);
        for (const char* part : {"attn_k", "attn_v"}) matrix(prefix + part, kind, kHead, kWidth);
        matrix(prefix + "attn_output", kind, kWidth, kWidth);
        for (const char* part : {"ffn_gate", "ffn_up"}) matrix(prefix + part, kind, hidden, kWidth);
        matrix(prefix + "ffn_down", kind, kWidth, hidden);
    }
    model.finish();
}

Config config_of(const Kind& kind) {
    std::vector<double> frequencies(kHead / 2);
    for (int i = 0; i < kHead / 2; i++) frequencies[i] = std::pow(10000.0, -2.0 * i / kHead);
    return {kLayers, kWidth, kWidth / kHead, 1, kHead, kind.length == 256 ? 512 : kHidden, kVocab, kContext, kHead, false, 1e-5f, frequencies};
}

std::vector<std::vector<float>> scores(Model& model, const std::vector<Token>& tokens, const std::vector<int>& wanted) {
    std::vector<std::vector<float>> found;
    model.forward(tokens, wanted, [&](int, int count, const float* logits, int stride) {
        for (int i = 0; i < count; i++) found.emplace_back(logits + size_t(i) * stride, logits + size_t(i) * stride + kVocab);
    });
    return found;
}

std::vector<Token> run_of(Cache& cache, const std::vector<int>& ids, int start) {
    std::vector<Token> tokens;
    for (size_t i = 0; i < ids.size(); i++) tokens.push_back({ids[i], start + int(i), start + int(i) + 1, nullptr, 0, &cache});
    return tokens;
}

// Whether the last row of a text is the same alone, in a crowd, in chunks, from a fork and as a branch.
bool holds(Model& model) {
    std::vector<int> text(330);
    for (int& id : text) id = int(dice() % kVocab);
    const int last = int(text.size()) - 1;
    auto alone = model.open();
    const auto expected = scores(model, run_of(*alone, text, 0), {last})[0];

    std::vector<std::unique_ptr<Cache>> caches;
    std::vector<Token> crowd;
    std::vector<int> wanted;
    for (int i = 0; i < 9; i++) {
        caches.push_back(model.open());
        const std::vector<int> own(text.begin() + (i == 4 ? 0 : 300 + i), text.end());
        for (const Token& token : run_of(*caches.back(), own, 0)) crowd.push_back(token);
        wanted.push_back(int(crowd.size()) - 1);
    }
    bool same = scores(model, crowd, wanted)[4] == expected;

    auto fork = alone->fork(290);
    for (int at = 290; at <= last; at += 7) {
        const std::vector<int> part(text.begin() + at, text.begin() + std::min(at + 7, last + 1));
        const auto found = scores(model, run_of(*fork, part, at), {int(part.size()) - 1});
        if (at + 7 > last) same = same && found[0] == expected;
    }

    // The last tokens as a branch in slots that run backwards, then moved, then the very last one again.
    auto branched = alone->fork(250);
    std::vector<int> slots;
    for (int i = 250; i <= last; i++) slots.push_back(800 - i);
    std::vector<Token> branch;
    for (int i = 250; i <= last; i++) branch.push_back({text[i], slots[i - 250], 250, slots.data(), i - 249, branched.get()});
    same = same && scores(model, branch, {int(branch.size()) - 1})[0] == expected;
    std::vector<int> targets;
    for (int i = 250; i <= last; i++) targets.push_back(i);
    branched->move(slots, targets);
    same = same && scores(model, {{text[last], last, last + 1, nullptr, 0, branched.get()}}, {0})[0] == expected;

    std::vector<Answer> answers(3);
    Read read{};
    read.transforms = {{Transform::temperature, 0.7}, {Transform::top_k, 20}, {Transform::top_p, 0.9}};
    read.noise = read.logprobs = true;
    read.count = 3;
    model.pool().share(3, 1, [&](int i, int) { answers[i] = read_row(expected.data(), kVocab, read); });
    return same && answers[0].token == answers[2].token && std::isfinite(expected[0]);
}

}  // namespace

int main() {
    int failed = 0;
    for (const std::string& isa : instruction_sets())
        for (const Kind& kind : kKinds)
            for (bool exact : {false, true}) {
                Model model(config_of(kind), 3, exact, kernels_named(isa));
                fill(model, kind);
                if (holds(model)) continue;
                std::printf("%s, %s, %s: a row depends on its pass\n", isa.c_str(), kind.name, exact ? "exact" : "fast");
                failed = 1;
            }
    if (!failed) std::printf("%zu instruction sets, %zu storage formats, both precisions: all rows are their own\n", instruction_sets().size(), kKinds.size());
    return failed;
}
