"""The three best texts that a beam search of width four finds, with their scores."""

import nextok as nt

lm = nt.load("smollm2")
output = lm.generate("The best thing about books is", nt.Beam(width=4, n=3), max_tokens=12)
for choice in output.choices:
    print(f"{choice.score:.3f} {choice.text!r}")
