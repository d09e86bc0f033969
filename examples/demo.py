"""Real text by every strategy, from the default model: what `make demo` shows."""

import nextok as nt

STRATEGIES = {
    "greedy": nt.Greedy(),
    "sampling": nt.Sample(temperature=0.8, top_k=50),
    "beam search": nt.Beam(width=4),
    "speculative": nt.Speculate(nt.PromptLookup()),
}
QUESTION = (
    "Summarise this text in two sentences: The sea is wide and deep. Ships cross it day and night, and under the "
    "waves live animals that nobody has ever seen. Some of them make their own light."
)

lm = nt.load("smollm2")
print(f"\nModel: {lm.name}, from {lm.origin}\nQuestion: {QUESTION}")
texts = {}
for name, strategy in STRATEGIES.items():
    output = lm.chat(QUESTION, strategy, max_tokens=60, seed=7)
    stats = output.stats
    print(f"\n--- {name}: {stats.generated_tokens} tokens, {stats.passes} passes, {stats.seconds:.1f} s", end="")
    print(f", {stats.accepted} of {stats.drafted} drafted tokens accepted" if stats.drafted else "")
    print(output.text.strip())
    texts[name] = output.tokens
print("\nspeculative = greedy, token for token:", texts["speculative"] == texts["greedy"])
