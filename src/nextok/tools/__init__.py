"""What examines and converts models: conversions, benchmarks, the laws of decoding, the machine."""
