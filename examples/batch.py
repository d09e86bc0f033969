"""Many prompts, one engine: each gets the text that it would get alone."""

import nextok as nt

lm = nt.load("smollm2")
prompts = ["The capital of France is", "Water boils at", "def add(a, b):"]
together = lm.generate(prompts, nt.Greedy(), max_tokens=12)
for prompt, output in zip(prompts, together):
    alone = lm.generate(prompt, nt.Greedy(), max_tokens=12)
    print(repr(prompt + output.text), "same alone:", output.tokens == alone.tokens)
