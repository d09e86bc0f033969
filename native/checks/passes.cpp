// The core without Python, for the sanitizers: every storage format, instruction set and precision, in passes with
// crowds, branches, forks and moves, and every way to read a row. Exits with 1 if a row depends on what else is in its
// pass.
#include <cmath>
#include <cstdio>
#include <cstring>
#include <random>

#include "instruction_sets.hpp"
#include "model.hpp"
#include "noise.hpp"
#include "readout.hpp"

using namespace nextok;

namespace {

constexpr int kVocab = 77, kWidth = 256, kLayers = 2, kHidden = 288, kHead = 64, kContext = 700;

struct Kind {
    const char* name;
    int length, bytes;
    std::vector<int> halves;  // Offsets of the binary16 scales in a block.
};

const std::vector<Kind> kKinds = {
    {"Q4_0", 32, 18, {0}}, {"Q4_1", 32, 20, {0, 2}},   {"Q5_0", 32, 22, {0}},      {"Q5_1", 32, 24, {0, 2}},
    {"Q8_0", 32, 34, {0}}, {"Q4_K", 256, 144, {0, 2}}, {"Q5_K", 256, 176, {0, 2}}, {"Q6_K", 256, 210, {208}},
    {"F16", 1, 2, {0}},    {"BF16", 1, 2, {0}},        {"F32", 1, 4, {0, 2}},
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
    return {kLayers, kWidth,   kWidth / kHead, 1,     kHead, kind.length == 256 ? 512 : kHidden,
            kVocab,  kContext, kHead,          false, 1e-5f, frequencies};
}

std::vector<std::vector<float>> scores(Model& model, const std::vector<Token>& tokens, const std::vector<int>& wanted) {
    std::vector<std::vector<float>> found;
    model.forward(tokens, wanted, [&](int, int count, const float* logits, int stride) {
        for (int i = 0; i < count; i++)
            found.emplace_back(logits + size_t(i) * stride, logits + size_t(i) * stride + kVocab);
    });
    return found;
}

std::vector<Token> run_of(Cache& cache, const std::vector<int>& ids, int start) {
    std::vector<Token> tokens;
    for (size_t i = 0; i < ids.size(); i++)
        tokens.push_back({ids[i], start + int(i), start + int(i) + 1, nullptr, 0, &cache});
    return tokens;
}

// Every way to read a row, after each transform alone, in a row, and after edits in between.
std::vector<Read> every_read(int vocab) {
    std::vector<int> some;
    for (int token = 0; token < vocab; token += 3) some.push_back(token);
    const std::vector<Transform> edits = {Allow{std::vector<uint8_t>(vocab / 16, 0x7d)}, Forbid{{0, vocab - 1}},
                                          Add{some, std::vector<float>(some.size(), 0.5f)}, Scale{some, 1.2f}};
    const std::vector<Transform> filters = {DynamicTemperature{0.5, 1.5, 1},
                                            Temperature{0.7},
                                            EpsilonCutoff{1e-5},
                                            EtaCutoff{1e-5},
                                            TypicalP{0.97},
                                            TopP{0.95},
                                            MinP{1e-3},
                                            XTC{1, 0.05},
                                            Surprise{2, 12},
                                            TopK{40},
                                            Surprise{1, 12},
                                            TopNSigma{2}};
    std::vector<std::vector<Transform>> orders = {{}, edits, filters, edits};
    orders[3].insert(orders[3].end(), filters.begin(), filters.end());
    for (const std::vector<Transform>& group : {edits, filters})
        for (const Transform& each : group) orders.push_back({each});
    orders.push_back({TopK{9}, edits[2], TopP{0.9}, edits[3], XTC{1, 0.01}, edits[1]});
    orders.push_back({Forbid{{1}}, Allow{}, TopP{0.5}});
    std::vector<Read> reads;
    for (const std::vector<Transform>& transforms : orders)
        for (Read::Kind kind : {Read::pick, Read::top, Read::draws, Read::score})
            for (bool noise : {false, true})
                reads.push_back({kind, 0, 3, noise, noise_key(5, 3), 2, 4, noise, 3, true, transforms});
    return reads;
}

bool equal(const Answer& one, const Answer& other) {
    const auto tokens = [](const Answer& answer) {
        std::vector<int> found = {answer.kind, answer.token};
        for (const auto* list : {&answer.raw.top, &answer.processed.top, &answer.top})
            for (const Candidate& each : *list) found.push_back(each.token);
        for (const Drawn& each : answer.drawn) found.push_back(each.token);
        return found;
    };
    return tokens(one) == tokens(other) && one.raw.logprob == other.raw.logprob &&
           one.processed.logprob == other.processed.logprob;
}

// Whether a row gives the same answers on any thread; also one that cannot be read, and one with few tokens left.
bool readouts_hold(Pool& pool, std::vector<float> scores) {
    std::vector<float> wide(5000), bare(70, -INFINITY), broken = scores, gone(9, -INFINITY);
    for (float& score : wide) score = float(dice() % 4001) / 200;
    bare[41] = 3;
    broken[7] = NAN;
    for (const std::vector<float>& row : {scores, wide, bare, broken, gone}) {
        const std::vector<Read> reads = every_read(int(row.size()));
        std::vector<Answer> answers(2 * reads.size());
        pool.share(int(answers.size()), 1,
                   [&](int i, int) { answers[i] = read_row(row.data(), int(row.size()), reads[i / 2]); });
        for (size_t i = 0; i < reads.size(); i++)
            if (!equal(answers[2 * i], answers[2 * i + 1])) return false;
    }
    return true;
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
    for (int i = 250; i <= last; i++)
        branch.push_back({text[i], slots[i - 250], 250, slots.data(), i - 249, branched.get()});
    same = same && scores(model, branch, {int(branch.size()) - 1})[0] == expected;
    std::vector<int> targets;
    for (int i = 250; i <= last; i++) targets.push_back(i);
    branched->move(slots, targets);
    same = same && scores(model, {{text[last], last, last + 1, nullptr, 0, branched.get()}}, {0})[0] == expected;

    return same && std::isfinite(expected[0]) && readouts_hold(model.pool(), expected);
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
                std::printf("%s, %s, %s: a row depends on its pass\n", isa.c_str(), kind.name,
                            exact ? "exact" : "fast");
                failed = 1;
            }
    if (!failed)
        std::printf("%zu instruction sets, %zu storage formats, both precisions: no row depends on its pass\n",
                    instruction_sets().size(), kKinds.size());
    return failed;
}
