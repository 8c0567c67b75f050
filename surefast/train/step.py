"""Step: one optimizer update on one global batch, as a transaction over grains.

Optimizer state, buffers and gradients change only when all grains are in and finite. What changes the
arithmetic (precision, clipping, averaging, compilation) is a policy held here; callbacks only see events.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import numpy.typing as npt
import torch
from torch.optim.swa_utils import AveragedModel

from surefast.callbacks.event import Event
from surefast.data.batch import Batch
from surefast.errors import DataError, NonFiniteError, TaskError
from surefast.keys.generator import seed_model
from surefast.keys.key import make_key
from surefast.task.loss import Loss
from surefast.train.clip import GradientClip
from surefast.train.compiled import ChannelsLast
from surefast.train.grains import Buffers, TreeSum, bounds, part
from surefast.train.precision import LossScale
from surefast.train.scheduler import Scheduler
from surefast.train.state import TrainState


@final
@dataclass(slots=True, kw_only=True)
class Step:
    """One update: forward and backward of each grain, one finite check, one optimizer step."""

    forward: Callable[..., Any]
    """The model, compiled or not."""

    loss: Loss
    optimizer: torch.optim.Optimizer
    params: list[torch.nn.Parameter]
    """The parameters that train, in the order of the model."""

    buffers: Buffers | None
    """The buffers of the model, or None where it has none."""

    scheduler: Scheduler | None
    """What moves learning rate and momentum, or None where they stay."""

    device: torch.device
    fire: Callable[[Event], None]
    name_samples: Callable[[Any], str]
    """Says in words which samples a batch holds; used by errors only."""

    grains: int = 1
    accumulate: int = 1
    autocast: AbstractContextManager[Any]
    scale: LossScale | None = None
    clip: GradientClip | None = None
    average: AveragedModel | None = None
    channels_last: ChannelsLast | None = None
    checked: bool = False
    """Whether the loss has looked at one output and its target; once is enough."""

    def update(self, run: TrainState, batch: Batch) -> None:
        """Train on one global batch, or leave everything as it was and raise."""
        run.xb, run.yb, run.batch_ids = batch.x, batch.y, batch.ids
        if self.scheduler is not None:
            self.scheduler.apply(run)
        self.fire(Event.before_batch)
        if run.skip_batch is None:
            if self.buffers is not None:
                self.buffers.save()
            try:
                if self.grains * self.accumulate == 1:
                    self._grain(run, run.xb, run.yb, 0)
                else:
                    self._all_grains(run, len(batch.ids))
                ready = self._make_ready(run)
            except BaseException as error:
                if self.buffers is not None:
                    self.buffers.restore()
                self._drop_gradients()
                if isinstance(error, ValueError) and "more than 1 value per channel" in str(error):
                    raise self._one_sample(run) from error
                raise
            try:
                if ready:
                    self._apply(run)
            finally:
                self._drop_gradients()
            assert run.loss_value is not None
            weight = self.loss.weight(*run.yb)
            run.loss_sum += run.loss_value * weight
            run.loss_weight += weight
        self.fire(Event.after_batch)
        run.skip_batch = run.skip_step = None

    def _make_ready(self, run: TrainState) -> bool:
        """Check and clip the gradients; whether the optimizer may use them.

        False where float16 overflowed, or an actor asked to skip the step.
        """
        norm = self._check(run)
        assert run.grad_norm is not None
        finite = math.isfinite(run.grad_norm)
        if self.scale is not None:
            self.scale.update(finite=finite)
        if not finite:
            return False
        if self.clip is not None:
            self.clip.apply(self.params, norm)
        self.fire(Event.before_step)
        return run.skip_step is None

    def _grain(
        self, run: TrainState, xb: tuple[Any, ...], yb: tuple[Any, ...], v: int, weight: Any = None
    ) -> None:
        """Forward and backward of grain ``v``; ``weight`` turns its mean loss into a sum."""
        run.grain = v
        seed_model(make_key(run.seed, "model", run.step, v), self.device)
        if self.channels_last is not None:
            xb = self.channels_last.convert(xb)
        with self.autocast:
            run.pred = self.forward(*xb)
            self.fire(Event.after_pred)
            if self.checked:
                run.loss = self.loss(run.pred, *yb)
            else:
                run.loss = self._first_loss(run.pred, yb)
            if run.loss.dtype.itemsize < 4:  # a user's function of half-precision outputs
                run.loss = run.loss.float()
            self.fire(Event.after_loss)
        loss = run.loss if weight is None else run.loss * weight
        if self.scale is not None:
            loss = loss * self.scale.scale
        self.fire(Event.before_backward)
        loss.backward()

    def _all_grains(self, run: TrainState, length: int) -> None:
        """Every grain from the same start; gradients, losses and buffers summed by the same tree."""
        xb, yb = run.xb, run.yb
        grads, floats, integers = TreeSum(), TreeSum(), []
        losses, weights = TreeSum(), TreeSum()
        for v, (start, end) in enumerate(bounds(length, self.grains * self.accumulate)):
            if v and self.buffers is not None:
                self.buffers.restore()
            grain_y = part(yb, start, end, length)
            weight = torch.as_tensor(self.loss.weight(*grain_y), device=self.device)
            self._grain(run, part(xb, start, end, length), grain_y, v, weight)
            assert run.loss is not None
            losses.add([run.loss.detach() * weight])
            weights.add([weight])
            grads.add([p.grad for p in self.params])
            if self.buffers is not None:
                leaf, left = self.buffers.leaf(end - start)
                floats.add(leaf)
                integers.append(left)
            self._drop_gradients()
        (total_weight,) = weights.total()
        (total_loss,) = losses.total()
        assert total_weight is not None
        assert total_loss is not None
        total_weight = total_weight.where(total_weight > 0, 1)  # where no target counts, every sum is 0
        for p, grad in zip(self.params, grads.total(), strict=True):
            p.grad = None if grad is None else grad.div_(total_weight)
        if self.buffers is not None:
            self.buffers.combine(floats.total(), length, integers)
        run.loss = total_loss / total_weight

    def _check(self, run: TrainState) -> torch.Tensor:
        """The norm of all gradients, after reading the one number of a step: is everything finite?

        Raises:
            NonFiniteError: the loss or a gradient is NaN or Inf, and no loss scale explains it.
        """
        grads = [p.grad for p in self.params if p.grad is not None]
        if self.scale is not None:
            torch._foreach_mul_(grads, 1.0 / self.scale.scale)
        self.fire(Event.after_backward)
        norm = _total_norm(grads, self.device)
        assert run.loss is not None
        loss = run.loss.detach()
        if self.device.type == "cpu":
            run.loss_value, run.grad_norm = loss.item(), norm.item()
        else:
            # The host waits for the card once a step: here, after the last backward.
            run.loss_value, run.grad_norm = torch.stack([loss.float(), norm.float()]).tolist()
        overflow = not math.isfinite(run.grad_norm)
        if not math.isfinite(run.loss_value) or (overflow and not _explained(self.scale)):
            raise self._non_finite(run)
        return norm

    def _apply(self, run: TrainState) -> None:
        """Update the weights and their average."""
        self.optimizer.step()
        if self.average is not None:
            self.average.update_parameters(run.model)
        self.fire(Event.after_step)

    def _first_loss(self, pred: Any, yb: tuple[Any, ...]) -> torch.Tensor:
        """The first loss of a fit, after a look at whether output and target fit and it can train."""
        self.loss.check(pred, *yb)
        loss: torch.Tensor = self.loss(pred, *yb)
        if not loss.requires_grad:
            raise TaskError(
                "the loss does not depend on any parameter that trains, so there is no gradient",
                do="look for detach(), .item(), argmax or torch.no_grad() in the model and in the loss",
            )
        self.checked = True
        return loss

    def _drop_gradients(self) -> None:
        for p in self.params:
            p.grad = None

    def _one_sample(self, run: TrainState) -> DataError:
        length = 0 if run.batch_ids is None else len(run.batch_ids)
        whole = self.grains * self.accumulate == 1
        what = (
            f"the batch of {length} samples" if whole else f"grain {run.grain} of a batch of {length} samples"
        )
        return DataError(
            f"a BatchNorm layer has no spread to norm by in {what} at step {run.step} "
            f"(epoch {run.epoch}, batch {run.batch}): it needs two values of each channel",
            do="leave out a last batch of one sample (drop_last=True), "
            + ("use another bs" if whole else "use fewer grains")
            + ", or layers without batch statistics (GroupNorm)",
        )

    def _non_finite(self, run: TrainState) -> NonFiniteError:
        loss_is_bad = run.loss_value is None or not math.isfinite(run.loss_value)
        parts = {"inputs": run.xb, "targets": run.yb}
        bad = [name for name, tensors in parts.items() if _has_non_finite(tensors)]
        cause = f"the {' and '.join(bad)} of the batch hold NaN or Inf" if bad else None
        remedy = "mend or leave out these samples" if bad else f"lower the learning rate (now {run.lr:.3g})"
        return NonFiniteError(
            f"NaN or Inf in the {'loss' if loss_is_bad else 'gradients'} at step {run.step} "
            f"(epoch {run.epoch}, batch {run.batch}), caught before the optimizer step: "
            "weights, buffers and optimizer are as before",
            do=remedy + ", or look at the data with dls.show_batch()",
            loss=run.loss_value,
            gradients=f"norm {run.grad_norm}",
            cause=cause,
            samples=self.name_samples(_suspects(run)),
        )


def _total_norm(grads: list[torch.Tensor], device: torch.device) -> torch.Tensor:
    """L2 norm of all gradients as one scalar tensor, without a read."""
    if not grads:
        return torch.zeros((), device=device)
    if len({g.dtype for g in grads}) > 1:
        return torch.nn.utils.get_total_norm(grads)
    # The same arithmetic as get_total_norm, without its grouping: half the time on a small model.
    norm: torch.Tensor = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(grads)))
    return norm


def _explained(scale: LossScale | None) -> bool:
    """Whether an overflow of the gradients can come from the scale of the loss."""
    return scale is not None and not scale.exhausted


def _has_non_finite(tensors: tuple[Any, ...]) -> bool:
    floats = [t for t in tensors if isinstance(t, torch.Tensor) and t.is_floating_point()]
    return any(not torch.isfinite(t).all() for t in floats)


def _suspects(run: TrainState) -> npt.NDArray[np.int64]:
    """The samples whose own inputs or targets are not finite, or else the whole batch."""
    assert run.batch_ids is not None
    bad = np.zeros(len(run.batch_ids), dtype=bool)
    for t in (*run.xb, *run.yb):
        if isinstance(t, torch.Tensor) and t.is_floating_point() and len(t) == len(bad):
            bad |= ~torch.isfinite(t).reshape(len(t), -1).all(1).cpu().numpy()
    return run.batch_ids[bad] if bad.any() else run.batch_ids
