"""Load a model and let it continue a text."""

import nextok as nt

lm = nt.load("smollm2")
output = lm.generate("Once upon a time", nt.Sample(temperature=0.8, top_k=50), max_tokens=30, seed=7)
print(output.text)
print(output.finish_reason, output.seed, len(output.tokens))
