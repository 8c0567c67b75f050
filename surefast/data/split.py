"""Splitters: from items to the positions of the training and of the validation set.

Each is a small object that is called with the items. None of them touches a global generator: those that
draw use a permutation made from a key. The check that no set is empty and none overlap is ``checked_split``.
This file must not know what an item is, beyond its path or its row.
"""

from __future__ import annotations

import abc
import reprlib
from collections.abc import Callable, Hashable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeAlias, final

import numpy as np

from surefast.data.label import ColReader
from surefast.errors import ArgumentError, EmptyDataError, LabelError, LeakError
from surefast.keys.generator import permutation
from surefast.keys.key import DEFAULT_SEED, make_key
from surefast.recipe.call import call_of, current_call, declared

Split: TypeAlias = tuple[list[int], list[int]]
"""Positions of the training items, then of the validation items."""


class Splitter(abc.ABC):
    """A way to divide items into a training and a validation set."""

    @abc.abstractmethod
    def __call__(self, items: Any) -> Split:
        """The positions of both sets, each in the order of the items, or as drawn."""

    def __repr__(self) -> str:
        record = call_of(self)
        values = {} if record is None else record.values
        shown = ", ".join(f"{name}={_shown(value.value)}" for name, value in values.items())
        return f"{type(self).__name__}({shown})"


@final
@declared()
class RandomSplitter(Splitter):
    """A share of the items drawn at random for validation.

    Args:
        valid_pct: the share for validation, between 0 and 1; the number of items is rounded down.
        seed: of the draw; None stands for the default seed, never for a different split each time.
    """

    def __init__(self, valid_pct: float = 0.2, seed: int | None = DEFAULT_SEED) -> None:
        self.valid_pct = _share("valid_pct", valid_pct)
        self.seed = _seed(seed)

    def __call__(self, items: Any) -> Split:
        """The training and the validation positions."""
        order = _shuffled(len(items), self.seed)
        cut = int(self.valid_pct * len(order))
        return order[cut:], order[:cut]


@final
@declared()
class TrainTestSplitter(Splitter):
    """A share for validation in which, if asked, every label has its share.

    Args:
        test_size: the share for validation (below 1), or the number of items.
        random_state: the seed of the draw; None stands for the default seed.
        stratify: one label for each item, or a function from item to label; None draws from all alike.

    Raises:
        LabelError: when called, a label has a single item, so that it cannot be in both sets.
    """

    def __init__(
        self,
        test_size: float = 0.2,
        random_state: int | None = DEFAULT_SEED,
        stratify: Sequence[Hashable] | Callable[[Any], Hashable] | None = None,
    ) -> None:
        self.test_size = test_size if test_size >= 1 else _share("test_size", test_size)
        self.seed = _seed(random_state, "random_state")
        self.stratify = stratify

    def __call__(self, items: Any) -> Split:
        """The training and the validation positions."""
        length = len(items)
        wanted = int(self.test_size) if self.test_size >= 1 else int(np.ceil(self.test_size * length))
        if self.stratify is None:
            order = _shuffled(length, self.seed)
            return order[wanted:], order[:wanted]
        labels = _per_item(self.stratify, items, "stratify")
        return _stratified(labels, wanted, self.seed)


@final
@declared()
class IndexSplitter(Splitter):
    """The items at given positions are for validation."""

    def __init__(self, valid_idx: Iterable[int]) -> None:
        self.valid_idx = [int(i) for i in valid_idx]

    def __call__(self, items: Any) -> Split:
        """The training and the validation positions."""
        length = len(items)
        for i in self.valid_idx:
            if not -length <= i < length:
                raise ArgumentError(
                    f"IndexSplitter: position {i} is outside the {length} items",
                    do="pass positions of the items",
                )
        valid = [i % length for i in self.valid_idx]
        chosen = set(valid)
        return [i for i in range(length) if i not in chosen], valid


@final
@declared()
class EndSplitter(Splitter):
    """The last items (or the first) are for validation: for ordered data."""

    def __init__(self, valid_pct: float = 0.2, valid_last: bool = True) -> None:
        self.valid_pct = _share("valid_pct", valid_pct)
        self.valid_last = valid_last

    def __call__(self, items: Any) -> Split:
        """The training and the validation positions."""
        length = len(items)
        cut = int(np.ceil(self.valid_pct * length))
        if self.valid_last:
            return list(range(length - cut)), list(range(length - cut, length))
        return list(range(cut, length)), list(range(cut))


@final
@declared()
class GrandparentSplitter(Splitter):
    """By the name of the folder above the label's: ``train/cat/1.jpg``, ``valid/cat/2.jpg``.

    Args:
        train_name: of the training folder, or several names.
        valid_name: of the validation folder, or several names; other folders are left out.
    """

    def __init__(
        self, train_name: str | Sequence[str] = "train", valid_name: str | Sequence[str] = "valid"
    ) -> None:
        self.train_name = _names(train_name)
        self.valid_name = _names(valid_name)

    def __call__(self, items: Any) -> Split:
        """The training and the validation positions."""
        above = [Path(item).parent.parent.name for item in items]
        train = [i for i, name in enumerate(above) if name in self.train_name]
        valid = [i for i, name in enumerate(above) if name in self.valid_name]
        if not train or not valid:
            missing = self.valid_name if train else self.train_name
            raise EmptyDataError(
                f"GrandparentSplitter: no item lies two folders under {' or '.join(map(repr, missing))}",
                do=f"the folders there are: {', '.join(sorted(set(above))[:8])}; pass train_name= and "
                "valid_name=, or split at random with RandomSplitter()",
            )
        return train, valid


@final
@declared()
class FuncSplitter(Splitter):
    """Items for which ``func`` is true are for validation."""

    def __init__(self, func: Callable[[Any], bool]) -> None:
        self.func = func

    def __call__(self, items: Any) -> Split:
        """The training and the validation positions."""
        return _by_mask([bool(self.func(item)) for item in _each(items)])


@final
@declared()
class MaskSplitter(Splitter):
    """Items where ``mask`` is true are for validation; one value for each item."""

    def __init__(self, mask: Sequence[bool]) -> None:
        self.mask = [bool(value) for value in mask]

    def __call__(self, items: Any) -> Split:
        """The training and the validation positions."""
        if len(self.mask) != len(items):
            raise ArgumentError(
                f"MaskSplitter: the mask has {len(self.mask)} values for {len(items)} items",
                do="pass one value for each item",
            )
        return _by_mask(self.mask)


@final
@declared()
class ColSplitter(Splitter):
    """By a column of the table: true (or one of the values of ``on``) is for validation."""

    def __init__(self, col: str | int = "is_valid", on: object = None) -> None:
        self.col = col
        self.on = on

    def __call__(self, items: Any) -> Split:
        """The training and the validation positions."""
        values = _column(items, self.col)
        if self.on is None:
            return _by_mask([_truth(value, self.col) for value in values])
        wanted = set(self.on) if isinstance(self.on, (list, tuple, set, frozenset)) else {self.on}
        return _by_mask([value in wanted for value in values])


@final
@declared()
class GroupSplitter(Splitter):
    """Whole groups go to one side: patients, cameras, sessions, copies of one picture.

    Groups are drawn at random until validation has its share of the items, or just over it.

    Args:
        group: a function from item to group, a column name, or one group for each item.
        valid_pct: the share of items for validation.
        seed: of the draw; None stands for the default seed.
    """

    def __init__(
        self,
        group: Callable[[Any], Hashable] | str | Sequence[Hashable],
        valid_pct: float = 0.2,
        seed: int | None = DEFAULT_SEED,
    ) -> None:
        self.group = group
        self.valid_pct = _share("valid_pct", valid_pct)
        self.seed = _seed(seed)

    def __call__(self, items: Any) -> Split:
        """The training and the validation positions."""
        groups = _per_item(self.group, items, "group")
        members = _members(groups)
        names = list(members)
        if len(names) < 2:
            raise EmptyDataError(
                f"GroupSplitter: all {len(groups)} items are in {len(names)} group",
                do="group by something finer",
            )
        wanted, valid = self.valid_pct * len(groups), set[int]()
        for position in _shuffled(len(names), self.seed)[:-1]:  # one group at least is left to train
            if len(valid) >= wanted:
                break
            valid |= set(members[names[position]])
        return [i for i in range(len(groups)) if i not in valid], sorted(valid)


@final
@declared()
class TimeSplitter(Splitter):
    """The newest items are for validation, so that nothing is learned from the future.

    Items of one moment stay together on the training side of the cut.

    Args:
        time: a function from item to something that sorts, a column name, or one value for each item.
        valid_pct: the share of items for validation.
    """

    def __init__(self, time: Callable[[Any], Any] | str | Sequence[Any], valid_pct: float = 0.2) -> None:
        self.time = time
        self.valid_pct = _share("valid_pct", valid_pct)

    def __call__(self, items: Any) -> Split:
        """The training and the validation positions."""
        times = _per_item(self.time, items, "time")
        missing = [i for i, moment in enumerate(times) if moment is None or moment != moment]
        if missing:
            raise LabelError(
                f"TimeSplitter: {len(missing)} items have no time, the first at position {missing[0]}",
                do="fill the times in, or drop these items",
            )
        order = sorted(range(len(times)), key=lambda i: (times[i], i))
        cut = len(order) - int(np.ceil(self.valid_pct * len(order)))
        while 0 < cut < len(order) and times[order[cut]] == times[order[cut - 1]]:
            cut += 1
        return order[:cut], order[cut:]


@final
@declared()
class KFoldSplitter(Splitter):
    """One of ``n_splits`` parts is for validation; each item is in the validation set of one fold.

    Args:
        n_splits: number of parts, at least 2.
        fold: which part, from 0.
        seed: of the draw; None stands for the default seed.
        stratify: labels that every part shall have its share of; as in ``TrainTestSplitter``.
    """

    def __init__(
        self,
        n_splits: int = 5,
        fold: int = 0,
        seed: int | None = DEFAULT_SEED,
        stratify: Sequence[Hashable] | Callable[[Any], Hashable] | None = None,
    ) -> None:
        if n_splits < 2 or not 0 <= fold < n_splits:
            raise ArgumentError(
                f"KFoldSplitter: fold {fold} of {n_splits} does not exist",
                do="use n_splits of 2 or more, and a fold from 0 to n_splits - 1",
            )
        self.n_splits, self.fold, self.seed, self.stratify = n_splits, fold, _seed(seed), stratify

    def __call__(self, items: Any) -> Split:
        """The training and the validation positions."""
        order = _shuffled(len(items), self.seed)
        if self.stratify is not None:
            labels = _per_item(self.stratify, items, "stratify")
            ranks = {label: rank for rank, label in enumerate(_members(labels))}
            order.sort(key=lambda i: ranks[labels[i]])  # dealt out label by label; the sort keeps the draw
        valid = set(order[self.fold :: self.n_splits])
        return [i for i in range(len(order)) if i not in valid], sorted(valid)


def checked_split(splitter: Callable[[Any], Any], items: Any) -> Split:
    """The split of the items, after checks that a user's splitter may fail.

    Raises:
        EmptyDataError: there are no items, or one of the sets is empty.
        LeakError: an item is in both sets.
        ArgumentError: a position lies outside the items.
    """
    length, name = len(items), _splitter_name(splitter)
    if length == 0:
        raise EmptyDataError("there are no items", do="check get_items and the source that it was given")
    parts = splitter(items)
    if len(parts) != 2:
        raise ArgumentError(
            f"{name} gave {len(parts)} sets, not two", do="return (train positions, valid positions)"
        )
    train, valid = [int(i) for i in parts[0]], [int(i) for i in parts[1]]
    for kind, part in (("training", train), ("validation", valid)):
        if not part:
            raise EmptyDataError(
                f"{name} leaves the {kind} set empty: {len(train)} of {length} items are for training, "
                f"{len(valid)} for validation",
                do="choose another share or splitter, or add items",
            )
        if min(part) < 0 or max(part) >= length:
            raise ArgumentError(
                f"{name} gave a position outside the {length} items", do="return positions from 0"
            )
    both = set(train) & set(valid)
    if both:
        first = min(both)
        raise LeakError(
            f"{name} puts {len(both)} of {length} items into both the training and the validation set",
            do="let it return sets that do not overlap",
            first=f"position {first}, {str(items[first])[:80] if isinstance(items, list) else ''}",
        )
    return train, valid


def _splitter_name(splitter: Callable[[Any], Any]) -> str:
    return str(getattr(splitter, "__name__", type(splitter).__name__))


def _shown(value: object) -> str:
    return str(value.__name__) if callable(value) and hasattr(value, "__name__") else reprlib.repr(value)


def _share(name: str, value: float) -> float:
    if not 0 < value < 1:
        raise ArgumentError(f"{name}={value} is no share", do=f"pass {name} between 0 and 1, such as 0.2")
    return float(value)


def _seed(seed: int | None, name: str = "seed") -> int:
    if seed is not None:
        return int(seed)
    current_call().infer(name, DEFAULT_SEED, "None stands for the default seed, so that the split repeats")
    return DEFAULT_SEED


def _shuffled(length: int, seed: int) -> list[int]:
    order: list[int] = permutation(make_key(seed, "split"), length).tolist()
    return order


def _names(given: str | Sequence[str]) -> tuple[str, ...]:
    return (given,) if isinstance(given, str) else tuple(given)


def _each(items: Any) -> list[Any]:
    if hasattr(items, "iloc"):
        return [items.iloc[i] for i in range(len(items))]
    return list(items)


def _column(items: Any, col: str | int) -> list[Any]:
    if hasattr(items, "iloc") and hasattr(items, "columns") and len(items):
        ColReader(col)(items.iloc[0])  # names the columns where this one is missing
        series = items.iloc[:, col] if isinstance(col, int) else items[col]
        return list(series.tolist())
    reader = ColReader(col)
    return [reader(item) for item in _each(items)]


def _per_item(source: Any, items: Any, name: str) -> list[Any]:
    if isinstance(source, str):
        return _column(items, source)
    if callable(source):
        return [source(item) for item in _each(items)]
    values = list(source)
    if len(values) != len(items):
        raise ArgumentError(
            f"{name} has {len(values)} values for {len(items)} items",
            do="pass one value for each item, or a function",
        )
    return values


def _by_mask(mask: Sequence[bool]) -> Split:
    return [i for i, chosen in enumerate(mask) if not chosen], [i for i, chosen in enumerate(mask) if chosen]


def _truth(value: object, col: str | int) -> bool:
    if isinstance(value, (bool, np.bool_)) or value in {0, 1}:
        return bool(value)
    text = str(value).strip().lower()
    if text in {"true", "yes", "1"}:
        return True
    if text in {"false", "no", "0"}:
        return False
    raise LabelError(
        f"ColSplitter: the column {col!r} holds {value!r}, which is neither true nor false",
        do='say which values are for validation: ColSplitter(col, on="valid")',
    )


def _members(labels: Sequence[Hashable]) -> dict[Hashable, list[int]]:
    members: dict[Hashable, list[int]] = {}
    for i, label in enumerate(labels):
        members.setdefault(label, []).append(i)
    return members


def _stratified(labels: Sequence[Hashable], wanted: int, seed: int) -> Split:
    """Largest remainders: each label gives its share, rounded so that the total is as asked."""
    members = _members(labels)
    for label, places in members.items():
        if len(places) < 2:
            raise LabelError(
                f"the label {label!r} has a single item, at position {places[0]}, and cannot be in both sets",
                do="add an item, drop this one, or split without stratify",
            )
    exact = {label: wanted * len(places) / len(labels) for label, places in members.items()}
    counts = {label: int(share) for label, share in exact.items()}
    by_rest = sorted(members, key=lambda label: counts[label] - exact[label])
    for label in by_rest[: wanted - sum(counts.values())]:
        counts[label] += 1
    counts = {label: min(max(count, 1), len(members[label]) - 1) for label, count in counts.items()}
    taken: dict[Hashable, int] = dict.fromkeys(members, 0)
    train: list[int] = []
    valid: list[int] = []
    for i in _shuffled(len(labels), seed):
        label = labels[i]
        side = valid if taken[label] < counts[label] else train
        taken[label] += 1
        side.append(i)
    return train, valid
