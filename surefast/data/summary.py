"""The walk of one sample and one batch through every stage, and the stage that fails.

This file must not know more of the stages than their order.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, final

import torch

from surefast.data.assemble import Built, Job
from surefast.data.collate import collate
from surefast.data.dataset import Samples
from surefast.data.device import DeviceStage
from surefast.data.leaks import check_repeatable
from surefast.data.split import Splitter
from surefast.data.transform import name_of
from surefast.errors import SurefastError
from surefast.keys.generator import seeded
from surefast.keys.key import DEFAULT_SEED, make_key
from surefast.keys.settings import one_thread

if TYPE_CHECKING:
    from surefast.data.block import DataBlock

_CPU = torch.device("cpu")


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage of the walk."""

    name: str
    seconds: float
    shows: tuple[str, ...]
    """What each element looks like after it."""
    error: str = ""


@final
class Summary:
    """What the walk found; its text is what ``DataBlock.summary`` prints."""

    def __init__(self, stages: list[Stage]) -> None:
        self.stages = stages

    @property
    def failed(self) -> Stage | None:
        """The stage that failed, or None."""
        return self.stages[-1] if self.stages and self.stages[-1].error else None

    @property
    def text(self) -> str:
        """The whole walk, one stage after the other."""
        lines: list[str] = []
        for number, stage in enumerate(self.stages, 1):
            mark = "FAILED" if stage.error else f"{stage.seconds * 1e3:.1f} ms"
            lines.append(f"{number:>2}. {stage.name}  [{mark}]")
            lines += [f"      {show}" for show in stage.shows]
            lines += [f"      {line}" for line in stage.error.splitlines()]
        total = sum(stage.seconds for stage in self.stages)
        end = f"It stops at stage {len(self.stages)}." if self.failed else "Every stage works."
        return "\n".join([*lines, f"{end} {total:.2f} s in all, on one thread, without a worker."])

    def __repr__(self) -> str:
        state = f"failed at {self.failed.name!r}" if self.failed else "ok"
        return f"Summary({state}, {len(self.stages)} stages)"


class _StopError(Exception):
    """Ends the walk; the stage with the error is in the list already."""


class _Walk:
    def __init__(self) -> None:
        self.stages: list[Stage] = []

    def step(self, name: str, work: Callable[[], Any], shows: Callable[[Any], tuple[str, ...]]) -> Any:
        start = time.perf_counter()
        try:
            result = work()
        except SurefastError as error:
            self.stages.append(Stage(name, time.perf_counter() - start, (), str(error)))
            raise _StopError from error
        except Exception as error:
            text = f"{type(error).__name__}: {error}"
            self.stages.append(Stage(name, time.perf_counter() - start, (), text))
            raise _StopError from error
        self.stages.append(Stage(name, time.perf_counter() - start, shows(result)))
        return result


def summarise(block: DataBlock, source: Any, bs: int) -> Summary:
    """Walk the stages of a DataBlock; a stage that fails ends the walk and is the last of the list."""
    walk = _Walk()
    try:
        with seeded(0), one_thread():
            _walk(block, source, bs, walk)
    except _StopError:
        return Summary(walk.stages)
    return Summary(walk.stages)


def _walk(block: DataBlock, source: Any, bs: int, walk: _Walk) -> None:
    items = walk.step(
        f"items: {name_of(block.get_items) if block.get_items else 'the source as it is'}",
        lambda: block.list_items(source),
        lambda found: (f"{len(found)} items, the first: {_first(found)}",),
    )
    data = walk.step(
        f"split and labels: {_splitter(block.splitter)}",
        lambda: block.split_items(items),
        lambda found: (
            f"{len(found.train)} for training, {len(found.valid)} for validation",
            *((f"{len(found.vocab)} classes: {_few(found.vocab)}",) if found.vocab else ()),
        ),
    )
    samples: Samples = data.train
    sample = walk.step(f"open item 0: {samples.item_name(0)}", lambda: samples.raw(0), looks_of)
    key = make_key(DEFAULT_SEED, "item", 0, 0)
    for i, transform in enumerate(samples.item_tfms):
        sample = walk.step(
            f"item transform {name_of(transform)}",
            partial(samples.change, i, sample, key, 0),
            looks_of,
        )
    if not samples.threadable:
        walk.step("the same item again", lambda: check_repeatable(samples), lambda _: ("equal",))
    _walk_batch(block, samples, bs, walk)


def _walk_batch(block: DataBlock, samples: Samples, bs: int, walk: _Walk) -> None:
    ids = tuple(range(min(bs, len(samples))))
    made = [
        walk.step(
            f"sample {i}: {samples.item_name(i)}",
            partial(samples.sample, i, make_key(DEFAULT_SEED, "item", 0, i)),
            lambda _: (),
        )
        for i in ids
    ]
    elements = walk.step(
        f"collate {len(ids)} samples", lambda: collate(made, lambda i: samples.item_name(ids[i])), looks_of
    )
    job = Job(ids, DEFAULT_SEED, 0, 0, "raise")
    for transform in DeviceStage(block.batch_tfms, samples.n_inp, train=True).active:
        stage = DeviceStage([transform], samples.n_inp, train=True)
        elements = walk.step(
            f"batch transform {name_of(transform)}",
            partial(_apply, stage, elements, ids, job),
            looks_of,
        )


def _apply(stage: DeviceStage, elements: tuple[Any, ...], ids: tuple[int, ...], job: Job) -> tuple[Any, ...]:
    batch = stage(Built(elements, ids, ()), job, _CPU)
    return (*batch.x, *batch.y)


def looks_of(elements: tuple[Any, ...]) -> tuple[str, ...]:
    """One line for each element: type, shape, kind of number and range."""
    return tuple(_look(element) for element in elements)


def _look(element: Any) -> str:
    if isinstance(element, torch.Tensor):
        head = f"{type(element).__name__} {str(element.dtype).removeprefix('torch.')} {tuple(element.shape)}"
        if not element.numel() or element.is_complex():
            return head
        low, high = element.min().item(), element.max().item()
        return f"{head}, {low:.4g} to {high:.4g}"
    if hasattr(element, "shape") and hasattr(element, "dtype"):
        return f"{type(element).__name__} {element.dtype} {tuple(element.shape)}"
    return f"{type(element).__name__} {_short(repr(element))}"


def _splitter(splitter: Callable[[Any], Any]) -> str:
    return _short(repr(splitter)) if isinstance(splitter, Splitter) else name_of(splitter)


def _first(items: Any) -> str:
    first = items.iloc[0].to_dict() if hasattr(items, "iloc") else items[0]
    return _short(str(first))


def _few(names: tuple[str, ...]) -> str:
    return ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")


def _short(text: str) -> str:
    return text if len(text) <= 90 else text[:87] + "..."
