"""Conversations: what messages may be, and how they become the token ids of a prompt."""
