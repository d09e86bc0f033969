"""transformers on torch, with a key-value cache that is cut back between passes."""

import torch
import transformers
from transformers import AutoModelForCausalLM, DynamicCache

from sides import filler


class Side:
    def __init__(self, model, threads, prompt, dtype="float32"):
        torch.set_num_threads(threads)
        torch.set_grad_enabled(False)
        self.model = AutoModelForCausalLM.from_pretrained(model, dtype=getattr(torch, dtype))
        self.prompt = prompt
        self.versions = {"transformers": transformers.__version__, "torch": torch.__version__}
        self.cache, self.filled = None, 0

    def greedy(self, batch, tokens):
        return lambda: self._generate([self.prompt] * batch, tokens)

    def beam(self, width, tokens):
        return lambda: self._generate([self.prompt], tokens, num_beams=width, early_stopping="never")

    def _generate(self, prompts, tokens, **options):
        ids = torch.tensor(prompts)
        texts = self.model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=tokens,
            min_new_tokens=tokens,
            do_sample=False,
            repetition_penalty=1.0,
            pad_token_id=0,
            **options,
        )
        return texts[:, ids.shape[1] :].tolist()

    def rows(self, count):
        cache = DynamicCache(config=self.model.config)
        self._pass(self.prompt, cache)
        return lambda: self._pass(filler(count), cache, count)

    def prefill(self, count):
        return lambda: self._pass(filler(count), DynamicCache(config=self.model.config))

    def _pass(self, tokens, cache, rows=1):
        logits = self.model(torch.tensor([tokens]), past_key_values=cache, logits_to_keep=rows).logits
        return logits[0].argmax(dim=-1, keepdim=True).tolist()

    def deep(self, depth, tokens):
        if self.filled != depth:
            self.cache, self.filled = DynamicCache(config=self.model.config), depth
            self._pass(filler(depth), self.cache)
        self.cache.crop(depth - 1 - self.cache.get_seq_length())  # negative: as many are dropped
        return lambda: self._generate([filler(depth)], tokens, past_key_values=self.cache)
