"""Run every benchmark and write what it printed to ``benchmarks/RESULTS.md``: ``make bench``.

Each runs in a process of its own. Figures of a shared machine are noisy: the ratios are made round by
round, in one run, and are what counts.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import torch

HERE = Path(__file__).parent
BENCHMARKS = {
    "Loop overhead": "loop_overhead",
    "Image pipeline": "image_pipeline",
    "Import": "import_time",
}


def run(module: str) -> str:
    """What a benchmark prints."""
    print(f"running benchmarks.{module} ...", flush=True)
    done = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{module}"],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        cwd=HERE.parent,
        env=os.environ | {"PYTHONDONTWRITEBYTECODE": ""},
    )
    return done.stdout.strip()


def main() -> None:
    """Write RESULTS.md."""
    parts = [
        "# Results",
        "Made by `make bench`; every table compares within one run, in turns. "
        f"torch {torch.__version__}, Python {platform.python_version()}, {os.cpu_count()} CPU cores "
        f"({torch.backends.cpu.get_cpu_capability()}), load {os.getloadavg()[0]:.1f} at the start.",
    ]
    for title, module in BENCHMARKS.items():
        parts += [f"## {title}", f"`python -m benchmarks.{module}`", run(module)]
    target = HERE / "RESULTS.md"
    target.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    print(f"written: {target}")


if __name__ == "__main__":
    main()
