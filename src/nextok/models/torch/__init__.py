"""Models and readouts on any device that PyTorch knows."""
