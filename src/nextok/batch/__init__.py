"""Batches: requests of OpenAI's API, one a line of a file, answered into another file."""

from nextok.batch.run import Tally, run_batch

__all__ = ["Tally", "run_batch"]
