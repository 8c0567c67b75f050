"""From a built batch to the training device, and through the batch transforms.

This file must not know of the order of batches or of files.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, final

import numpy as np
import numpy.typing as npt
import torch

from surefast.data.assemble import Built, Job, ids_array
from surefast.data.batch import Batch
from surefast.data.transform import BatchTransform, ForeignBatch, batch_key, fused, in_order, name_of
from surefast.errors import SurefastError, TransformError
from surefast.keys.generator import seeded
from surefast.keys.key import make_key, uniform


@final
class DeviceStage:
    """Moves a batch and applies its transforms; the same for every epoch.

    Args:
        transforms: the batch transforms; they are put in their order.
        n_inp: how many elements are inputs.
        train: whether transforms that are for training only are applied.
    """

    def __init__(self, transforms: Sequence[BatchTransform], n_inp: int, *, train: bool) -> None:
        self.transforms = tuple(in_order(transforms))
        self.n_inp = n_inp
        self.active = fused([t for t in self.transforms if train or not t.train_only])
        self.draws = any(t.draws for t in self.active)

    def __call__(self, built: Built, job: Job, device: torch.device) -> Batch:
        """The batch on the device.

        Raises:
            TransformError: a transform failed, with its name.
        """
        xs = tuple(to_device(element, device) for element in built.elements)
        return self.run(xs, ids_array(built.ids), (job.seed, job.epoch, job.number), device)

    def run(
        self,
        xs: tuple[Any, ...],
        ids: npt.NDArray[np.int64],
        place: tuple[int, int, int],
        device: torch.device,
    ) -> Batch:
        """The batch of elements that are on the device already; ``place`` is (seed, epoch, number)."""
        seed, epoch, number = place
        if self.active:
            keys = None
            if self.draws:
                made = (make_key(seed, "batch", epoch, i) for i in ids.tolist())
                keys = np.fromiter(made, np.uint64, len(ids))
            with torch.no_grad():
                for position, transform in enumerate(self.active):
                    u = _draws(keys, transform.draws, position, len(ids), device)
                    xs = _apply(transform, xs, u, batch_key(seed, epoch, number))
        return Batch(xs[: self.n_inp], xs[self.n_inp :], ids, epoch, number)


def _apply(transform: BatchTransform, xs: tuple[Any, ...], u: torch.Tensor, key: int) -> tuple[Any, ...]:
    try:
        if isinstance(transform, ForeignBatch):
            with seeded(key):
                return transform.apply(xs, u)
        return transform.apply(xs, u)
    except (SurefastError, torch.OutOfMemoryError, MemoryError):
        raise
    except Exception as error:
        raise _failure(error, transform, xs) from error


def _draws(keys: Any, count: int, stream: int, rows: int, device: torch.device) -> torch.Tensor:
    if not count:
        return torch.empty(rows, 0, device=device)
    # float32 may round the largest draws up to 1.0; clip to the largest float32 below.
    drawn = np.minimum(uniform(keys, count, stream).astype(np.float32), np.float32(1 - 2**-24))
    return torch.from_numpy(drawn).to(device, non_blocking=True)


def _failure(error: Exception, transform: BatchTransform, xs: tuple[Any, ...]) -> TransformError:
    shapes = ", ".join(f"{tuple(x.shape)} {x.dtype}" for x in xs if isinstance(x, torch.Tensor))
    return TransformError(
        f"the batch transform {name_of(transform)} failed: {type(error).__name__}: {error}",
        do="mend it, or call it by hand on dls.one_batch()",
        given=shapes,
    )


def to_device(element: Any, device: torch.device) -> Any:
    """Tensors on the device, also inside tuples, lists and dictionaries; the rest as it is."""
    if isinstance(element, torch.Tensor):
        if device.type == "cuda" and element.device.type == "cpu":
            # From pinned memory the copy runs beside the computation; torch keeps and reuses the memory.
            return element.pin_memory().to(device, non_blocking=True)
        return element.to(device)
    if isinstance(element, (tuple, list)):
        moved = [to_device(part, device) for part in element]
        return tuple(moved) if isinstance(element, tuple) else moved
    if isinstance(element, dict):
        return {key: to_device(value, device) for key, value in element.items()}
    return element


def default_device() -> tuple[torch.device, str]:
    """The device to train on where nobody chose one, and why."""
    if torch.cuda.is_available():
        return torch.device("cuda", torch.cuda.current_device()), "a CUDA card is there"
    if torch.backends.mps.is_available():
        return torch.device("mps"), "Apple's graphics processor is there"
    return torch.device("cpu"), "no card is there"
