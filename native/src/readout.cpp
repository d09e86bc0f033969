#include "readout.hpp"

#include <cmath>

#include "argmax.hpp"
#include "filters.hpp"

namespace nextok {
namespace {

// Normalises the row.
Likelihood likelihood(Survivors& row, int token, int alternatives) {
    row.normalise();
    return {row.of(token), row.candidates(alternatives)};
}

void report(const float* logits, int vocab, int first, const Read& read, Answer& answer) {
    Survivors row(logits, vocab, first);
    answer.raw = likelihood(row, answer.token, read.alternatives);
}

}  // namespace

Answer read_row(const float* logits, int vocab, const Read& read) {
    const int first = argmax(logits, vocab);
    Answer answer{};
    answer.token = read.kind == Read::score ? read.token : first;
    if (!std::isfinite(logits[first])) return answer.kind = Answer::unreadable, answer.best = logits[first], answer;
    if (read.transforms.empty() && read.kind == Read::pick && !read.noise) {
        if (read.logprobs) report(logits, vocab, first, read, answer);
        return answer;
    }
    Survivors row(logits, vocab, first);
    apply(read.transforms, read.key, row);
    answer.best = row.best();
    const bool empty = answer.best == float(kNever);
    if (!empty && !std::isfinite(answer.best)) return answer.kind = Answer::unreadable, answer;
    if (empty && read.kind != Read::score) return answer.kind = Answer::dead_end, answer;
    switch (read.kind) {
        case Read::top:
            row.normalise();
            answer.top = row.candidates(read.count);
            return answer;
        case Read::draws:
            row.normalise();
            answer.drawn = row.draws(read.count, read.key);
            return answer;
        case Read::pick: answer.token = read.noise ? row.draws(1, read.key)[0].token : row.first(); break;
        case Read::score: break;
    }
    if (read.logprobs) report(logits, vocab, first, read, answer);
    if (read.transforms.empty() || !(read.logprobs || read.surprise)) return answer;
    if (empty)
        answer.processed = {kNever, {}};
    else
        answer.processed = likelihood(row, answer.token, read.alternatives);
    return answer;
}

}  // namespace nextok
