"""What `record_texts.py` asks of each model: toy models of bytes, and the default model."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import nextok as nt
from nextok.drafts.prompt_lookup import History
from nextok.lm import LM
from nextok.models import toy
from nextok.models.toy import ToyModel
from nextok.text import from_gguf, vocabulary


def _named(module: Any, *names: str) -> Any:
    """The first of these names that a module has: some were renamed since older commits."""
    return next(getattr(module, name) for name in names if hasattr(module, name))


hashed = _named(toy, "make_scores", "hashed")
byte_alphabet = _named(vocabulary, "build_byte_alphabet", "byte_alphabet")
tokenizer_from_metadata = _named(from_gguf, "build_tokenizer", "tokenizer_from_metadata")


EOS, USER, VOCAB = 257, 258, 259
TEMPLATE = (
    "{% for m in messages %}<user>{{ m['role'] }}:{{ m['content'] }}<eos>{% endfor %}"
    "{% if add_generation_prompt %}<user>assistant:{% endif %}"
)
READABLE = {*range(32, 127), ord("\n")}
SCRIPT = b"the cat sat on the mat and the cat sat on the hat, and the cat sat on the mat."
PROMPTS = ("The three largest cities of France are", "red blue red blue red", "def add(a, b):\n", "Zürich – 東京\n")
QUESTION = [{"role": "system", "content": "Be short."}, {"role": "user", "content": "Name a colour."}]
SMOLLM2_TOKENS = (7042, 28, 527, 314, 260, 3575, 282, 4649)
"""How the default model goes on after the first prompt: " Paris, which is the capital of France"."""
SMOLLM2_EOS = 2

Logits = Callable[[tuple[int, ...]], list[float]]


@dataclass(frozen=True)
class Asked:
    """One request: the method of LM, what it reads, the strategy and the options."""

    method: str
    prompt: Any
    strategy: Any = None
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class World:
    """A model, the models that draft for it, and tokens and a text that it is likely to write after PROMPTS[0]."""

    lm: Any
    drafters: dict[str, Any]
    tokens: tuple[int, ...]
    stop: str
    eos: int
    allowed: range
    prompts: int  # how many of the prompts each sampling and beam search reads


def centred(row):
    """What is below the mean loses half a point."""
    return row - 0.5 * (row < row[row > -float("inf")].mean())


def restless(row, tokens):
    """A token loses as much as it occurred among the last four."""
    for token in tokens[-4:]:
        row[token] -= 1
    return row


def samplings() -> dict[str, Any]:
    """Each penalty and each filter alone, and several together."""
    dry, fast = nt.DRY(0.9, base=1.5, allowed_length=1), nt.Mirostat(2, tau=1.2, eta=0.6)
    penalties = {
        "repetition": {"repetition_penalty": 1.4},
        "reward": {"repetition_penalty": 0.8, "presence_penalty": -0.5},
        "presence": {"presence_penalty": 0.8},
        "frequency": {"frequency_penalty": 0.7},
        "no pair twice": {"no_repeat_ngram_size": 2},
        "dry": {"dry": dry},
        "custom row": {"custom": centred},
        "custom text": {"custom": restless},
        "all penalties": {
            "repetition_penalty": 1.2,
            "frequency_penalty": 0.2,
            "dry": nt.DRY(0.5),
            "custom": restless,
        },
    }
    filters: dict[str, dict[str, Any]] = {
        "plain": {},
        "cold": {"temperature": 0},
        "warm": {"temperature": 0.7},
        "hot": {"temperature": 1.8},
        "top_k": {"top_k": 5},
        "top_p": {"top_p": 0.8},
        "min_p": {"min_p": 0.1},
        "typical_p": {"typical_p": 0.6},
        "epsilon": {"epsilon_cutoff": 0.03},
        "eta": {"eta_cutoff": 0.2},
        "sigma": {"top_n_sigma": 1.8},
        "xtc": {"xtc": nt.XTC(0.5, 0.1)},
        "mirostat 1": {"mirostat": nt.Mirostat(1, tau=1.5, eta=0.4)},
        "mirostat 2": {"mirostat": fast},
        "dynamic": {"dynamic_temperature": nt.DynamicTemperature(0.3, 2.5, 1.3)},
        "k, p and min": {"temperature": 1.3, "top_k": 50, "top_p": 0.9, "min_p": 0.05},
    }
    together = {"temperature": 1.2, "top_k": 60, "top_p": 0.97, "min_p": 0.01, "typical_p": 0.95, "top_n_sigma": 3.0}
    together |= {"epsilon_cutoff": 1e-4, "eta_cutoff": 1e-3, "xtc": nt.XTC(0.3, 0.2), "mirostat": fast}
    own = (nt.TopP(0.9), nt.RepetitionPenalty(1.5), nt.Temperature(0.8), nt.TopK(4))
    late = (nt.Temperature(1.2), nt.Custom(restless), nt.Mirostat(2, tau=1.5, eta=0.5))
    return {
        "greedy": nt.Greedy(),
        **{f"greedy {name}": nt.Greedy(**values) for name, values in penalties.items()},
        **{f"sample {name}": nt.Sample(**values) for name, values in (filters | penalties).items()},
        "sample all": nt.Sample(**together, **penalties["all penalties"]),
        "chain own order": nt.Chain(own),
        "chain late": nt.Chain(late),
        "chain best": nt.Chain((nt.NoRepeatNGram(3), nt.MinP(0.2)), draw=False),
    }


def beams() -> dict[str, Any]:
    """The searches, as many of their texts as they return."""
    patient = nt.Greedy(repetition_penalty=1.3, no_repeat_ngram_size=3)
    return {
        "beam 1": nt.Beam(1),
        "beam 3": nt.Beam(3, n=3),
        "beam 4 early": nt.Beam(4, early_stopping=True, length_penalty=0.6, n=2),
        "beam 2 never": nt.Beam(2, early_stopping="never", length_penalty=1.4),
        "beam 3 patient": nt.Beam(3, patience=2.5, sampling=patient),
        "beam 3 drawn": nt.Beam(3, sampling=nt.Sample(temperature=0.8, top_k=5)),
        "diverse beam": nt.DiverseBeam(4, groups=2, diversity=1.5, n=2),
        "stochastic beam": nt.StochasticBeam(3),
        "stochastic beam shaped": nt.StochasticBeam(2, nt.Sample(temperature=0.7, top_p=0.9)),
    }


def speculations(world: World) -> dict[str, Any]:
    """Every draft with every kind of sampling."""
    drafts: dict[str, Any] = {
        "lookup": nt.PromptLookup(max_draft=4),
        "history": nt.PromptLookup(shortest=2, history=History()),
    }
    for name, lm in world.drafters.items():
        drafts |= {f"model {name}": nt.DraftModel(lm, max_draft=4), f"tree {name}": nt.TokenTree(lm, widths=(3, 2))}
    sampled = {
        "greedy": nt.Greedy(),
        "penalised": nt.Greedy(repetition_penalty=1.2, dry=nt.DRY(0.9)),
        "warm": nt.Sample(temperature=0.7),
        "mirostat": nt.Sample(mirostat=nt.Mirostat(2, tau=2.0, eta=0.3)),
        "filtered": nt.Sample(temperature=1.3, top_k=5, top_p=0.9, custom=restless),
    }
    return {
        f"{draft} {sampling}": nt.Speculate(drafts[draft], sampled[sampling])
        for draft in drafts
        for sampling in sampled
    }


def grammars() -> dict[str, Any]:
    """One of each kind."""
    schema = {
        "type": "object",
        "properties": {"name": {"type": "string", "maxLength": 5}, "age": {"enum": [1, 20, 300]}},
        "required": ["name", "age"],
        "additionalProperties": False,
    }
    return {
        "choices": nt.Grammar.choices(["Paris", "Lyon", "the cat", "Париж"]),
        "regex": nt.Grammar.regex(r"[A-Z][a-z]{2,6}( [0-9]{1,3}){1,3}\."),
        "json": nt.Grammar.json_schema(schema),
        "lark": nt.Grammar.lark('start: item ("," item)*\nitem: /[a-z]{1,4}/ | "(" start ")"\n'),
    }


def option_requests(world: World) -> dict[str, Asked]:
    """Each option of `generate`, with the best and with drawn tokens."""
    tokens, drawn = world.tokens, nt.Sample(temperature=0.8, top_k=40)
    wishes: dict[str, dict[str, Any]] = {
        "no logprobs": {"logprobs": None},
        "logprobs 0": {"logprobs": 0},
        "prompt logprobs": {"prompt_logprobs": True},
        "stop strings": {"stop": [world.stop, "\n\n"], "min_tokens": 2},
        "stop token": {"stop_token_ids": [tokens[4]]},
        "late stop token": {"stop_token_ids": [tokens[1], tokens[5]], "min_tokens": 6},
        "ignore eos": {"ignore_eos": True, "logit_bias": {world.eos: 3.0}},
        "bias": {"logit_bias": {tokens[0]: -2.5, tokens[2]: 4.0, tokens[3]: -float("inf")}},
        "allowed": {"allowed_token_ids": list(world.allowed)},
        "forbidden": {"forbidden_token_ids": list(tokens[:4])},
        "bad words": {"bad_words": [world.stop, list(tokens[:3]), [tokens[6]]]},
        **{f"grammar {name}": {"grammar": grammar} for name, grammar in grammars().items()},
    }
    wishes["together"] = wishes["bad words"] | wishes["bias"] | wishes["stop strings"] | wishes["prompt logprobs"]
    found = {}
    for name, wish in wishes.items():
        found[f"{name}, greedy"] = Asked("generate", PROMPTS[0], nt.Greedy(), wish)
        found[f"{name}, drawn"] = Asked("generate", PROMPTS[0], drawn, wish)
    for name in ("grammar regex", "grammar lark", "stop strings", "allowed"):
        found[f"{name}, beam"] = Asked("generate", PROMPTS[0], nt.Beam(3, n=2), wishes[name])
    found["n, drawn"] = Asked("generate", PROMPTS[1], drawn, {"n": 3})
    found["n, grammar"] = Asked("generate", PROMPTS[0], drawn, {"n": 3, "grammar": grammars()["json"]})
    lookup = nt.Speculate(nt.PromptLookup(), drawn)
    found["speculate, grammar"] = Asked("generate", PROMPTS[0], lookup, wishes["grammar json"])
    return found


def call_requests(world: World) -> dict[str, Asked]:
    """Batches, and the other methods."""
    mixed, drawn = [*PROMPTS, list(world.tokens[:5]), PROMPTS[0]], nt.Sample(temperature=0.8, top_p=0.9)
    lookup, shaped = nt.Speculate(nt.PromptLookup()), nt.Greedy(frequency_penalty=0.5)
    return {
        "batch greedy": Asked("generate", mixed, nt.Greedy()),
        "batch drawn": Asked("generate", mixed, drawn, {"n": 2, "stop": [world.stop]}),
        "batch beam": Asked("generate", mixed[:3], nt.Beam(3, n=2), {"prompt_logprobs": True}),
        "batch speculate": Asked("generate", mixed, lookup),
        "batch grammar": Asked("generate", mixed[:4], drawn, {"grammar": grammars()["regex"]}),
        "score": Asked("score", " ".join(PROMPTS), options={"top": 3}),
        "score ids": Asked("score", list(world.tokens), options={"top": 0}),
        "chat": Asked("chat", "Name a colour.", nt.Greedy()),
        "chat messages": Asked("chat", QUESTION, drawn, {"n": 2}),
        "chat beam": Asked("chat", QUESTION, nt.Beam(2), {"prompt_logprobs": True}),
        "stream": Asked("stream", PROMPTS[0], shaped),
        "stream drawn": Asked("stream", PROMPTS[3], drawn, {"n": 3, "stop": [world.stop]}),
        "stream grammar": Asked("stream", PROMPTS[0], drawn, {"grammar": grammars()["json"]}),
        "stream beam": Asked("stream", PROMPTS[1], nt.Beam(3, n=3)),
        "stream speculate": Asked("stream", PROMPTS[1], lookup),
    }


def requests(world: World) -> dict[str, Asked]:
    """Everything that is asked of one model, by name."""
    found = {}
    for index, (name, strategy) in enumerate((samplings() | beams()).items()):
        for shift in range(world.prompts):
            number = (index + shift) % len(PROMPTS)
            found[f"{name}, prompt {number}"] = Asked("generate", PROMPTS[number], strategy)
    for index, (name, strategy) in enumerate(speculations(world).items()):
        found[f"speculate {name}"] = Asked("generate", PROMPTS[index % len(PROMPTS)], strategy)
    return found | option_requests(world) | call_requests(world)


def tokenizer() -> Any:
    """One token a byte, two spaces, and two control tokens."""
    letters = {byte: letter for letter, byte in byte_alphabet().items()}
    return tokenizer_from_metadata(
        {
            "tokenizer.ggml.model": "gpt2",
            "tokenizer.ggml.pre": "gpt-2",
            "tokenizer.ggml.tokens": [*(letters[byte] for byte in range(256)), "ĠĠ", "<eos>", "<user>"],
            "tokenizer.ggml.token_type": [1] * 257 + [3, 3],
            "tokenizer.ggml.merges": ["Ġ Ġ"],
            "tokenizer.ggml.eos_token_id": EOS,
            "tokenizer.chat_template": TEMPLATE,
        }
    )


def readable(seed: int, spread: float, memory: int) -> Logits:
    """Logits that look random, depend on the last `memory` tokens, and make bytes of plain text likely."""
    noise = lru_cache(maxsize=None)(hashed(VOCAB, seed, spread))
    bias = [0.0 if token in READABLE else -spread for token in range(VOCAB)]
    bias[EOS] = -spread / 4  # or texts end at once
    return lambda path: [a + b for a, b in zip(noise(path[-memory:]), bias)]


def reciting(seed: int) -> Logits:
    """After a newline the script is likely, byte by byte, and at its end the end token; else the script's middle."""
    script, other = [*SCRIPT, EOS], readable(seed, 1.5, 2)

    def scores(path: tuple[int, ...]) -> list[float]:
        said = next((index for index, token in enumerate(reversed(path)) if token == ord("\n")), len(path))
        logits = other(path)
        logits[script[min(said, len(script) - 1)]] += 6.0
        return logits

    return scores


def blended(one: Logits, other: Logits) -> Logits:
    """Nearly the first ones."""
    return lambda path: [a + 0.2 * b for a, b in zip(one(path), other(path))]


def toy_world(logits: Logits, seed: int) -> World:
    """A toy model with one that is like it and one that is not to draft for it."""

    def made(scores: Logits, name: str) -> LM:
        return LM(ToyModel(VOCAB, scores, 512), tokenizer(), name)

    path = tuple(PROMPTS[0].encode())
    for _ in range(8):
        row = logits(path)
        path = (*path, row.index(max(row)))
    foreign = readable(seed + 100, 3.0, 2)
    drafters = {"similar": made(blended(logits, foreign), "similar"), "foreign": made(foreign, "foreign")}
    tokens = path[-8:]
    stop = bytes(token for token in tokens[3:5] if token in READABLE).decode() or "e"
    return World(made(logits, "toy"), drafters, tokens, stop, EOS, range(97, 123), prompts=1)


def toy_worlds() -> dict[str, World]:
    """Toy models by name."""
    return {
        "flat": toy_world(readable(1, 3.0, 512), 1),
        "peaked": toy_world(readable(2, 9.0, 1), 2),
        "script": toy_world(reciting(3), 3),
    }


def default_world(lm: Any, prompts: int) -> World:
    """The default model, which drafts for itself."""
    return World(lm, {"itself": lm}, SMOLLM2_TOKENS, " capital", SMOLLM2_EOS, range(300, 2000), prompts)
