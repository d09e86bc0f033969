"""From a row of logits to a token: transforms say what, readout does it, noise decides."""
