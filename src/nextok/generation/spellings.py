"""What other programs call our options. Nothing is imported here, as the command line reads it at every start."""

SPELLINGS = {
    "temp": "temperature",
    "repeat_penalty": "repetition_penalty",
    "n_predict": "max_tokens",
    "num_predict": "max_tokens",
    "predict": "max_tokens",
    "max_new_tokens": "max_tokens",
    "max_completion_tokens": "max_tokens",
    "min_new_tokens": "min_tokens",
    "stop_strings": "stop",
    "stop_sequences": "stop",
    "reverse_prompt": "stop",
    "random_seed": "seed",
    "top_logprobs": "logprobs",
    "system_prompt": "system",
}
"""Another name -> ours. The command line reads the same names with dashes; each of ours is an option there."""
