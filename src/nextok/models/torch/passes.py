"""How a pass is run, and how its numbers get to the device, whatever the caller is doing around it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor


@contextmanager
def undisturbed(device: torch.device) -> Iterator[None]:
    """Without gradients, and in the types that the weights have: the caches know no others.

    Not in inference mode, whose tensors a model of transformers may keep and then could not train with.
    """
    with torch.no_grad():
        if torch.is_autocast_enabled(device.type):
            with torch.autocast(device.type, enabled=False):
                yield
        else:
            yield


def sent(numbers: np.ndarray[Any, Any], device: torch.device) -> Tensor:
    """An array on the device, without waiting for what is computed there."""
    return staged(torch.from_numpy(numbers), device).to(device, non_blocking=True)


def staged(numbers: Tensor, device: torch.device) -> Tensor:
    """Numbers from where a copy to the device may begin at any time, though nobody holds them any more.

    Ordinary memory may be somebody else's by then; pinned memory is kept until the copy is done.
    """
    return numbers.pin_memory() if device.type == "cuda" else numbers
