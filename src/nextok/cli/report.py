"""Facts of a generation, as JSON and in words."""

import math
import platform
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from nextok import __version__

if TYPE_CHECKING:
    from nextok.generation.output import Completion, Output, Scores, Stats, TokenLogprob
    from nextok.lm import LM
    from nextok.strategies.base import Strategy


def build_json(output: "Output", lm: "LM", strategy: "Strategy", load_seconds: float) -> dict[str, Any]:
    """All facts of an output; with several choices, the outer ones are those of the first."""
    stats = output.stats
    choices = [build_choice_json(choice, strategy) for choice in output.choices]
    return {
        **choices[0],
        **({"choices": choices} if len(choices) > 1 else {}),
        "prompt_logprobs": None if output.prompt_logprobs is None else _build_prompt_json(output.prompt_logprobs),
        "usage": {"prompt_tokens": stats.prompt_tokens, "generated_tokens": stats.generated_tokens},
        **build_cost_json(stats),
        "timings": {"load_seconds": round(load_seconds, 4), **build_timings_json(stats)},
        "strategy": repr(strategy),
        "model": lm.name,
        "origin": lm.origin,
        "versions": {"nextok": __version__, "python": platform.python_version()},
    }


def build_choice_json(choice: "Completion", strategy: "Strategy") -> dict[str, Any]:
    """One text with its tokens."""
    logprobs = None if choice.logprobs is None else [_build_logprob_json(each) for each in choice.logprobs]
    return {
        "text": choice.text,
        "token_ids": choice.tokens,
        "finish_reason": choice.finish_reason,
        "seed": choice.seed if strategy.is_random() else None,
        "score": _drop_infinite(choice.score),
        "logprobs": logprobs,
    }


def build_cost_json(stats: "Stats") -> dict[str, Any]:
    """Numbers of passes, and of drafted and accepted tokens."""
    return {
        "passes": stats.passes,
        "drafted": stats.drafted,
        "accepted": stats.accepted,
        "accepted_lengths": list(stats.accepted_lengths),
        "draft_error": None if stats.draft_error is None else str(stats.draft_error),
    }


def build_timings_json(stats: "Stats") -> dict[str, float | None]:
    """Times in seconds and tokens per second; None where nothing was generated."""
    some = stats.generated_tokens > 0
    return {
        "seconds": round(stats.seconds, 4),
        "seconds_to_first_token": round(stats.seconds_to_first_token, 4) if some else None,
        "tokens_per_second": round(stats.tokens_per_second, 2) if some else None,
    }


def describe_output(output: "Output", strategy: "Strategy") -> str:
    """The statistics of an output on two lines, or three if it had a draft."""
    stats, choice = output.stats, output.choices[0]
    speed = ""
    seed = f" · seed {choice.seed}" if strategy.is_random() else ""
    if stats.generated_tokens:
        speed = f" · {stats.tokens_per_second:.1f} tokens/s · first after {stats.seconds_to_first_token:.2f} s"
    return (
        f"{stats.prompt_tokens} prompt tokens · {stats.generated_tokens} generated in {stats.seconds:.2f} s{speed}\n"
        f"{stats.passes} passes · {strategy!r}{seed} · ended by {choice.finish_reason}"
        + (_describe_drafts(stats) if stats.verifications else "")
    )


def _describe_drafts(stats: "Stats") -> str:
    """Numbers of drafted and accepted tokens; the token that the model adds to each verified draft is not counted."""
    share = "" if stats.acceptance_rate is None else f" ({stats.acceptance_rate:.0%})"
    often = " · ".join(f"{length}: {count}×" for length, count in enumerate(stats.accepted_lengths) if count)
    return (
        f"\ndrafted {stats.drafted}, accepted {stats.accepted}{share}, {stats.mean_accepted:.2f} a pass · "
        f"accepted at once {often}"
        + ("" if stats.draft_error is None else f"\nthe draft failed: {stats.draft_error}")
    )


def _build_logprob_json(each: "TokenLogprob") -> dict[str, Any]:
    return {
        "token_id": each.token,
        "logprob": _drop_infinite(each.logprob),
        "top": _build_top_json(each.top),
        "processed_logprob": _drop_infinite(each.processed),
        "processed_top": _build_top_json(each.processed_top),
    }


def _build_prompt_json(scores: "Scores") -> list[dict[str, Any]]:
    """The first token has no log-probability."""
    return [
        {"token_id": token, "logprob": _drop_infinite(logprob), "top": _build_top_json(top)}
        for token, logprob, top in zip(scores.tokens, scores.logprobs, scores.top)
    ]


def _build_top_json(top: "Sequence[tuple[int, float]]") -> list[dict[str, Any]]:
    return [{"token_id": token, "logprob": _drop_infinite(logprob)} for token, logprob in top]


def _drop_infinite(number: float | None) -> float | None:
    """The number, or None for infinity and NaN, which JSON cannot hold."""
    return number if number is not None and math.isfinite(number) else None
