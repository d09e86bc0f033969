"""Where PyTorch computes, and in what precision."""

import torch

from nextok.formats.tensor import Checkpoint
from nextok.models.torch.llama import LlamaTorch
from nextok.models.torch.weights import load_weights


def load_torch(checkpoint: Checkpoint, device: str | None, *, exact: bool, threads: int | None) -> LlamaTorch:
    """The model of a checkpoint on a device, by default a GPU if there is one.

    On a GPU weights and cache are bfloat16 unless `exact`, elsewhere float32. `threads` sets torch's number of
    threads for the whole process. ValueError if there is no such device.
    """
    place = choose_device(device)
    if threads is not None:
        torch.set_num_threads(threads)
    dtype = torch.bfloat16 if place.type == "cuda" and not exact else torch.float32
    with torch.inference_mode():
        return LlamaTorch(checkpoint.config, load_weights(checkpoint, dtype, place))


def choose_device(device: str | None) -> torch.device:
    """The device of this name; ValueError if there is none on this machine."""
    found = torch.cuda.device_count()
    if device is None:
        return torch.device("cuda" if found else "cpu")
    names = ["cpu", *(["cuda"] if found else []), *(f"cuda:{index}" for index in range(found))]
    if device not in names:
        raise ValueError(f"device must be one of {', '.join(names)} on this machine, got {device!r}")
    return torch.device(device)
