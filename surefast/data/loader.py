"""The loader: an epoch of batches whose whole state is (epoch, number of the batch).

The order of an epoch is a permutation made from a key and every batch a pure function of its job, so a
loader keeps nothing between batches: starting in the middle costs nothing, and threads, processes and
prefetching cannot change what comes out. This file must not know what a sample is.
"""

from __future__ import annotations

import contextlib
import os
import warnings
import weakref
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Literal, TypeAlias, final

import torch

from surefast.data.assemble import Built, Job, OnError, Skipped, build_batch
from surefast.data.batch import Batch
from surefast.data.dataset import Samples
from surefast.data.device import DeviceStage, default_device
from surefast.data.transform import BatchTransform, in_order
from surefast.data.workers import Crew
from surefast.errors import ArgumentError, EmptyDataError, SurefastWarning
from surefast.keys.generator import permutation
from surefast.keys.key import DEFAULT_SEED, make_key
from surefast.recipe.call import current_call, declared

Workers: TypeAlias = Literal["auto", "thread", "process"]

SMALL = 1000
"""Below this many samples no data process is started unless asked for: starting one takes seconds."""


@final
class Sources:
    """Where batches are built: here, in threads, or in processes; shared by the loaders of one data set.

    Args:
        workers: ``thread``, ``process``, or ``auto``: threads where every item transform allows it.
        num_workers: how many; 0 builds batches here, between steps; None chooses.
        prefetch: how many batches each worker may be ahead.
    """

    def __init__(self, workers: Workers = "auto", num_workers: int | None = None, prefetch: int = 2) -> None:
        if workers not in {"auto", "thread", "process"}:
            raise ArgumentError(f"workers={workers!r} is not known", do='use "auto", "thread" or "process"')
        if (num_workers is not None and num_workers < 0) or prefetch < 1:
            raise ArgumentError(
                f"num_workers={num_workers}, prefetch={prefetch}",
                do="use num_workers of 0 or more, prefetch of 1 or more",
            )
        self.workers, self.num_workers, self.prefetch = workers, num_workers, prefetch
        self._crew: Crew | None = None

    def kind(self, samples: Samples) -> Literal["here", "thread", "process"]:
        """Where the batches of a data set are built.

        Raises:
            ArgumentError: threads were asked for and a transform cannot run in one.
        """
        if self.workers == "thread" and not samples.threadable:
            names = ", ".join(repr(t) for t in samples.item_tfms if not t.threadable)
            raise ArgumentError(
                f'workers="thread", but {names} draws from global generators, which threads share',
                do='use workers="auto" or "process"',
            )
        if self.count(samples) == 0:
            return "here"
        if self.workers == "auto":
            return "thread" if samples.threadable else "process"
        return self.workers

    def count(self, samples: Samples) -> int:
        """How many workers build the batches of a data set."""
        if self.num_workers is not None:
            return self.num_workers
        if self.workers != "thread" and not samples.threadable and len(samples) < SMALL:
            return 0
        return min(_cpus(), 8)

    def crew(self, samples: Samples) -> Crew:
        """The data processes, made once."""
        if self._crew is None:
            self._crew = Crew(self.count(samples))
        return self._crew

    def close(self) -> None:
        """End the data processes, if there are any; a later epoch starts new ones."""
        if self._crew is not None:
            self._crew.close()
            self._crew = None


@final
@declared(neutral={"dataset", "sources", "device"})
class Loader:
    """Batches of a data set, epoch by epoch.

    Args:
        dataset: the samples.
        bs: samples in a batch, over all processes together.
        shuffle: whether each epoch has an order of its own.
        drop_last: whether an incomplete last batch is left out; None leaves it out in training, unless it is
            the only one.
        batch_tfms: batch transforms; they are put in their order (``BatchTransform.order``).
        on_error: ``raise`` at a bad item, ``skip`` it, or ``replace`` it by another; what is skipped or
            replaced is in ``skipped``.
        sources: where batches are built; None builds them here.
        device: where batches go when ``batches`` is not told; None takes a card where there is one.

    Raises:
        EmptyDataError: the data set is empty.
        ArgumentError: a value cannot work.
    """

    def __init__(
        self,
        dataset: Samples,
        bs: int = 64,
        *,
        shuffle: bool = False,
        drop_last: bool | None = None,
        batch_tfms: Sequence[BatchTransform] = (),
        on_error: OnError = "raise",
        sources: Sources | None = None,
        device: str | torch.device | None = None,
    ) -> None:
        self.n = len(dataset)
        if not self.n:
            raise EmptyDataError("the data set is empty", do="check the items and the splitter")
        if bs < 1:
            raise ArgumentError(f"bs={bs}: a batch needs at least one sample", do="use bs of 1 or more")
        if on_error not in {"raise", "skip", "replace"}:
            raise ArgumentError(f"on_error={on_error!r} is not known", do='use "raise", "skip" or "replace"')
        if drop_last is None:
            drop_last = dataset.train and self.n >= bs
            why = "an incomplete last batch of training is left out" if drop_last else "every sample counts"
            current_call().infer("drop_last", drop_last, why)
        elif drop_last and self.n < bs:
            raise ArgumentError(
                f"drop_last=True leaves no batch: there are {self.n} samples for bs={bs}",
                do="use a smaller bs",
            )
        self.dataset, self.bs, self.shuffle, self.drop_last = dataset, bs, shuffle, drop_last
        self.train, self.n_inp = dataset.train, dataset.n_inp
        self.batch_tfms, self.on_error = tuple(in_order(batch_tfms)), on_error
        self.sources = sources or Sources(num_workers=0)
        self.sources.kind(dataset)  # an impossible choice is an error now, not at the first batch
        self.device = torch.device(device) if device is not None else default_device()[0]
        self.skipped: list[Skipped] = []
        self._stage = DeviceStage(self.batch_tfms, self.n_inp, train=self.train)
        self._registered: tuple[Crew, int] | None = None

    def __len__(self) -> int:
        return self.n // self.bs if self.drop_last else -(-self.n // self.bs)

    def __repr__(self) -> str:
        side = "training" if self.train else "validation"
        return f"Loader({self.n} items in {len(self)} batches of {self.bs}, for {side})"

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        for batch in self.batches(DEFAULT_SEED, 0):
            yield (*batch.x, *batch.y)

    def item_name(self, index: int) -> str:
        """The file of a sample, or its place in the items."""
        return self.dataset.item_name(index)

    def plain(self) -> Loader:
        """A loader over the same items in their order, nothing dropped and nothing augmented."""
        return self._like(self.dataset.with_train(False))

    def augmented(self) -> Loader:
        """A loader over the same items in their order, nothing dropped, augmented as in training."""
        return self._like(self.dataset.with_train(True))

    def _like(self, dataset: Samples) -> Loader:
        return Loader(
            dataset,
            self.bs,
            drop_last=False,
            batch_tfms=self.batch_tfms,
            on_error=self.on_error,
            sources=self.sources,
            device=self.device,
        )

    def batches(
        self, seed: int, epoch: int, start: int = 0, device: str | torch.device | None = None
    ) -> Iterator[Batch]:
        """The batches of an epoch from number ``start`` on, transformed, on the device.

        A batch whose items all failed and were skipped is left out.

        Raises:
            DataError: an item failed and ``on_error`` is ``raise``.
            EmptyDataError: every item failed.
            WorkerError: a data process died again and again over one batch.
        """
        target = torch.device(device) if device is not None else self.device
        jobs = self.jobs(seed, epoch, start)
        failed: Built | None = None
        found = False
        with contextlib.closing(self._built(jobs)) as built_batches:
            for job, built in built_batches:
                if built.skipped:
                    self._note(built.skipped)
                if not built.ids:
                    failed = built
                    continue
                found = True
                yield self._stage(built, job, target)
        if failed is not None and not found:
            raise _all_failed(failed)

    def batch_at(self, seed: int, epoch: int, number: int, device: str | torch.device | None = None) -> Batch:
        """One batch of an epoch, built here: what ``batches`` gives as number ``number``."""
        job = next(self.jobs(seed, epoch, number), None)
        if job is None:
            raise ArgumentError(f"there is no batch {number}: an epoch has {len(self)}", do="count from 0")
        target = torch.device(device) if device is not None else self.device
        built = self._build_here(job)
        if not built.ids:
            raise _all_failed(built)
        return self._stage(built, job, target)

    def jobs(self, seed: int, epoch: int, start: int = 0) -> Iterator[Job]:
        """What is to be built in an epoch, from batch ``start`` on."""
        order: list[int] | range = range(self.n)
        if self.shuffle:
            order = permutation(make_key(seed, "shuffle", epoch), self.n).tolist()
        for number in range(start, len(self)):
            ids = tuple(order[number * self.bs : (number + 1) * self.bs])
            yield Job(ids, seed, epoch, number, self.on_error)

    def _built(self, jobs: Iterator[Job]) -> Generator[tuple[Job, Built], None, None]:
        kind = self.sources.kind(self.dataset)
        if kind == "here":
            for job in jobs:
                yield job, self._build_here(job)
            return
        ahead = self.sources.count(self.dataset) * self.sources.prefetch
        if kind == "process":
            crew, data = self._register()
            yield from _in_order(jobs, lambda job: crew.submit(data, job), ahead)
            return
        pool = ThreadPoolExecutor(self.sources.count(self.dataset), thread_name_prefix="surefast-data")
        try:
            yield from _in_order(jobs, lambda job: pool.submit(build_batch, self.dataset, job), ahead)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def _build_here(self, job: Job) -> Built:
        with self.dataset.guarded():
            return build_batch(self.dataset, job)

    def _register(self) -> tuple[Crew, int]:
        crew = self.sources.crew(self.dataset)
        if self._registered is None or self._registered[0] is not crew:
            self._registered = crew, crew.register(self.dataset)
            weakref.finalize(self, crew.forget, self._registered[1]).atexit = False
        return self._registered

    def _note(self, skipped: tuple[Skipped, ...]) -> None:
        if not self.skipped:
            first = skipped[0]
            verb = "replaced" if first.replaced_by is not None else "skipped"
            warnings.warn(
                f"an item was {verb}: {first.name} ({first.error}); this and all others are listed in "
                "loader.skipped",
                SurefastWarning,
                stacklevel=3,
            )
        self.skipped.extend(skipped)


def _all_failed(built: Built) -> EmptyDataError:
    first = built.skipped[0]
    return EmptyDataError(
        "no item could be used: every one of them failed",
        do="mend the files or what opens them; DataBlock.summary(source) shows each stage",
        first=f"{first.name}: {first.error}",
    )


def _in_order(
    jobs: Iterator[Job], submit: Callable[[Job], Future[Built]], ahead: int
) -> Generator[tuple[Job, Built], None, None]:
    """Hand jobs out, at most ``ahead`` at a time, and give their results in the order of the jobs."""
    window: deque[tuple[Job, Future[Built]]] = deque()
    try:
        for job in jobs:
            window.append((job, submit(job)))
            if len(window) >= ahead:
                first, future = window.popleft()
                yield first, future.result()
        while window:
            first, future = window.popleft()
            yield first, future.result()
    finally:
        for _, future in window:
            future.cancel()


def _cpus() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on every system
        return os.cpu_count() or 1
