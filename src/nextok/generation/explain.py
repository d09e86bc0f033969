"""One line for each mistake in a call: what is wrong, and what to write instead."""

import difflib
from collections.abc import Collection, Mapping
from dataclasses import fields
from typing import Any

from nextok.generation.spellings import SPELLINGS
from nextok.strategies.base import Strategy
from nextok.strategies.sample import Greedy, Sample

OF_LIBRARIES = {
    "num_return_sequences": "n",
    "eos_token_id": "stop_token_ids",
    "bad_words_ids": "bad_words",
    "max_time": "timeout",
    "stop_words": "stop",
    "num_beams": "width",
    "beam_width": "width",
    "beam_size": "width",
    "num_beam_groups": "groups",
    "diversity_penalty": "diversity",
    "num_assistant_tokens": "max_draft",
    "prompt_lookup_num_tokens": "max_draft",
    "assistant_model": "draft_model",
}
"""Further names that only libraries use -> ours."""
PENALTIES = {each.name for each in fields(Greedy)}
SAMPLING = {each.name for each in fields(Sample)} | {"do_sample"}
GROUPS = {"groups": 2, "diversity": 0.5}
SEARCH = {"width", "length_penalty", "early_stopping", "patience", *GROUPS}
DRAFTS = {"draft", "draft_model", "max_draft", "shortest", "history", "widths"}
OF_STRATEGIES = SAMPLING | SEARCH | DRAFTS | {"sampling"}
ADVICE = {
    "stream": "lm.stream(...) gives the text piece by piece",
    "system": 'the system message is one of the messages: lm.chat([{"role": "system", "content": "..."}, ...])',
    "messages": "lm.chat(messages) answers a conversation",
    "max_length": "max_length counts the prompt too; max_tokens counts what is generated",
    "json_schema": "a schema is a grammar: grammar=nt.Grammar.json_schema(...)",
    "response_format": "a schema is a grammar: grammar=nt.Grammar.json_schema(...)",
    "regex": "a regular expression is a grammar: grammar=nt.Grammar.regex(...)",
}
STRATEGIES = "Greedy(), Sample(), Beam(), Speculate()"
EXAMPLES = {"greedy": "nt.Greedy()", "sample": "nt.Sample()", "beam": "nt.Beam(4)"}


def explain_options(unknown: Mapping[str, Any], known: Collection[str]) -> str:
    """One line that says of each unknown option, with the value it was given, what to write instead.

    `known`: the options that there are.
    """
    lines, misplaced = list[str](), dict[str, tuple[str, Any]]()
    for name, value in unknown.items():
        ours = SPELLINGS.get(name) or OF_LIBRARIES.get(name) or name
        if ours in known:
            lines.append(f"{name} is called {ours}")
        elif ours in OF_STRATEGIES:
            misplaced[name] = ours, value
        elif ours in ADVICE:
            lines.append(f"there is no option {name}: {ADVICE[ours]}")
        else:
            lines.append(_explain_unknown(name, value, known))
    if misplaced:
        verb = "belongs" if len(misplaced) == 1 else "belong"
        lines.append(f"{', '.join(misplaced)} {verb} to the strategy: {_write_strategy(dict(misplaced.values()))}")
    return "; ".join(lines)


def check_strategy(strategy: Strategy) -> None:
    """ValueError, with what to write instead, unless this is a strategy."""
    given: Any = strategy
    if isinstance(given, type):
        raise ValueError(f"strategy must be an object, got the class {given.__name__}: write {_name(given)}(...)")
    if given is None:
        raise ValueError("strategy must be an object, got None: leave it out for nt.Greedy()")
    if isinstance(given, str):
        example = EXAMPLES.get(given.lower(), "nt.Greedy() or nt.Sample(temperature=0.7)")
        raise ValueError(f"strategy must be an object, got the text {given!r:.40}: write {example}")
    if isinstance(given, Mapping):
        named = {str(name): value for name, value in given.items()}
        usual = {name: value for name, value in named.items() if name in OF_STRATEGIES}
        raise ValueError(f"strategy must be an object, got a dict: write {_write_strategy(usual)}")
    if not hasattr(given, "decode"):
        raise ValueError(f"strategy must be one of {STRATEGIES}, got {_show(given, 80)}{_explain_place(given)}")


def _explain_place(given: Any) -> str:
    """Where an object belongs that is a part of a strategy, and not one itself."""
    name = type(given).__name__
    if hasattr(given, "begin"):
        return f"; a draft needs nt.Speculate({name}(...))"
    if hasattr(given, "at"):
        return f"; a transform needs nt.Chain(({name}(...),))"
    return ""


def _explain_unknown(name: str, value: Any, known: Collection[str]) -> str:
    names = [*known, *OF_STRATEGIES, *SPELLINGS, *OF_LIBRARIES]
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.75)
    if not near:
        return f"there is no option {name}; the options are {', '.join(known)}"
    ours = SPELLINGS.get(near[0]) or OF_LIBRARIES.get(near[0]) or near[0]
    place = f" It belongs to the strategy: {_write_strategy({ours: value})}" if ours in OF_STRATEGIES else ""
    return f"there is no option {name}; did you mean {ours}?{place}"


def _write_strategy(values: Mapping[str, Any]) -> str:
    """The strategy with these settings, as a caller would write it."""
    shaping = {name: value for name, value in values.items() if name in SAMPLING - {"do_sample"}}
    search = {name: value for name, value in values.items() if name in SEARCH}
    greedy = shaping.keys() <= PENALTIES and not values.get("do_sample")
    sampling = _write_call("nt.Greedy" if greedy else "nt.Sample", shaping)
    inner = [sampling] if shaping or values.get("do_sample") else []
    if search.keys() & GROUPS.keys():
        return _write_call("nt.DiverseBeam", {"width": 4} | GROUPS | search, *(f"sampling={each}" for each in inner))
    if search:
        return _write_call("nt.Beam", {"width": 4} | search, *(f"sampling={each}" for each in inner))
    if values.keys() & DRAFTS:
        return f"nt.Speculate({', '.join([_write_draft(values), *inner])})"
    return "nt.Beam(4, sampling=nt.Sample())" if "sampling" in values else sampling


def _write_draft(values: Mapping[str, Any]) -> str:
    lookup = {name: value for name, value in values.items() if name in ("max_draft", "shortest", "history")}
    if "widths" in values:
        return f"nt.TokenTree(lm, widths={_show(values['widths'])})"
    if "draft_model" in values:
        return f"nt.DraftModel({', '.join(['lm', *_write_settings(lookup)])})"
    return _write_call("nt.PromptLookup", lookup)


def _write_call(name: str, values: Mapping[str, Any], *more: str) -> str:
    return f"{name}({', '.join([*_write_settings(values), *more])})"


def _write_settings(values: Mapping[str, Any]) -> list[str]:
    return [f"{name}={_show(value)}" for name, value in values.items()]


def _show(value: Any, most: int = 40) -> str:
    """A value on one line, cut where it is longer than `most` characters."""
    text = " ".join(repr(value).split())
    return text if len(text) <= most else f"{text[: most - 3]}..."


def _name(kind: type) -> str:
    """How a caller writes the name of a class."""
    return f"nt.{kind.__name__}" if kind.__module__.startswith("nextok.") else kind.__name__
