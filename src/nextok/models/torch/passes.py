"""How a pass is run, and how its numbers get to the device, in whatever mode of torch the caller is."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor


@contextmanager
def isolate_pass(device: torch.device) -> Iterator[None]:
    """Run what is inside without gradients and without autocast, as the caches have the type of the weights.

    Not in inference mode: a model of transformers may keep tensors of the pass and could not train with them then.
    """
    with torch.no_grad():
        if torch.is_autocast_enabled(device.type):
            with torch.autocast(device.type, enabled=False):
                yield
        else:
            yield


def copy_to_device(numbers: np.ndarray[Any, Any], device: torch.device) -> Tensor:
    """An array of any shape on the device, without waiting for what is computed there."""
    return pin_memory(torch.from_numpy(numbers), device).to(device, non_blocking=True)


def pin_memory(numbers: Tensor, device: torch.device) -> Tensor:
    """A pinned copy for CUDA, so that an asynchronous transfer outlives the array; elsewhere the tensor itself."""
    return numbers.pin_memory() if device.type == "cuda" else numbers
