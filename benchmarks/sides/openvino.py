"""OpenVINO GenAI; optimum-intel writes the folder.

By default a pipeline keeps what it has read, so that a prompt that comes again is free. That is turned off here, but
for work at depth, where a text that has been read is what we want.
"""

import numpy as np
import openvino
import openvino_genai

from sides import filler


class Side:
    def __init__(self, model, threads, prompt, **properties):
        self.model, self.properties = model, {"INFERENCE_NUM_THREADS": threads, **properties}
        self.pipeline = self._open(keep=False)
        self.prompt = prompt
        self.versions = {"openvino-genai": openvino_genai.__version__}
        self.keeping, self.read = None, 0

    def _open(self, keep):
        scheduler = openvino_genai.SchedulerConfig()
        scheduler.enable_prefix_caching = keep
        return openvino_genai.LLMPipeline(self.model, "CPU", scheduler_config=scheduler, **self.properties)

    def greedy(self, batch, tokens):
        return lambda: write(self.pipeline, [self.prompt] * batch, tokens)

    def beam(self, width, tokens):
        never = openvino_genai.StopCriteria.NEVER
        return lambda: write(self.pipeline, [self.prompt], tokens, num_beams=width, stop_criteria=never)

    def prefill(self, count):
        return lambda: write(self.pipeline, [filler(count)], 1)

    def deep(self, depth, tokens):
        self.keeping = self.keeping or self._open(keep=True)
        if self.read != depth:
            write(self.keeping, [filler(depth)], 1)
            self.read = depth
        return lambda: write(self.keeping, [filler(depth)], tokens)


def write(pipeline, prompts, tokens, **options):
    """The texts that the pipeline writes after some prompts of one length."""
    config = openvino_genai.GenerationConfig(
        max_new_tokens=tokens,
        min_new_tokens=tokens,
        ignore_eos=True,
        do_sample=False,
        apply_chat_template=False,
        **options,
    )
    ids = np.array(prompts, np.int64)
    inputs = openvino_genai.TokenizedInputs(openvino.Tensor(ids), openvino.Tensor(np.ones_like(ids)))
    return pipeline.generate(inputs, config).tokens
