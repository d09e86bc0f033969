"""Record what many requests give, and compare two such records: a change of the code must change no text.

    python benchmarks/record_texts.py record FILE [--part toy|native|numpy|torch]
    python benchmarks/record_texts.py compare OLD NEW [--part toy|native|numpy|torch]

The parts toy and native must be equal to the last bit. In numpy and torch the tokens must be equal and numbers within
1e-4; where the tokens part at two log-probabilities that are nearer than that, it is a near tie and no difference.
Only names that are meant to stay are used, so the same script runs on both commits. Of speculation the tokens, texts
and finish reasons are recorded, not what was drafted: that depends on a clock. Needs the packages of the extra
`test`; without torch that part is left out. Takes some minutes on two cores.
"""

import argparse
import hashlib
import importlib.util
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

import record_requests as ask

import nextok as nt

PARTS = ("toy", "native", "numpy", "torch")
EXACT = ("toy", "native")
"""Parts that must be equal to the last bit."""
TOLERANCE = 1e-4
"""Nats by which log-probabilities and scores may differ in the other parts."""
TOKENS = {"toy": 40, "native": 24, "numpy": 24, "torch": 24}
"""Tokens of each text at most."""
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
"""The environment in which numpy and torch compute with one thread."""
NUMBER = re.compile(r"-?0x[0-9a-f.]+p[+-][0-9]+|-?inf|nan")


@dataclass(frozen=True)
class Section:
    """What one process records: a model, how it is loaded, and how many of the requests it answers."""

    part: str
    load: dict[str, Any]
    isa: str = ""
    prompts: int = 1
    most: int | None = None


def sections() -> dict[str, Section]:
    """All of this machine, by name. One thread each: two that share a busy core wait for each other."""
    from nextok._native import instruction_sets

    best, *others = instruction_sets()
    fast, exact = ({"backend": "native", "precision": each, "threads": 1} for each in ("fast", "exact"))
    found = {"toy": Section("toy", {})}
    found["native fast"] = Section("native", fast, best, prompts=2)
    found["native exact"] = Section("native", exact, best, prompts=2)
    for isa in others:
        found[f"native fast {isa}"] = Section("native", fast, isa, most=40)
        found[f"native exact {isa}"] = Section("native", exact, isa, most=20)
    found["numpy exact"] = Section("numpy", {"backend": "numpy", "precision": "exact"}, most=60)
    if importlib.util.find_spec("torch"):
        torch = {"backend": "torch", "device": "cpu", "precision": "exact", "threads": 1}
        found["torch float32"] = Section("torch", torch, most=60)
    return found


def checksum(text: str) -> str:
    """A text's SHA-256 in hex."""
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()


def exactly(value: float | None) -> str | None:
    """All bits of a number, as JSON can hold them."""
    return None if value is None else float(value).hex()


def told_scores(scores: nt.Scores) -> dict[str, Any]:
    """A text that was read."""
    return {
        "tokens": scores.tokens,
        "logprobs": [exactly(each) for each in scores.logprobs],
        "top": [[exactly(logprob) for _, logprob in top] for top in scores.top],
        "top_tokens": [[token for token, _ in top] for top in scores.top],
    }


def told_choice(choice: nt.Completion) -> dict[str, Any]:
    """A text that was written."""
    told = {
        "tokens": choice.tokens,
        "finish": choice.finish_reason,
        "text": checksum(choice.text),
        "score": exactly(choice.score),
        "error": None if choice.error is None else type(choice.error).__name__,
    }
    if choice.logprobs is None:
        return told
    return told | {
        "logprobs": [exactly(each.logprob) for each in choice.logprobs],
        "top": [[exactly(logprob) for _, logprob in each.top] for each in choice.logprobs],
        "top_tokens": [[token for token, _ in each.top] for each in choice.logprobs],
        "processed": [exactly(each.processed) for each in choice.logprobs],
        "processed_top": [[exactly(logprob) for _, logprob in each.processed_top] for each in choice.logprobs],
        "processed_top_tokens": [[token for token, _ in each.processed_top] for each in choice.logprobs],
    }


def told_output(output: nt.Output) -> dict[str, Any]:
    """What one prompt gave. That a draft failed is told: its request would no longer speculate."""
    failed = output.stats.draft_error
    told: dict[str, Any] = {"choices": [told_choice(choice) for choice in output.choices]}
    if output.prompt_logprobs is not None:
        told["prompt"] = told_scores(output.prompt_logprobs)
    return told if failed is None else told | {"draft_error": type(failed).__name__}


def answers(lm: nt.LM, asked: ask.Asked, seed: int, max_tokens: int) -> list[dict[str, Any]]:
    """Run one request, and tell what each of its prompts gave."""
    if asked.method == "score":
        return [{"choices": [], "prompt": told_scores(lm.score(asked.prompt, **asked.options))}]
    options = {"max_tokens": max_tokens, "seed": seed, "logprobs": 3} | asked.options
    if isinstance(asked.strategy, nt.Speculate):
        del options["logprobs"]  # how many rows a pass has depends on a clock, and on that perhaps a last bit
    found = getattr(lm, asked.method)(asked.prompt, asked.strategy, **options)
    if asked.method != "stream":
        return [told_output(output) for output in (found if isinstance(found, list) else [found])]
    joined: dict[int, str] = {}
    for piece in found:
        joined[piece.choice] = joined.get(piece.choice, "") + piece.text
    pieces = {str(choice): checksum(text) for choice, text in sorted(joined.items())}
    return [told_output(found.output()) | {"pieces": pieces}]


def evenly(found: dict[str, ask.Asked], most: int | None) -> dict[str, ask.Asked]:
    """At most so many of the requests, from all over the list."""
    if most is None or len(found) <= most:
        return found
    names = list(found)
    return {names[index * len(names) // most]: found[names[index * len(names) // most]] for index in range(most)}


def recorded(section: Section) -> dict[str, Any]:
    """Every request of a section, by name, and what it gave."""
    if section.part == "toy":
        worlds = ask.toy_worlds()
    else:
        worlds = {"smollm2": ask.default_world(nt.load("smollm2", **section.load), section.prompts)}
    return {
        f"{world}: {name}": answers(worlds[world].lm, asked, zlib.crc32(name.encode()), TOKENS[section.part])
        for world in worlds
        for name, asked in evenly(ask.requests(worlds[world]), section.most).items()
    }


def record(path: Path, parts: tuple[str, ...]) -> None:
    """Record these parts, each section in a process of its own, two at a time."""
    chosen = {name: section for name, section in sections().items() if section.part in parts}
    if not chosen:
        sys.exit(f"record_texts: nothing of {', '.join(parts)} is installed")

    about = {"nextok": nt.__version__, "python": platform.python_version(), "machine": platform.platform()}
    found: dict[str, Any] = {}

    def run(name: str) -> None:
        started_at = time.perf_counter()
        environment = os.environ | ONE_THREAD | {"NEXTOK_ISA": chosen[name].isa}
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, "section.json")
            command = [sys.executable, __file__, "section", str(file), "--name", name]
            subprocess.run(command, env=environment, check=True)
            found[name] = json.loads(file.read_text())
        print(f"{name}: {len(found[name])} requests in {time.perf_counter() - started_at:.0f} s", file=sys.stderr)

    with ThreadPoolExecutor(2) as pool:
        for _ in pool.map(run, chosen):  # an error of any section is raised here
            path.write_text(json.dumps({"about": about, "sections": {n: found[n] for n in chosen if n in found}}))


def differences(old: Any, new: Any, near: bool, path: str = "") -> Iterator[str]:
    """Where two results differ; if `near`, numbers may differ by the tolerance, and alternatives change places."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in [*old, *(key for key in new if key not in old)]:
            if not (near and key.endswith("top_tokens")):
                yield from differences(old.get(key), new.get(key), near, f"{path}.{key}")
    elif isinstance(old, list) and isinstance(new, list):
        for index, (one, other) in enumerate(zip_longest(old, new)):
            yield from differences(one, other, near, f"{path}[{index}]")
    elif old != new and not (near and is_near(old, new)):
        yield f"{path.lstrip('.')}: {shown(old)} became {shown(new)}"


def number(value: Any) -> float | None:
    """The number that a text of JSON stands for, if it does."""
    return float.fromhex(value) if isinstance(value, str) and NUMBER.fullmatch(value) else None


def is_near(old: Any, new: Any) -> bool:
    """Whether both are numbers, and as good as equal."""
    one, other = number(old), number(new)
    return one is not None and other is not None and abs(one - other) <= TOLERANCE


def shown(value: Any) -> str:
    """A value as a reader wants it, with all bits if it is a number."""
    found = number(value)
    return f"{value!r:.60}" if found is None else f"{found:.9g} ({value})"


def parting(old: Any, new: Any) -> tuple[str, float | None] | None:
    """Where the tokens of two results part first, and the gap between the best two log-probabilities there."""
    for prompt, (was, now) in enumerate(zip(old, new)):
        for choice, (one, other) in enumerate(zip(was["choices"], now["choices"])):
            if one["tokens"] == other["tokens"]:
                continue
            pairs = enumerate(zip_longest(one["tokens"], other["tokens"]))
            place, (token, instead) = next((place, pair) for place, pair in pairs if pair[0] != pair[1])
            tops = one.get("processed_top", [])
            best = [number(logprob) for logprob in tops[place]] if place < len(tops) else []
            gap = best[0] - best[1] if len(best) > 1 and None not in best[:2] else None
            return f"[{prompt}].choices[{choice}].tokens[{place}]: {token} became {instead}", gap
    return None


def verdict(old: Any, new: Any, near: bool) -> tuple[str, str]:
    """Say equal, near tie or differs, and where."""
    found = next(differences(old, new, near), None)
    if found is None:
        return "equal", ""
    parted = parting(old, new) if near else None
    if parted is None:
        return "differs", found
    where, gap = parted
    told = f"{where}, the best two log-probabilities there are {'unknown' if gap is None else f'{gap:.2g} apart'}"
    return ("near tie" if gap is not None and gap < TOLERANCE else "differs"), told


def compare(old: Any, new: Any, parts: tuple[str, ...]) -> bool:
    """Print what differs section by section; whether nothing does."""
    if old["about"] != new["about"]:
        print(f"recorded by different sides: {old['about']} and {new['about']}")
    one, other = ({n: s for n, s in each["sections"].items() if n.split()[0] in parts} for each in (old, new))
    same = bool(one)
    for name in [*one, *(name for name in other if name not in one)]:
        was, now = one.get(name, {}), other.get(name, {})
        both = [request for request in was if request in now]
        verdicts = {each: verdict(was[each], now[each], name.split()[0] not in EXACT) for each in both}
        counts = {
            kind: sum(each == kind for each, _ in verdicts.values()) for kind in ("equal", "near tie", "differs")
        }
        lost = [each for each in was | now if each not in both]
        told = ", ".join(f"{count} {kind}" for kind, count in counts.items())
        print(f"{name}: {len(both)} compared, {told}, {len(lost)} in one file only")
        for request, (kind, where) in verdicts.items():
            if kind != "equal":
                print(f"  {kind}: {request}: {where}")
        for request in lost:
            print(f"  only in {'OLD' if request in was else 'NEW'}: {request}")
        same = same and not counts["differs"] and not lost
    return same


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, files in {"record": ["file"], "compare": ["old", "new"], "section": ["file"]}.items():
        command = commands.add_parser(name)
        for file in files:
            command.add_argument(file, type=Path)
        if name == "section":  # what `record` runs in its processes
            command.add_argument("--name", required=True)
        else:
            command.add_argument("--part", choices=PARTS)
    given = parser.parse_args()
    if given.command == "section":
        given.file.write_text(json.dumps(recorded(sections()[given.name])))
        return
    parts = (given.part,) if given.part else PARTS
    if given.command == "record":
        record(given.file, parts)
    elif not compare(json.loads(given.old.read_text()), json.loads(given.new.read_text()), parts):
        sys.exit(1)


if __name__ == "__main__":
    main()
