"""From a row of scores to an answer, in numpy: the reference that every other backend must agree with."""
