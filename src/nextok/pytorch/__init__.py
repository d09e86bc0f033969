"""Tensors and models of transformers as callers."""
