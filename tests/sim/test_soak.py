"""The soak, in short: clients that vanish leave nothing behind. `python bench/soak.py` takes five minutes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SOAK = Path(__file__).parents[2] / "bench" / "soak.py"


@pytest.mark.skipif(os.name != "posix", reason="it counts open files")
def test_clients_that_vanish_leave_nothing_behind() -> None:
    command = [sys.executable, str(SOAK), "--seconds", "4", "--clients", "20"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
