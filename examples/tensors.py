"""Tensors in, tensors out: one call for every strategy (pip install 'nextok[torch]')."""

import torch

import nextok as nt

lm = nt.attach(nt.load("smollm2"))
ids = torch.tensor([lm.tokenizer.encode("My favourite colour is")])
CALLS = {
    "greedy": {},
    "sampling": {"do_sample": True, "temperature": 0.8, "top_k": 50, "seed": 7},
    "beam search": {"num_beams": 3},
    "assisted, by itself": {"assistant_model": lm},
}
for name, options in CALLS.items():
    new = lm.generate_super(ids, max_new_tokens=12, **options)
    print(f"{name}: {lm.tokenizer.decode(new[0].tolist())!r}")
greedy, assisted = (
    lm.generate_super(ids, max_new_tokens=12, **CALLS[name]) for name in ("greedy", "assisted, by itself")
)
print("assisted = greedy:", torch.equal(greedy, assisted))
