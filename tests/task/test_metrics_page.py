"""The page about metrics names every metric."""

from __future__ import annotations

from pathlib import Path

import pytest

from surefast.task import class_metrics, metric, score_metrics
from surefast.task.metric import Metric

PAGE = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text(encoding="utf-8")


METRICS = [
    name
    for room in (class_metrics, score_metrics)
    for name, kind in vars(room).items()
    if isinstance(kind, type) and issubclass(kind, Metric) and kind is not Metric and name[0] != "_"
]


@pytest.mark.parametrize("name", [*METRICS, *(f.__name__ for f in metric._KNOWN)])
def test_every_metric_is_named(name):
    assert f"`{name}" in PAGE
