"""What importing surefast costs over the libraries it stands on.

    python -m benchmarks.import_time [--rounds 9]

Each import runs in a fresh interpreter with bytecode at hand; what is counted is CPU time. The garbage of
torch's own import is collected before the clock starts, or its collection would fall into ours.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys

CODE = """
import gc, time, torch, torchvision
gc.collect()
start = time.process_time()
{statement}
print((time.process_time() - start) * 1e3)
"""
STATEMENTS = ["import surefast", "from surefast import Learner", "from surefast.vision.all import *"]


def cost(statement: str) -> float:
    """Milliseconds of one import after torch and torchvision."""
    done = subprocess.run(
        [sys.executable, "-c", CODE.format(statement=statement)], capture_output=True, text=True, check=True
    )
    return float(done.stdout)


def main() -> None:
    """Print a markdown table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    args = parser.parse_args()
    print("| import, over torch and torchvision | ms (median) | range |")
    print("|---|---|---|")
    for statement in STATEMENTS:
        cost(statement)  # writes bytecode
        times = sorted(cost(statement) for _ in range(args.rounds))
        print(f"| `{statement}` | {statistics.median(times):.0f} | {times[0]:.0f} to {times[-1]:.0f} |")


if __name__ == "__main__":
    main()
