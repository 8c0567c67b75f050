"""Figures of samples: pictures as pictures, everything else as text.

This file must not know where samples come from.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from surefast.errors import EmptyDataError, MissingExtraError

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def show_samples(
    samples: Sequence[tuple[Any, ...]], *, title: str = "", said: Sequence[Any] | None = None
) -> Figure:
    """A figure with one field for each sample: the first picture in it, the rest as its title.

    Args:
        samples: decoded samples; a tensor (C, H, W) of uint8, or of floats in [0, 1], is a picture.
        title: over the whole figure.
        said: what the model said of each, written under the target.

    Raises:
        EmptyDataError: there is nothing to show.
        MissingExtraError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingExtraError(
            "figures need matplotlib, which is not installed", do="pip install 'surefast[report]'"
        ) from None
    if not samples:
        raise EmptyDataError("there are no samples to show", do="pass max_n of 1 or more")
    columns = math.ceil(math.sqrt(len(samples)))
    rows = math.ceil(len(samples) / columns)
    # Not through pyplot, which would keep the figure alive, choose a back end and show it twice.
    figure = Figure(figsize=(2.6 * columns, 2.8 * rows), layout="constrained")
    fields = figure.subplots(rows, columns, squeeze=False)
    for i, field in enumerate(fields.flat):
        field.axis("off")
        if i < len(samples):
            _draw(field, samples[i], None if said is None else said[i])
    if title:
        figure.suptitle(title, fontsize=9)
    return figure


def _draw(field: Any, sample: tuple[Any, ...], said: Any) -> None:
    pictures = [i for i, element in enumerate(sample) if _is_picture(element)]
    texts = [_text(element) for i, element in enumerate(sample) if i not in pictures]
    if pictures:
        field.imshow(_pixels(sample[pictures[0]]), cmap="gray")
    elif texts:
        field.text(0.5, 0.5, texts.pop(0), ha="center", va="center", wrap=True, fontsize=8)
    for i in pictures[1:]:
        overlay = _pixels(sample[i])
        if overlay.ndim == 2:
            field.imshow(overlay, cmap="tab20", alpha=0.4)
    lines = [*texts, *([_text(said)] if said is not None else [])]
    # Escaped: a label with a dollar sign would be read as a formula.
    field.set_title("\n".join(line.replace("$", r"\$") for line in lines), fontsize=9)


def _is_picture(element: Any) -> bool:
    if not isinstance(element, torch.Tensor):
        return False
    if element.ndim == 2:
        return min(element.shape) > 1
    return element.ndim == 3 and element.shape[0] in {1, 3, 4} and min(element.shape[1:]) > 1


def _pixels(element: torch.Tensor) -> Any:
    plain = element.detach().as_subclass(torch.Tensor).cpu()
    if plain.is_floating_point():
        plain = plain.float().clamp(0, 1)
    if plain.ndim == 3:
        plain = plain[0] if plain.shape[0] == 1 else plain.permute(1, 2, 0)
    return plain.numpy()


def _text(element: Any) -> str:
    if isinstance(element, torch.Tensor):
        flat = element.flatten().tolist()
        shown = ", ".join(f"{value:.4g}" for value in flat[:6])
        return shown if len(flat) <= 6 else f"{shown}, ... {tuple(element.shape)}"
    if isinstance(element, float):
        return f"{element:.4g}"
    if isinstance(element, tuple):
        return "; ".join(_text(part) for part in element)
    text = str(element)
    return text if len(text) <= 80 else text[:77] + "..."
