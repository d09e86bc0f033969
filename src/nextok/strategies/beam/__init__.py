"""Beam search and its relatives."""
