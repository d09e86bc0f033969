"""The laws of decoding, checked with a model on the machine that it runs on: what must never change a text.

For each law, texts are written in another way and compared, token by token, with those that the model writes alone.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nextok.core.query import Pick, Score
from nextok.drafts.base import Draft
from nextok.drafts.draft_model import DraftModel
from nextok.drafts.prompt_lookup import PromptLookup
from nextok.engine.engine import Engine
from nextok.engine.prefix import WORTHWHILE
from nextok.engine.reference import drive
from nextok.models.base import Model
from nextok.sampling.sampler import Sampler
from nextok.strategies.beam.beam import Beam
from nextok.strategies.sample import Greedy, Sample
from nextok.strategies.speculate import Speculate
from nextok.tools.probe import Case, Difference, Probe, collect_text, read_alone

if TYPE_CHECKING:
    from nextok.formats import Checkpoint
    from nextok.lm import LM

SECONDS = 60.0
"""Time for all laws together, in seconds. Each has an equal share and stops after the text that uses it up."""

NEAR = 1e-3
"""Largest difference of log-probabilities that counts as equal on backends that round by shape."""

TOLERANCES = {"fast": (1.5, 0.3)}
"""Largest difference from float32's log-probabilities, by precision: of each of them, and of all on average."""
BEST = 10
"""Number of best tokens that are compared at each place."""
MOST_PARAMETERS = 500_000_000
"""Largest number of parameters of a model that is compared with numpy."""

GREEDY: Any = Greedy()
WARM: Any = Sample(temperature=0.7)


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a law holds here; `passed` is None if it was not checked, and `detail` says why."""

    name: str
    passed: bool | None
    detail: str
    difference: Difference | None = None


class NotCheckedError(Exception):
    """A law cannot be checked with this model."""


Law = Callable[[Probe], Iterator[Case]]
Answer = tuple[bool, str, Difference | None]
"""Whether a law holds, what was compared or went wrong, and the first difference."""


def write_uncached(probe: Probe) -> Iterator[Case]:
    """Read the whole text again for every token, without cache or engine."""
    for prompt, sampling in zip(probe.prompts, (GREEDY, WARM, GREEDY)):
        request = probe.make_request(prompt)
        events = list(drive(sampling, request, probe.model))
        yield Case(prompt, sampling, "read anew for each token", collect_text(request, events))


def write_chunked(probe: Probe) -> Iterator[Case]:
    """Read a prompt in several passes."""
    for budget in (5, 32):
        text = probe.write(probe.story, GREEDY, Engine(probe.model, budget=budget))
        yield Case(probe.story, GREEDY, f"read {budget} tokens a pass", text)


def write_batched(probe: Probe) -> Iterator[Case]:
    """Write all texts at once, some greedy and some drawn."""
    asked = [(prompt, WARM if index % 4 == 1 else GREEDY) for index, prompt in enumerate(probe.prompts)]
    way = f"in a batch of {len(asked)}"
    for (prompt, sampling), text in zip(asked, probe.write_together(asked)):
        yield Case(prompt, sampling, way, text)


def write_speculative(probe: Probe) -> Iterator[Case]:
    """Check several tokens in one pass, guessed from the prompt or by the model itself."""
    drafts: dict[str, Draft] = {
        "with prompt lookup": PromptLookup(),
        "with itself as draft": DraftModel(probe.lm, max_draft=5),
    }
    for prompt in probe.prompts[:2]:
        for sampling in (GREEDY, WARM):
            for way, draft in drafts.items():
                yield Case(prompt, sampling, way, probe.write(prompt, Speculate(draft, sampling)))


def write_one_beam(probe: Probe) -> Iterator[Case]:
    """Write by a beam search that keeps a single text."""
    for prompt in probe.prompts[:2]:
        yield Case(prompt, GREEDY, "as a beam search of width 1", probe.write(prompt, Beam(1)))


def write_shared(probe: Probe) -> Iterator[Case]:
    """Write texts that begin alike, so that the second one uses what was read for the first."""
    prompts = [[*probe.story, *prompt[:8]] for prompt in probe.prompts[1:3]]
    longest = max(map(len, prompts))
    if len(probe.story) < WORTHWHILE or longest + probe.tokens > probe.model.context:
        raise NotCheckedError(f"a context of {probe.model.context} tokens holds no beginning that is worth sharing")
    engine, kept = Engine(probe.model), []
    for prompt in prompts:
        before = engine.tokens_read
        kept.append(request := probe.make_request(prompt))  # a tree that is kept keeps its cache
        events: list[Any] = []
        engine.submit(request, GREEDY, events.append)
        engine.run()
        yield Case(prompt, GREEDY, "after a text that begins alike", collect_text(request, events))
    if engine.tokens_read - before >= len(prompts[1]):
        raise NotCheckedError("the second text shared nothing with the first")
    for prompt, text in zip(prompts, probe.write_together((prompt, GREEDY) for prompt in prompts)):
        yield Case(prompt, GREEDY, "beside a text that begins alike", text)


LAWS: dict[str, Law] = {
    "cache = no cache": write_uncached,
    "prompt in chunks = whole": write_chunked,
    "in a batch = alone": write_batched,
    "speculative = plain": write_speculative,
    "beam of one = greedy": write_one_beam,
    "shared beginning = own": write_shared,
}


def check_laws(
    lm: "LM",
    precision: str,
    reference: Callable[[], Model] | None = None,
    seconds: float = SECONDS,
    during: Callable[[str], AbstractContextManager[Any]] = nullcontext,
) -> Iterator[Verdict]:
    """Check every law with a model, and compare it with the model `reference()` unless that is None.

    An error while a law is checked is a verdict too; each check runs inside the context `during(its name)`.
    """
    probe = Probe(lm, precision, NEAR if lm.model.rounds_by_shape else 0.0)
    ends_at = time.perf_counter() + seconds
    with during("model runs"):
        runs = _ask("model runs", lambda: _time_first_text(probe))
    yield runs
    if not runs.passed:
        return
    share = seconds / (len(LAWS) + 1)
    asked = {name: _judge(law, probe, share) for name, law in LAWS.items()}
    if reference is not None:
        asked["backend = reference"] = lambda: _compare_with_reference(probe, reference)
    for name, ask in asked.items():
        if time.perf_counter() > ends_at:
            yield Verdict(name, None, f"not checked: the {seconds:g} seconds for all laws are over")
            continue
        with during(name):
            verdict = _ask(name, ask)
        yield verdict


def build_reference(checkpoint: "Checkpoint", available: int | None) -> Model:
    """The numpy model of the same weights; NotCheckedError if they are too many for it, or for the free memory."""
    from math import prod

    from nextok.models.llama_numpy import LlamaNumpy

    count = sum(prod(tensor.shape) for tensor in checkpoint.tensors.values())
    size = f"{count / 1e6:,.0f} million parameters"
    if count > MOST_PARAMETERS:
        raise NotCheckedError(
            f"{size} are too slow in numpy; {MOST_PARAMETERS / 1e6:.0f} million are compared at most"
        )
    if available is not None and available < 6 * count:
        raise NotCheckedError(f"{size} in float32 need more memory than is free")
    return LlamaNumpy(checkpoint)


def _ask(name: str, ask: Callable[[], Answer]) -> Verdict:
    """The verdict of one check; an error during the check is a failure with its reason."""
    try:
        return Verdict(name, *ask())
    except NotCheckedError as error:
        return Verdict(name, None, f"not checked: {error}")
    except Exception as error:
        return Verdict(name, False, f"{type(error).__name__}: {error}")


def _time_first_text(probe: Probe) -> Answer:
    """Whether the model writes at all; a slow model writes shorter texts from then on."""
    probe.write_plain(probe.prompts[0], GREEDY)
    started_at = time.perf_counter()
    probe.write(probe.prompts[0], GREEDY)
    seconds = time.perf_counter() - started_at
    speed = f"{probe.tokens / seconds:.1f} tokens/s, a short prompt included"
    probe.slow_down(seconds)
    return True, speed, None


def _judge(law: Law, probe: Probe, seconds: float) -> Callable[[], Answer]:
    def judge() -> Answer:
        texts, ends_at, ending = 0, time.perf_counter() + seconds, ""
        for case in law(probe):
            texts += 1
            if difference := probe.find_difference(case):
                return False, str(difference), difference
            if time.perf_counter() > ends_at:
                ending = "; then the time was over"
                break
        exactly = f"within {probe.tolerance:g}" if probe.tolerance else "to the last bit"
        counted = "1 text" if texts == 1 else f"{texts} texts"
        return True, f"{counted} of {probe.tokens} tokens, equal {exactly}{ending}", None

    return judge


def _compare_with_reference(probe: Probe, reference: Callable[[], Model]) -> Answer:
    """Three texts through both models: the log-probabilities of the reference's best tokens, and what each picks."""
    model, (most, mean) = reference(), TOLERANCES.get(probe.precision, (NEAR, NEAR))
    apart, others = list[float](), 0
    for prompt in probe.prompts[:3]:
        for position, (expected, found, scores) in enumerate(_read_side_by_side(probe, model, prompt)):
            pairs = [(abs(score.logprob - best), best, score) for score, (_, best) in zip(scores, expected.top)]
            worst, best, score = max(pairs, key=lambda pair: pair[0])
            gap = expected.logprob - dict(expected.top).get(found.token, expected.top[-1].logprob)
            if not (worst <= most and gap <= most):
                named = probe.name_token(expected.token), probe.name_token(found.token)
                if not worst <= most:
                    named, gap = (
                        (probe.describe_score(score.token, best), probe.describe_score(score.token, score.logprob)),
                        None,
                    )
                way = "compared with numpy in float32"
                difference = Difference(probe.decode(prompt), way, position, *named, gap, probe.precision)
                return False, str(difference), difference
            apart += [distance for distance, _, _ in pairs]
            others += found.token != expected.token
    average = sum(apart) / len(apart)
    said = f"{average:.2g} on average and {max(apart):.2g} at most (allowed: {mean:g} and {most:g})"
    picks = f"; {others} picks differ, all near ties" if others else ""
    return average <= mean, f"log-probabilities apart by {said}{picks}", None


def _read_side_by_side(probe: Probe, model: Model, prompt: list[int]) -> Iterator[tuple[Any, Any, list[Any]]]:
    """At each place of a text: what `model` picks and its best tokens, then the probe's pick and scores."""
    path = [*prompt, *probe.write_plain(prompt, GREEDY).tokens[:-1]]
    places, pick = range(len(prompt) - 1, len(path)), Pick(Sampler(noise=False))
    expected = [choices[0] for choices in read_alone(model, path, places, [[(pick, BEST)]] * len(places))]
    reads = [[(pick, None), *((Score(token), None) for token, _ in each.top)] for each in expected]
    for each, (found, *scores) in zip(expected, read_alone(probe.model, path, places, reads)):
        yield each, found, scores
