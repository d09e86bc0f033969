// What the core imports from Python. This is the only list of it; tests/test_shape.py reads it and looks each name up.
#pragma once
#include <nanobind/nanobind.h>

namespace nextok::python {

struct Name {
    const char* module;
    const char* name;
};

inline nanobind::object fetch(const Name& each) { return nanobind::module_::import_(each.module).attr(each.name); }

constexpr const char* kQuery = "nextok.core.query";
constexpr const char* kReadout = "nextok.readout.readout";
constexpr const char* kEdits = "nextok.sampling.edits";
constexpr const char* kTransforms = "nextok.sampling.transforms";

constexpr Name kPick{kQuery, "Pick"};
constexpr Name kTop{kQuery, "Top"};
constexpr Name kDraws{kQuery, "Draws"};
constexpr Name kScore{kQuery, "Score"};
constexpr Name kChoice{kQuery, "Choice"};
constexpr Name kCandidate{kQuery, "Candidate"};
constexpr Name kDrawn{kQuery, "Drawn"};

constexpr Name kUnreadable{kReadout, "unreadable"};
constexpr Name kDeadEnd{kReadout, "dead_end"};

constexpr Name kAllow{kEdits, "Allow"};
constexpr Name kForbid{kEdits, "Forbid"};
constexpr Name kAdd{kEdits, "Add"};
constexpr Name kScale{kEdits, "Scale"};
constexpr Name kTemperature{kTransforms, "Temperature"};
constexpr Name kDynamicTemperature{kTransforms, "DynamicTemperature"};
constexpr Name kTopK{kTransforms, "TopK"};
constexpr Name kTopP{kTransforms, "TopP"};
constexpr Name kMinP{kTransforms, "MinP"};
constexpr Name kTypicalP{kTransforms, "TypicalP"};
constexpr Name kEpsilonCutoff{kTransforms, "EpsilonCutoff"};
constexpr Name kEtaCutoff{kTransforms, "EtaCutoff"};
constexpr Name kTopNSigma{kTransforms, "TopNSigma"};
constexpr Name kXTC{kTransforms, "XTC"};
constexpr Name kSurprise{kTransforms, "Surprise"};

}  // namespace nextok::python
