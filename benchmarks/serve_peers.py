"""nextok serve beside llama.cpp's llama-server: the same file, the same threads, in turn, on a quiet machine.

    python benchmarks/serve_peers.py --llama BUILD/bin/llama-server                     the default model
    python benchmarks/serve_peers.py --llama ... --model FILE.gguf --rounds 3 --tokens 32
    python benchmarks/serve_peers.py --llama ... --try                                  llama-server's settings

`1`, `4`, `16`: so many clients at once, each with one stream of --tokens tokens, greedy, past every end; all
tokens by the seconds until the last one came, and the median of the seconds to the first token. `chats`: 32 chats
at once with one system prompt of about 1,000 tokens, new in each round, and a short question each; seconds until
all have been answered. Every round measures both sides, the first of them in turn; a ratio is nextok's by
llama-server's of one round, and above 1 nextok is better.

Both servers run all the time, one process each; the one that is not asked sleeps. The clients are tasks of this
process, which only keeps the bytes while it measures.

llama-server runs with 16 slots, which share their requests in one batch, and flash attention as it decides itself
(on); prompts are cached in its slots and in memory as it does by default. --try measures it alone with the other
settings of SETTINGS, on the same figures; --settings and --chat-settings choose among them. On a machine that is not
quiet its threads wait for each other and it is many times slower: such a run says nothing.
"""

import argparse
import asyncio
import json
import statistics
import time
from contextlib import ExitStack
from pathlib import Path

from serving_tools import ask, free_port, nextok_command, running

SETTINGS = {
    "16 slots": ("-np", "16"),
    "16 slots, one memory": ("-np", "16", "--kv-unified"),
    "16 slots, no cache in memory": ("-np", "16", "--cache-ram", "0"),
    "16 slots, no flash attention": ("-np", "16", "--flash-attn", "off"),
    "16 slots, reuse of 64": ("-np", "16", "--cache-reuse", "64"),
    "16 slots, polling": ("-np", "16", "--poll", "100"),
    "32 slots": ("-np", "32"),
    "8 slots": ("-np", "8"),
    "4 slots": ("-np", "4"),
}
"""What was tried of llama-server: fewer slots read a shared prompt fewer times, and write fewer texts at once."""
CHATS = 32
FIGURES = ("1", "4", "16", "chats")
WARM_TOKENS = 8
REPEATS = {"1": 3}
"""Requests of a lone client in a round, one after another."""
PLACES = ("harbour", "forest", "market", "river", "station", "valley", "library", "island", "bridge", "garden")
THINGS = ("lamp", "ladder", "basket", "compass", "kettle", "blanket", "hammer", "mirror", "bottle", "wheel")
PROMPT = "Request {}: a long letter about the {} and the {}. It was early in the morning, and nobody had come yet."


def make_streams(size, tokens, number):
    """Requests that begin differently, in every round too, so that no prompt has been read before."""
    bodies = []
    for place in range(size):
        name = f"{number}.{place}"
        prompt = PROMPT.format(name, PLACES[(number + place) % 10], THINGS[(3 * number + place) % 10])
        bodies.append({"prompt": prompt, "max_tokens": tokens} | GREEDY)
    return bodies


GREEDY = {"temperature": 0, "ignore_eos": True, "stream": True, "stream_options": {"include_usage": True}}


def make_chats(tokens, number):
    """Chats with one system prompt of about 1,000 tokens."""
    rules = [
        f"Rule {rule}: whoever asks about the {PLACES[rule % 10]} hears first of the {THINGS[(rule * 7) % 10]}."
        for rule in range(1, 61)
    ]
    system = {"role": "system", "content": f"Version {number} of the rules of this house. {' '.join(rules)}"}
    questions = [
        f"Question {place}: what is said of the {PLACES[place % 10]} and the {THINGS[place // 4]}?"
        for place in range(CHATS)
    ]
    return [
        {"messages": [system, {"role": "user", "content": question}], "max_tokens": tokens} | GREEDY
        for question in questions
    ]


async def ask_all(port, path, bodies):
    """All at once: seconds until the last has been answered, and the answers."""
    began = time.perf_counter()
    answers = await asyncio.gather(*(ask(port, path, body) for body in bodies))
    return time.perf_counter() - began, answers


def check_answers(answers, tokens, name):
    """The tokens of the prompts; SystemExit if an answer is not whole."""
    prompts = 0
    for answer in answers:
        usage = next((event["usage"] for event in reversed(answer.events()) if event.get("usage")), {})
        if answer.status != 200 or usage.get("completion_tokens") != tokens:
            raise SystemExit(f"{name} answered {answer.status}, not {tokens} tokens: {answer.body[-300:]!r}")
        prompts += usage["prompt_tokens"]
    return prompts


def measure(port, figure, tokens, number, name):
    """One figure of one side: its values by name, the texts, and the tokens of the prompts."""
    if figure == "chats":
        seconds, answers = asyncio.run(ask_all(port, "/v1/chat/completions", make_chats(tokens, number)))
        prompts = check_answers(answers, tokens, name)
        return {"seconds": seconds}, [answer.text() for answer in answers], prompts
    rates, firsts, texts, prompts = [], [], [], 0
    for repeat in range(REPEATS.get(figure, 1)):
        bodies = make_streams(int(figure), tokens, 100 * number + repeat)
        seconds, answers = asyncio.run(ask_all(port, "/v1/completions", bodies))
        prompts += check_answers(answers, tokens, name)
        rates.append(tokens * len(bodies) / seconds)
        firsts += [1000 * answer.first for answer in answers]
        texts += [answer.text() for answer in answers]
    return {"tokens/s": statistics.median(rates), "first, ms": statistics.median(firsts)}, texts, prompts


def measure_rounds(sides, options):
    """Every figure of every side, round after round: {(figure, value's name): {side: [values]}}, and notes.

    `sides`: the port of each side for each figure.
    """
    results, same, seen = {}, [0, 0], {}
    for figure in options.only:  # threads, caches and pages of the file are warm afterwards
        for name, ports in sides.items():
            measure(ports[figure], "4" if figure == "chats" else figure, WARM_TOKENS, 0, name)
    for number in range(1, options.rounds + 1):
        for figure in options.only:
            texts = {}
            for name in list(sides)[:: 1 if number % 2 else -1]:
                tokens = options.chat_tokens if figure == "chats" else options.tokens
                values, texts[name], seen[figure, name] = measure(sides[name][figure], figure, tokens, number, name)
                for what, value in values.items():
                    results.setdefault((figure, what), {}).setdefault(name, []).append(value)
            for one, other in zip(*texts.values()) if len(texts) == 2 else ():
                same[0] += one == other
                same[1] += 1
    return results, same, seen


def print_table(results, names):
    """Medians, and of two sides their ratio: above 1 the first is better."""
    print(f"{'figure':22}" + "".join(f"{name:>16}" for name in names) + (f"{'ratio':>24}" if len(names) == 2 else ""))
    for (figure, what), values in results.items():
        label = f"{figure} at once" if figure.isdecimal() else figure
        line = f"{label + ', ' + what:22}" + "".join(f"{statistics.median(values[name]):16.1f}" for name in names)
        if len(names) == 2:
            ratios = list_ratios(what, *values.values())
            line += f"{statistics.median(ratios):10.2f}  {min(ratios):.2f} to {max(ratios):.2f}"
        print(line, flush=True)


def list_ratios(what, ours, theirs):
    """Round by round, how many times as good the first side is."""
    pairs = zip(ours, theirs)
    return [one / other if what == "tokens/s" else other / one for one, other in pairs]


def llama_command(options, port, settings):
    """llama-server with so many tokens of context for each slot."""
    slots = int(SETTINGS[settings][1])
    command = [options.llama, "-m", options.model, "--port", port, "-c", slots * options.context]
    command += ["-t", options.threads, "-tb", options.threads, *SETTINGS[settings]]
    return [str(each) for each in command]


def compare(options):
    """Both sides in turn."""
    flags = {"threads": options.threads, "context": options.context}
    with ExitStack() as stack:

        def start(command, port, ready):
            stack.enter_context(running(command, port, ready))
            return port

        ours, port = free_port(), free_port()
        start(nextok_command(options.model, ours, **flags), ours, "/ready")
        theirs = dict.fromkeys(options.only, start(llama_command(options, port, options.settings), port, "/health"))
        if "chats" in theirs and options.chat_settings != options.settings:
            port = free_port()
            theirs["chats"] = start(llama_command(options, port, options.chat_settings), port, "/health")
        sides = {"nextok": dict.fromkeys(options.only, ours), "llama-server": theirs}
        results, same, seen = measure_rounds(sides, options)
    print_table(results, sides)
    for figure in options.only:
        counts = [seen[figure, name] for name in sides]
        print(f"prompts of {figure}: {counts[0]:,} tokens in nextok, {counts[1]:,} in llama-server")
    print(f"{same[0]} of {same[1]} texts are the same on both sides")
    print(f"llama-server: {options.settings}; for chats {options.chat_settings}")
    return results


def try_settings(options):
    """llama-server alone, with each of its settings in turn."""
    everything = {}
    for settings in options.try_these:
        port = free_port()
        with running(llama_command(options, port, settings), port, "/health"):
            results, _, _ = measure_rounds({settings: dict.fromkeys(options.only, port)}, options)
        for (figure, what), values in results.items():
            everything.setdefault((figure, what), {}).update(values)
            print(f"{figure:6} {what:10} {settings:30} {statistics.median(values[settings]):9.1f}", flush=True)
    return everything


def read_options():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--llama", type=Path, required=True, help="the program llama-server")
    parser.add_argument("--model", type=Path, help="a GGUF file; by default the default model's")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=64, help="of each stream")
    parser.add_argument("--chat-tokens", type=int, default=32, help="of each chat")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--context", type=int, default=2048, help="tokens of one text, prompt included")
    parser.add_argument("--only", type=lambda text: text.split(","), default=list(FIGURES), help="1,4,16,chats")
    parser.add_argument("--settings", choices=SETTINGS, default="16 slots", help="of llama-server")
    parser.add_argument("--chat-settings", choices=SETTINGS, help="of llama-server for chats, if others")
    parser.add_argument(
        "--try", dest="try_these", nargs="*", choices=SETTINGS, help="llama-server alone, with these settings or all"
    )
    parser.add_argument("--json", type=Path, help="write all values there")
    options = parser.parse_args()
    if wrong := set(options.only) - set(FIGURES):
        parser.error(f"--only takes {', '.join(FIGURES)}, got {', '.join(wrong)}")
    options.chat_settings = options.chat_settings or options.settings
    if options.try_these == []:
        options.try_these = list(SETTINGS)
    if options.model is None:
        from nextok.hub import resolve

        options.model = resolve("smollm2").path
    return options


def main():
    options = read_options()
    results = compare(options) if options.try_these is None else try_settings(options)
    if options.json:
        facts = {"model": options.model.name, "threads": options.threads, "llama_settings": options.settings}
        facts |= {"llama_chat_settings": options.chat_settings, "context": options.context}
        values = {f"{figure}, {what}": each for (figure, what), each in results.items()}
        options.json.write_text(json.dumps(facts | {"figures": values}, indent=1) + "\n")


if __name__ == "__main__":
    main()
