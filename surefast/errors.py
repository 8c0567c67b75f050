"""The one tree of errors, and the check that answers a wrong name with the right one.

Every error says what was found, what was expected and what to do::

    SurefastError                [surefast]
    |- ArgumentError             [argument]          a value that cannot work; also a ValueError
    |  |- UnknownNameError       [unknown-name]      a name nobody knows; also a TypeError
    |- DataError                 [data]              the data cannot be used as asked; also a ValueError
    |  |- EmptyDataError         [empty-data]        no items, or a split that leaves a set empty
    |  |- FileError              [bad-file]          one file cannot be read, or must not be
    |  |- LabelError             [label]             a label nobody announced, or a class too small
    |  |- TransformError         [transform]         a transform failed on a sample
    |  |- CollateError           [collate]           samples that do not stack into a batch
    |  |- LeakError              [leak]              the same item in the training and validation set
    |  |- WorkerError            [worker]            a data worker died more often than is allowed
    |  |- FetchError             [fetch]             an archive that is missing, damaged or unsafe
    |- TaskError                 [task]              model, target and loss do not fit together
    |- CallbackError             [callback]          a callback broke its contract; also a TypeError
    |  |- ConflictError          [conflict]          two callbacks or policies that cannot both hold
    |- NonFiniteError            [non-finite]        NaN or Inf in loss or gradients; also ArithmeticError
    |- RecipeError               [recipe]            a recipe that cannot be read, or does not match
    |  |- ExplicitError          [explicit]          defaults="explicit" and values nobody chose
    |- RunFolderError            [run-folder]        the run folder cannot be written or read; an OSError
    |- WeightsError              [weights]           weights missing, unsafe or of another shape
    |- DeterminismError          [determinism]       strict mode cannot be kept
    |- MissingExtraError         [missing-extra]     an optional library is not installed; an ImportError

What works but deserves a look is a ``SurefastWarning``, a UserWarning of its own kind, so that it can be
silenced or made an error alone.

This file must know nothing else of the package.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import ClassVar


class SurefastError(Exception):
    """Base of all errors that surefast raises on purpose.

    Args:
        what: one sentence with what was found and what was expected.
        do: what the reader can do about it.
        details: further lines, name to text, such as ``file=`` or ``found=``.
    """

    code: ClassVar[str] = "surefast"

    def __init__(self, what: str, /, *, do: str = "", **details: object) -> None:
        self.what = what
        self.do = do
        self.details = {name: str(value) for name, value in details.items() if value is not None}
        super().__init__(what)

    def __str__(self) -> str:
        lines = [f"[{self.code}] {self.what}"]
        lines += [f"  {name + ':':<10} {text}" for name, text in self.details.items()]
        if self.do:
            lines.append(f"  {'do:':<10} {self.do}")
        return "\n".join(lines)

    def __reduce__(self) -> tuple[object, ...]:
        # Errors cross the pipe of a data process whole.
        return _rebuild, (type(self), self.what, self.do, self.details)


def _rebuild(kind: type[SurefastError], what: str, do: str, details: dict[str, str]) -> SurefastError:
    return kind(what, do=do, **details)


class ArgumentError(SurefastError, ValueError):
    """An argument has a value that cannot work."""

    code = "argument"


class UnknownNameError(ArgumentError, TypeError):
    """A name that nobody knows; the message holds the nearest known one."""

    code = "unknown-name"


class DataError(SurefastError, ValueError):
    """The data cannot be used as asked."""

    code = "data"


class EmptyDataError(DataError):
    """No items were found, or a split leaves a set empty."""

    code = "empty-data"


class FileError(DataError):
    """One file cannot be read, or must not be."""

    code = "bad-file"


class LabelError(DataError):
    """A label that was never announced, or a class too small to be split."""

    code = "label"


class TransformError(DataError):
    """A transform failed on a sample; the cause is chained."""

    code = "transform"


class CollateError(DataError):
    """Samples do not stack into one batch."""

    code = "collate"


class LeakError(DataError):
    """The same item is in the training and in the validation set."""

    code = "leak"


class WorkerError(DataError):
    """A data worker died, and replacing it did not help."""

    code = "worker"


class FetchError(DataError):
    """An archive is missing, damaged or unsafe."""

    code = "fetch"


class TaskError(SurefastError, ValueError):
    """Model, target and loss do not fit together."""

    code = "task"


class CallbackError(SurefastError, TypeError):
    """A callback broke its contract."""

    code = "callback"


class ConflictError(CallbackError):
    """Two callbacks or policies cannot both hold."""

    code = "conflict"


class NonFiniteError(SurefastError, ArithmeticError):
    """NaN or Inf in the loss or the gradients, caught before the optimizer step."""

    code = "non-finite"


class RecipeError(SurefastError, ValueError):
    """A recipe cannot be read, or does not match what runs."""

    code = "recipe"


class ExplicitError(RecipeError):
    """``defaults="explicit"`` and there are values that nobody chose."""

    code = "explicit"


class RunFolderError(SurefastError, OSError):
    """The run folder cannot be written or read."""

    code = "run-folder"


class WeightsError(SurefastError, ValueError):
    """Weights are missing, unsafe or of another shape."""

    code = "weights"


class DeterminismError(SurefastError, RuntimeError):
    """Strict mode cannot be kept."""

    code = "determinism"


class MissingExtraError(SurefastError, ImportError):
    """An optional library is not installed."""

    code = "missing-extra"


class SurefastWarning(UserWarning):
    """Something works, and probably not as wanted."""


def nearest(given: str, known: Iterable[str]) -> str | None:
    """The known name closest to ``given``, or None when nothing is close."""
    matches = difflib.get_close_matches(given, sorted(known), n=1, cutoff=0.6)
    return matches[0] if matches else None


def unknown_name(given: str, known: Iterable[str], *, of: str, kind: str = "argument") -> UnknownNameError:
    """The error for a name nobody knows, with the nearest known one in its remedy."""
    names = sorted(known)
    close = nearest(given, names)
    do = f"write {close!r}" if close else f"use one of: {', '.join(names)}"
    return UnknownNameError(f"{of} has no {kind} {given!r}", do=do)
