"""What every test starts from: no state of the person who runs it, no real provider, one embedded model."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

# A machine that does other work besides is no reason for a test to fail.
hypothesis.settings.register_profile("patient", deadline=None)
hypothesis.settings.load_profile("patient")


@pytest.fixture(autouse=True)
def own_home_and_no_provider(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Attempts go to a temporary folder, and no key or address of a real provider reaches a test."""
    monkeypatch.setenv("STREAMLIB_HOME", str(tmp_path / "streamlib-home"))
    for name in list(os.environ):
        if name.startswith("OPENAI_"):
            monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def sim_server() -> Iterator[str]:
    """The base URL (ending in /v1) of one ``streamlib serve --profile fast`` for the whole test run."""
    command = [sys.executable, "-m", "streamlib", "serve", "--profile", "fast", "--exit-with-stdin"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin and process.stdout
        yield process.stdout.readline().strip()
        process.stdin.close()
