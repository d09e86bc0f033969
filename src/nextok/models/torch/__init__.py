"""Models that PyTorch runs, on processors and GPUs: the Llama family, and anything of transformers by its adapter."""
