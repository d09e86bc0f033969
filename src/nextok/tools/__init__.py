"""Tools that examine and convert models: conversions, benchmarks, the laws of decoding, the machine."""
