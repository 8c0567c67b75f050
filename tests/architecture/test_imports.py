"""Which way imports point, and what importing the package costs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HEAVY = ["timm", "transformers", "torchmetrics", "mlflow", "onnx"]
HEAVY += ["matplotlib", "pandas", "sklearn", "rich", "typer"]


def run(code: str) -> str:
    """What a fresh interpreter prints."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    return done.stdout.strip()


def test_rooms_import_downwards_only():
    """The layers of DESIGN hold, and every room says where it stands."""
    from importlinter.cli import lint_imports

    assert lint_imports(config_filename=str(ROOT / "pyproject.toml"), no_cache=True) == 0


@pytest.mark.parametrize("module", ["surefast", "surefast.learner", "surefast.vision.all"])
def test_import_loads_no_heavy_library(module):
    """Heavy libraries are imported where they are used."""
    loaded = run(
        f"import torch, torchvision, sys; before = set(sys.modules); import {module}; "
        f"print([m for m in {HEAVY} if m in sys.modules and m not in before])"
    )
    assert loaded == "[]"


def test_import_of_the_package_loads_no_room():
    """``import surefast`` costs next to nothing: its names are found when they are used."""
    assert run("import sys, surefast; print([m for m in sys.modules if m.startswith('surefast.')])") == "[]"


def test_import_changes_nothing_of_others():
    """No library's settings are changed by importing surefast."""
    code = (
        "import torch, numpy as np, random\n"
        "def look(): return (torch.get_num_threads(), torch.is_grad_enabled(), torch.get_default_dtype(), "
        "torch.are_deterministic_algorithms_enabled(), torch.initial_seed(), random.getstate()[1][:3], "
        "sorted(vars(torch.Tensor)))\n"
        "before = look()\n"
        "import surefast.vision.all\n"
        "print(before == look())"
    )
    assert run(code) == "True"
