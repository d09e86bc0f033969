"""Drafts: cheap guesses at the next tokens, for speculative decoding."""
