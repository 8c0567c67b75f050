"""Grains: cut a batch the same way always, and sum what they give by one canonical tree.

Who computes a grain and when may change (processes, memory, retries); how a batch is cut and in which order
sums are formed may not, or bits would change.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Any, final

import numpy as np
import torch
from torch import nn

from surefast.data.batch import Batch
from surefast.errors import ArgumentError, DeterminismError

Grads = list[torch.Tensor | None]


def checked_grains(grains: int) -> int:
    """The number of grains of a batch, which must be a whole number from 1 on."""
    if not isinstance(grains, int) or grains < 1:
        raise ArgumentError(f"grains={grains!r} cuts nothing", do="use 1 or more; 1 computes a batch at once")
    return grains


def windows(batches: Iterable[Batch], accumulate: int) -> Iterable[Batch]:
    """Join every ``accumulate`` loader batches into one global batch; the last may be shorter."""
    return batches if accumulate == 1 else _joined(batches, accumulate)


def _joined(batches: Iterable[Batch], accumulate: int) -> Iterator[Batch]:
    window: list[Batch] = []
    for batch in batches:
        window.append(batch)
        if len(window) == accumulate:
            yield _join(window)
            window = []
    if window:
        yield _join(window)


def _join(window: Sequence[Batch]) -> Batch:
    first = window[0]
    if len(window) == 1:
        return first
    xs = tuple(torch.cat(parts) for parts in zip(*(b.x for b in window), strict=True))
    ys = tuple(torch.cat(parts) for parts in zip(*(b.y for b in window), strict=True))
    return Batch(xs, ys, np.concatenate([b.ids for b in window]), first.epoch, first.number)


def bounds(length: int, grains: int) -> list[tuple[int, int]]:
    """Where each grain of a batch of ``length`` samples begins and ends; empty grains are left out."""
    edges = [length * v // grains for v in range(grains + 1)]
    return [(start, end) for start, end in pairwise(edges) if end > start]


def part(tensors: tuple[Any, ...], start: int, end: int, length: int) -> tuple[Any, ...]:
    """Samples ``start`` to ``end`` of a batch: every tensor whose first dimension is the sample is cut."""
    return tuple(_cut(t, start, end, length) for t in tensors)


def _cut(value: Any, start: int, end: int, length: int) -> Any:
    if not isinstance(value, torch.Tensor) or value.dim() == 0 or len(value) != length:
        raise ArgumentError(
            f"a batch of {length} samples holds {_describe(value)}, which cannot be cut into grains",
            do="give tensors whose first dimension is the sample, or train with grains=1",
        )
    return value[start:end]


def _describe(value: object) -> str:
    return (
        f"a tensor of shape {tuple(value.shape)}" if isinstance(value, torch.Tensor) else type(value).__name__
    )


@final
class TreeSum:
    """A running sum of lists of tensors, formed as a binary tree over their order.

    A binary counter: two sums of the same height are merged at once, so at most log2(n) + 1 lists are held,
    and the result depends on the leaves and their order alone.
    """

    def __init__(self) -> None:
        self._heights: list[tuple[int, Grads]] = []

    def add(self, leaf: Grads) -> None:
        """Add the next leaf; its tensors are given away."""
        height = 0
        while self._heights and self._heights[-1][0] == height:
            leaf = _merge(self._heights.pop()[1], leaf)
            height += 1
        self._heights.append((height, leaf))

    def total(self) -> Grads:
        """The sum of all leaves; the tree is empty afterwards."""
        total = self._heights.pop()[1]
        while self._heights:
            total = _merge(self._heights.pop()[1], total)
        return total


def _merge(left: Grads, right: Grads) -> Grads:
    both = [(a, b) for a, b in zip(left, right, strict=True) if a is not None and b is not None]
    if both:
        torch._foreach_add_([a for a, _ in both], [b for _, b in both])
    return [b if a is None else a for a, b in zip(left, right, strict=True)]


@final
class Buffers:
    """A model's buffers over one step: saved at its start, so that every grain begins there.

    A step that fails puts them back; a step of several grains combines what each left: floating-point
    buffers by the weighted mean over the same tree as gradients, integer ones must agree.

    Args:
        model: the model whose buffers a forward pass may change.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._float_start: list[torch.Tensor] = []
        self._other_start: list[torch.Tensor] = []
        self._find()

    def _find(self) -> None:
        """The buffers of this moment, once each, with the place where each stands."""
        self._places: list[tuple[dict[str, torch.Tensor | None], str, torch.Tensor]] = []
        self.floats: list[torch.Tensor] = []
        self.others: list[tuple[str, torch.Tensor]] = []
        seen: set[int] = set()
        for prefix, module in self._model.named_modules():
            for name, buffer in module._buffers.items():
                if buffer is None or not buffer.numel():
                    continue
                self._places.append((module._buffers, name, buffer))
                if id(buffer) in seen:
                    continue
                seen.add(id(buffer))
                if buffer.is_floating_point():
                    self.floats.append(buffer)
                else:
                    self.others.append((f"{prefix}.{name}" if prefix else name, buffer))
        self._float_start = [torch.empty_like(buffer) for buffer in self.floats]
        self._other_start = [torch.empty_like(buffer) for _, buffer in self.others]

    @torch.no_grad()
    def _settle(self) -> None:
        """Write buffers that a forward pass exchanged (``self.mean = ...``) into the tensors before them."""
        for holder, name, buffer in self._places:
            now = holder[name]
            if now is not buffer:
                if now is None or now.shape != buffer.shape:
                    found = "nothing" if now is None else f"shape {tuple(now.shape)}"
                    raise DeterminismError(
                        f"a forward pass changed the shape of buffer {name!r}, so a step that fails could "
                        "not put it back",
                        do="keep its shape, or make it a plain attribute instead of a buffer",
                        found=found,
                        expected=f"shape {tuple(buffer.shape)}",
                    )
                buffer.copy_(now)
                holder[name] = buffer

    @torch.no_grad()
    def save(self) -> None:
        """Remember the buffers as they are."""
        self._settle()
        if self.floats:
            torch._foreach_copy_(self._float_start, self.floats)
        for start, (_, buffer) in zip(self._other_start, self.others, strict=True):
            start.copy_(buffer)

    @torch.no_grad()
    def restore(self) -> None:
        """Put back what was saved."""
        for holder, name, buffer in self._places:
            holder[name] = buffer
        if self.floats:
            torch._foreach_copy_(self.floats, self._float_start)
        for start, (_, buffer) in zip(self._other_start, self.others, strict=True):
            buffer.copy_(start)

    @torch.no_grad()
    def leaf(self, weight: int) -> tuple[Grads, list[torch.Tensor]]:
        """What a grain of ``weight`` samples left: its weighted floats for the tree, and its integers."""
        self._settle()
        floats: Grads = [buffer * weight for buffer in self.floats]
        return floats, [buffer.clone() for _, buffer in self.others]

    @torch.no_grad()
    def combine(self, total: Grads, weight: int, others: Sequence[list[torch.Tensor]]) -> None:
        """Write the mean over all grains; integers must be what every grain left.

        Raises:
            DeterminismError: an integer buffer differs from grain to grain, so there is no rule for it.
        """
        for buffer, value in zip(self.floats, total, strict=True):
            assert value is not None
            buffer.copy_(value / weight)
        for place, (name, buffer) in enumerate(self.others):
            left = [leaf[place] for leaf in others]
            if any(not torch.equal(left[0], other) for other in left[1:]):
                raise DeterminismError(
                    f"buffer {name!r} counts differently in each grain, so grains cannot be combined",
                    do="train with grains=1, or make the buffer depend on the step and not on the samples",
                )
            buffer.copy_(left[0])
