"""What a strategy sees: the tree of a text, the question it may ask, the events it tells, and its request."""
