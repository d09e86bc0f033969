"""Strategies: generators that ask a model and tell what they do. None of them knows of batches or caches."""
