"""What the first line of a lesson costs: ``python bench/import_time.py``.

Starts fresh interpreters and prints the median time of each import, less the time of an empty program, beside
imports everybody knows. The ratios are what counts: they hold on a slow machine too.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

ROUNDS = 15
PROGRAMS = {
    "import streamlib": "import streamlib",
    "from streamlib.connect import connect": "from streamlib.connect import connect",
    "from streamlib import check": "from streamlib import check",
    "import asyncio": "import asyncio",
    "import json": "import json",
    "import httpx2": "import httpx2",
    "import openai": "import openai",
}


def seconds(program: str) -> float:
    """One run of a program in an interpreter of its own."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", program], check=True)
    return time.perf_counter() - start


def main() -> None:
    times: dict[str, list[float]] = {name: [] for name in ["", *PROGRAMS]}
    for _ in range(ROUNDS):  # round by round, so that a busy moment touches all of them
        for name in times:
            times[name].append(seconds(PROGRAMS.get(name, "")))
    empty = statistics.median(times.pop(""))
    cost = {name: max(statistics.median(values) - empty, 0.0) for name, values in times.items()}
    print(f"{'':40} {'ms':>8} {'times import asyncio':>22}")
    for name, value in cost.items():
        print(f"{name:40} {value * 1000:8.1f} {value / cost['import asyncio']:22.2f}")


if __name__ == "__main__":
    main()
