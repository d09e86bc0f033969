"""Drafts change how many passes a text takes, never the text: here with noise, so that it could differ."""

import nextok as nt

lm = nt.load("smollm2")
prompt = "one two three four five one two three four five one two"
sampling = nt.Sample(temperature=0.7)
plain = lm.generate(prompt, sampling, max_tokens=24, seed=1)
drafted = lm.generate(prompt, nt.Speculate(nt.PromptLookup(), sampling), max_tokens=24, seed=1)
print("same text:", plain.tokens == drafted.tokens)
print("passes:", plain.stats.passes, "without,", drafted.stats.passes, "with a draft")
